//! A rejuvenation from its handover to its report.

use std::collections::BTreeSet;

use super::Coordinator;
use crate::clock::Now;
use crate::flow_counts::OpenFlows;
use crate::names::BackendName;
use crate::recovery::backend::State;
use crate::recovery::cycle::{Cycle, Diagnosis};
use crate::recovery::event::Event;
use crate::recovery::hook::Phase;
use crate::recovery::journal::Record;
use crate::recovery::message::{Output, RequestId};
use crate::recovery::policy::NEVER_MS;
use crate::recovery::report::{Outcome, Reason};

impl Coordinator {
    /// New flows go to `to` from now on, where they may have gone before: an aged standby is renewed beside
    /// the active backend in the same way. Without `to`, as in a pool, they go to whoever else is active.
    pub(super) fn begin_cycle(
        &mut self,
        from: &BackendName,
        to: Option<&BackendName>,
        reason: Reason,
        request: Option<RequestId>,
        now: Now,
    ) {
        self.cycles += 1;
        self.waits_for = None;
        let mut cycle = Cycle::new(self.cycles, reason.clone(), from.clone(), to.cloned(), now);
        cycle.requests = request.into_iter().collect();
        self.hand_reports_to(&mut cycle);
        // What was said of another stop means nothing for this one.
        self.gates.remove(&Phase::BeforeStop);
        cycle.before = self.backends.get(from).and_then(|backend| backend.last_life);
        // A dead backend answers nobody: waiting for its flows would only keep their clients waiting.
        let dead = matches!(reason, Reason::Died { .. });
        let held = self.backends.get(from).is_some_and(|backend| backend.held);
        cycle.drain_deadline_ms = match (dead, held) {
            (true, _) => now.boot_ms,
            // Nobody is in a hurry: it is not going to be stopped.
            (false, true) => NEVER_MS,
            (false, false) => self.policy.drain_deadline(now),
        };
        let mut active = self.steering.active.clone();
        match to {
            Some(to) => active = BTreeSet::from([to.clone()]),
            None => drop(active.remove(from)),
        }
        self.record(Record::Handover {
            cycle: cycle.number,
            from: from.clone(),
            to: to.cloned(),
            epoch: self.epoch_with(&active),
            reason: reason.clone(),
            at: now,
            drain_deadline_ms: cycle.drain_deadline_ms,
            instance: cycle.before,
        });
        self.steer(active, Some(from.clone()).filter(|_| !dead));
        self.out.push(Output::Event(Event::Handover {
            cycle: cycle.number,
            from: from.clone(),
            to: to.cloned(),
            reason,
        }));
        self.cycle = Some(cycle);
        self.last_handover = Some(now);
        if let Some(backend) = self.backends.get_mut(from) {
            backend.empty_since = None;
        }
        if let Some(to) = to {
            self.set_state(to, State::Active, None, now);
        }
        if dead {
            self.refuse(from);
            self.stop_drained(from, now);
        } else {
            self.set_state(from, State::Draining, None, now);
        }
    }

    pub(super) fn flows(&mut self, name: &BackendName, open: OpenFlows, leases: u64, now: Now) {
        let Some(backend) = self.backends.get_mut(name) else { return };
        backend.note_flows(open, leases, now);
        let (state, held) = (backend.state, backend.held);
        let settled = backend.is_settled(&self.policy, now);
        let Some(cycle) = self.cycle.as_mut().filter(|cycle| cycle.from == *name) else { return };
        let overdue = now.boot_ms >= cycle.drain_deadline_ms;
        match state {
            State::Draining => {
                cycle.at_handover.get_or_insert(open);
                if settled || overdue {
                    cycle.note_drained(now);
                    let left = open.total();
                    self.steer_old(None);
                    self.out.push(Output::Event(Event::Drained { backend: name.clone(), left }));
                    self.set_state(name, State::Drained, None, now);
                    if held {
                        self.hold_out(name, now);
                    }
                }
            }
            // The second look, after old flows without entry have stopped coming here.
            State::Drained if open.total() + leases > 0 && !overdue => {
                self.steer_old(Some(name.clone()));
                self.set_state(name, State::Draining, Some("flows came back".into()), now);
            }
            State::Drained if self.can_spare(name) => self.stop_with_consent(name, now),
            State::Drained => self.call_off_if_needed(name, now),
            _ => {}
        }
    }

    /// The operator has waited long enough: what is still open counts as overdue. Nothing is written down, for
    /// a controller that resumes with the old deadline only waits longer.
    pub(super) fn cut(&mut self, now: Now) {
        if let Some(cycle) = self.cycle.as_mut() {
            cycle.drain_deadline_ms = cycle.drain_deadline_ms.min(now.boot_ms);
        }
    }

    /// What becomes of a draining backend once its flows are cut, as the end of a sentence about it.
    pub fn after_cut(&self, name: &BackendName) -> String {
        if self.is_held(name) {
            return "which is held out, and not restarted".to_owned();
        }
        let Some(cycle) = self.cycle.as_ref().filter(|cycle| cycle.from == *name) else {
            return "which does not drain any more".to_owned();
        };
        if self.policy.hooks.contains_key(&Phase::BeforeStop) && !cycle.consented {
            let minutes = self.policy.veto_limit_ms as f64 / 60_000.0;
            return format!(
                "which is restarted once its hooks (before-stop) consent, or have been asked for {minutes:.1} min"
            );
        }
        if self.policy.diagnosis_ms.is_some() && !matches!(cycle.diagnosis, Diagnosis::Done(_)) {
            return "which is restarted after its diagnosis".to_owned();
        }
        if !self.can_spare(name) {
            return "which is restarted as soon as the others can do without it".to_owned();
        }
        "which is restarted now".to_owned()
    }

    /// Whether a drained backend may be stopped at this moment: that can be written down, nobody else is out,
    /// and it is not the one to go back to.
    pub(super) fn can_spare(&self, name: &BackendName) -> bool {
        let served = self.fit_active().filter(|active| *active != name).count() >= self.policy.floor();
        let others_stand = self.backends.iter().all(|(other, b)| other == name || b.stands());
        let unfit = self.backends.get(name).is_none_or(|b| b.has_fallen(&self.policy));
        self.journal_error.is_none() && (unfit || served && others_stand)
    }

    /// A drained backend that must not be stopped, because another one is out, does not wait for that one without
    /// end: a member of a pool serves on at once, and beside an active backend it becomes a standby if the other one
    /// does not come back in the time that a start may take.
    fn call_off_if_needed(&mut self, name: &BackendName, now: Now) {
        let limit_ms = self.policy.ready_deadline_ms;
        let is_needed = self.backends.get(name).is_some_and(|backend| {
            let has_waited = self.policy.spread || now.ms_since(backend.since) > limit_ms;
            has_waited && backend.is_ready(&self.policy, now)
        });
        if self.journal_error.is_some() || !is_needed {
            return;
        }
        let Some(cycle) = self.cycle.take_if(|cycle| cycle.from == *name) else { return };
        let detail = "another backend is out, so it was not stopped".to_owned();
        if self.policy.spread {
            self.join(name, Some(detail.clone()), now);
        } else {
            self.set_state(name, State::Standby, Some(detail.clone()), now);
        }
        self.end_cycle(cycle, Outcome::CalledOff, Some(detail), now);
    }

    /// The active backends that do not fail their checks.
    pub(super) fn fit_active(&self) -> impl Iterator<Item = &BackendName> {
        let is_fit = |name: &BackendName| {
            self.backends.get(name).is_some_and(|b| b.instance.is_some() && !b.has_fallen(&self.policy))
        };
        self.steering.active.iter().filter(move |name| is_fit(name))
    }

    pub(super) fn stop_drained(&mut self, name: &BackendName, now: Now) {
        if let Some(cycle) = self.cycle.as_mut().filter(|cycle| cycle.from == *name) {
            cycle.stopping = Some(now);
            if cycle.times.drained_unix_ms.is_none() {
                cycle.note_drained(now);
            }
            let record = Record::Stopping { cycle: cycle.number, instance: cycle.before };
            self.record(record);
        }
        if self.steering.draining.as_ref() == Some(name) {
            self.steer_old(None);
        }
        self.set_state(name, State::Recovering, None, now);
        self.take_step(name, now);
    }

    /// A restarted backend is ready: its cycle ends.
    pub(super) fn rejoined(&mut self, name: &BackendName, now: Now) {
        if let Some(mut cycle) = self.cycle.take_if(|cycle| cycle.from == *name) {
            let clean = cycle.cut.is_empty();
            let outcome = if clean { Outcome::Completed } else { Outcome::CompletedWithCuts };
            let detail = cycle.unseen.take();
            self.end_cycle(cycle, outcome, detail, now);
        }
    }

    /// Ends a cycle whose old backend does not come back in time.
    pub(super) fn watch_return(&mut self, now: Now) {
        let limit = self.policy.return_limit_ms();
        let late = self.cycle.take_if(|cycle| {
            let old = self.backends.get(&cycle.from);
            // What a step does has limits of its own, and then its life has that long; but once all steps have
            // failed, the report has waited long enough.
            let is_at_work = old.is_some_and(|old| old.ladder.is_at_work() && old.instance.is_none());
            !is_at_work && cycle.last_step.or(cycle.stopping).is_some_and(|at| now.ms_since(at) > limit)
        });
        if let Some(cycle) = late {
            let old = self.backends.get(&cycle.from);
            let finding =
                old.and_then(|backend| backend.evidence.last_finding.as_ref()).map(ToString::to_string);
            self.end_cycle(cycle, Outcome::NotReady, finding, now);
        }
    }

    pub(super) fn end_cycle(&mut self, cycle: Cycle, outcome: Outcome, detail: Option<String>, now: Now) {
        self.record(Record::Ended { cycle: cycle.number, outcome });
        self.report(cycle, outcome, detail, now);
    }

    pub(super) fn report(&mut self, cycle: Cycle, outcome: Outcome, detail: Option<String>, now: Now) {
        let requests = cycle.requests.clone();
        let old = self.backends.get(&cycle.from);
        let report = Box::new(cycle.report(&self.service, outcome, detail, old, now));
        self.out.push(Output::Report(report.clone()));
        self.out.push(Output::Event(Event::RejuvenationEnded {
            cycle: report.cycle,
            outcome,
            cut: report.cut.len() as u64,
            duration_ms: report.duration_ms,
        }));
        for request in requests {
            self.out.push(Output::Answer { request, result: Ok(Some(report.clone())) });
        }
    }
}
