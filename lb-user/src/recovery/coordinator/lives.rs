//! Lives of the commands: started, checked, ended, tried again.

use super::Coordinator;
use crate::clock::Now;
use crate::names::BackendName;
use crate::recovery::backend::State;
use crate::recovery::event::Event;
use crate::recovery::message::{CutFlow, Finding, Instance, Output};
use crate::recovery::report::{Outcome, Reason};

impl Coordinator {
    pub(super) fn started(&mut self, name: &BackendName, instance: Instance, now: Now) {
        let Some(backend) = self.backends.get_mut(name) else { return };
        backend.begin_life(instance);
        backend.retry_at = None;
        if let Some(cycle) = self.cycle.as_mut().filter(|cycle| cycle.from == *name) {
            cycle.times.started_unix_ms = Some(now.unix_ms);
        }
        self.out.push(Output::Event(Event::Started { backend: name.clone(), pid: instance.pid }));
        self.set_state(name, State::Starting, None, now);
    }

    pub(super) fn start_failed(&mut self, name: &BackendName, error: String, now: Now) {
        self.fail(name, error, now);
    }

    /// The backend is out; it is tried again, ever more slowly.
    pub(super) fn fail(&mut self, name: &BackendName, why: String, now: Now) {
        let Some(backend) = self.backends.get_mut(name) else { return };
        let wait = self.policy.retry_ms.saturating_mul(1 << backend.attempts.min(6));
        backend.attempts = backend.attempts.saturating_add(1);
        backend.instance = None;
        backend.forget_checks();
        backend.retry_at = Some(now.plus_ms(wait));
        self.out.push(Output::Event(Event::Failed { backend: name.clone(), why }));
        self.set_state(name, State::Failed, None, now);
    }

    pub(super) fn checked(&mut self, name: &BackendName, result: Result<(), Finding>, now: Now) {
        let Some(backend) = self.backends.get_mut(name) else { return };
        if backend.instance.is_none() {
            return;
        }
        backend.note_check(result, now);
        match backend.state {
            State::Starting if backend.has_risen(&self.policy) => {
                backend.attempts = 0;
                self.set_state(name, State::Standby, None, now);
                self.rejoined(name, now);
                if self.steering.active.is_none() {
                    self.activate(name, now);
                }
            }
            State::Standby if backend.has_fallen(&self.policy) => {
                let why = backend.last_finding.as_ref().map(ToString::to_string);
                self.set_state(name, State::Starting, why, now);
            }
            _ => {}
        }
    }

    /// The first ready backend, or the only one left, gets the flows.
    pub(super) fn activate(&mut self, name: &BackendName, now: Now) {
        self.steer(Some(name.clone()), None);
        self.last_handover = Some(now);
        self.set_state(name, State::Active, None, now);
    }

    pub(super) fn exited(&mut self, name: &BackendName, instance: Instance, status: &str, now: Now) {
        let Some(backend) = self.backends.get_mut(name) else { return };
        if backend.instance != Some(instance) {
            return;
        }
        let state = backend.state;
        backend.instance = None;
        match state {
            State::Active => {
                let reason = Reason::Died { status: status.to_owned() };
                self.lose_active(name, reason, status, now);
            }
            State::Draining | State::Drained => {
                self.out.push(Output::Event(Event::Failed {
                    backend: name.clone(),
                    why: format!("{status} while it drained"),
                }));
                self.stop_drained(name, now);
            }
            // `Stopped` follows.
            State::Recovering => {}
            State::Starting | State::Standby | State::Failed => self.fail(name, status.to_owned(), now),
        }
    }

    pub(super) fn stopped(&mut self, name: &BackendName, cut: Vec<CutFlow>, now: Now) {
        let Some(backend) = self.backends.get_mut(name) else { return };
        if backend.state != State::Recovering {
            return;
        }
        backend.instance = None;
        backend.forget_checks();
        if let Some(cycle) = self.cycle.as_mut().filter(|cycle| cycle.from == *name) {
            cycle.times.stopped_unix_ms = Some(now.unix_ms);
            cycle.cut = cut;
        } else if !cut.is_empty() {
            let why = format!("stopped with {} flows open", cut.len());
            self.out.push(Output::Event(Event::Failed { backend: name.clone(), why }));
        }
        self.set_state(name, State::Starting, None, now);
        self.out.push(Output::Start(name.clone()));
    }

    pub(super) fn watch_deadlines(&mut self, now: Now) {
        let stuck: Vec<_> = self.names_where(|b| {
            b.state == State::Starting
                && b.instance.is_some()
                && now.ms_since(b.since) > self.policy.ready_deadline_ms
        });
        for name in stuck {
            let finding = self.backends.get(&name).and_then(|backend| backend.last_finding.as_ref());
            let why = finding.map_or_else(|| "not checked yet".to_owned(), ToString::to_string);
            self.fail(&name, format!("not ready in time: {why}"), now);
        }
        let due: Vec<_> = self.names_where(|b| {
            b.state == State::Failed && b.retry_at.is_some_and(|at| now.boot_ms >= at.boot_ms)
        });
        for name in due {
            self.set_state(&name, State::Recovering, Some("tried again".into()), now);
            self.out.push(Output::Stop(name));
        }
        let limit = self.policy.ready_deadline_ms;
        let late = self.cycle.take_if(|cycle| cycle.stopping.is_some_and(|at| now.ms_since(at) > limit));
        if let Some(cycle) = late {
            let old = self.backends.get(&cycle.from);
            let finding = old.and_then(|backend| backend.last_finding.as_ref()).map(ToString::to_string);
            self.end_cycle(cycle, Outcome::NotReady, finding, now);
        }
    }
}
