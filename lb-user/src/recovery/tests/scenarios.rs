//! Handovers and drains of backends that do what they should.

use super::world::World;
use super::{name, policy};
use crate::recovery::Input;
use crate::recovery::journal::Record;
use crate::recovery::report::{Outcome, Reason};
use crate::recovery::{Output, Policy, ShadowRules};

fn last_report(world: &World) -> &crate::recovery::report::Report {
    world.reports.last().expect("a report")
}

#[test]
fn the_first_backend_that_is_ready_becomes_active_and_the_other_waits() {
    let mut world = World::new(policy(), &["a", "b"], 1);
    world.machine("a").bad_starts = 1;
    world.run_until("a failed, b active");
    assert_eq!((world.active().as_str(), world.word.epoch), ("b", 1));
    world.run_until("a standby, b active");
    assert_eq!(world.journal, [], "no rejuvenation has begun");
}

#[test]
fn a_backend_beyond_the_ceiling_hands_over_and_restarts_when_its_last_flow_has_ended() {
    let mut world = World::up(policy());
    world.machine("a").flows = 3;
    world.life("a").memory = 600;
    world.run_until("a draining, b active");
    assert_eq!(world.word.draining, Some(name("a")));
    world.run(10_000);
    assert_eq!((world.standing().as_str(), world.machine("a").starts), ("a draining, b active", 1));
    world.machine("a").flows = 0;
    world.run_until("a standby, b active");
    let report = last_report(&world);
    assert_eq!((report.outcome, report.cut.len()), (Outcome::Completed, 0));
    assert_eq!((report.flows_at_handover.established, report.flows_finished), (3, 3));
    assert!(matches!(report.reason, Reason::Ceiling { memory_rss_bytes: 600, ceiling_bytes: 500, .. }));
    assert_ne!(report.proof.before, report.proof.after);
    assert!(report.proof.before.is_some() && report.proof.after.is_some());
}

#[test]
fn a_single_sample_beyond_the_ceiling_is_no_reason() {
    let mut world = World::up(policy());
    world.life("a").memory = 600;
    world.run(400);
    world.life("a").memory = 100;
    world.run(5_000);
    assert_eq!(world.standing(), "a active, b standby");
}

#[test]
fn flows_that_are_left_at_the_deadline_are_cut_and_named() {
    let mut world = World::up(policy());
    world.machine("a").flows = 2;
    let request = world.rejuvenate();
    world.run(policy().drain_deadline_ms - 100);
    assert_eq!(world.standing(), "a draining, b active");
    world.run_until("a standby, b active");
    let report = world.report_of(request);
    assert_eq!(report.outcome, Outcome::CompletedWithCuts);
    assert_eq!((report.cut.len(), report.flows_finished), (2, 0));
    assert_eq!(report.cut[0].client, Some("10.0.0.1:1024".parse().unwrap()));
    assert!(report.drain_ms >= policy().drain_deadline_ms);
    assert!(world.said().contains("drain deadline passed, 2 flows are left"));
}

#[test]
fn an_operator_may_end_a_drain_before_its_deadline() {
    let mut world = World::up(policy());
    world.tell(&Input::Cut);
    assert_eq!(world.standing(), "a active, b standby", "there is nothing to cut");
    world.machine("a").flows = 2;
    let request = world.rejuvenate();
    world.run(1_000);
    assert_eq!(world.standing(), "a draining, b active");
    world.tell(&Input::Cut);
    world.run_until("a standby, b active");
    let report = world.report_of(request);
    assert_eq!((report.outcome, report.cut.len()), (Outcome::CompletedWithCuts, 2));
    assert!(report.drain_ms < policy().drain_deadline_ms);
}

#[test]
fn flows_that_come_back_before_the_stop_are_waited_for() {
    let mut world = World::up(policy());
    world.rejuvenate();
    world.run_until("a drained, b active");
    assert_eq!(world.word.draining, None);
    world.machine("a").flows = 1;
    world.run_until("a draining, b active");
    assert_eq!(world.word.draining, Some(name("a")), "packets of old flows go there again");
    world.run(5_000);
    assert_eq!(world.machine("a").starts, 1);
    world.machine("a").flows = 0;
    world.run_until("a standby, b active");
    assert_eq!(last_report(&world).outcome, Outcome::Completed);
}

#[test]
fn a_backend_is_seen_without_flows_for_a_while_before_it_is_stopped() {
    let mut world = World::up(Policy { settle_ms: 2_000, ..policy() });
    world.rejuvenate();
    world.run(1_500);
    assert_eq!(world.standing(), "a draining, b active");
    world.run_until("a standby, b active");
}

#[test]
fn nothing_is_handed_over_to_a_standby_that_fails_its_checks_and_the_operator_hears_why() {
    let mut world = World::up(policy());
    world.life("b").wedged = true;
    world.run(4_000);
    let request = world.rejuvenate();
    let why = world.answers[&request].as_ref().unwrap_err();
    assert!(why.contains("no standby is ready"), "{why}");
    assert!(why.contains("b is starting (last check: no answer in time)"), "{why}");
    assert_eq!(world.active(), "a");
}

#[test]
fn a_ceiling_without_a_ready_standby_says_once_what_it_waits_for() {
    let mut world = World::up(Policy { retry_ms: 20_000, ..policy() });
    world.kill("b");
    world.life("a").memory = 600;
    world.run(15_000);
    assert_eq!(world.said().matches("waits: no standby is ready").count(), 1, "{}", world.said());
    world.run_until("a draining, b active");
}

#[test]
fn an_operator_is_refused_while_a_rejuvenation_is_under_way() {
    let mut world = World::up(policy());
    world.machine("a").flows = 1;
    let first = world.rejuvenate();
    let second = world.rejuvenate();
    let why = world.answers[&second].as_ref().unwrap_err();
    assert_eq!(why, "rejuvenation 1 of a is under way: wait until it ends");
    world.machine("a").flows = 0;
    world.run_until("a standby, b active");
    assert_eq!(world.report_of(first).outcome, Outcome::Completed);
}

#[test]
fn no_ceiling_is_looked_at_within_the_cooldown() {
    let mut world = World::up(Policy { cooldown_ms: 30_000, ..policy() });
    world.rejuvenate();
    world.run_until("a standby, b active");
    world.life("b").memory = 600;
    world.run(10_000);
    assert_eq!(world.standing(), "a standby, b active");
    world.run_until("a active, b draining");
}

#[test]
fn a_fresh_instance_beyond_the_ceiling_is_not_restarted_over_and_over() {
    let mut world = World::new(policy(), &["a", "b"], 1);
    for one in ["a", "b"] {
        world.machine(one).fresh_bytes = 600;
    }
    world.run(120_000);
    assert_eq!((world.machine("a").starts, world.machine("b").starts), (1, 1));
    let said = world.said();
    let why =
        "is beyond the ceiling too: a fresh instance needs more memory than the ceiling allows, raise it";
    assert_eq!(said.matches(why).count(), 1, "{said}");
}

#[test]
fn a_standby_that_leaks_while_it_waits_is_renewed_and_then_taken() {
    let mut world = World::up(Policy { cooldown_ms: 10_000, ..policy() });
    world.run(10_000);
    world.life("b").memory = 600;
    world.run_until("a active, b draining");
    world.life("a").memory = 600;
    world.run_until("a draining, b active");
    world.run_until("a standby, b active");
    assert_eq!((world.machine("a").starts, world.machine("b").starts), (2, 2), "{}", world.said());
    assert!(!world.said().contains("raise it"), "{}", world.said());
}

#[test]
fn a_ceiling_that_is_only_spoken_of_is_in_the_way_of_no_other_rule() {
    let shadow = ShadowRules { checks: false, ceiling: true };
    let mut world = World::up(Policy { max_age_ms: Some(60_000), shadow, ..policy() });
    world.life("b").memory = 600;
    world.run(70_000);
    assert!(world.machine("a").starts > 1, "{}", world.said());
    // Nor is one that no instance can stay below, where it is age that asks.
    let mut world = World::new(Policy { max_age_ms: Some(60_000), ..policy() }, &["a", "b"], 1);
    for one in ["a", "b"] {
        world.machine(one).fresh_bytes = 600;
    }
    world.run(70_000);
    assert!(!world.reports.is_empty(), "{}", world.said());
}

#[test]
fn a_third_backend_takes_over_when_the_second_is_beyond_the_ceiling() {
    let mut world = World::new(policy(), &["a", "b", "c"], 1);
    for late in ["b", "c"] {
        world.machine(late).bad_starts = 1;
    }
    // Another life of it would be no better.
    world.machine("b").fresh_bytes = 600;
    world.run_until("a active, b standby, c standby");
    world.run(2_000);
    world.life("a").memory = 600;
    world.run_until("a draining, b standby, c active");
}

#[test]
fn nobody_is_taken_out_on_purpose_while_another_one_is_out() {
    let mut world = World::new(policy(), &["a", "b", "c"], 1);
    world.machine("b").bad_starts = 1;
    world.machine("c").bad_starts = u32::MAX;
    world.run_until("a active, b standby, c failed");
    let request = world.rejuvenate();
    let why = world.answers[&request].as_ref().unwrap_err();
    assert!(why.contains("c is failed, and two must not be out at once"), "{why}");
}

#[test]
fn everything_is_written_down_before_it_is_done() {
    let mut world = World::up(policy());
    world.orders.clear();
    world.rejuvenate();
    world.run_until("a standby, b active");
    let place = |wanted: &dyn Fn(&Output) -> bool| world.orders.iter().position(wanted).unwrap();
    let handover = place(&|o| matches!(o, Output::Journal(Record::Handover { .. })));
    let steer = place(&|o| matches!(o, Output::Steer(_)));
    let stopping = place(&|o| matches!(o, Output::Journal(Record::Stopping { .. })));
    let stop = place(&|o| matches!(o, Output::Stop(..)));
    let ended = place(&|o| matches!(o, Output::Journal(Record::Ended { .. })));
    let order = [handover, steer, stopping, stop, ended];
    assert!(order.is_sorted(), "{order:?}");
}
