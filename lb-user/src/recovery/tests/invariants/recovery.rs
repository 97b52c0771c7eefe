//! What must always be so of steps of machines, and of the consent of hooks.

use super::{Checker, Verdict};
use crate::clock::Now;
use crate::names::BackendName;
use crate::recovery::Step;
use crate::recovery::event::Event;
use crate::recovery::hook::Phase;
use crate::recovery::journal::Standing;
use crate::recovery::report::Reason;

/// A consent of hooks is used within this.
const CONSENT_AGE_MS: u64 = 10_000;

impl Checker {
    /// 8: a step of a machine is done once, after it was written down.
    pub(super) fn may_be_done(&mut self, name: &BackendName, step: Step) -> Verdict {
        if !step.is_of_machine() {
            return Ok(());
        }
        match Standing::of(&self.durable).steps.get(name) {
            Some((written, number)) if *written == step => {
                let is_new = self.machine_steps.entry(name.clone()).or_default().insert(*number);
                if is_new { Ok(()) } else { Err(format!("the {step} of {name} is ordered twice")) }
            }
            _ => Err(format!("a {step} of {name} is ordered without a record")),
        }
    }

    /// 9: what is planned waits for the consent of hooks; whom operators hold out they have decided about.
    pub(super) fn has_consent(&mut self, event: &Event, now: Now) -> Verdict {
        let Event::Handover { from, reason, .. } = event else { return Ok(()) };
        self.stop_asked = None;
        self.consents.remove(&Phase::BeforeStop);
        let planned = matches!(reason, Reason::Ceiling { .. } | Reason::Operator)
            && self.policy.hooks.contains_key(&Phase::BeforeHandover)
            && !Standing::of(&self.durable).held_out.contains(from);
        let consent = self.consents.get(&Phase::BeforeHandover);
        let fresh = |(whom, at): &(BackendName, Now)| whom == from && now.ms_since(*at) <= CONSENT_AGE_MS;
        if planned && !consent.is_some_and(fresh) {
            return Err(format!("{from} hands over, and hooks have not consented"));
        }
        if planned {
            self.consents.remove(&Phase::BeforeHandover);
        }
        Ok(())
    }

    /// 9: hooks consent to the stop of a drained backend, or had long enough.
    pub(super) fn may_be_stopped(&self, name: &BackendName, now: Now) -> Verdict {
        let consents = self.consents.get(&Phase::BeforeStop).is_some_and(|(whom, _)| whom == name);
        let is_over = self
            .stop_asked
            .as_ref()
            .is_some_and(|(whom, at)| whom == name && now.ms_since(*at) >= self.policy.veto_limit_ms);
        if self.policy.hooks.contains_key(&Phase::BeforeStop) && !consents && !is_over {
            return Err(format!("{name} is stopped, and hooks have not consented"));
        }
        Ok(())
    }
}
