//! Hooks and diagnoses: who is asked before something is done, and who is told afterwards.
//!
//! Nothing here is in the way of an answer to a failure: only what was planned is asked about.

use super::Coordinator;
use super::leave::Pending;
use crate::clock::Now;
use crate::names::BackendName;
use crate::recovery::State;
use crate::recovery::cycle::{Cycle, Diagnosis};
use crate::recovery::event::Event;
use crate::recovery::gate::{Consent, Gate};
use crate::recovery::hook::{DiagnosisReport, HookCall, HookReport, Phase};
use crate::recovery::message::Output;
use crate::recovery::report::{Outcome, Reason};

/// The shell keeps the time limit of a diagnosis; an answer that is so much later is lost, in milliseconds.
const LOST_MS: u64 = 5_000;
/// Why there is no answer.
const LOST: &str = "no answer in time";

impl Coordinator {
    /// Begins a rejuvenation that a rule wants, once hooks consent; it is proposed again with each step.
    pub(super) fn propose_cycle(
        &mut self,
        from: &BackendName,
        to: Option<&BackendName>,
        reason: Reason,
        now: Now,
    ) {
        if self.hooks_consent(from, &reason, false, now) {
            self.begin_cycle(from, to, reason, None, now);
        }
    }

    /// Whether hooks consent to a handover at this moment; they are asked if they have not been. Who `insists`
    /// asks them soon after a veto, too.
    pub(super) fn hooks_consent(
        &mut self,
        from: &BackendName,
        reason: &Reason,
        insists: bool,
        now: Now,
    ) -> bool {
        self.consent(Phase::BeforeHandover, from, Some(reason), insists, now) == Consent::Given
    }

    /// Whether rules do not ask hooks about a handover yet: they have refused one lately.
    pub(super) fn is_vetoed(&self, now: Now) -> bool {
        self.gates.get(&Phase::BeforeHandover).is_some_and(|gate| gate.is_refused(&self.policy, now))
    }

    /// Stops a drained backend, once hooks consent or had long enough, and it has been diagnosed.
    pub(super) fn stop_with_consent(&mut self, name: &BackendName, now: Now) {
        if !self.may_be_stopped(name, now) {
            return;
        }
        let limit = self.policy.diagnosis_ms;
        let Some(cycle) = self.cycle.as_mut().filter(|cycle| cycle.from == *name) else { return };
        match (&cycle.diagnosis, limit) {
            (Diagnosis::NotYet, Some(limit_ms)) => {
                let lost_at_ms = now.plus_ms(limit_ms.saturating_add(LOST_MS)).boot_ms;
                cycle.diagnosis = Diagnosis::UnderWay { lost_at_ms };
                let reason = cycle.reason.clone();
                self.out.push(Output::Event(Event::Diagnosing { backend: name.clone() }));
                self.out.push(Output::Diagnose { backend: name.clone(), reason });
            }
            (Diagnosis::UnderWay { .. }, _) => {}
            (Diagnosis::NotYet | Diagnosis::Done(_), _) => self.stop_drained(name, now),
        }
    }

    fn may_be_stopped(&mut self, name: &BackendName, now: Now) -> bool {
        let Some(cycle) = self.cycle.as_mut().filter(|cycle| cycle.from == *name) else { return false };
        if cycle.consented {
            return true;
        }
        let since = *cycle.asked_since.get_or_insert(now);
        let reason = cycle.reason.clone();
        let is_over = now.ms_since(since) >= self.policy.veto_limit_ms;
        let consent = match self.consent(Phase::BeforeStop, name, Some(&reason), false, now) {
            Consent::Refused if is_over => {
                self.out.push(Output::Event(Event::Overruled { backend: name.clone() }));
                true
            }
            consent => consent == Consent::Given,
        };
        if let Some(cycle) = &mut self.cycle {
            cycle.consented = consent;
        }
        consent
    }

    /// Whether hooks consent to a phase; asks them if they have not been.
    fn consent(
        &mut self,
        phase: Phase,
        name: &BackendName,
        reason: Option<&Reason>,
        insists: bool,
        now: Now,
    ) -> Consent {
        let Some(limit_ms) = self.policy.hooks.get(&phase).copied() else { return Consent::Given };
        let consent = self.gates.entry(phase).or_default().consent(name, insists, &self.policy, now);
        if consent == Consent::Ask {
            let what = match phase {
                Phase::BeforeStop => format!("{name} is about to be stopped"),
                _ => format!("{name} is about to hand over"),
            };
            let call = self.call(phase, name, self.context(reason), what, now);
            self.gate(phase).ask(call, name.clone(), limit_ms, now);
            self.out.push(Output::Event(Event::Asked { phase, backend: name.clone() }));
        }
        consent
    }

    fn gate(&mut self, phase: Phase) -> &mut Gate {
        self.gates.entry(phase).or_default()
    }

    /// Orders the hooks of a phase to be run, about a backend and perhaps a rejuvenation; returns the number of
    /// the call.
    fn call(
        &mut self,
        phase: Phase,
        name: &BackendName,
        (cycle, reason): (Option<u64>, Option<Reason>),
        what: String,
        now: Now,
    ) -> u64 {
        self.calls += 1;
        let call = HookCall {
            call: self.calls,
            unix_ms: now.unix_ms,
            service: self.service.clone(),
            backend: name.clone(),
            phase,
            cycle,
            reason,
            what,
            states: self.backends.iter().map(|(name, backend)| (name.clone(), backend.state)).collect(),
        };
        self.out.push(Output::Hook(Box::new(call)));
        self.calls
    }

    pub(super) fn hooked(&mut self, call: u64, reports: Vec<HookReport>, now: Now) {
        let failure = reports.iter().find_map(|report| {
            report.failure.as_ref().map(|why| (report.phase, report.hook.clone(), why.clone()))
        });
        let asked = self.gates.iter_mut().find_map(|(phase, gate)| Some((*phase, gate.answered(call)?)));
        match (asked, failure) {
            (Some((phase, asked)), None) => {
                self.gate(phase).give(asked.backend, now);
                self.keep_reports(reports);
            }
            (Some((phase, asked)), Some((_, hook, why))) => {
                self.keep_reports(reports);
                self.vetoed(phase, asked.backend, &format!("{hook}: {why}"), now);
            }
            (None, Some((phase, hook, why))) => {
                self.keep_reports(reports);
                self.out.push(Output::Event(Event::HookFailed { phase, hook, why }));
            }
            (None, None) => self.keep_reports(reports),
        }
    }

    fn vetoed(&mut self, phase: Phase, backend: BackendName, why: &str, now: Now) {
        self.gate(phase).refuse(&backend, why, now);
        let again_ms = self.policy.veto_retry_ms;
        self.out.push(Output::Event(Event::Vetoed { phase, backend, why: why.to_owned(), again_ms }));
        // While that is held back it was a rule that asked.
        let is_asked = |pending: &mut Pending| phase == Phase::BeforeHandover && !pending.is_held_back;
        if let Some(pending) = self.pending.take_if(is_asked) {
            self.withdraw(&pending, format!("vetoed by a hook ({phase}): {why}"));
        }
    }

    /// What hooks think about or have refused and that has not been done since, for people.
    pub fn objections(&self, now: Now) -> Vec<String> {
        let still = |phase: Phase| match (phase, &self.cycle) {
            (Phase::BeforeStop, cycle) => cycle.as_ref().is_some_and(|cycle| !cycle.consented),
            (_, cycle) => cycle.is_none(),
        };
        let gates = self.gates.iter().filter(|(phase, _)| still(**phase));
        gates.filter_map(|(phase, gate)| Some(format!("hooks ({phase}): {}", gate.objection(now)?))).collect()
    }

    /// Keeps for the report of the cycle that is under way, or of the one that comes of the consent.
    fn keep_reports(&mut self, reports: Vec<HookReport>) {
        match &mut self.cycle {
            Some(cycle) => cycle.keep_hooks(reports),
            None => self.hook_reports = reports.into_iter().filter(|report| report.phase.asks()).collect(),
        }
    }

    /// What the hooks that have consented to a cycle have reported.
    pub(super) fn hand_reports_to(&mut self, cycle: &mut Cycle) {
        cycle.keep_hooks(std::mem::take(&mut self.hook_reports));
    }

    pub(super) fn diagnosed(&mut self, name: &BackendName, report: DiagnosisReport) {
        let Some(cycle) = self.cycle.as_mut().filter(|cycle| cycle.from == *name) else { return };
        if !matches!(cycle.diagnosis, Diagnosis::UnderWay { .. }) {
            return;
        }
        let (took_ms, failure) = (report.took_ms, report.failure.clone());
        cycle.diagnosis = Diagnosis::Done(report);
        self.out.push(Output::Event(Event::Diagnosed { backend: name.clone(), took_ms, failure }));
    }

    /// Whether a drained backend is being looked at, which may make it deaf for a while.
    pub(super) fn is_being_diagnosed(&self, name: &BackendName) -> bool {
        let begun = |cycle: &Cycle| cycle.from == *name && !matches!(cycle.diagnosis, Diagnosis::NotYet);
        self.cycle.as_ref().is_some_and(begun) && self.state_of(name) == Some(State::Drained)
    }

    /// Answers that are not to be expected any more are failures.
    pub(super) fn watch_hooks(&mut self, now: Now) {
        let lost: Vec<_> = self.gates.values().filter_map(|gate| gate.lost(now)).collect();
        for call in lost {
            let asked = self.gates.iter_mut().find_map(|(phase, gate)| Some((*phase, gate.answered(call)?)));
            if let Some((phase, asked)) = asked {
                self.vetoed(phase, asked.backend, LOST, now);
            }
        }
        let limit = self.policy.diagnosis_ms.unwrap_or(0);
        let lost = self.cycle.as_ref().filter(|cycle| {
            matches!(cycle.diagnosis, Diagnosis::UnderWay { lost_at_ms } if now.boot_ms >= lost_at_ms)
        });
        if let Some(name) = lost.map(|cycle| cycle.from.clone()) {
            let report = DiagnosisReport {
                command: Vec::new(),
                took_ms: limit,
                exit_status: None,
                failure: Some(LOST.to_owned()),
                last_lines: Vec::new(),
            };
            self.diagnosed(&name, report);
        }
    }

    /// Tells hooks what has happened in this step.
    pub(super) fn announce(&mut self, now: Now) {
        if self.policy.hooks.is_empty() {
            return;
        }
        let events = self.out.iter().filter_map(|output| match output {
            Output::Event(event) => Some(event),
            _ => None,
        });
        let told: Vec<_> = events
            .filter_map(|event| Some((announcement(event)?, event.to_string())))
            .filter(|((phase, _), _)| self.policy.hooks.contains_key(phase))
            .collect();
        for ((phase, about), what) in told {
            match about {
                About::Backend(name) => drop(self.call(phase, &name, self.context(None), what, now)),
                About::Cycle(number) => {
                    if let Some((name, reason)) = self.ended(number) {
                        self.call(phase, &name, (Some(number), Some(reason)), what, now);
                    }
                }
            }
        }
    }

    /// Whom a rejuvenation was about that has ended in this step, and why there was one.
    fn ended(&self, number: u64) -> Option<(BackendName, Reason)> {
        self.out.iter().find_map(|output| match output {
            Output::Report(report) if report.cycle == number => {
                Some((report.from.clone(), report.reason.clone()))
            }
            _ => None,
        })
    }

    /// The rejuvenation that is under way, and why there is one; or why one is wanted.
    fn context(&self, wanted: Option<&Reason>) -> (Option<u64>, Option<Reason>) {
        let cycle = self.cycle.as_ref();
        let reason = wanted.cloned().or_else(|| cycle.map(|cycle| cycle.reason.clone()));
        (cycle.map(|cycle| cycle.number), reason)
    }
}

/// What an event is about.
enum About {
    Backend(BackendName),
    /// The rejuvenation of this number.
    Cycle(u64),
}

/// Which hooks are told of an event, and about whom.
fn announcement(event: &Event) -> Option<(Phase, About)> {
    let about = |phase, backend: &BackendName| Some((phase, About::Backend(backend.clone())));
    match event {
        Event::Handover { from, .. } => about(Phase::AfterHandover, from),
        Event::Drained { backend, .. } => about(Phase::AfterDrain, backend),
        Event::State { backend, from: State::Recovering, to: State::Starting, .. } => {
            about(Phase::AfterStop, backend)
        }
        Event::Started { backend, .. } => about(Phase::AfterStart, backend),
        Event::RejuvenationEnded {
            cycle, outcome: Outcome::Completed | Outcome::CompletedWithCuts, ..
        } => Some((Phase::AfterRejoin, About::Cycle(*cycle))),
        Event::RejuvenationEnded { cycle, outcome: Outcome::NotReady | Outcome::RolledBack, .. } => {
            Some((Phase::OnFailure, About::Cycle(*cycle)))
        }
        Event::Failed { backend, .. }
        | Event::StepFailed { backend, .. }
        | Event::Quarantined { backend, .. } => about(Phase::OnFailure, backend),
        _ => None,
    }
}
