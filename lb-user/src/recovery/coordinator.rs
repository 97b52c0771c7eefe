//! The state machine of one service.
//!
//! What always holds (`tests/invariants.rs` checks it after every step of a simulation):
//! 1. Nothing is handed over to a backend that has not just passed its checks.
//! 2. Never are two backends out at once by our doing.
//! 3. A backend is stopped only when it has no flows left, or its drain deadline has passed, or it is dead.
//! 4. If the new active backend fails while the old one still drains, new flows go back.
//! 5. A transition is journaled before it is done.

use std::collections::BTreeMap;

use super::backend::{Backend, State};
use super::cycle::Cycle;
use super::event::Event;
use super::journal::Record;
use super::message::{CutFlow, Finding, Input, Instance, OpenFlows, Output, RequestId, Steering};
use super::policy::Policy;
use super::report::{Outcome, Reason};
use crate::clock::Now;
use crate::names::{BackendName, ServiceName};

/// Decides for one service; see the [module](super).
#[derive(Clone, Debug)]
pub struct Coordinator {
    pub(super) service: ServiceName,
    pub(super) policy: Policy,
    pub(super) backends: BTreeMap<BackendName, Backend>,
    pub(super) steering: Steering,
    pub(super) cycle: Option<Cycle>,
    pub(super) cycles: u64,
    pub(super) last_handover: Option<Now>,
    pub(super) journal_error: Option<String>,
    /// What a wanted rejuvenation waits for, as last said.
    waits_for: Option<String>,
    pub(super) out: Vec<Output>,
}

impl Coordinator {
    /// A service whose backends are all to be started.
    pub fn new(
        service: ServiceName,
        policy: Policy,
        backends: impl IntoIterator<Item = BackendName>,
        now: Now,
    ) -> (Self, Vec<Output>) {
        let backends: BTreeMap<_, _> = backends.into_iter().map(|name| (name, Backend::new(now))).collect();
        let starts = backends.keys().cloned().map(Output::Start).collect();
        let coordinator = Self {
            service,
            policy,
            backends,
            steering: Steering::default(),
            cycle: None,
            cycles: 0,
            last_handover: None,
            journal_error: None,
            waits_for: None,
            out: Vec::new(),
        };
        (coordinator, starts)
    }

    /// Takes in what happened and answers with what to do, in order.
    ///
    /// A step whose journal records cannot be made durable must not have happened: the shell steps a clone,
    /// and if a record fails it drops the clone, says so with [`Input::Journal`], and steps again. Then only
    /// what cannot wait is done, and without records.
    pub fn step(&mut self, now: Now, input: Input) -> Vec<Output> {
        match input {
            Input::Tick => {}
            Input::Started { backend, instance } => self.started(&backend, instance, now),
            Input::StartFailed { backend, error } => self.start_failed(&backend, error, now),
            Input::Checked { backend, result } => self.checked(&backend, result, now),
            Input::Exited { backend, instance, status } => self.exited(&backend, instance, &status, now),
            Input::Sampled { backend, memory_rss_bytes } => {
                if let Some(known) = self.backends.get_mut(&backend) {
                    known.note_memory(memory_rss_bytes, &self.policy);
                }
            }
            Input::Flows { backend, open } => self.flows(&backend, open, now),
            Input::Stopped { backend, cut } => self.stopped(&backend, cut, now),
            Input::Rejuvenate { request } => self.requested(request, now),
            Input::Journal(result) => self.journal(result),
        }
        self.watch_active(now);
        self.watch_ceiling(now);
        self.watch_deadlines(now);
        std::mem::take(&mut self.out)
    }

    /// The state of every backend.
    pub fn states(&self) -> impl Iterator<Item = (&BackendName, State)> {
        self.backends.iter().map(|(name, backend)| (name, backend.state))
    }

    /// Where flows go.
    pub fn steering(&self) -> &Steering {
        &self.steering
    }

    /// Rejuvenations begun since the journal began.
    pub fn cycles(&self) -> u64 {
        self.cycles
    }

    /// Whether the flow table is wanted often: something drains.
    pub fn wants_flows(&self) -> bool {
        self.backends.values().any(|b| matches!(b.state, State::Draining | State::Drained))
    }

    /// What is going on beyond serving, for people.
    pub fn activity(&self, now: Now) -> Option<String> {
        let cycle = self.cycle.as_ref()?;
        let old = self.backends.get(&cycle.from)?;
        let left = cycle.drain_deadline_ms.saturating_sub(now.boot_ms) / 1000;
        let what = match old.state {
            State::Draining => format!(
                "{} drains to {}: {} flows open, {} awaiting a response, deadline in {left} s",
                cycle.from,
                cycle.to,
                old.open.total(),
                old.open.awaiting_response
            ),
            state => format!("{} is {state}", cycle.from),
        };
        Some(format!("rejuvenation {} ({}): {what}", cycle.number, cycle.reason))
    }

    fn started(&mut self, name: &BackendName, instance: Instance, now: Now) {
        let Some(backend) = self.backends.get_mut(name) else { return };
        backend.begin_life(instance);
        backend.retry_at = None;
        if let Some(cycle) = self.cycle.as_mut().filter(|cycle| cycle.from == *name) {
            cycle.times.started_unix_ms = Some(now.unix_ms);
        }
        self.out.push(Output::Event(Event::Started { backend: name.clone(), pid: instance.pid }));
        self.set_state(name, State::Starting, None, now);
    }

    fn start_failed(&mut self, name: &BackendName, error: String, now: Now) {
        self.fail(name, error, now);
    }

    /// The backend is out; it is tried again, ever more slowly.
    fn fail(&mut self, name: &BackendName, why: String, now: Now) {
        let Some(backend) = self.backends.get_mut(name) else { return };
        let wait = self.policy.retry_ms.saturating_mul(1 << backend.attempts.min(6));
        backend.attempts = backend.attempts.saturating_add(1);
        backend.instance = None;
        backend.forget_checks();
        backend.retry_at = Some(now.plus_ms(wait));
        self.out.push(Output::Event(Event::Failed { backend: name.clone(), why }));
        self.set_state(name, State::Failed, None, now);
    }

    fn checked(&mut self, name: &BackendName, result: Result<(), Finding>, now: Now) {
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
    fn activate(&mut self, name: &BackendName, now: Now) {
        self.steer(Some(name.clone()), None);
        self.last_handover = Some(now);
        self.set_state(name, State::Active, None, now);
    }

    fn exited(&mut self, name: &BackendName, instance: Instance, status: &str, now: Now) {
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

    /// The active backend is unfit: back to the old one if it still drains, else on to a standby.
    fn lose_active(&mut self, name: &BackendName, reason: Reason, why: &str, now: Now) {
        if self.roll_back(name, why, now) {
            return;
        }
        if self.cycle.is_none()
            && let Some(to) = self.ready_standby(now)
        {
            self.begin_cycle(name, &to, reason, None, now);
            return;
        }
        // Nobody can take over: what is dead is started again, what lives goes on serving as it can.
        let dead = self.backends.get(name).is_some_and(|backend| backend.instance.is_none());
        if dead {
            self.out.push(Output::Event(Event::Failed {
                backend: name.clone(),
                why: format!("{why}, and no standby is ready"),
            }));
            self.steer(None, None);
            self.set_state(name, State::Recovering, None, now);
            self.out.push(Output::Stop(name.clone()));
        }
    }

    /// Sends new flows back to a backend that still drains; false if there is none.
    fn roll_back(&mut self, failed: &BackendName, why: &str, now: Now) -> bool {
        let Some(cycle) = &self.cycle else { return false };
        let old = cycle.from.clone();
        let alive = self.backends.get(&old).is_some_and(|backend| {
            backend.instance.is_some() && matches!(backend.state, State::Draining | State::Drained)
        });
        // An old backend that was itself unfit is no place to go back to.
        let was_fit = matches!(cycle.reason, Reason::Ceiling { .. } | Reason::Operator);
        let observed = was_fit && now.ms_since(cycle.begun) <= self.policy.observation_ms;
        let Some(cycle) = self.cycle.take_if(|cycle| alive && observed && cycle.to == *failed) else {
            return false;
        };
        self.record(Record::Ended { cycle: cycle.number, outcome: Outcome::RolledBack });
        self.steer(Some(old.clone()), None);
        self.out.push(Output::Event(Event::RolledBack {
            from: failed.clone(),
            to: old.clone(),
            why: why.to_owned(),
        }));
        self.set_state(&old, State::Active, None, now);
        self.set_state(failed, State::Recovering, None, now);
        self.out.push(Output::Stop(failed.clone()));
        self.report(cycle, Outcome::RolledBack, Some(format!("{failed} failed: {why}")), now);
        true
    }

    fn flows(&mut self, name: &BackendName, open: OpenFlows, now: Now) {
        let Some(backend) = self.backends.get_mut(name) else { return };
        backend.note_flows(open, now);
        let (state, settled) = (backend.state, backend.is_settled(&self.policy, now));
        let Some(cycle) = self.cycle.as_mut().filter(|cycle| cycle.from == *name) else {
            // A standby that is renewed has no cycle.
            if state == State::Drained && settled {
                self.stop_drained(name, now);
            }
            return;
        };
        cycle.at_handover.get_or_insert(open);
        let overdue = now.boot_ms >= cycle.drain_deadline_ms;
        match state {
            State::Draining if settled || overdue => {
                cycle.note_drained(now);
                let left = open.total();
                self.steer(self.steering.active.clone(), None);
                self.out.push(Output::Event(Event::Drained { backend: name.clone(), left }));
                self.set_state(name, State::Drained, None, now);
            }
            // The second look, after old flows without entry have stopped coming here.
            State::Drained if self.journal_error.is_some() => {}
            State::Drained if open.total() == 0 || overdue => self.stop_drained(name, now),
            State::Drained => self.set_state(name, State::Draining, Some("flows came back".into()), now),
            _ => {}
        }
    }

    fn stop_drained(&mut self, name: &BackendName, now: Now) {
        if let Some(cycle) = self.cycle.as_mut().filter(|cycle| cycle.from == *name) {
            cycle.stopping = Some(now);
            if cycle.times.drained_unix_ms.is_none() {
                cycle.note_drained(now);
            }
            let record = Record::Stopping { cycle: cycle.number, instance: cycle.before };
            self.record(record);
            if self.steering.draining.is_some() {
                self.steer(self.steering.active.clone(), None);
            }
        }
        self.set_state(name, State::Recovering, None, now);
        self.out.push(Output::Stop(name.clone()));
    }

    fn stopped(&mut self, name: &BackendName, cut: Vec<CutFlow>, now: Now) {
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

    /// A restarted backend is ready: its cycle ends.
    fn rejoined(&mut self, name: &BackendName, now: Now) {
        if let Some(cycle) = self.cycle.take_if(|cycle| cycle.from == *name) {
            let clean = cycle.cut.is_empty();
            let outcome = if clean { Outcome::Completed } else { Outcome::CompletedWithCuts };
            self.end_cycle(cycle, outcome, None, now);
        }
    }

    fn requested(&mut self, request: RequestId, now: Now) {
        let active = self.steering.active.clone();
        let refusal = self.reason_to_refuse();
        match (active, self.ready_standby(now), refusal) {
            (Some(from), Some(to), None) => {
                self.begin_cycle(&from, &to, Reason::Operator, Some(request), now);
            }
            (_, _, Some(why)) => self.out.push(Output::Answer { request, result: Err(why) }),
            _ => {
                let why = self.why_no_standby(now);
                self.out.push(Output::Answer { request, result: Err(why) });
            }
        }
    }

    fn reason_to_refuse(&self) -> Option<String> {
        if let Some(error) = &self.journal_error {
            return Some(format!("the journal cannot be written: {error}; make room or repair it first"));
        }
        let cycle = self.cycle.as_ref()?;
        Some(format!("rejuvenation {} of {} is under way: wait until it ends", cycle.number, cycle.from))
    }

    /// A standby that a handover to is safe at this moment.
    fn ready_standby(&self, now: Now) -> Option<BackendName> {
        self.backends
            .iter()
            .find(|(_, b)| b.state == State::Standby && b.is_ready(&self.policy, now))
            .map(|(name, _)| name.clone())
    }

    fn why_no_standby(&self, now: Now) -> String {
        let others: Vec<String> = self
            .backends
            .iter()
            .filter(|(name, _)| self.steering.active.as_ref() != Some(name))
            .map(|(name, backend)| {
                let finding = backend.last_finding.as_ref().map_or_else(
                    || format!("for {:.1} s", now.ms_since(backend.since) as f64 / 1000.0),
                    |finding| format!("last check: {finding}"),
                );
                format!("{name} is {} ({finding})", backend.state)
            })
            .collect();
        format!("no standby is ready, so nothing was handed over: {}", others.join(", "))
    }

    fn begin_cycle(
        &mut self,
        from: &BackendName,
        to: &BackendName,
        reason: Reason,
        request: Option<RequestId>,
        now: Now,
    ) {
        self.cycles += 1;
        self.waits_for = None;
        let mut cycle = Cycle::new(self.cycles, reason.clone(), from.clone(), to.clone(), now);
        cycle.request = request;
        cycle.before = self.backends.get(from).and_then(|backend| backend.instance);
        // A dead backend answers nobody: waiting for its flows would only keep their clients waiting.
        let dead = matches!(reason, Reason::Died { .. });
        cycle.drain_deadline_ms = now.boot_ms + if dead { 0 } else { self.policy.drain_deadline_ms };
        self.record(Record::Handover {
            cycle: cycle.number,
            from: from.clone(),
            to: to.clone(),
            epoch: self.steering.epoch + 1,
            reason: reason.clone(),
            at: now,
            drain_deadline_ms: cycle.drain_deadline_ms,
            instance: cycle.before,
        });
        self.steer(Some(to.clone()), Some(from.clone()).filter(|_| !dead));
        self.out.push(Output::Event(Event::Handover {
            cycle: cycle.number,
            from: from.clone(),
            to: to.clone(),
            reason,
        }));
        self.cycle = Some(cycle);
        self.last_handover = Some(now);
        if let Some(backend) = self.backends.get_mut(from) {
            backend.empty_since = None;
        }
        self.set_state(to, State::Active, None, now);
        if dead {
            self.stop_drained(from, now);
        } else {
            self.set_state(from, State::Draining, None, now);
        }
    }

    fn end_cycle(&mut self, cycle: Cycle, outcome: Outcome, detail: Option<String>, now: Now) {
        self.record(Record::Ended { cycle: cycle.number, outcome });
        self.report(cycle, outcome, detail, now);
    }

    fn report(&mut self, cycle: Cycle, outcome: Outcome, detail: Option<String>, now: Now) {
        let Some(old) = self.backends.get(&cycle.from) else { return };
        let request = cycle.request;
        let report = Box::new(cycle.report(&self.service, outcome, detail, old, now));
        self.out.push(Output::Report(report.clone()));
        self.out.push(Output::Event(Event::RejuvenationEnded {
            cycle: report.cycle,
            outcome,
            cut: report.cut.len() as u64,
            duration_ms: report.duration_ms,
        }));
        if let Some(request) = request {
            self.out.push(Output::Answer { request, result: Ok(report) });
        }
    }

    fn journal(&mut self, result: Result<(), String>) {
        let error = result.err();
        if let Some(error) = error.clone().filter(|_| self.journal_error.is_none()) {
            self.out.push(Output::Event(Event::JournalFailed { error }));
        }
        self.journal_error = error;
    }

    /// An active backend that lives but fails its checks.
    fn watch_active(&mut self, now: Now) {
        let Some(name) = self.steering.active.clone() else {
            self.promote_any(now);
            return;
        };
        let Some(backend) = self.backends.get(&name) else { return };
        if !backend.has_fallen(&self.policy) || self.journal_error.is_some() {
            return;
        }
        let finding = backend.last_finding.as_ref().map(ToString::to_string).unwrap_or_default();
        self.lose_active(&name, Reason::Unhealthy { finding: finding.clone() }, &finding, now);
    }

    /// Nobody is active: the first backend that is ready becomes it.
    fn promote_any(&mut self, now: Now) {
        if let Some(name) = self.ready_standby(now) {
            self.activate(&name, now);
        }
    }

    fn watch_ceiling(&mut self, now: Now) {
        let Some(name) = self.steering.active.clone() else { return };
        if self.cycle.is_some()
            || self.last_handover.is_some_and(|at| now.ms_since(at) < self.policy.cooldown_ms)
        {
            return;
        }
        if let Some(bytes) = self.backends.get(&name).and_then(|b| b.over_ceiling(&self.policy)) {
            let reason = Reason::Ceiling {
                memory_rss_bytes: bytes,
                ceiling_bytes: self.policy.ceiling_bytes(),
                limit_bytes: self.policy.memory_limit_bytes,
            };
            self.want(&name, reason, now);
        } else {
            self.waits_for = None;
            self.renew_aged_standby(now);
        }
    }

    /// Hands over if a standby is ready and itself below the ceiling; else says once what it waits for.
    fn want(&mut self, from: &BackendName, reason: Reason, now: Now) {
        let standby = self.ready_standby(now);
        let aged = standby
            .as_ref()
            .and_then(|to| self.backends.get(to))
            .is_some_and(|b| b.over_ceiling(&self.policy).is_some());
        let why = match (&self.journal_error, standby) {
            (None, Some(to)) if !aged => return self.begin_cycle(from, &to, reason, None, now),
            (Some(error), _) => format!("the journal cannot be written: {error}"),
            (None, Some(to)) => format!(
                "{to} is beyond the ceiling too: a fresh instance needs more memory than the ceiling allows, raise it"
            ),
            (None, None) => self.why_no_standby(now),
        };
        // The times in it change with every look, the state does not.
        let key = why.split('(').next().unwrap_or_default().to_owned();
        if self.waits_for.as_ref() != Some(&key) {
            self.waits_for = Some(key);
            self.out.push(Output::Event(Event::RejuvenationWaits { reason, why }));
        }
    }

    /// A standby that aged while it was active, and came back by a roll-back, is renewed while it waits.
    fn renew_aged_standby(&mut self, now: Now) {
        let aged = self.backends.iter().find(|(_, backend)| {
            backend.state == State::Standby
                && backend.has_worked
                && backend.over_ceiling(&self.policy).is_some()
        });
        if let Some((name, _)) = aged {
            let name = name.clone();
            if let Some(backend) = self.backends.get_mut(&name) {
                backend.empty_since = None;
            }
            self.set_state(&name, State::Drained, Some("aged while it waited".into()), now);
        }
    }

    fn watch_deadlines(&mut self, now: Now) {
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

    fn names_where(&self, wanted: impl Fn(&Backend) -> bool) -> Vec<BackendName> {
        self.backends.iter().filter(|(_, b)| wanted(b)).map(|(name, _)| name.clone()).collect()
    }

    /// Journals, unless that is known to fail: then only what cannot wait goes on, without a record.
    pub(super) fn record(&mut self, record: Record) {
        if self.journal_error.is_none() {
            self.out.push(Output::Journal(record));
        }
    }

    pub(super) fn steer(&mut self, active: Option<BackendName>, draining: Option<BackendName>) {
        let epoch =
            if active == self.steering.active { self.steering.epoch } else { self.steering.epoch + 1 };
        self.steering = Steering { active, draining, epoch };
        self.out.push(Output::Steer(self.steering.clone()));
    }

    pub(super) fn set_state(&mut self, name: &BackendName, to: State, why: Option<String>, now: Now) {
        let Some(backend) = self.backends.get_mut(name) else { return };
        if backend.state == to {
            return;
        }
        let from = backend.state;
        backend.state = to;
        backend.since = now;
        backend.has_worked |= to == State::Active;
        self.out.push(Output::Event(Event::State { backend: name.clone(), from, to, why }));
    }
}
