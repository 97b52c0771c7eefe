//! What a row of results says about one backend, and when to ask it again. Pure: time and results come in,
//! the verdict and the time of the next check go out.
//!
//! ```text
//!            rise passes in a row
//!   undecided ------------------> up
//!       |                        |  ^
//!       | fall failures in a row |  | rise passes in a row
//!       |                        |  |
//!       |   fall in a row, or    v  |
//!       +----------------------> down
//!           x of the last y
//! ```
//!
//! While the last result speaks against the verdict, or there is none yet, the fast interval holds: a verdict is
//! reached soon, and a healthy backend is not bothered. Intervals are jittered, so that the checks of many
//! backends, begun at once, do not stay in step.

use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

use super::tally::{Rule, Tally, Verdict};
use crate::clock::Now;

/// When a backend is checked, and how many results make a verdict.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timing {
    /// From the end of a check to the next one, in milliseconds (1 or more).
    pub interval_ms: u64,
    /// The same while undecided (1 or more; it is not used if it is longer than the interval).
    pub fast_interval_ms: u64,
    /// A check that takes longer has failed, in milliseconds; kept by whoever makes the checks.
    pub timeout_ms: u64,
    /// Each interval is longer or shorter by up to this share, in percent (0 to 90).
    pub jitter_percent: u8,
    /// How many results make a verdict.
    pub rule: Rule,
}

/// Beyond it, an interval could come to nothing.
const JITTER_MAX: u8 = 90;

/// What follows from a result.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Judgement {
    /// The new verdict, if it has changed.
    pub change: Option<Verdict>,
    /// When to check again.
    pub next: Now,
}

/// Judges one backend by its checks.
#[derive(Clone, Debug)]
pub struct Judge {
    timing: Timing,
    random: SmallRng,
    tally: Tally,
}

impl Judge {
    /// A judge who has seen nothing. `seed` decides the jitter: other backends, other seeds.
    pub fn new(timing: Timing, seed: u64) -> Self {
        Self { timing, random: SmallRng::seed_from_u64(seed), tally: Tally::default() }
    }

    /// When to check first: somewhere within the fast interval.
    pub fn first(&mut self, now: Now) -> Now {
        now.plus_ms(self.random.random_range(0..=self.fast_interval_ms()))
    }

    /// Forgets all results: what is checked from now on is another life of the backend.
    pub fn forget(&mut self) {
        self.tally = Tally::default();
    }

    /// The verdict so far.
    pub fn verdict(&self) -> Option<Verdict> {
        self.tally.verdict()
    }

    /// Takes the result of a check that ended `now`.
    pub fn next(&mut self, passed: bool, now: Now) -> Judgement {
        let change = self.tally.note(passed, &self.timing.rule);
        Judgement { change, next: self.again(now) }
    }

    /// When to check again after a check that could not be made, which counts for nothing.
    pub fn again(&mut self, now: Now) -> Now {
        now.plus_ms(self.interval_ms())
    }

    fn interval_ms(&mut self) -> u64 {
        let interval =
            if self.tally.is_settled() { self.timing.interval_ms.max(1) } else { self.fast_interval_ms() };
        let most = interval.saturating_mul(u64::from(self.timing.jitter_percent.min(JITTER_MAX))) / 100;
        (interval - most).saturating_add(self.random.random_range(0..=most.saturating_mul(2)))
    }

    fn fast_interval_ms(&self) -> u64 {
        self.timing.fast_interval_ms.min(self.timing.interval_ms).max(1)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::tally::Window;
    use super::*;

    const TIMING: Timing = Timing {
        interval_ms: 1000,
        fast_interval_ms: 100,
        timeout_ms: 1000,
        jitter_percent: 0,
        rule: Rule { rise: 2, fall: 3, window: None },
    };

    fn within(failures: u32, checks: u32) -> Timing {
        Timing { rule: Rule { window: Some(Window { failures, checks }), ..TIMING.rule }, ..TIMING }
    }

    /// The changes that results (`+` passed, `-` failed) lead to, each with the number of its result.
    fn changes(timing: Timing, results: &str) -> Vec<(usize, Verdict)> {
        let mut judge = Judge::new(timing, 1);
        let judged = results.chars().zip(1..).filter_map(|(result, number)| {
            let change = judge.next(result == '+', Now::default()).change?;
            Some((number, change))
        });
        judged.collect()
    }

    #[test]
    fn rows_of_results_make_the_verdict() {
        use Verdict::{Down, Up};
        assert_eq!(changes(TIMING, "+"), []);
        assert_eq!(changes(TIMING, "++++"), [(2, Up)]);
        assert_eq!(changes(TIMING, "---"), [(3, Down)]);
        assert_eq!(changes(TIMING, "++--+--+---"), [(2, Up), (11, Down)]);
        assert_eq!(changes(TIMING, "---+-+++"), [(3, Down), (7, Up)]);
    }

    #[test]
    fn a_window_finds_what_fails_now_and_then() {
        use Verdict::{Down, Up};
        let timing = within(3, 5);
        assert_eq!(changes(TIMING, "++-+-+-+-+"), [(2, Up)]);
        assert_eq!(changes(timing, "++-+-+-"), [(2, Up), (7, Down)]);
        assert_eq!(changes(timing, "++-++++-++++-"), [(2, Up)]);
        // Once risen again, it starts with a clean sheet.
        let timing = within(3, 8);
        assert_eq!(changes(timing, "++-+-+-++--"), [(2, Up), (7, Down), (9, Up)]);
    }

    #[test]
    fn the_fast_interval_holds_while_undecided() {
        let mut judge = Judge::new(TIMING, 1);
        let mut wait = |passed| judge.next(passed, Now::default()).next.boot_ms;
        assert_eq!([wait(true), wait(true), wait(true)], [100, 1000, 1000]);
        assert_eq!([wait(false), wait(false), wait(false), wait(false)], [100, 100, 1000, 1000]);
        assert_eq!([wait(true), wait(false), wait(true), wait(true)], [100, 1000, 100, 1000]);
        // What could not be checked settles nothing and unsettles nothing.
        assert_eq!(judge.again(Now::default()).boot_ms, 1000);
        assert_eq!(judge.next(false, Now::default()).next.boot_ms, 100);
        assert_eq!(judge.again(Now::default()).boot_ms, 100);
        judge.forget();
        assert_eq!(judge.verdict(), None);
        assert_eq!(judge.again(Now::default()).boot_ms, 100);
        assert_eq!(judge.next(true, Now::default()).next.boot_ms, 100);
    }

    #[test]
    fn nobody_is_checked_without_a_pause() {
        let none = Timing { interval_ms: 0, fast_interval_ms: 0, jitter_percent: 100, ..TIMING };
        let mut judge = Judge::new(none, 1);
        for passed in [true, true, false, false, false] {
            assert_eq!(judge.next(passed, Now::default()).next.boot_ms, 1);
        }
    }

    fn any_timing() -> impl Strategy<Value = Timing> {
        let window = proptest::option::of(
            (1u32..8, 1u32..12)
                .prop_map(|(failures, checks)| Window { failures: failures.min(checks), checks }),
        );
        (0u64..10_000, 0u64..10_000, 0u8..=255, 0u32..6, 0u32..6, window).prop_map(
            |(interval_ms, fast_interval_ms, jitter_percent, rise, fall, window)| Timing {
                interval_ms,
                fast_interval_ms,
                timeout_ms: 1000,
                jitter_percent,
                rule: Rule { rise, fall, window },
            },
        )
    }

    /// The verdict by the whole history, as slowly and plainly as can be.
    fn verdict_of(timing: &Timing, history: &[bool]) -> Option<Verdict> {
        let (mut verdict, mut since) = (None, 0);
        for end in 1..=history.len() {
            let seen = &history[..end];
            let row = |passed| seen.iter().rev().take_while(|result| **result == passed).count();
            let checks = timing.rule.window.map_or(0, |window| window.checks as usize);
            let recent = &seen[since.max(end.saturating_sub(checks))..];
            let failures = recent.iter().filter(|passed| !**passed).count();
            let often = timing.rule.window.is_some_and(|window| failures >= window.failures as usize);
            if row(true) >= timing.rule.rise.max(1) as usize {
                if verdict == Some(Verdict::Down) {
                    since = end;
                }
                verdict = Some(Verdict::Up);
            } else if row(false) >= timing.rule.fall.max(1) as usize || !seen[end - 1] && often {
                verdict = Some(Verdict::Down);
            }
        }
        verdict
    }

    proptest! {
        #[test]
        fn it_says_what_the_whole_history_says(timing in any_timing(), history: Vec<bool>, seed: u64) {
            let mut judge = Judge::new(timing, seed);
            let mut told = None;
            for (index, passed) in history.iter().enumerate() {
                let change = judge.next(*passed, Now::default()).change;
                prop_assert!(change.is_none() || change != told, "told twice");
                told = change.or(told);
                prop_assert_eq!(told, verdict_of(&timing, &history[..=index]));
                prop_assert_eq!(judge.verdict(), told);
            }
        }

        #[test]
        fn the_next_check_is_never_now_and_never_later_than_the_interval_allows(
            timing in any_timing(), history: Vec<bool>, seed: u64
        ) {
            let mut judge = Judge::new(timing, seed);
            let interval = timing.interval_ms.max(1);
            let fast = timing.fast_interval_ms.min(timing.interval_ms).max(1);
            let mut now = Now::default();
            let first = judge.first(now);
            prop_assert!(first.ms_since(now) <= fast);
            now = first;
            for passed in history {
                let next = judge.next(passed, now).next;
                let decided = judge.verdict() == Some(if passed { Verdict::Up } else { Verdict::Down });
                let wanted = if decided { interval } else { fast };
                let most = wanted * u64::from(timing.jitter_percent.min(90)) / 100;
                let wait = next.ms_since(now);
                prop_assert!(wait >= 1 && (wanted - most..=wanted + most).contains(&wait), "{}", wait);
                now = next;
            }
        }

        #[test]
        fn the_same_seed_gives_the_same_times_and_another_one_others(history in vec_of_results(), seed: u64) {
            let timing = Timing { jitter_percent: 20, ..TIMING };
            let times = |seed| {
                let mut judge = Judge::new(timing, seed);
                let mut now = judge.first(Now::default());
                let times = history.iter().map(|passed| {
                    now = judge.next(*passed, now).next;
                    now
                });
                times.collect::<Vec<_>>()
            };
            prop_assert_eq!(times(seed), times(seed));
            prop_assert_ne!(times(seed), times(seed ^ 1));
        }
    }

    /// Enough of them that equal times of two seeds are no matter of chance.
    fn vec_of_results() -> impl Strategy<Value = Vec<bool>> {
        proptest::collection::vec(any::<bool>(), 30..60)
    }
}
