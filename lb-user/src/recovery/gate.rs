//! The consent of hooks to one thing at a time: asked for, given, refused or not answered.

use super::policy::Policy;
use crate::clock::Now;
use crate::names::BackendName;

/// A consent that is not used within this is asked for anew, in milliseconds.
const FRESH_MS: u64 = 10_000;
/// The shell keeps the time limits of hooks; an answer that is so much later is lost, in milliseconds.
const LOST_MS: u64 = 5_000;

/// Whether something may be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Consent {
    /// It may.
    Given,
    /// Hooks have to be asked first.
    Ask,
    /// They have been asked, and have not answered.
    Pending,
    /// They have refused, and are not to be asked again yet.
    Refused,
}

/// What a call was about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Asked {
    pub(super) call: u64,
    pub(super) backend: BackendName,
    lost_at_ms: u64,
}

/// The consent to one phase.
#[derive(Clone, Debug, Default)]
pub(super) struct Gate {
    asked: Option<Asked>,
    given: Option<(BackendName, Now)>,
    refused: Option<Refusal>,
}

/// What was refused, why and when.
#[derive(Clone, Debug)]
struct Refusal {
    backend: BackendName,
    why: String,
    at: Now,
}

impl Gate {
    /// Whether hooks consent at this moment; a consent that is given counts once. Who `insists` asks anew,
    /// however short the last refusal is ago.
    pub(super) fn consent(
        &mut self,
        backend: &BackendName,
        insists: bool,
        policy: &Policy,
        now: Now,
    ) -> Consent {
        let given = self.given.take();
        if given.is_some_and(|(whom, at)| whom == *backend && now.ms_since(at) <= FRESH_MS) {
            return Consent::Given;
        }
        if self.asked.is_some() {
            return Consent::Pending;
        }
        if self.is_refused(policy, now) && !insists { Consent::Refused } else { Consent::Ask }
    }

    /// Whether hooks have refused, and are not to be asked again yet.
    pub(super) fn is_refused(&self, policy: &Policy, now: Now) -> bool {
        self.refused.as_ref().is_some_and(|refusal| now.ms_since(refusal.at) < policy.veto_retry_ms)
    }

    /// Hooks are asked, and have `limit_ms`.
    pub(super) fn ask(&mut self, call: u64, backend: BackendName, limit_ms: u64, now: Now) {
        let lost_at_ms = now.plus_ms(limit_ms.saturating_add(LOST_MS)).boot_ms;
        self.asked = Some(Asked { call, backend, lost_at_ms });
    }

    /// Takes what was asked by this call, if it is still of interest.
    pub(super) fn answered(&mut self, call: u64) -> Option<Asked> {
        self.asked.take_if(|asked| asked.call == call)
    }

    /// The call whose answer is not to be expected any more.
    pub(super) fn lost(&self, now: Now) -> Option<u64> {
        self.asked.as_ref().filter(|asked| now.boot_ms >= asked.lost_at_ms).map(|asked| asked.call)
    }

    pub(super) fn give(&mut self, backend: BackendName, now: Now) {
        (self.given, self.refused) = (Some((backend, now)), None);
    }

    pub(super) fn refuse(&mut self, backend: &BackendName, why: &str, now: Now) {
        let refusal = Refusal { backend: backend.clone(), why: why.to_owned(), at: now };
        (self.given, self.refused) = (None, Some(refusal));
    }

    /// Whether hooks have been asked and have not answered.
    pub(super) fn is_asked(&self) -> bool {
        self.asked.is_some()
    }

    /// What is to be said of a consent that is not given, for people.
    pub(super) fn objection(&self, now: Now) -> Option<String> {
        let veto = self.refused.as_ref().map(|Refusal { backend, why, at }| {
            format!("{backend}: vetoed {:.0} s ago: {why}", now.ms_since(*at) as f64 / 1000.0)
        });
        let asked =
            self.asked.as_ref().map(|asked| format!("{}: asked, and not answered yet", asked.backend));
        asked.or(veto)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn now(ms: u64) -> Now {
        Now { boot_ms: ms, unix_ms: ms }
    }

    #[test]
    fn a_consent_counts_once_for_one_backend_and_not_for_long() {
        let policy = Policy::default();
        let [a, b]: [BackendName; 2] = ["a", "b"].map(|name| name.parse().unwrap());
        let mut gate = Gate::default();
        assert_eq!(gate.consent(&a, false, &policy, now(0)), Consent::Ask);
        gate.ask(1, a.clone(), 100, now(0));
        assert_eq!(gate.consent(&a, true, &policy, now(1)), Consent::Pending);
        assert_eq!(gate.answered(2), None);
        assert_eq!(gate.answered(1).unwrap().backend, a);
        gate.give(a.clone(), now(5));
        assert_eq!(gate.consent(&a, false, &policy, now(6)), Consent::Given);
        assert_eq!(gate.consent(&a, false, &policy, now(7)), Consent::Ask);
        gate.give(a.clone(), now(8));
        assert_eq!(gate.consent(&b, false, &policy, now(9)), Consent::Ask);
        gate.give(a.clone(), now(10));
        assert_eq!(gate.consent(&a, false, &policy, now(11 + FRESH_MS)), Consent::Ask);
    }

    #[test]
    fn a_refusal_holds_for_a_while_unless_somebody_insists() {
        let policy = Policy { veto_retry_ms: 1_000, ..Policy::default() };
        let a: BackendName = "a".parse().unwrap();
        let mut gate = Gate::default();
        gate.refuse(&a, "quiet hours", now(0));
        assert_eq!(gate.objection(now(2_000)).unwrap(), "a: vetoed 2 s ago: quiet hours");
        assert_eq!(gate.consent(&a, false, &policy, now(999)), Consent::Refused);
        assert_eq!(gate.consent(&a, true, &policy, now(999)), Consent::Ask);
        assert_eq!(gate.consent(&a, false, &policy, now(1_000)), Consent::Ask);
    }

    #[test]
    fn an_answer_that_does_not_come_is_lost() {
        let mut gate = Gate::default();
        gate.ask(7, "a".parse().unwrap(), 100, now(0));
        assert_eq!(gate.lost(now(99 + LOST_MS)), None);
        assert_eq!(gate.lost(now(100 + LOST_MS)), Some(7));
    }
}
