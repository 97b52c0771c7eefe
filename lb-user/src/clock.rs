//! The one place that reads the clocks; everything else is told what time it is.

use nix::time::{ClockId, clock_gettime};
use serde::{Deserialize, Serialize};

/// One moment, seen on two clocks.
///
/// Deadlines are computed on `boot_ms`, which never jumps and goes on over a restart of the controller;
/// `unix_ms` is for people and reports only.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Now {
    /// Milliseconds since the machine booted, suspend included (`CLOCK_BOOTTIME`).
    pub boot_ms: u64,
    /// Milliseconds since 1970-01-01 UTC (`CLOCK_REALTIME`).
    pub unix_ms: u64,
}

impl Now {
    /// Reads both clocks.
    pub fn read() -> Self {
        Self { boot_ms: read_ms(ClockId::CLOCK_BOOTTIME), unix_ms: read_ms(ClockId::CLOCK_REALTIME) }
    }

    /// This moment moved on by `ms` milliseconds, on both clocks.
    #[must_use]
    pub fn plus_ms(self, ms: u64) -> Self {
        Self { boot_ms: self.boot_ms.saturating_add(ms), unix_ms: self.unix_ms.saturating_add(ms) }
    }

    /// Milliseconds from `earlier` to this moment on the boot clock; 0 if `earlier` is later.
    pub fn ms_since(self, earlier: Self) -> u64 {
        self.boot_ms.saturating_sub(earlier.boot_ms)
    }
}

fn read_ms(clock: ClockId) -> u64 {
    // Both clocks exist on every kernel that Baton runs on; zero would only delay a deadline.
    clock_gettime(clock).map_or(0, |t| {
        u64::try_from(t.tv_sec()).unwrap_or(0) * 1000 + u64::try_from(t.tv_nsec()).unwrap_or(0) / 1_000_000
    })
}
