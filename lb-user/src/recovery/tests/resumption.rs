//! A controller that dies in each phase, and the one that takes over.

use std::collections::BTreeSet;

use super::world::World;
use super::{name, policy};
use crate::recovery::journal::Record;
use crate::recovery::report::Outcome;
use crate::recovery::{Input, Output, Policy, State, Steering};

/// A service whose `a` drains with one flow, under rejuvenation 1.
fn draining() -> World {
    let mut world = World::up(policy());
    world.machine("a").flows = 1;
    world.rejuvenate();
    world.run(1_000);
    assert_eq!(world.standing(), "a draining, b active");
    world
}

fn starts(world: &mut World) -> (u32, u32) {
    (world.machine("a").starts, world.machine("b").starts)
}

#[test]
fn a_quiet_service_is_taken_up_as_it_is() {
    let mut world = World::up(policy());
    let epoch = world.word.epoch;
    world.crash();
    assert_eq!(world.state("a"), State::Active);
    world.run_until("a active, b standby");
    assert_eq!((world.word.epoch, starts(&mut world)), (epoch, (1, 1)));
    assert_eq!(world.journal, []);
}

#[test]
fn a_handover_that_was_written_down_and_never_done_is_undone() {
    for active_dies in [false, true] {
        let mut world = World::up(policy());
        let mut lost = world.coordinator.clone();
        for output in lost.step(world.now, Input::Rejuvenate { request: 1, backend: None, in_window: false })
        {
            if let Output::Journal(record) = output {
                world.journal.push(record);
            }
        }
        if active_dies {
            world.kill("a");
        }
        world.crash();
        let undone = Record::Ended { cycle: 1, outcome: Outcome::Undone };
        assert_eq!(world.journal.last(), Some(&undone), "active dies: {active_dies}");
        assert_eq!(world.coordinator.activity(world.now), None);
        world.run(5_000);
        assert!(!world.word.active.is_empty());
        assert_eq!(world.coordinator.cycles(), 1, "its number is not used again");
    }
}

#[test]
fn a_drain_goes_on_with_the_deadline_that_it_had() {
    let mut world = draining();
    world.run(9_000);
    world.crash();
    world.run(policy().drain_deadline_ms - 10_000 - 100);
    assert_eq!((world.standing().as_str(), world.machine("a").flows), ("a draining, b active", 1));
    world.run(250);
    assert_ne!(world.state("a"), State::Draining);
    world.run_until("a standby, b active");
    let report = world.reports.last().unwrap();
    assert_eq!((report.outcome, report.cut.len(), report.cycle), (Outcome::CompletedWithCuts, 1, 1));
    assert!(report.duration_ms >= policy().drain_deadline_ms, "it counts from the handover");
}

#[test]
fn no_flow_has_less_time_than_was_promised_whatever_the_next_controller_is_told() {
    for more_happened in [false, true] {
        let mut world = draining();
        // Whatever was steered without a record.
        world.word.epoch += u32::from(more_happened);
        world.checker.steer(&world.word);
        world.change_policy(Policy { drain_deadline_ms: 2_000, ..policy() });
        world.run(policy().drain_deadline_ms - 2_000);
        assert_eq!((world.standing().as_str(), world.machine("a").flows), ("a draining, b active", 1));
        world.run_until("a standby, b active");
        assert_eq!(world.reports.last().unwrap().cut.len(), 1);
    }
}

#[test]
fn a_stop_that_was_decided_on_is_looked_at_once_more() {
    for flows_came in [false, true] {
        let mut world = draining();
        world.machine("a").flows = 0;
        world.run_until("a recovering, b active");
        // The controller dies before the stop is done.
        world.kill_controller_before_its_actions();
        world.machine("a").flows = u64::from(flows_came);
        assert_eq!(world.state("a"), State::Drained);
        world.run(2 * policy().ready_deadline_ms);
        let expected = if flows_came { State::Draining } else { State::Standby };
        assert_eq!(world.state("a"), expected, "flows came: {flows_came}");
        world.machine("a").flows = 0;
        world.run_until("a standby, b active");
        assert_eq!(starts(&mut world), (2, 1));
        assert_eq!(world.reports.last().unwrap().outcome, Outcome::Completed);
    }
}

#[test]
fn an_old_backend_that_was_restarted_already_is_not_restarted_again() {
    let mut world = draining();
    world.machine("a").flows = 0;
    world.run_until("a starting, b active");
    world.run(60);
    world.crash();
    assert_eq!(world.state("a"), State::Starting);
    world.run_until("a standby, b active");
    assert_eq!(starts(&mut world), (2, 1));
    let report = world.reports.last().unwrap();
    assert_eq!(report.outcome, Outcome::Completed);
    assert!(report.detail.as_ref().unwrap().contains("not known"), "{report:?}");
    assert_ne!(report.proof.before, report.proof.after);
}

#[test]
fn an_old_backend_that_died_meanwhile_is_started_again() {
    let mut world = draining();
    world.kill("a");
    world.crash();
    assert_eq!(world.state("a"), State::Recovering);
    world.run_until("a standby, b active");
    assert_eq!(starts(&mut world), (2, 1));
    assert_eq!(world.reports.last().unwrap().outcome, Outcome::CompletedWithCuts);
}

#[test]
fn new_flows_go_back_at_once_if_the_new_active_backend_died_meanwhile() {
    let mut world = draining();
    world.kill("b");
    world.crash();
    assert_eq!(world.standing(), "a active, b recovering");
    assert_eq!(world.reports.last().unwrap().outcome, Outcome::RolledBack);
    world.run_until("a active, b standby");
    assert_eq!(starts(&mut world), (1, 2));
}

#[test]
fn a_draining_backend_is_gone_back_to_if_nobody_was_left_active() {
    let mut world = draining();
    // The earlier controller had steered new flows to nobody, and came no further.
    let instance = world.life("b").instance;
    world.kill("b");
    world.checker.hear(&Input::Exited { backend: name("b"), instance, status: "killed".into() }, world.now);
    let epoch = world.word.epoch + 1;
    world
        .carry_out(vec![Output::Steer(Steering { active: BTreeSet::new(), draining: None, epoch })])
        .unwrap();
    world.crash();
    assert_eq!(world.standing(), "a active, b recovering");
    world.run_until("a active, b standby");
    assert_eq!(starts(&mut world), (1, 2));
}

#[test]
fn a_rollback_that_could_not_be_written_down_is_found_in_the_steering_word() {
    let mut world = draining();
    world.journal_works = false;
    world.kill("b");
    world.run(5);
    assert_eq!(world.state("a"), State::Active);
    world.journal_works = true;
    world.crash();
    let ended = Record::Ended { cycle: 1, outcome: Outcome::RolledBack };
    assert_eq!(world.journal.last(), Some(&ended));
    world.run_until("a active, b standby");
    assert_eq!(starts(&mut world).0, 1);
}

#[test]
fn a_standby_takes_over_if_the_active_backend_died_meanwhile() {
    let mut world = World::up(policy());
    world.machine("a").bad_starts = 1;
    world.kill("a");
    world.crash();
    assert_eq!(world.standing(), "a recovering, b starting");
    world.run_until("a standby, b active");
    assert_eq!(starts(&mut world), (2, 1));
}

#[test]
fn everything_is_started_again_if_everything_died_meanwhile() {
    let mut world = draining();
    world.kill("a");
    world.kill("b");
    world.crash();
    assert_eq!(world.standing(), "a recovering, b recovering");
    assert_eq!(world.active(), "");
    world.run(10_000);
    assert_eq!(starts(&mut world), (2, 2));
    assert_eq!(world.coordinator.activity(world.now), None);
}

#[test]
fn what_drains_without_a_journal_becomes_a_standby_like_any_other() {
    let mut world = draining();
    world.journal.clear();
    world.crash();
    assert_eq!(world.word.draining, None);
    world.run_until("a standby, b active");
    assert_eq!((starts(&mut world), world.machine("a").flows), ((1, 1), 1), "no flow is cut");
}

#[test]
fn a_rejuvenation_that_has_ended_is_not_taken_up() {
    let mut world = draining();
    world.machine("a").flows = 0;
    world.run_until("a standby, b active");
    let reports = world.reports.len();
    world.crash();
    world.run(10_000);
    assert_eq!((world.reports.len(), starts(&mut world)), (reports, (2, 1)));
    assert_eq!(world.active(), "b");
}

#[test]
fn numbers_that_begin_anew_after_a_reboot_are_not_mistaken_for_old_ones() {
    let mut world = World::up(policy());
    // The journal of an earlier boot, whose rejuvenation 1 has ended.
    world.journal.push(Record::Ended { cycle: 1, outcome: Outcome::Completed });
    world.machine("a").flows = 1;
    world.rejuvenate();
    world.run(500);
    world.crash();
    assert_eq!(world.state("a"), State::Draining);
}
