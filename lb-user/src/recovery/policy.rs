//! The settings of a service's rejuvenation.

use serde::{Deserialize, Serialize};

use crate::clock::Now;

/// The deadline of a drain that has none.
pub(super) const NEVER_MS: u64 = u64::MAX;

/// What becomes of the flows that are left at the drain deadline.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Stragglers {
    /// They are cut, and the report names them.
    #[default]
    Cut,
    /// They are waited for, until they end or an operator cuts them.
    Wait,
}

/// When to rejuvenate, and how long to wait for what. Times are in milliseconds.
///
/// What an earlier version did not write down is read as its default.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Policy {
    /// Whether every backend that is ready is active, as in a pool; else one is, and the others wait.
    pub spread: bool,
    /// In a pool: nobody is taken out if fewer backends than this would be left active (1 or more).
    pub active_least: u32,
    /// What [`Policy::ceiling_percent`] is a percentage of, in bytes.
    pub memory_limit_bytes: u64,
    /// Memory beyond this share of the limit asks for a rejuvenation (1 to 100; default 50, as the paper).
    pub ceiling_percent: u8,
    /// Samples beyond the ceiling that ask for a rejuvenation...
    pub ceiling_hits: u32,
    /// ...among this many last ones.
    pub ceiling_window: u32,
    /// No automatic rejuvenation within this time after a handover.
    pub cooldown_ms: u64,
    /// No automatic rejuvenation of a life that is younger than this.
    pub min_uptime_ms: u64,
    /// Time between checks of a backend.
    pub check_period_ms: u64,
    /// A check that takes longer has failed; so a pass may be older than its period says by so much.
    pub check_timeout_ms: u64,
    /// Passed checks in a row that make a backend ready.
    pub rise: u32,
    /// Failed checks in a row that make it unfit.
    pub fall: u32,
    /// How long flows may take to end by themselves before [`Policy::stragglers`] says what becomes of them.
    pub drain_deadline_ms: u64,
    /// What becomes of the flows that are left then.
    pub stragglers: Stragglers,
    /// Whether the flows of a backend that is dead are reset at their next packet; else they are left to find
    /// out by themselves.
    pub reset_dead: bool,
    /// How long a backend must be seen without flows before it is restarted.
    pub settle_ms: u64,
    /// How long after a handover a failure of the new active backend is answered by going back.
    pub observation_ms: u64,
    /// How long a restarted backend may take to become ready before the report says that it did not.
    pub ready_deadline_ms: u64,
    /// Wait before a failed start is tried again; it doubles up to 64 times this.
    pub retry_ms: u64,
    /// Requests that a backend gets before it may get those of clients; 0 if there is no warm-up.
    pub warm_up_requests: u32,
    /// So many percent of them have to succeed (1 to 100).
    pub warm_up_pass_percent: u8,
    /// How long all of them may take.
    pub warm_up_deadline_ms: u64,
}

/// The answer of a warm-up whose time is over is waited for so long.
const WARM_UP_GRACE_MS: u64 = 2_000;

impl Default for Policy {
    fn default() -> Self {
        Self {
            spread: false,
            active_least: 1,
            memory_limit_bytes: u64::MAX,
            ceiling_percent: 50,
            ceiling_hits: 2,
            ceiling_window: 3,
            cooldown_ms: 1_000,
            min_uptime_ms: 0,
            check_period_ms: 250,
            check_timeout_ms: 1_000,
            rise: 2,
            fall: 3,
            drain_deadline_ms: 60_000,
            stragglers: Stragglers::Cut,
            reset_dead: true,
            settle_ms: 300,
            observation_ms: 10_000,
            ready_deadline_ms: 60_000,
            retry_ms: 1_000,
            warm_up_requests: 0,
            warm_up_pass_percent: 100,
            warm_up_deadline_ms: 30_000,
        }
    }
}

impl Policy {
    /// Bytes of memory beyond which a backend is over the ceiling.
    pub fn ceiling_bytes(&self) -> u64 {
        self.memory_limit_bytes / 100 * u64::from(self.ceiling_percent)
    }

    /// Backends that have to stay active when one is taken out.
    pub fn floor(&self) -> usize {
        if self.spread { self.active_least.max(1) as usize } else { 1 }
    }

    /// A warm-up that has not been heard of within this is taken to have failed, in milliseconds.
    pub(super) fn warm_up_limit_ms(&self) -> u64 {
        self.warm_up_deadline_ms.saturating_add(WARM_UP_GRACE_MS)
    }

    /// How long a backend may take from its stop to its return, in milliseconds.
    pub(super) fn return_limit_ms(&self) -> u64 {
        let warm_up_ms = if self.warm_up_requests > 0 { self.warm_up_limit_ms() } else { 0 };
        self.ready_deadline_ms.saturating_add(warm_up_ms)
    }

    /// When what is left of a drain that begins now is cut, in milliseconds of the boot clock.
    pub(super) fn drain_deadline(&self, now: Now) -> u64 {
        match self.stragglers {
            Stragglers::Cut => now.plus_ms(self.drain_deadline_ms).boot_ms,
            Stragglers::Wait => NEVER_MS,
        }
    }
}
