//! Bringing a backend back, step by step, and leaving it alone if nothing helps.

use super::Coordinator;
use crate::clock::Now;
use crate::names::BackendName;
use crate::recovery::backend::State;
use crate::recovery::event::Event;
use crate::recovery::journal::{Record, Standing};
use crate::recovery::ladder::{Next, Step};
use crate::recovery::message::Output;

impl Coordinator {
    /// Ends what may be left of a backend by the step that it stands on; its start follows.
    pub(super) fn take_step(&mut self, name: &BackendName, now: Now) {
        let wedged = self.is_dead(name, now);
        let written = self.journal_error.is_none();
        let Some(backend) = self.backends.get_mut(name) else { return };
        if let Some(cycle) =
            self.cycle.as_mut().filter(|c| c.from == *name && backend.ladder.failed_runs() == 0)
        {
            cycle.last_step = Some(now);
        }
        let before = backend.last_life;
        let wedged = wedged && backend.instance.is_some();
        let step = backend.ladder.begin(self.policy.rungs(name), before, wedged, written, now);
        let number = backend.ladder.number();
        if step.is_of_machine() {
            self.record(Record::Step { backend: name.clone(), step, number });
        }
        if step != Step::Graceful {
            self.out.push(Output::Event(Event::Step { backend: name.clone(), step }));
        }
        self.out.push(Output::Stop(name.clone(), step));
    }

    /// What was done for a backend has failed: true if the next step is taken at once.
    pub(super) fn climb(&mut self, name: &BackendName, why: &str, now: Now) -> bool {
        let Some(backend) = self.backends.get_mut(name) else { return false };
        let step = backend.ladder.step();
        match (backend.ladder.fail(self.policy.rungs(name), why, now), step) {
            (Next::Step, Some(step)) => {
                let (backend, why) = (name.clone(), why.to_owned());
                self.out.push(Output::Event(Event::StepFailed { backend, step, why: why.clone() }));
                if self.is_left_dead(name) {
                    return false;
                }
                self.set_state(name, State::Recovering, Some(why), now);
                self.take_step(name, now);
                true
            }
            _ => false,
        }
    }

    /// Leaves a backend alone whose ladder has failed too often, if somebody else serves.
    pub(super) fn quarantine(&mut self, name: &BackendName) {
        let limit = self.policy.quarantine_after;
        let served = self.fit_active().any(|active| active != name);
        let Some(backend) = self.backends.get_mut(name) else { return };
        if backend.ladder.quarantined {
            backend.retry_at = None;
            return;
        }
        let runs = backend.ladder.failed_runs();
        if limit == 0 || runs < limit || !served || self.journal_error.is_some() {
            return;
        }
        backend.ladder.quarantined = true;
        backend.retry_at = None;
        self.record(Record::Quarantined { backend: name.clone() });
        self.out.push(Output::Event(Event::Quarantined { backend: name.clone(), runs }));
    }

    /// The checks of a backend have risen: whatever was done for it has helped.
    pub(super) fn note_recovered(&mut self, name: &BackendName, now: Now) {
        let Some(backend) = self.backends.get_mut(name) else { return };
        let is_written = backend.ladder.number() > 0 || backend.ladder.quarantined;
        backend.ladder.prove(backend.instance, now);
        if is_written {
            self.forget_steps(name);
        }
    }

    /// A backend that was left alone is tried again.
    pub(super) fn lift_quarantine(&mut self, name: &BackendName, why: &str) {
        if !self.backends.get(name).is_some_and(|backend| backend.ladder.quarantined) {
            return;
        }
        self.end_recovery(name);
        let (backend, why) = (name.clone(), why.to_owned());
        self.out.push(Output::Event(Event::Released { backend, why }));
    }

    /// Nothing is done for a backend any more, or all of it anew.
    pub(super) fn end_recovery(&mut self, name: &BackendName) {
        let Some(backend) = self.backends.get_mut(name) else { return };
        let is_written = backend.ladder.number() > 0 || backend.ladder.quarantined;
        backend.ladder.rest();
        if is_written {
            self.forget_steps(name);
        }
    }

    /// What the journal says of a backend's recovery is over. Without a journal it stays, and what it says then
    /// keeps the next controller from a step that this one could do.
    fn forget_steps(&mut self, name: &BackendName) {
        if self.journal_error.is_some() {
            return;
        }
        if let Some(backend) = self.backends.get_mut(name) {
            backend.ladder.forget_numbers();
        }
        self.record(Record::Recovered { backend: name.clone() });
    }

    /// If nobody serves, whoever was left alone is tried again.
    pub(super) fn watch_quarantine(&mut self, now: Now) {
        if self.maintenance || self.fit_active().next().is_some() {
            return;
        }
        for name in self.names_where(|b| b.ladder.quarantined && b.state == State::Failed) {
            self.lift_quarantine(&name, "nobody else serves");
            self.restart(&name, "nobody else serves", now);
        }
    }

    /// Takes up how far the recovery of each backend got. Who was left alone still is.
    pub(super) fn take_up_ladders(&mut self, standing: &Standing, now: Now) {
        for (name, (step, number)) in &standing.steps {
            let serves = self.is_active(name);
            let Some(backend) = self.backends.get_mut(name) else { continue };
            backend.ladder.take_up(self.policy.rungs(name), *step, *number, now);
            if serves {
                // It has been brought back, though that could perhaps not be written down.
                backend.ladder.rest();
            }
        }
        for name in &standing.quarantined {
            if self.is_active(name) {
                self.record(Record::Recovered { backend: name.clone() });
            } else if let Some(backend) = self.backends.get_mut(name) {
                backend.ladder.quarantined = true;
            }
        }
    }

    /// Deals with a backend that was found dead. The step of the machine that an earlier controller ordered is
    /// waited for and not done again; one that was left alone still is.
    pub(super) fn restart_found_dead(&mut self, name: &BackendName, why: &str, now: Now) {
        let Some(backend) = self.backends.get_mut(name) else { return };
        if backend.ladder.quarantined {
            return self.set_state(name, State::Failed, Some("left alone".into()), now);
        }
        if backend.ladder.step().is_some_and(Step::is_of_machine) {
            self.out.push(Output::Start(name.clone()));
            return;
        }
        self.restart(name, why, now);
    }

    /// How far the recovery of a backend is, for people.
    pub fn recovery(&self, name: &BackendName) -> Option<String> {
        let ladder = &self.backends.get(name)?.ladder;
        if ladder.quarantined {
            return Some("left alone after recoveries that failed".to_owned());
        }
        ladder.step().map(|step| step.to_string())
    }
}
