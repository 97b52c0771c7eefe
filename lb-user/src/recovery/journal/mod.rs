//! The journal: what was decided, on disk before it is done.
//!
//! One record a line: checksum, sequence number, JSON; [`lines`] says what becomes of lines that are damaged, and
//! [`mod@file`] of a disk that refuses.

mod file;
mod lines;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use serde::{Deserialize, Serialize};

pub use file::{History, Journal};
pub use lines::Damage;

use super::ladder::Step;
use super::message::Instance;
use super::report::{Outcome, Reason};
use crate::clock::Now;
use crate::names::BackendName;

/// A decision.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "record", rename_all = "snake_case")]
pub enum Record {
    /// New flows are about to go to another backend.
    Handover {
        /// The cycle, counted from 1.
        cycle: u64,
        /// The backend that will drain.
        from: BackendName,
        /// The backend that will be active in its stead; none in a pool, where the others are.
        #[serde(default)]
        to: Option<BackendName>,
        /// The service's epoch after the handover.
        epoch: u32,
        /// Why.
        reason: Reason,
        /// When.
        at: Now,
        /// When what is left will be cut, in milliseconds of the boot clock.
        drain_deadline_ms: u64,
        /// The life that will be ended.
        instance: Option<Instance>,
    },
    /// The drained backend is about to be stopped.
    Stopping {
        /// The cycle.
        cycle: u64,
        /// The life that will be ended.
        instance: Option<Instance>,
    },
    /// The cycle is over.
    Ended {
        /// The cycle.
        cycle: u64,
        /// How it ended.
        outcome: Outcome,
    },
    /// An operator holds a backend out until [`Record::Ready`].
    HeldOut {
        /// The backend.
        backend: BackendName,
    },
    /// A backend is not held out any more.
    Ready {
        /// The backend.
        backend: BackendName,
    },
    /// No automatic rejuvenation until [`Record::Resumed`].
    Paused,
    /// Rejuvenations are left to the rules again.
    Resumed,
    /// A step is about to be done to the machine of a backend.
    Step {
        /// The backend.
        backend: BackendName,
        /// The step.
        step: Step,
        /// Counts such steps since the backend was last well, from 1.
        number: u64,
    },
    /// A backend is not tried any more until [`Record::Recovered`].
    Quarantined {
        /// The backend.
        backend: BackendName,
    },
    /// A backend is well, or tried again: its steps and its quarantine are over.
    Recovered {
        /// The backend.
        backend: BackendName,
    },
    /// No automatic action until [`Record::MaintenanceEnded`].
    MaintenanceBegan,
    /// Actions are left to Baton again.
    MaintenanceEnded,
}

impl Record {
    /// The cycle that it belongs to, if it is about one.
    pub fn cycle(&self) -> Option<u64> {
        match self {
            Self::Handover { cycle, .. } | Self::Stopping { cycle, .. } | Self::Ended { cycle, .. } => {
                Some(*cycle)
            }
            Self::HeldOut { .. }
            | Self::Ready { .. }
            | Self::Paused
            | Self::Resumed
            | Self::Step { .. }
            | Self::Quarantined { .. }
            | Self::Recovered { .. }
            | Self::MaintenanceBegan
            | Self::MaintenanceEnded => None,
        }
    }
}

/// What operators have said and not taken back, and how far the recovery of a backend got.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Standing {
    /// Backends that are held out.
    pub held_out: BTreeSet<BackendName>,
    /// No automatic rejuvenation.
    pub paused: bool,
    /// The last step that was done to the machine of a backend, and its number.
    pub steps: BTreeMap<BackendName, (Step, u64)>,
    /// Backends that are not tried any more.
    pub quarantined: BTreeSet<BackendName>,
    /// No automatic action.
    pub maintenance: bool,
}

impl Standing {
    /// What stands at the end of these records.
    pub fn of(records: &[Record]) -> Self {
        let mut standing = Self::default();
        for record in records {
            standing.apply(record);
        }
        standing
    }

    /// What stands after one more record.
    fn apply(&mut self, record: &Record) {
        match record {
            Record::HeldOut { backend } => drop(self.held_out.insert(backend.clone())),
            Record::Ready { backend } => drop(self.held_out.remove(backend)),
            Record::Paused => self.paused = true,
            Record::Resumed => self.paused = false,
            Record::Step { backend, step, number } => {
                self.steps.insert(backend.clone(), (*step, *number));
            }
            Record::Quarantined { backend } => drop(self.quarantined.insert(backend.clone())),
            Record::Recovered { backend } => {
                self.steps.remove(backend);
                self.quarantined.remove(backend);
            }
            Record::MaintenanceBegan => self.maintenance = true,
            Record::MaintenanceEnded => self.maintenance = false,
            Record::Handover { .. } | Record::Stopping { .. } | Record::Ended { .. } => {}
        }
    }

    /// The records that say the same.
    fn records(self) -> impl Iterator<Item = Record> {
        let held_out = self.held_out.into_iter().map(|backend| Record::HeldOut { backend });
        let steps = self.steps.into_iter();
        let steps = steps.map(|(backend, (step, number))| Record::Step { backend, step, number });
        let quarantined = self.quarantined.into_iter().map(|backend| Record::Quarantined { backend });
        let paused = self.paused.then_some(Record::Paused).into_iter();
        let maintenance = self.maintenance.then_some(Record::MaintenanceBegan);
        paused.chain(maintenance).chain(held_out).chain(steps).chain(quarantined)
    }
}

/// The last handover, if its cycle has not ended, and whether the stop that follows it was decided on.
pub(super) fn open_cycle(history: &[Record]) -> Option<(&Record, bool)> {
    let at = history.iter().rposition(|record| matches!(record, Record::Handover { .. }))?;
    let handover = &history[at];
    let number = handover.cycle()?;
    let later = &history[at + 1..];
    let ended = later.iter().any(|r| matches!(r, Record::Ended { cycle, .. } if *cycle == number));
    let stopping = later.iter().any(|r| matches!(r, Record::Stopping { cycle, .. } if *cycle == number));
    (!ended).then_some((handover, stopping))
}

/// The backend that is out by a rejuvenation that has not ended, and whether that was planned, as far as a journal
/// that nobody has open can be read.
pub fn under_way(path: &Path) -> Option<(BackendName, bool)> {
    let history = file::peek(path).ok()?;
    let (Record::Handover { from, reason, .. }, _) = open_cycle(&history)? else { return None };
    Some((from.clone(), reason.is_planned()))
}

#[cfg(test)]
mod tests;
