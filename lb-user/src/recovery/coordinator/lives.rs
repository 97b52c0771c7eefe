//! Lives of the commands: started, checked, ended, tried again.
//!
//! Reports may come late and in any order, so each of them names the life that it is about, and one about
//! another life than the present one changes nothing.

use super::Coordinator;
use crate::clock::Now;
use crate::names::BackendName;
use crate::recovery::backend::{State, Warmth};
use crate::recovery::event::Event;
use crate::recovery::message::{CutFlow, Finding, Instance, Output};
use crate::recovery::report::Reason;

impl Coordinator {
    pub(super) fn started(&mut self, name: &BackendName, instance: Instance, now: Now) {
        let Some(backend) = self.backends.get_mut(name) else { return };
        if backend.state != State::Starting || backend.instance.is_some() {
            return;
        }
        if backend.ladder.has_failed_to_end(instance) {
            return self.fail(name, format!("process {} was to be ended, and still runs", instance.pid), now);
        }
        backend.begin_life(instance);
        backend.since = now;
        backend.retry_at = None;
        let ended = backend.ended_early.take().filter(|(life, _)| *life == instance);
        if ended.is_some() {
            backend.instance = None;
        }
        if let Some(cycle) = self.cycle.as_mut().filter(|cycle| cycle.from == *name) {
            cycle.times.started_unix_ms = Some(now.unix_ms);
            if backend.ladder.is_at_work() {
                cycle.last_step = Some(now);
            }
        }
        self.out.push(Output::Event(Event::Started { backend: name.clone(), pid: instance.pid }));
        if let Some((_, status)) = ended {
            self.fail(name, status, now);
        }
    }

    /// A start failed, or a stop did; both are tried again.
    pub(super) fn start_failed(&mut self, name: &BackendName, error: String, now: Now) {
        let Some(backend) = self.backends.get_mut(name) else { return };
        let is_asked = backend.state == State::Recovering
            || backend.state == State::Starting && backend.instance.is_none();
        if is_asked {
            backend.instance = None;
            if backend.held {
                // It died while it drained to be held out, and what is left of it is the operator's business.
                self.out.push(Output::Event(Event::Failed { backend: name.clone(), why: error }));
                return self.hold_out(name, now);
            }
            self.fail(name, error, now);
        }
    }

    /// The next step is taken; after the last one the backend is out, and is tried again ever more slowly. A
    /// life that goes on may still become ready.
    pub(super) fn fail(&mut self, name: &BackendName, why: String, now: Now) {
        if self.climb(name, &why, now) {
            return;
        }
        let Some(backend) = self.backends.get_mut(name) else { return };
        let wait = self.policy.retry_ms.saturating_mul(1 << backend.attempts.min(6));
        backend.attempts = backend.attempts.saturating_add(1);
        if backend.instance.is_none() {
            backend.forget_checks();
        }
        backend.retry_at = Some(now.plus_ms(wait));
        if let Some(cycle) = self.cycle.as_mut() {
            cycle.note_trouble(format!("{name}: {why}"));
        }
        self.out.push(Output::Event(Event::Failed { backend: name.clone(), why }));
        self.set_state(name, State::Failed, None, now);
        self.quarantine(name);
    }

    pub(super) fn checked(
        &mut self,
        name: &BackendName,
        instance: Instance,
        result: Result<(), Finding>,
        now: Now,
    ) {
        let Some(backend) = self.backends.get_mut(name) else { return };
        if backend.instance != Some(instance) {
            return;
        }
        let was_up = backend.evidence.is_up();
        backend.evidence.note_check(result, &self.policy, now);
        if backend.state == State::Starting && was_up && !backend.evidence.is_up() {
            backend.since = now;
        }
        self.note_fall(name, now);
        let has_enough = self.has_enough();
        let Some(backend) = self.backends.get_mut(name) else { return };
        match backend.state {
            State::Failed if matches!(backend.warmth, Warmth::Cold | Warmth::Unheard) => {}
            State::Starting | State::Failed if backend.has_risen(&self.policy) => {
                if self.policy.spread && has_enough && backend.is_kept_out(&self.policy, now) {
                    backend.attempts = 0;
                    self.note_recovered(name, now);
                    // What there was to do about it has been done.
                    return self.rejoined(name, now);
                }
                self.has_risen(name, now);
            }
            State::Standby | State::Warming if backend.has_fallen(&self.policy) => {
                let why = backend.evidence.last_finding.as_ref().map(ToString::to_string);
                self.set_state(name, State::Starting, why, now);
            }
            _ => {}
        }
    }

    pub(super) fn sampled(&mut self, name: &BackendName, instance: Instance, memory_rss_bytes: u64) {
        let Some(backend) = self.backends.get_mut(name) else { return };
        if backend.instance == Some(instance) {
            backend.note_memory(memory_rss_bytes, &self.policy);
        }
    }

    pub(super) fn exited(&mut self, name: &BackendName, instance: Instance, status: &str, now: Now) {
        let Some(backend) = self.backends.get_mut(name) else { return };
        if backend.instance != Some(instance) {
            // Perhaps the life that a start is about to report; not the one before it, whose end comes late.
            let is_new = backend.last_life != Some(instance);
            if is_new && backend.instance.is_none() && backend.state == State::Starting {
                backend.ended_early = Some((instance, status.to_owned()));
            }
            return;
        }
        let state = backend.state;
        backend.instance = None;
        match state {
            State::Active => {
                let reason = Reason::Died { status: status.to_owned() };
                if self.policy.spread {
                    self.lose_member(name, reason, status, now);
                } else {
                    self.lose_active(name, reason, status, now);
                }
            }
            State::Draining | State::Drained => {
                self.lose_draining(name, status, now);
            }
            State::Maintenance => {
                let why = format!("{status} while it was held out, and is not started again");
                self.out.push(Output::Event(Event::Failed { backend: name.clone(), why }));
            }
            // `Stopped` follows.
            State::Recovering => {}
            State::Starting | State::Standby | State::Warming | State::Failed => {
                self.fail(name, status.to_owned(), now);
            }
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
            // A start that fails is preceded by another stop, which cuts nothing any more.
            if cycle.times.stopped_unix_ms.is_none() {
                cycle.times.stopped_unix_ms = Some(now.unix_ms);
                // What died was never seen draining: what it took along is all that is known of its flows.
                cycle.at_handover.get_or_insert_with(|| CutFlow::count(&cut));
                cycle.cut = cut;
            }
        } else if !cut.is_empty() {
            let why = format!("stopped with {} flows open", cut.len());
            self.out.push(Output::Event(Event::Failed { backend: name.clone(), why }));
        }
        if self.backends.get(name).is_some_and(|backend| backend.held) {
            return self.hold_out(name, now);
        }
        self.set_state(name, State::Starting, None, now);
        self.out.push(Output::Start(name.clone()));
    }

    /// Ends what may be left of a backend; its start follows.
    pub(super) fn restart(&mut self, name: &BackendName, why: &str, now: Now) {
        self.set_state(name, State::Recovering, Some(why.to_owned()), now);
        self.take_step(name, now);
    }

    /// A life that was active may have flows yet: it is not ended but drained, beside the active backend and as
    /// soon as nobody else is out. False if nobody serves who could do without it.
    fn drains_instead(&mut self, name: &BackendName, now: Now) -> bool {
        let has_worked = self.backends.get(name).is_some_and(|backend| backend.has_worked);
        let Some(active) = self.fit_active().next().filter(|_| has_worked).cloned() else { return false };
        if self.cycle.is_none() && !self.maintenance {
            let reason = Reason::Unhealthy { finding: self.finding_of(name) };
            self.begin_cycle(name, Some(&active), reason, None, now);
        }
        true
    }

    /// Gives up on lives that do not become ready, and tries failed backends again.
    pub(super) fn watch_starts(&mut self, now: Now) {
        let stuck = self.names_where(|b| {
            b.state == State::Starting
                && b.instance.is_some()
                // The pool deals with those: they may have flows.
                && !(self.policy.spread && b.has_worked)
                // One that is up waits for something else; if it falls, its time begins anew.
                && !b.evidence.is_up()
                && now.ms_since(b.since) > self.policy.ready_deadline_ms
        });
        for name in stuck {
            if self.drains_instead(&name, now) {
                continue;
            }
            let finding = self.backends.get(&name).and_then(|backend| backend.evidence.last_finding.as_ref());
            let why = finding.map_or_else(|| "not checked yet".to_owned(), ToString::to_string);
            self.fail(&name, format!("not ready in time: {why}"), now);
        }
        if self.maintenance {
            return;
        }
        let due = self.names_where(|b| {
            b.state == State::Failed && b.retry_at.is_some_and(|at| now.boot_ms >= at.boot_ms)
        });
        for name in due {
            self.restart(&name, "tried again", now);
        }
    }
}
