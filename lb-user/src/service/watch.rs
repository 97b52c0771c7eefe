//! What the shell does about the checks: weighs each that has ended against what the packet path has counted and
//! against whether this process was there to make it, and tells the coordinator.

use std::time::Duration;

use super::definition::sees_turns;
use super::runtime::Runtime;
use crate::check;
use crate::clock::Now;
use crate::names::BackendName;
use crate::recovery::{Finding, Input, Instance};

/// A check that has ended.
#[derive(Debug)]
pub(super) struct CheckEnd {
    pub(super) backend: BackendName,
    /// The life that was checked.
    pub(super) instance: Instance,
    pub(super) result: Result<(), Finding>,
    pub(super) took: Duration,
}

impl Runtime {
    /// A check has ended: its result, and what clients had meanwhile.
    pub(super) fn check_ended(&mut self, end: CheckEnd) {
        let CheckEnd { backend, instance, mut result, took } = end;
        let id =
            self.parts.backends.get(&backend).map(|parts| parts.id).filter(|_| sees_turns(&self.service));
        // Without the counters nobody is declared dead who may live, or slow who may be busy.
        let counters = id.and_then(|id| self.parts.plane.tables().backend_counters(id).ok());
        if let Some(counters) = counters {
            let ended = check::Ended { life: instance, took, turns: counters.turns };
            result = self.paces.weigh(&backend, ended, result, Now::read());
            if result.is_err() {
                self.step(&Input::Answered { backend: backend.clone(), turns: counters.turns });
                self.step(&Input::Asked { backend: backend.clone(), flows: counters.flows_new });
            }
        }
        self.step(&Input::Checked { backend, instance, result });
    }
}

/// Whether a check failed for want of this process: it was not there to make it in time, so it says nothing of
/// the backend. `late` is how much later than planned the check began, `took` how long it took until its end was
/// seen, `limit` its time.
pub(super) fn without_prober(
    result: Result<(), Finding>,
    late: Duration,
    took: Duration,
    limit: Duration,
) -> Result<(), Finding> {
    let held_up = late.max(took.saturating_sub(limit));
    match result {
        Err(Finding::TimedOut) if held_up > limit / 2 => Err(Finding::Unchecked(format!(
            "the controller itself was held up for {} ms",
            held_up.as_millis()
        ))),
        result => result,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_check_that_nobody_was_there_to_make_says_nothing_of_the_backend() {
        let ms = Duration::from_millis;
        let weighed = |late, took, result| without_prober(result, ms(late), ms(took), ms(1_000));
        let timed_out = || Err(Finding::TimedOut);
        assert_eq!(weighed(3, 1_001, timed_out()), timed_out());
        assert!(matches!(weighed(900, 1_001, timed_out()), Err(Finding::Unchecked(_))));
        let held_up = "the controller itself was held up for 2000 ms".to_owned();
        assert_eq!(weighed(3, 3_000, timed_out()), Err(Finding::Unchecked(held_up)));
        assert_eq!(weighed(900, 5, Err(Finding::Refused)), Err(Finding::Refused));
        assert_eq!(weighed(900, 5, Ok(())), Ok(()));
    }
}
