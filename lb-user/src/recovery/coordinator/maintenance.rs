//! Maintenance of a service: no automatic action at all, until the operator says that it is over.
//!
//! Checks go on, and new flows still go to whoever passes them; but nobody is stopped or started for it. A
//! rejuvenation that is under way goes on to its end.

use super::Coordinator;
use crate::clock::Now;
use crate::names::BackendName;
use crate::recovery::backend::State;
use crate::recovery::event::Event;
use crate::recovery::journal::Record;
use crate::recovery::message::{Output, RequestId};
use crate::recovery::report::Outcome;

impl Coordinator {
    /// Whether an operator wants no automatic action.
    pub fn is_in_maintenance(&self) -> bool {
        self.maintenance
    }

    pub(super) fn maintenance_requested(&mut self, request: RequestId, on: bool, now: Now) {
        if self.maintenance != on {
            if let Some(why) = self.why_not_written() {
                return self.out.push(Output::Answer { request, result: Err(why) });
            }
            self.maintenance = on;
            let (record, event) = if on {
                (Record::MaintenanceBegan, Event::MaintenanceBegan)
            } else {
                (Record::MaintenanceEnded, Event::MaintenanceEnded)
            };
            self.record(record);
            self.out.push(Output::Event(event));
            if let Some(pending) = self.pending.take_if(|_| on) {
                self.withdraw(&pending, "the service went into maintenance before it could begin".to_owned());
            }
            if !on {
                self.revive(now);
            }
        }
        self.out.push(Output::Answer { request, result: Ok(None) });
    }

    /// Whether nothing is done for this backend: the service is in maintenance, and its renewal was not under way.
    pub(super) fn is_left_dead(&self, name: &BackendName) -> bool {
        self.maintenance && self.cycle.as_ref().is_none_or(|cycle| cycle.from != *name)
    }

    /// Whoever was left dead is started again, at the next look.
    fn revive(&mut self, now: Now) {
        for name in self.names_where(|b| b.state == State::Failed && b.instance.is_none()) {
            if let Some(backend) = self.backends.get_mut(&name) {
                (backend.attempts, backend.retry_at) = (0, Some(now));
            }
        }
    }

    /// A backend is dead, and stays so until the maintenance is over. One that only fell silent may come back by
    /// itself.
    pub(super) fn leave_dead(&mut self, name: &BackendName, why: &str, now: Now) {
        let Some(backend) = self.backends.get_mut(name) else { return };
        let lives = backend.instance.is_some();
        if !lives {
            backend.retry_at = None;
            backend.forget_checks();
        }
        let why = format!("{why}; it is not restarted in maintenance");
        self.out.push(Output::Event(Event::Failed { backend: name.clone(), why }));
        self.set_state(name, if lives { State::Starting } else { State::Failed }, None, now);
    }

    /// The active backend has failed: new flows go to whoever can take them, and that is all.
    pub(super) fn step_aside(&mut self, name: &BackendName, why: &str, now: Now) {
        let dead = self.is_dead(name, now);
        let undone = self.cycle_to_roll_back(name, now);
        let to = undone.as_ref().map(|cycle| cycle.from.clone()).or_else(|| self.ready_standby(now));
        if to.is_none() && !dead {
            // It serves as it can.
            return;
        }
        if let Some(cycle) = &undone {
            self.note_rolled_back(cycle, name, why);
            self.cycle = None;
        }
        self.pass_on(name, to.as_ref(), why, now);
        if let Some(cycle) = undone {
            self.report(cycle, Outcome::RolledBack, Some(format!("{name} failed: {why}")), now);
        }
    }
}
