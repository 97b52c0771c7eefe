//! How much may be rejuvenated at once, and when.

use std::path::PathBuf;
use std::time::Duration;

use crate::recovery::window::Zone;

/// What all services share of rejuvenations.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Budget {
    /// Rejuvenations under way at once over all services (1 or more).
    pub rejuvenations: u32,
    /// Backends of one host that may be out at once (1 or more); any number if not given.
    pub per_host: Option<u32>,
    /// The lock that hosts of a site share.
    pub fleet_lock: Option<FleetLock>,
}

/// A lock that hosts of a site share, by the protocol `FleetLock`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FleetLock {
    /// The URL under which the paths of the protocol are; `http` or `https`, without a slash at the end.
    pub url: String,
    /// The group of the lock.
    pub group: String,
    /// Who holds it; made from the machine's id if not given.
    pub id: Option<String>,
    /// PEM file with the authorities that are trusted; the system's if not given.
    pub ca_file: Option<PathBuf>,
    /// A request that takes longer has failed.
    pub timeout: Duration,
    /// What it is taken for.
    pub required_for: LockedFor,
}

/// What the lock of a site is taken for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LockedFor {
    /// Every planned restart, by rules and by operators.
    #[default]
    Restart,
    /// What rules want; operators go without.
    Rules,
}

/// Backends that stay active when one is taken out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Share {
    /// So many (1 or more).
    Count(u32),
    /// So many of a hundred, rounded up (1 to 100).
    Percent(u8),
}

impl Share {
    /// How many that are of `all`, 1 or more.
    pub fn of(self, all: usize) -> u32 {
        match self {
            Self::Count(count) => count.max(1),
            Self::Percent(percent) => {
                let of = (all as u64 * u64::from(percent)).div_ceil(100);
                u32::try_from(of).unwrap_or(u32::MAX).max(1)
            }
        }
    }
}

/// A part of the week in which rules may rejuvenate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RejuvenationWindow {
    /// The days on which it begins, as [`crate::recovery::window::Window::days`] has them.
    pub days: u8,
    /// When it begins, in minutes of the day (0 to 1,439).
    pub start_minute: u16,
    /// How long it lasts: 1 min to 24 h.
    pub length: Duration,
    /// Whose civil time that is; the machine's if not given.
    pub time_zone: Option<Zone>,
}
