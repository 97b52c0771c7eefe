//! Configurations that change in the middle of whatever is under way.

use super::policy;
use super::world::World;
use crate::recovery::report::Outcome;
use crate::recovery::{Policy, State};

const BOTH: &[&str] = &["a", "b"];
const ALL: &[&str] = &["a", "b", "c"];

#[test]
fn what_is_under_way_goes_on_and_whoever_waits_for_it_has_the_answer() {
    let mut world = World::up(policy());
    world.machine("a").flows = 1;
    let request = world.rejuvenate();
    world.run(1_000);
    world.reload(&Policy { rise: 3, drain_deadline_ms: 1_000, ..policy() }, BOTH, BOTH);
    world.run(5_000);
    assert_eq!(world.standing(), "a draining, b active", "the deadline is the one that was promised");
    world.machine("a").flows = 0;
    world.run_until("a recovering, b active");
    world.reload(&Policy { rise: 2, ..policy() }, BOTH, BOTH);
    world.run_until("a standby, b active");
    assert!(world.report_of(request).is_clean());
    assert_eq!((world.machine("a").starts, world.machine("b").starts), (2, 1), "nobody was restarted twice");
}

#[test]
fn a_backend_that_leaves_takes_its_rejuvenation_along() {
    for leaves in ["a", "b"] {
        let mut world = World::up(policy());
        world.machine("a").flows = 1;
        let request = world.rejuvenate();
        world.run(1_000);
        world.reload(&policy(), &["a", "b", "c"], &["a", "b"]);
        let stays: Vec<_> = ALL.iter().copied().filter(|name| *name != leaves).collect();
        world.reload(&policy(), &stays, &stays);
        if leaves == "a" {
            assert_eq!(world.report_of(request).outcome, Outcome::Removed);
            world.run_until("b active, c standby");
        } else {
            // The new one left: new flows go back to the old one.
            assert_eq!(world.report_of(request).outcome, Outcome::RolledBack);
            world.run_until("a active, c standby");
        }
        assert_eq!(world.word.draining, None);
        assert_eq!(world.coordinator.activity(world.now), None);
    }
}

#[test]
fn an_active_backend_that_leaves_is_followed_at_once_and_one_that_comes_again_is_another_one() {
    let mut world = World::up(policy());
    world.drain("b");
    world.reload(&policy(), &["a", "c"], &["a"]);
    world.run_until("a active, c standby");
    world.reload(&policy(), &["b", "c"], &["c"]);
    assert_eq!(world.active(), "c");
    world.run_until("b standby, c active");
    world.crash();
    world.run(5_000);
    assert_eq!(world.state("b"), State::Standby, "nobody holds out the new one");
}

#[test]
fn who_waits_to_be_warm_need_not_when_that_is_wanted_no_more() {
    let warms = Policy { warm_up_requests: 10, warm_up_deadline_ms: 1_000, ..policy() };
    for spread in [false, true] {
        let mut world = World::new(Policy { spread, ..warms.clone() }, BOTH, 1);
        world.faults.warm_up_lost = 1_000;
        world.run(800);
        let waits = world.coordinator.states().any(|(_, state)| state == State::Warming);
        assert!(waits, "{}", world.standing());
        world.reload(&Policy { spread, ..policy() }, BOTH, BOTH);
        let waits = world.coordinator.states().any(|(_, state)| state == State::Warming);
        assert!(!waits, "{}", world.standing());
    }
}
