//! Slow or busy? How long a backend takes for its checks, held against how long it usually takes and against
//! what it does meanwhile. Pure: times and counts come in, a finding goes out.
//!
//! A backend is *slow* if a passed check took much longer than its checks usually do, although it answers no more
//! clients than it did when it was quick, and although a peer is as quick as ever. One that answers more clients
//! than that is *busy*: whoever took over would be as busy, so it is left alone, and so is one that is too busy
//! to answer a check in time. If no peer is quick, it may be the network or whoever checks.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::clock::Now;
use crate::names::BackendName;
use crate::recovery::{Finding, Instance};

/// When a check that passed took too long all the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SlowRule {
    /// So many times as long as usual (2 or more)...
    pub factor: u32,
    /// ...and longer than this: what is quick enough is never slow.
    pub least: Duration,
}

/// Checks after which it is known how long they usually take.
const LEARNED: u32 = 16;
/// How much of what is usual each further check makes up, as its reciprocal.
const MEMORY: f64 = 64.0;
/// The same of the number of answers where that grows: who was a standby is given all clients at once.
const MEMORY_GROWING: f64 = 8.0;
/// More answers than usual by this share, and this many a second, are more than chance.
const BUSY_SHARE: f64 = 1.25;
const BUSY_PER_SECOND: f64 = 10.0;

/// A check of a backend that has ended, and what its clients have had by then.
#[derive(Clone, Copy, Debug)]
pub struct Ended {
    /// The life that was checked.
    pub life: Instance,
    /// How long the check took.
    pub took: Duration,
    /// Requests of clients that the backend has begun to answer, ever.
    pub turns: u64,
}

/// The backends of a service, each with what is usual for it.
#[derive(Clone, Debug)]
pub struct Paces {
    rule: Option<SlowRule>,
    /// What is known of a peer is worth nothing after this.
    fresh_ms: u64,
    backends: BTreeMap<BackendName, Pace>,
}

/// What is known of one life of a backend.
#[derive(Clone, Copy, Debug)]
struct Pace {
    life: Instance,
    checks: u32,
    /// Seconds that a check takes while the backend is quick.
    usual_s: f64,
    /// Requests that it answers in a second while it is quick.
    usual_rate: f64,
    last: Now,
    turns: u64,
    /// When it was last found to be quick.
    quick: Option<Now>,
}

impl Paces {
    /// Nothing is known yet; each backend is checked at least every `fresh_ms` milliseconds.
    pub fn new(rule: Option<SlowRule>, fresh_ms: u64) -> Self {
        Self { rule, fresh_ms, backends: BTreeMap::new() }
    }

    /// What the check comes to if its time and the clients' answers are looked at, too.
    pub fn weigh(
        &mut self,
        backend: &BackendName,
        ended: Ended,
        result: Result<(), Finding>,
        now: Now,
    ) -> Result<(), Finding> {
        let Some(rule) = self.rule else { return result };
        let fresh = Pace {
            life: ended.life,
            checks: 0,
            usual_s: 0.0,
            usual_rate: 0.0,
            last: now,
            turns: ended.turns,
            quick: None,
        };
        let pace = self.backends.entry(backend.clone()).or_insert(fresh);
        if pace.life != ended.life {
            *pace = fresh;
        }
        let rate = pace.rate(ended.turns, now);
        let is_busy = rate > pace.usual_rate * BUSY_SHARE + BUSY_PER_SECOND;
        match result {
            Ok(()) if pace.is_quick(ended.took, rule) => {
                pace.learn(ended.took, rate, now);
                Ok(())
            }
            Ok(()) if !is_busy => {
                let usual = Duration::from_secs_f64(pace.usual_s);
                let finding = Finding::Slow { took_ms: millis(ended.took), usual_ms: millis(usual) };
                if self.is_a_peer_quick(backend, now) { Err(finding) } else { Ok(()) }
            }
            Err(Finding::TimedOut) if is_busy && pace.checks >= LEARNED => Err(Finding::Unchecked(format!(
                "it is busy with {rate:.0} answers a second to clients, of usually {:.0}",
                pace.usual_rate
            ))),
            other => other,
        }
    }

    fn is_a_peer_quick(&self, backend: &BackendName, now: Now) -> bool {
        let is_quick = |pace: &Pace| pace.quick.is_some_and(|at| now.ms_since(at) <= self.fresh_ms);
        self.backends.iter().any(|(name, pace)| name != backend && is_quick(pace))
    }
}

impl Pace {
    /// Answers a second since the last look.
    fn rate(&mut self, turns: u64, now: Now) -> f64 {
        let seconds = now.ms_since(self.last).max(1) as f64 / 1_000.0;
        let answers = turns.saturating_sub(self.turns) as f64;
        (self.last, self.turns) = (now, turns);
        answers / seconds
    }

    fn is_quick(&self, took: Duration, rule: SlowRule) -> bool {
        let most = self.usual_s * f64::from(rule.factor.max(2));
        self.checks < LEARNED || took <= rule.least || took.as_secs_f64() <= most
    }

    fn learn(&mut self, took: Duration, rate: f64, now: Now) {
        self.checks = self.checks.saturating_add(1);
        let checks = f64::from(self.checks);
        self.usual_s += (took.as_secs_f64() - self.usual_s) / checks.min(MEMORY);
        let memory = if rate > self.usual_rate { MEMORY_GROWING } else { MEMORY };
        self.usual_rate += (rate - self.usual_rate) / checks.min(memory);
        self.quick = Some(now);
    }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const RULE: SlowRule = SlowRule { factor: 5, least: Duration::from_millis(100) };
    const EVERY_MS: u64 = 250;

    /// Two backends, of which `a` answers clients, and both are checked at the same times.
    struct World {
        paces: Paces,
        now: Now,
        turns: u64,
    }

    impl World {
        /// Both have taken 20 ms for each of many checks, while `a` answered so many clients a second.
        fn after_quick_checks(per_second: u64) -> Self {
            let mut world = Self { paces: Paces::new(Some(RULE), 1_500), now: Now::default(), turns: 0 };
            for _ in 0..40 {
                assert_eq!(world.check(20, 20, per_second), Ok(()));
            }
            world
        }

        fn of(
            &mut self,
            name: &str,
            took_ms: u64,
            turns: u64,
            result: Result<(), Finding>,
        ) -> Result<(), Finding> {
            let life = Instance { pid: 1, start_ticks: 1 };
            let ended = Ended { life, took: Duration::from_millis(took_ms), turns };
            self.paces.weigh(&name.parse().unwrap(), ended, result, self.now)
        }

        /// A check of each; what the one of `a` comes to.
        fn check(&mut self, a_ms: u64, b_ms: u64, per_second: u64) -> Result<(), Finding> {
            self.now = self.now.plus_ms(EVERY_MS);
            self.turns += per_second * EVERY_MS / 1_000;
            let _ = self.of("b", b_ms, 0, Ok(()));
            self.of("a", a_ms, self.turns, Ok(()))
        }
    }

    #[test]
    fn one_that_takes_ten_times_as_long_for_the_same_work_is_slow() {
        let mut world = World::after_quick_checks(100);
        let slow = Err(Finding::Slow { took_ms: 200, usual_ms: 20 });
        assert_eq!(world.check(200, 20, 100), slow);
        // However long it goes on: that does not become usual.
        for _ in 0..1_000 {
            assert_eq!(world.check(200, 20, 40), slow);
        }
        assert_eq!(world.check(20, 20, 100), Ok(()));
    }

    #[test]
    fn one_that_answers_more_clients_than_ever_is_busy() {
        let mut world = World::after_quick_checks(100);
        for _ in 0..1_000 {
            assert_eq!(world.check(900, 20, 400), Ok(()));
        }
        world.now = world.now.plus_ms(1_000);
        world.turns += 400;
        let turns = world.turns;
        assert!(matches!(world.of("a", 1_000, turns, Err(Finding::TimedOut)), Err(Finding::Unchecked(_))));
        // With the load gone, slowness shows again.
        assert_eq!(world.check(20, 20, 100), Ok(()));
        assert!(world.check(200, 20, 100).is_err());
    }

    #[test]
    fn one_that_was_a_standby_for_long_soon_has_a_usual_load() {
        let mut world = World::after_quick_checks(0);
        for _ in 0..100 {
            assert_eq!(world.check(20, 20, 0), Ok(()));
        }
        // So late at once, it may be its new clients.
        assert_eq!(world.check(200, 20, 100), Ok(()));
        for _ in 0..16 {
            assert_eq!(world.check(20, 20, 100), Ok(()));
        }
        assert!(world.check(200, 20, 100).is_err());
    }

    #[test]
    fn one_that_answers_as_many_clients_as_usual_and_no_check_is_not_excused() {
        let mut world = World::after_quick_checks(100);
        world.now = world.now.plus_ms(1_000);
        world.turns += 100;
        let turns = world.turns;
        assert_eq!(world.of("a", 1_000, turns, Err(Finding::TimedOut)), Err(Finding::TimedOut));
        assert_eq!(world.of("a", 1, turns + 900, Err(Finding::Refused)), Err(Finding::Refused));
    }

    #[test]
    fn when_all_are_slow_alike_nobody_is() {
        let mut world = World::after_quick_checks(100);
        // Until what is known of the peer is stale, it may have been quick a moment ago.
        for _ in 0..8 {
            let _ = world.check(200, 200, 100);
        }
        for _ in 0..100 {
            assert_eq!(world.check(200, 200, 100), Ok(()));
        }
    }

    #[test]
    fn what_is_quick_enough_is_never_slow_and_neither_is_a_new_life() {
        let mut world = World::after_quick_checks(100);
        assert_eq!(world.check(100, 20, 100), Ok(()));
        let other = Instance { pid: 2, start_ticks: 2 };
        let ended = Ended { life: other, took: Duration::from_secs(1), turns: world.turns };
        assert_eq!(world.paces.weigh(&"a".parse().unwrap(), ended, Ok(()), world.now), Ok(()));
    }

    #[test]
    fn without_the_rule_nothing_is_weighed() {
        let mut world = World::after_quick_checks(100);
        world.paces.rule = None;
        assert_eq!(world.check(900, 20, 100), Ok(()));
    }
}
