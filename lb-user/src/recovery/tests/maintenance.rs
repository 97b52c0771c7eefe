//! Maintenance of a service: nothing is done to it, and it serves as it can.

use super::world::World;
use super::{name, policy};
use crate::recovery::report::Outcome;
use crate::recovery::{Input, Output, Policy, State, Step};

#[test]
fn in_maintenance_the_dead_stay_dead_and_the_others_serve() {
    for pool in [false, true] {
        let mut world = if pool { World::pool(&policy(), &["a", "b"]) } else { World::up(policy()) };
        world.maintain(true);
        world.kill("a");
        world.run(120_000);
        assert_eq!(
            (world.active().as_str(), world.state("a"), world.machine("a").starts),
            ("b", State::Failed, 1)
        );
        world.kill("b");
        world.run(120_000);
        assert_eq!((world.active().as_str(), world.machine("b").starts), ("", 1));
        world.maintain(false);
        let standing = if pool { "a active, b active" } else { "a active, b standby" };
        world.run(20_000);
        let either = standing == world.standing() || !pool && world.standing() == "a standby, b active";
        assert!(either, "{}", world.standing());
    }
}

#[test]
fn in_maintenance_no_rule_rejuvenates_and_what_is_unfit_only_gets_no_new_flows() {
    let mut world = World::up(policy());
    world.maintain(true);
    world.life("a").memory = 900;
    world.run(30_000);
    assert_eq!(world.standing(), "a active, b standby");
    world.life("a").wedged = true;
    world.run(30_000);
    assert_eq!((world.active().as_str(), world.machine("a").starts), ("b", 1));
    world.life("a").wedged = false;
    world.run(5_000);
    assert_eq!(world.standing(), "a standby, b active");
    assert!(world.reports.is_empty());
}

#[test]
fn what_is_under_way_goes_on_to_its_end_and_an_operator_may_still_hold_one_out() {
    let mut world = World::up(policy());
    world.machine("a").flows = 1;
    let request = world.rejuvenate();
    world.run(1_000);
    world.maintain(true);
    world.machine("a").flows = 0;
    world.run_until("a standby, b active");
    assert_eq!(world.report_of(request).outcome, Outcome::Completed);
    let refused = world.rejuvenate();
    assert!(world.answers[&refused].as_ref().unwrap_err().contains("maintenance"));
    world.drain("a");
    world.run_until("a maintenance, b active");
    world.kill("a");
    world.run(1_000);
    world.ready("a");
    world.run_until("a standby, b active");
    assert_eq!(world.machine("a").starts, 3, "by the operator's word");
}

#[test]
fn a_new_active_backend_that_fails_is_gone_back_from_and_left_as_it_is() {
    let mut world = World::up(policy());
    world.machine("a").flows = 1;
    let request = world.rejuvenate();
    world.run(1_000);
    world.maintain(true);
    world.kill("b");
    world.run(60_000);
    assert_eq!(world.report_of(request).outcome, Outcome::RolledBack);
    assert_eq!((world.standing().as_str(), world.machine("b").starts), ("a active, b failed", 1));
    world.maintain(false);
    world.run_until("a active, b standby");
}

#[test]
fn maintenance_outlives_the_controller_and_the_machine() {
    let mut world = World::up(policy());
    world.maintain(true);
    world.kill("b");
    world.run(5_000);
    world.crash();
    world.run(60_000);
    assert_eq!((world.standing().as_str(), world.machine("b").starts), ("a active, b failed", 1));
    assert!(world.coordinator.is_in_maintenance());
    let (service, names) = ("web".parse().unwrap(), ["a", "b"].map(name));
    let (after_boot, starts) =
        super::super::Coordinator::new(service, policy(), names, &world.journal, world.now);
    assert_eq!((starts, after_boot.is_in_maintenance()), (Vec::new(), true));
    world.maintain(false);
    world.run_until("a active, b standby");
}

#[test]
fn a_restart_in_maintenance_is_caught() {
    let mut world = World::up(Policy { asks: false, ..policy() });
    world.maintain(true);
    world.kill("b");
    world.run(1_000);
    let said = world.carry_out(vec![Output::Stop(name("b"), Step::Graceful)]).unwrap_err();
    assert_eq!(said, "b is stopped in maintenance");
    world.checker.hear(&Input::Ready { request: 9, backend: name("b") }, world.now);
    world.carry_out(vec![Output::Stop(name("b"), Step::Graceful)]).unwrap();
}
