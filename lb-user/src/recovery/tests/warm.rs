//! Warm-ups: who gets Baton's own requests before those of clients, and what becomes of who does not like them.

use super::world::World;
use super::{name, policy};
use crate::recovery::report::Outcome;
use crate::recovery::{Input, Policy, State, Through, WarmUp};

fn warms() -> Policy {
    Policy { warm_up_requests: 10, warm_up_deadline_ms: 1_000, ..policy() }
}

#[test]
fn a_standby_is_warmed_up_once_in_each_life_and_the_first_to_serve_is_not() {
    let mut world = World::up(warms());
    assert_eq!((world.machine("a").warm_ups, world.machine("b").warm_ups), (0, 1));
    let request = world.rejuvenate();
    world.run_until("a warming, b active");
    assert!(!world.answers.contains_key(&request), "the report waits for the warm-up");
    world.run_until("a standby, b active");
    world.run(5_000);
    assert_eq!((world.machine("a").warm_ups, world.machine("b").warm_ups), (1, 1));
    let report = world.report_of(request);
    assert_eq!(report.outcome, Outcome::Completed);
    assert_eq!(report.warm_up.as_ref().map(|warm_up| (warm_up.ok, warm_up.failed)), Some((10, 0)));
}

#[test]
fn a_backend_whose_warm_up_fails_is_started_again_ever_later_and_nothing_is_handed_over_to_it() {
    let mut world = World::up(warms());
    world.faults.warm_up_fails = 1_000;
    world.kill("b");
    world.run_until("a active, b failed");
    let request = world.rejuvenate();
    let refusal = world.answers[&request].as_ref().unwrap_err();
    assert!(refusal.contains("b is failed"), "{refusal}");
    let starts = world.machine("b").starts;
    world.run(20_000);
    let tries = world.machine("b").starts - starts;
    assert!((2..8).contains(&tries), "{tries} starts in 20 s");
    assert!(world.said().contains("warm-up failed, 100 % have to succeed: 0 of 10"), "{}", world.said());
    assert_eq!(world.active(), "a");
    world.faults.warm_up_fails = 0;
    world.run_until("a active, b standby");
}

#[test]
fn a_share_of_failures_may_be_allowed() {
    let mut world = World::up(Policy { warm_up_pass_percent: 0, ..warms() });
    world.faults.warm_up_fails = 1_000;
    world.kill("b");
    world.run_until("a active, b warming");
    world.run_until("a active, b standby");
}

#[test]
fn a_warm_up_of_which_nothing_is_heard_has_failed() {
    let mut world = World::up(warms());
    world.faults.warm_up_lost = 1_000;
    world.kill("b");
    world.run_until("a active, b warming");
    world.run_until("a active, b failed");
    assert!(world.said().contains("nothing was heard of its warm-up in time"), "{}", world.said());
}

#[test]
fn a_warm_up_of_which_is_heard_after_all_counts() {
    for (late_failures, standing) in [(0, "a active, b standby"), (10, "a active, b failed")] {
        let mut world = World::up(Policy { retry_ms: 10_000, ..warms() });
        world.faults.warm_up_lost = 1_000;
        world.kill("b");
        world.run_until("a active, b warming");
        world.run_until("a active, b failed");
        let (backend, instance) = (name("b"), world.life("b").instance);
        let result = WarmUp {
            through: Through::DataPath,
            ok: 10 - late_failures,
            failed: late_failures,
            took_ms: 9_000,
            first_failure: None,
        };
        world.tell(&Input::WarmedUp { backend, instance, result });
        assert_eq!(world.standing(), standing);
        world.run(2_000);
        assert_eq!((world.standing().as_str(), world.life("b").instance), (standing, instance));
    }
}

#[test]
fn one_that_is_warming_up_or_has_failed_to_takes_over_from_the_dead_if_nobody_else_can() {
    for (fails, lost, standing) in [(0, 1_000, "a active, b warming"), (1_000, 0, "a active, b failed")] {
        let mut world = World::up(Policy { retry_ms: 10_000, ..warms() });
        (world.faults.warm_up_fails, world.faults.warm_up_lost) = (fails, lost);
        world.kill("b");
        world.run_until("a active, b warming");
        world.run_until(standing);
        world.run(500);
        world.kill("a");
        world.run(100);
        assert_eq!((world.active().as_str(), world.state("b")), ("b", State::Active), "{}", world.said());
    }
}

#[test]
fn one_that_is_warm_comes_before_one_that_is_not() {
    let mut world = World::new(warms(), &["a", "b", "c"], 3);
    world.run(5_000);
    let active = world.active();
    let mut standbys: Vec<_> = ["a", "b", "c"].into_iter().filter(|name| *name != active).collect();
    let (cold, warm) = (standbys.remove(0), standbys.remove(0));
    world.faults.warm_up_lost = 1_000;
    world.kill(cold);
    for _ in 0..1_000 {
        if world.state(cold) == State::Warming {
            break;
        }
        world.run(10);
    }
    assert_eq!((world.state(cold), world.state(warm)), (State::Warming, State::Standby));
    world.kill(&active);
    world.run(100);
    assert_eq!(world.active(), warm);
}

#[test]
fn members_of_a_pool_join_warm_but_for_those_without_whom_too_few_would_serve() {
    let mut world = World::new(Policy { spread: true, active_least: 1, ..warms() }, &["a", "b", "c"], 1);
    world.run(5_000);
    assert_eq!(world.active(), "a b c");
    let warmed = ["a", "b", "c"].map(|name| world.machine(name).warm_ups);
    assert_eq!(warmed.iter().sum::<u32>(), 2, "{warmed:?}");
    world.faults.warm_up_lost = 1_000;
    world.kill("c");
    world.run_until("a active, b active, c warming");
    world.kill("a");
    world.kill("b");
    world.run(100);
    assert_eq!(world.active(), "c");
}
