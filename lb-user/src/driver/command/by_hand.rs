//! A process that somebody else has started after Baton had ended the one before.
//!
//! What always holds: a stranger that an old file names by accident, because it has got the same process id, is not
//! taken for it. Such a one has begun before the end of the last life, or after the file was written.

use std::fs;
use std::path::Path;
use std::time::UNIX_EPOCH;

use super::record::Life;
use super::{CommandDriver, lives};
use crate::clock::Now;
use crate::recovery::Instance;

/// The time of a file and that of a process may differ by so much: both are counted in steps.
const STEPS_MS: u64 = 50;

impl CommandDriver {
    /// The process that the file names, if it was started after the end of the last life. Systemd needs no such
    /// look: a unit that is active is not started again.
    pub(super) fn started_by_hand(&self, ended: &Life) -> Option<Instance> {
        // With its machine the next life comes by itself, which has to be proved.
        let ended_ms = ended.ended_ms.filter(|_| !ended.returns)?;
        let path = self.pid_file.as_ref()?;
        let (found, written_ms) = (named_by(path)?, written_ms(path)?);
        let now = Now::read();
        let started_ms = found.began_ms();
        let started_unix_ms = now.unix_ms.saturating_sub(now.boot_ms.saturating_sub(started_ms));
        let is_next = found != ended.instance && started_ms >= ended_ms;
        (is_next && started_unix_ms <= written_ms + STEPS_MS).then_some(found)
    }
}

/// The process that a file names, if it lives.
pub(super) fn named_by(path: &Path) -> Option<Instance> {
    let pid = fs::read_to_string(path).ok()?.trim().parse().ok()?;
    Some(lives::find(pid)?.life)
}

/// When a file was written, in milliseconds since 1970.
fn written_ms(path: &Path) -> Option<u64> {
    let written = fs::metadata(path).ok()?.modified().ok()?.duration_since(UNIX_EPOCH).ok()?;
    Some(u64::try_from(written.as_millis()).unwrap_or(u64::MAX - STEPS_MS))
}
