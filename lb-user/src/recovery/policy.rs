//! The settings of a service's rejuvenation.

use serde::{Deserialize, Serialize};

/// When to rejuvenate, and how long to wait for what. Times are in milliseconds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Policy {
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
    /// Time between checks of a backend.
    pub check_period_ms: u64,
    /// Passed checks in a row that make a backend ready.
    pub rise: u32,
    /// Failed checks in a row that make it unfit.
    pub fall: u32,
    /// How long flows may take to end by themselves before they are cut.
    pub drain_deadline_ms: u64,
    /// How long a backend must be seen without flows before it is restarted.
    pub settle_ms: u64,
    /// How long after a handover a failure of the new active backend is answered by going back.
    pub observation_ms: u64,
    /// How long a restarted backend may take to become ready before the report says that it did not.
    pub ready_deadline_ms: u64,
    /// Wait before a failed start is tried again; it doubles up to 64 times this.
    pub retry_ms: u64,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            memory_limit_bytes: u64::MAX,
            ceiling_percent: 50,
            ceiling_hits: 2,
            ceiling_window: 3,
            cooldown_ms: 1_000,
            check_period_ms: 250,
            rise: 2,
            fall: 3,
            drain_deadline_ms: 60_000,
            settle_ms: 300,
            observation_ms: 10_000,
            ready_deadline_ms: 60_000,
            retry_ms: 1_000,
        }
    }
}

impl Policy {
    /// Bytes of memory beyond which a backend is over the ceiling.
    pub fn ceiling_bytes(&self) -> u64 {
        self.memory_limit_bytes / 100 * u64::from(self.ceiling_percent)
    }
}
