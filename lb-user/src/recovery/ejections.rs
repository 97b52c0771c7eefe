//! How often a backend has failed its checks lately, and how long it stays out for that.

use super::policy::Policy;
use crate::clock::Now;

/// The failures of one backend that are not forgotten yet; they outlast its lives.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Ejections {
    times: u32,
    /// When the last of them was counted, or the one before it forgotten.
    at: Option<Now>,
    until: Option<Now>,
    /// The failure that is counted has not been risen from yet.
    counted: bool,
}

impl Ejections {
    /// It has just failed its checks; how long it stays out for that, in milliseconds, if this is a new failure.
    pub(super) fn note_fall(&mut self, policy: &Policy, now: Now) -> Option<u64> {
        if std::mem::replace(&mut self.counted, true) {
            return None;
        }
        let before = self.times(policy, now);
        let wait = policy.ejection_step_ms.saturating_mul(before.into()).min(policy.ejection_most_ms);
        (self.times, self.at, self.until) = (before.saturating_add(1), Some(now), Some(now.plus_ms(wait)));
        Some(wait)
    }

    /// It passes its checks again, or is another life: the next failure is a new one.
    pub(super) fn note_rise(&mut self) {
        self.counted = false;
    }

    /// Failures that are not forgotten.
    pub(super) fn times(&self, policy: &Policy, now: Now) -> u32 {
        let quiet = self.at.map_or(0, |at| now.ms_since(at));
        let forgotten = quiet / policy.ejection_forget_ms.max(1);
        self.times.saturating_sub(u32::try_from(forgotten).unwrap_or(u32::MAX))
    }

    /// How long it stays out yet, in milliseconds.
    pub(super) fn left_ms(&self, now: Now) -> u64 {
        self.until.map_or(0, |until| until.ms_since(now))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_further_failure_keeps_it_out_for_longer_up_to_a_limit() {
        let policy = Policy { ejection_step_ms: 10, ejection_most_ms: 25, ..Policy::default() };
        let mut ejections = Ejections::default();
        let mut waits = Vec::new();
        for _ in 0..5 {
            waits.push(ejections.note_fall(&policy, Now::default()));
            assert_eq!(ejections.note_fall(&policy, Now::default()), None, "it is the same failure");
            ejections.note_rise();
        }
        assert_eq!(waits, [Some(0), Some(10), Some(20), Some(25), Some(25)]);
        assert_eq!(
            (ejections.left_ms(Now::default().plus_ms(5)), ejections.left_ms(Now::default().plus_ms(25))),
            (20, 0)
        );
    }

    #[test]
    fn time_without_a_failure_makes_them_forgotten_one_by_one() {
        let policy = Policy { ejection_step_ms: 10, ejection_forget_ms: 100, ..Policy::default() };
        let mut ejections = Ejections::default();
        for _ in 0..4 {
            ejections.note_fall(&policy, Now::default());
            ejections.note_rise();
        }
        let later = |ms| Now::default().plus_ms(ms);
        let times = [99, 100, 399, 400, 4_000].map(|ms| ejections.times(&policy, later(ms)));
        assert_eq!(times, [4, 3, 1, 0, 0]);
        assert_eq!(ejections.note_fall(&policy, later(250)), Some(20));
    }
}
