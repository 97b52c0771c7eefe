//! Pools: one member at a time is taken out, and never too many are.

use super::policy;
use super::world::World;
use crate::recovery::report::{Outcome, Reason};
use crate::recovery::{Input, Policy, State};

fn pool() -> World {
    World::pool(&policy(), &["a", "b", "c"])
}

#[test]
fn every_member_that_is_ready_is_active() {
    let mut world = World::new(Policy { spread: true, ..policy() }, &["a", "b", "c"], 1);
    world.machine("b").bad_starts = 3;
    world.run_until("a active, b failed, c active");
    assert_eq!(world.active(), "a c");
    world.run_until("a active, b active, c active");
    assert_eq!(world.journal, [], "no rejuvenation has begun");
}

#[test]
fn a_member_is_renewed_while_the_others_serve() {
    let mut world = pool();
    world.machine("b").flows = 2;
    let request = world.rejuvenate_one("b");
    assert_eq!(world.standing(), "a active, b draining, c active");
    assert_eq!((world.active().as_str(), world.word.draining.as_ref().unwrap().as_str()), ("a c", "b"));
    world.run(5_000);
    assert_eq!(world.machine("b").starts, 1, "its flows are waited for");
    world.machine("b").flows = 0;
    world.run_until("a active, b active, c active");
    let report = world.report_of(request);
    assert_eq!((report.outcome, report.to.as_ref()), (Outcome::Completed, None));
    assert_eq!(report.flows_finished, 2);
    assert_ne!(report.proof.before, report.proof.after);
}

#[test]
fn without_a_name_the_longest_life_is_renewed() {
    let mut world = pool();
    world.rejuvenate_one("a");
    world.run_until("a active, b active, c active");
    world.rejuvenate_one("b");
    world.run_until("a active, b active, c active");
    world.rejuvenate();
    assert_eq!(world.state("c"), State::Draining);
}

#[test]
fn a_second_member_is_not_taken_out_beside_the_first() {
    let mut world = pool();
    world.machine("a").flows = 1;
    world.rejuvenate_one("a");
    let second = world.rejuvenate_one("b");
    let why = world.answers[&second].as_ref().unwrap_err();
    assert_eq!(why, "rejuvenation 1 of a is under way: wait until it ends");
    assert_eq!(world.active(), "b c");
}

#[test]
fn nobody_is_taken_out_while_another_member_is_out_by_itself() {
    let mut world = pool();
    world.machine("c").bad_starts = u32::MAX;
    world.kill("c");
    world.run(10_000);
    assert_eq!(world.state("c"), State::Failed);
    let request = world.rejuvenate_one("a");
    let why = world.answers[&request].as_ref().unwrap_err();
    assert!(why.contains("c is failed, and two must not be out at once"), "{why}");
}

#[test]
fn nobody_is_taken_out_below_the_floor() {
    let mut world = World::pool(&Policy { active_least: 3, ..policy() }, &["a", "b", "c"]);
    let request = world.rejuvenate_one("a");
    let why = world.answers[&request].as_ref().unwrap_err();
    assert_eq!(why, "without a there would be 2 active backends, and 3 have to be: wait for more");
    world.life("b").memory = 600;
    world.run(10_000);
    assert_eq!(world.active(), "a b c");
    assert_eq!(world.said().matches("waits: without b there would be 2").count(), 1, "{}", world.said());
}

#[test]
fn members_beyond_the_ceiling_are_renewed_one_after_another() {
    let mut world = pool();
    for one in ["a", "b", "c"] {
        world.life(one).memory = 600;
    }
    for _ in 0..30 {
        world.run(500);
        assert!(world.word.active.len() >= 2, "{}", world.standing());
    }
    world.run_until("a active, b active, c active");
    let starts = ["a", "b", "c"].map(|one| world.machine(one).starts);
    assert_eq!(starts, [2, 2, 2]);
    assert!(world.reports.iter().all(|report| report.outcome == Outcome::Completed));
}

#[test]
fn a_young_life_is_left_alone() {
    let mut world = World::pool(&Policy { min_uptime_ms: 60_000, ..policy() }, &["a", "b"]);
    world.life("a").memory = 600;
    world.run(50_000);
    assert_eq!(world.active(), "a b");
    world.run(15_000);
    assert_eq!(world.machine("a").starts, 2);
}

#[test]
fn a_fresh_instance_beyond_the_ceiling_is_not_renewed_over_and_over() {
    let mut world = World::new(Policy { spread: true, ..policy() }, &["a", "b"], 1);
    for one in ["a", "b"] {
        world.machine(one).fresh_bytes = 600;
    }
    world.run(120_000);
    assert_eq!((world.machine("a").starts, world.machine("b").starts), (1, 1));
    assert!(world.said().contains("a was beyond the ceiling from its start"), "{}", world.said());
}

#[test]
fn a_dead_member_is_restarted_and_what_it_took_along_is_named() {
    let mut world = pool();
    world.machine("a").flows = 3;
    world.kill("a");
    world.run(5);
    assert_eq!(world.standing(), "a recovering, b active, c active");
    world.run_until("a active, b active, c active");
    let report = world.reports.last().unwrap();
    assert_eq!(report.reason, Reason::Died { status: "killed by signal 9".into() });
    assert_eq!((report.outcome, report.cut.len()), (Outcome::CompletedWithCuts, 3));
}

#[test]
fn two_members_that_die_at_once_are_both_restarted() {
    let mut world = pool();
    world.kill("a");
    world.kill("b");
    world.run(5);
    assert_eq!(world.standing(), "a recovering, b recovering, c active");
    world.run_until("a active, b active, c active");
}

#[test]
fn a_member_that_falls_gets_no_new_flows_and_keeps_those_it_has() {
    let mut world = pool();
    world.machine("a").flows = 2;
    world.life("a").wedged = true;
    world.run_until("a draining, b active, c active");
    world.run(5_000);
    assert_eq!(world.machine("a").starts, 1);
    world.machine("a").flows = 0;
    world.run_until("a active, b active, c active");
    assert_eq!(
        world.reports.last().unwrap().reason,
        Reason::Unhealthy { finding: "no answer in time".into() }
    );
}

#[test]
fn a_second_member_that_falls_waits_until_the_first_is_back() {
    let mut world = pool();
    for one in ["a", "b"] {
        world.machine(one).flows = 1;
        world.life(one).wedged = true;
    }
    world.run(10_000);
    assert_eq!(world.standing(), "a draining, b starting, c active");
    world.machine("a").flows = 0;
    world.run_until("a active, b draining, c active");
    assert_eq!((world.machine("a").starts, world.machine("b").starts), (2, 1));
    world.machine("b").flows = 0;
    world.run_until("a active, b active, c active");
}

#[test]
fn a_member_that_was_ejected_and_passes_again_serves_again() {
    let mut world = pool();
    for one in ["a", "b"] {
        world.machine(one).flows = 1;
        world.life(one).wedged = true;
    }
    world.run(10_000);
    world.life("b").wedged = false;
    world.run_until("a draining, b active, c active");
    assert_eq!(world.machine("b").starts, 1);
}

#[test]
fn if_all_fail_their_checks_at_once_those_that_live_go_on() {
    let mut world = World::pool(&Policy { active_least: 2, ..policy() }, &["a", "b", "c"]);
    for one in ["a", "b", "c"] {
        world.machine(one).flows = 1;
        world.life(one).wedged = true;
    }
    world.run(20_000);
    // The first one that fell has left while enough others still passed.
    assert_eq!(world.word.active.len(), 2, "{}", world.standing());
    world.run(60_000);
    assert!(world.word.active.len() >= 2, "{}", world.standing());
    for one in ["a", "b", "c"] {
        world.machine(one).flows = 0;
        if let Some(life) = &mut world.machine(one).life {
            life.wedged = false;
        }
    }
    world.run_until("a active, b active, c active");
}

#[test]
fn a_member_that_drains_is_taken_back_when_the_last_other_one_dies() {
    let mut world = World::pool(&policy(), &["a", "b"]);
    world.machine("a").flows = 1;
    let request = world.rejuvenate_one("a");
    world.run(1_000);
    world.kill("b");
    world.run(5);
    assert_eq!(world.standing(), "a active, b recovering");
    assert_eq!(world.report_of(request).outcome, Outcome::RolledBack);
    world.run_until("a active, b active");
    assert_eq!((world.machine("a").starts, world.machine("b").starts), (1, 2));
}

#[test]
fn a_drained_member_serves_on_if_another_one_has_failed_meanwhile() {
    let mut world = pool();
    world.machine("a").flows = 1;
    let request = world.rejuvenate_one("a");
    world.machine("c").bad_starts = u32::MAX;
    world.kill("c");
    world.run(5_000);
    world.machine("a").flows = 0;
    world.run(2_000);
    assert_eq!((world.active().as_str(), world.machine("a").starts), ("a b", 1));
    assert_eq!(world.report_of(request).outcome, Outcome::CalledOff);
}

#[test]
fn stragglers_may_be_waited_for_without_end() {
    use crate::recovery::{Input, Stragglers};
    let policy = Policy { stragglers: Stragglers::Wait, ..policy() };
    for mut world in [World::pool(&policy, &["a", "b"]), World::up(policy.clone())] {
        world.machine("a").flows = 1;
        world.rejuvenate_one("a");
        world.run(40 * policy.drain_deadline_ms);
        assert_eq!((world.state("a"), world.machine("a").starts), (State::Draining, 1));
        world.crash();
        world.run(40 * policy.drain_deadline_ms);
        assert_eq!((world.state("a"), world.machine("a").starts), (State::Draining, 1));
        world.tell(&Input::Cut);
        world.run(2_000);
        assert_eq!(world.machine("a").starts, 2);
    }
}

#[test]
fn a_standby_may_be_renewed_beside_the_active_backend() {
    let mut world = World::up(policy());
    let request = world.rejuvenate_one("b");
    world.run_until("a active, b standby");
    let report = world.report_of(request);
    assert_eq!((report.from.as_str(), report.outcome), ("b", Outcome::Completed));
    assert_eq!((world.machine("a").starts, world.machine("b").starts, world.active().as_str()), (1, 2, "a"));
    let request = world.rejuvenate_one("nobody");
    let why = world.answers[&request].as_ref().unwrap_err();
    assert_eq!(why, "there is no backend `nobody`: there are a, b");
}

#[test]
fn a_pool_is_taken_up_as_it_is_in_every_phase() {
    for ms in [0, 100, 400, 600, 900, 1_200] {
        let mut world = pool();
        world.rejuvenate_one("b");
        world.run(ms);
        world.crash();
        world.run_until("a active, b active, c active");
        assert_eq!(["a", "b", "c"].map(|one| world.machine(one).starts), [1, 2, 1], "crash after {ms} ms");
    }
}

#[test]
fn a_pool_that_becomes_a_pair_keeps_one_active_and_cuts_nothing() {
    let mut world = World::pool(&policy(), &["a", "b"]);
    world.machine("a").flows = 1;
    world.machine("b").flows = 1;
    world.change_policy(policy());
    world.run_until("a active, b standby");
    assert_eq!((world.machine("b").flows, world.machine("b").starts), (1, 1));
    world.change_policy(Policy { spread: true, ..policy() });
    world.run_until("a active, b active");
}

#[test]
fn a_member_that_is_beyond_the_ceiling_from_its_start_keeps_no_other_one_from_being_renewed() {
    let age = Some(600_000);
    let mut world = World::new(Policy { spread: true, max_age_ms: age, ..policy() }, &["a", "b"], 1);
    world.machine("a").fresh_bytes = 600;
    world.run_until("a active, b active");
    world.run(2_000);
    world.life("b").memory = 600;
    world.run(10_000);
    assert_eq!((world.machine("a").starts, world.machine("b").starts), (1, 2), "{}", world.said());
    world.run(600_000);
    assert!(matches!(world.reports[1].reason, Reason::Age { .. }), "{:?}", world.reports);
    assert!(world.machine("a").starts == 2, "it is renewed for its age: {}", world.said());
}

#[test]
fn clients_who_may_come_back_are_waited_for_until_the_deadline_or_a_cut() {
    for is_cut in [false, true] {
        let mut world = pool();
        world.machine("b").leases = 1;
        world.rejuvenate_one("b");
        world.run(5_000);
        assert_eq!(world.state("b"), State::Draining);
        let activity = world.coordinator.activity(world.now).unwrap();
        assert!(
            activity.contains("0 flows open, 0 awaiting a response, 1 clients may come back"),
            "{activity}"
        );
        if is_cut {
            world.tell(&Input::Cut);
        } else {
            world.run(world.policy.drain_deadline_ms);
        }
        world.run(5_000);
        assert!(world.machine("b").starts == 2, "{}", world.said());
        world.machine("b").leases = 0;
        world.run_until("a active, b active, c active");
        assert_eq!(world.reports[0].outcome, Outcome::Completed);
    }
}
