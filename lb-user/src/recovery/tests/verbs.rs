//! What operators say: who is held out, and whether rules may ask for rejuvenations.

use super::policy;
use super::world::World;
use crate::recovery::journal::{Record, Standing};
use crate::recovery::report::Outcome;
use crate::recovery::{Input, Output, Policy, State};

/// The answer to a request without a report.
fn refused(world: &World, request: u64) -> String {
    world.answers[&request].clone().unwrap_err()
}

#[test]
fn an_active_backend_is_held_out_when_its_flows_have_ended_and_is_not_restarted() {
    let mut world = World::up(policy());
    world.machine("a").flows = 1;
    let request = world.drain("a");
    assert_eq!(world.standing(), "a draining, b active");
    world.run(10 * policy().drain_deadline_ms);
    assert_eq!(world.state("a"), State::Draining, "there is no deadline");
    world.machine("a").flows = 0;
    world.run_until("a maintenance, b active");
    let report = world.report_of(request);
    assert_eq!((report.outcome, report.flows_finished, report.cut.len()), (Outcome::HeldOut, 1, 0));
    assert!(report.is_clean());
    world.run(100_000);
    assert_eq!((world.standing().as_str(), world.machine("a").starts), ("a maintenance, b active", 1));
    let back = world.ready("a");
    assert_eq!(world.answers[&back], Ok(None));
    world.run_until("a standby, b active");
    assert_eq!(world.machine("a").starts, 1);
}

#[test]
fn a_standby_is_held_out_at_once_and_nobody_takes_over_from_it() {
    let mut world = World::up(policy());
    let request = world.drain("b");
    assert_eq!(world.standing(), "a active, b maintenance");
    assert_eq!(world.answers[&request], Ok(None));
    let again = world.drain("b");
    assert_eq!(world.answers[&again], Ok(None));
    world.life("a").wedged = true;
    world.run(20_000);
    assert_eq!(world.standing(), "a active, b maintenance");
    let why = world.rejuvenate();
    assert!(refused(&world, why).contains("b is maintenance"));
}

#[test]
fn what_ends_while_it_is_held_out_is_started_when_it_is_taken_back() {
    let mut world = World::up(policy());
    world.drain("b");
    world.kill("b");
    world.run(60_000);
    assert_eq!((world.state("b"), world.machine("b").starts), (State::Maintenance, 1));
    let ordered = world.orders.len();
    world.ready("b");
    world.run_until("a active, b standby");
    assert_eq!(world.machine("b").starts, 2);
    let is_stop = |order: &Output| matches!(order, Output::Stop(..));
    assert!(!world.orders[ordered..].iter().any(is_stop), "somebody may have started it by hand");
}

#[test]
fn what_does_not_start_when_it_is_taken_back_is_tried_again() {
    let mut world = World::up(policy());
    world.drain("b");
    world.kill("b");
    world.run(1_000);
    world.machine("b").bad_starts = 1;
    world.ready("b");
    world.run_until("a active, b failed");
    world.run_until("a active, b standby");
}

#[test]
fn what_is_taken_back_goes_on_with_its_flows_and_what_is_out_does_not() {
    let mut world = World::up(policy());
    let goes_on = |world: &World| world.coordinator.goes_on(&super::name("a"));
    world.machine("a").flows = 1;
    assert!(goes_on(&world));
    world.drain("a");
    assert!(!goes_on(&world), "it drains");
    world.tell(&Input::Cut);
    world.run_until("a maintenance, b active");
    assert!(!goes_on(&world));
    world.ready("a");
    assert!(goes_on(&world));
    // Whoever falls silent and is left as it is goes on only when it is heard of again.
    let mut world = World::up(policy());
    world.maintain(true);
    let life = world.life("a");
    (life.wedged, life.mute) = (true, true);
    world.run_until("a starting, b active");
    assert!(!goes_on(&world));
    let life = world.life("a");
    (life.wedged, life.mute) = (false, false);
    world.run_until("a standby, b active");
    assert!(goes_on(&world));
}

#[test]
fn what_dies_while_it_drains_to_be_held_out_is_not_started() {
    let mut world = World::up(policy());
    world.machine("a").flows = 2;
    let request = world.drain("a");
    world.run(1_000);
    world.kill("a");
    world.run(30_000);
    assert_eq!((world.state("a"), world.machine("a").starts), (State::Maintenance, 1));
    let report = world.report_of(request);
    assert_eq!((report.outcome, report.cut.len()), (Outcome::HeldOut, 2));
    assert!(!report.is_clean(), "what it took along is lost");
}

#[test]
fn what_is_left_of_one_that_died_on_its_way_out_is_not_ended_over_and_over() {
    let mut world = World::up(policy());
    world.machine("a").flows = 2;
    world.drain("a");
    world.faults.stop_fails = 1_000;
    world.kill("a");
    world.run_until("a maintenance, b active");
    world.faults.stop_fails = 0;
    world.run(30_000);
    assert_eq!((world.state("a"), world.machine("a").starts), (State::Maintenance, 1));
    world.ready("a");
    world.run_until("a standby, b active");
}

#[test]
fn a_backend_that_does_not_start_is_left_alone_when_it_is_held_out() {
    let mut world = World::up(policy());
    world.machine("b").bad_starts = u32::MAX;
    world.kill("b");
    world.run_until("a active, b failed");
    world.drain("b");
    let failures = world.said().matches("no such file").count();
    world.run(200_000);
    assert_eq!(world.said().matches("no such file").count(), failures);
    world.machine("b").bad_starts = 0;
    world.ready("b");
    world.run_until("a active, b standby");
}

#[test]
fn a_rejuvenation_under_way_becomes_a_hold() {
    let mut world = World::up(policy());
    world.machine("a").flows = 1;
    let first = world.rejuvenate();
    world.run(1_000);
    let second = world.drain("a");
    world.run(2 * policy().drain_deadline_ms);
    world.machine("a").flows = 0;
    world.run_until("a maintenance, b active");
    assert_eq!(world.machine("a").starts, 1);
    for request in [first, second] {
        assert_eq!(world.report_of(request).outcome, Outcome::HeldOut);
    }
}

#[test]
fn a_drain_that_is_taken_back_ends_and_keeps_the_flows() {
    for spread in [false, true] {
        let mut world = World::new(Policy { spread, ..policy() }, &["a", "b"], 1);
        world.machine("b").bad_starts = 1;
        world.run(5_000);
        world.machine("a").flows = 1;
        let request = world.drain("a");
        world.run(1_000);
        world.ready("a");
        assert_eq!(world.report_of(request).outcome, Outcome::CalledOff);
        world.run(1_000);
        let expected = if spread { "a active, b active" } else { "a standby, b active" };
        assert_eq!(world.standing(), expected);
        assert_eq!((world.machine("a").flows, world.machine("a").starts), (1, 1));
        assert_eq!(world.word.draining, None);
    }
}

#[test]
fn what_is_taken_back_with_flows_and_fails_its_checks_drains_before_it_is_restarted() {
    let mut world = World::up(policy());
    world.machine("a").flows = 1;
    world.drain("a");
    world.life("a").wedged = true;
    world.run(5_000);
    world.ready("a");
    world.run(policy().ready_deadline_ms + 1_000);
    assert_eq!((world.standing().as_str(), world.machine("a").starts), ("a draining, b active", 1));
    world.machine("a").flows = 0;
    world.run_until("a standby, b active");
    assert_eq!(world.reports.iter().map(|report| report.cut.len()).sum::<usize>(), 0);
}

#[test]
fn a_drain_is_rolled_back_when_the_new_active_backend_fails() {
    let mut world = World::up(policy());
    world.machine("a").flows = 1;
    let request = world.drain("a");
    world.run(1_000);
    world.kill("b");
    world.run_until("a active, b standby");
    assert_eq!(world.report_of(request).outcome, Outcome::RolledBack);
    assert_eq!(Standing::of(&world.journal), Standing::default());
    world.crash();
    world.run_until("a active, b standby");
}

#[test]
fn one_of_a_pool_is_held_out_and_the_others_are_still_renewed() {
    let mut world = World::pool(&policy(), &["a", "b", "c"]);
    world.drain("c");
    world.run_until("a active, b active, c maintenance");
    world.life("a").memory = 600;
    world.run(10_000);
    assert_eq!(world.machine("a").starts, 2);
    world.ready("c");
    world.run_until("a active, b active, c active");
    assert_eq!(world.machine("c").starts, 1);
}

#[test]
fn nobody_is_held_out_below_the_floor_or_without_a_standby() {
    let mut world = World::pool(&Policy { active_least: 2, ..policy() }, &["a", "b"]);
    let request = world.drain("a");
    assert!(refused(&world, request).contains("there would be 1 active backends, and 2 have to be"));
    let mut world = World::up(policy());
    world.kill("b");
    world.run(1);
    let request = world.drain("a");
    assert!(refused(&world, request).contains("no standby is ready"));
    let request = world.ready("a");
    assert_eq!(refused(&world, request), "a is active and not held out: there is nothing to take back");
    let request = world.drain("x");
    assert_eq!(refused(&world, request), "there is no backend `x`: there are a, b");
    assert_eq!(Standing::of(&world.journal), Standing::default());
    let mut world = World::new(policy(), &["a"], 1);
    world.run_until("a active");
    let request = world.rejuvenate();
    let why = refused(&world, request);
    assert_eq!(why, "no standby is ready, so nothing was handed over: there is no other backend");
}

#[test]
fn an_operators_word_outlives_the_controller_in_every_phase() {
    for ms in [0, 200, 600, 3_000] {
        let mut world = World::up(policy());
        world.machine("a").flows = u64::from(ms == 200);
        world.drain("a");
        world.pause();
        world.run(ms);
        world.crash();
        world.machine("a").flows = 0;
        world.run(5_000);
        assert_eq!(world.standing(), "a maintenance, b active", "crash after {ms} ms");
        assert!(world.coordinator.is_paused());
        world.kill("a");
        world.crash();
        world.run(5_000);
        assert_eq!((world.state("a"), world.machine("a").starts), (State::Maintenance, 1));
        world.ready("a");
        world.resume_rules();
        world.crash();
        world.run_until("a standby, b active");
        assert!(!world.coordinator.is_paused());
    }
}

#[test]
fn a_hold_that_was_written_down_and_never_begun_is_released() {
    let mut world = World::up(policy());
    world.journal.push(Record::HeldOut { backend: super::name("a") });
    world.crash();
    assert_eq!(Standing::of(&world.journal), Standing::default());
    world.run_until("a active, b standby");
}

#[test]
fn one_that_was_taken_back_with_its_flows_is_held_out_again_only_when_they_have_ended() {
    let mut world = World::up(policy());
    world.machine("a").flows = 12;
    world.drain("a");
    world.run(200);
    world.ready("a");
    world.run_until("a standby, b active");
    let request = world.drain("a");
    world.run(20_000);
    assert_eq!((world.standing().as_str(), world.answers.get(&request)), ("a draining, b active", None));
    world.machine("a").flows = 0;
    world.run_until("a maintenance, b active");
    let report = world.report_of(request);
    assert_eq!((report.outcome, report.flows_at_handover.total()), (Outcome::HeldOut, 12));
}

#[test]
fn a_member_that_fell_is_held_out_when_its_flows_have_ended() {
    let mut world = World::pool(&policy(), &["a", "b", "c"]);
    // Nothing else is done for it.
    world.maintain(true);
    world.machine("c").flows = 3;
    world.life("c").wedged = true;
    world.run_until("a active, b active, c starting");
    // The next controller has it from nobody that it served.
    world.crash();
    world.run(2_000);
    world.drain("c");
    world.run(2_000);
    assert_eq!(world.standing(), "a active, b active, c draining", "{}", world.said());
    world.machine("c").flows = 0;
    world.run_until("a active, b active, c maintenance");
}

#[test]
fn who_is_held_out_is_not_started_after_a_reboot_either() {
    let history = [Record::HeldOut { backend: super::name("b") }, Record::Paused];
    let names = ["a", "b"].map(super::name);
    let now = crate::clock::Now { boot_ms: 1, unix_ms: 1 };
    let (coordinator, outputs) =
        crate::recovery::Coordinator::new("web".parse().unwrap(), policy(), names, &history, now);
    assert_eq!(outputs, [Output::Start(super::name("a"))]);
    assert!(coordinator.is_paused());
    assert_eq!(coordinator.states().last(), Some((&super::name("b"), State::Maintenance)));
}

#[test]
fn what_was_under_way_before_a_reboot_is_over() {
    let mut world = World::up(policy());
    world.machine("a").flows = 1;
    world.drain("a");
    world.run(200);
    let (b, step) = (super::name("b"), crate::recovery::Step::Reboot);
    world.journal.push(Record::Step { backend: b.clone(), step, number: 1 });
    world.journal.push(Record::Quarantined { backend: b.clone() });
    let now = crate::clock::Now { boot_ms: 1, unix_ms: world.now.unix_ms + 60_000 };
    let new = |journal: &[Record]| {
        let names = ["a", "b"].map(super::name);
        crate::recovery::Coordinator::new("web".parse().unwrap(), policy(), names, journal, now).1
    };
    let outputs = new(&world.journal);
    let reports = outputs.iter().filter_map(|output| match output {
        Output::Report(report) => Some((report.cycle, report.outcome, report.duration_ms)),
        _ => None,
    });
    assert_eq!(reports.collect::<Vec<_>>(), [(1, Outcome::Interrupted, 0)]);
    assert_eq!(outputs.last(), Some(&Output::Start(b)));
    world.journal.extend(outputs.into_iter().filter_map(|output| match output {
        Output::Journal(record) => Some(record),
        _ => None,
    }));
    let standing = Standing::of(&world.journal);
    assert_eq!(standing, Standing { held_out: [super::name("a")].into(), ..Standing::default() });
    assert!(matches!(new(&world.journal)[..], [Output::Start(_)]), "it is over once");
}

#[test]
fn while_paused_no_rule_takes_anybody_out_and_the_dead_are_still_replaced() {
    let mut world = World::up(policy());
    world.pause();
    world.life("a").memory = 600;
    world.run(20_000);
    assert_eq!(world.standing(), "a active, b standby");
    let again = world.pause();
    assert_eq!(world.answers[&again], Ok(None));
    assert_eq!(world.journal, [Record::Paused]);
    world.kill("a");
    world.run_until("a standby, b active");
    world.life("b").memory = 600;
    world.run(10_000);
    assert_eq!(world.state("b"), State::Active);
    world.resume_rules();
    world.run_until("a active, b standby");
}

#[test]
fn without_a_journal_no_word_is_taken() {
    let mut world = World::up(policy());
    world.journal_works = false;
    for request in [world.drain("a"), world.drain("b"), world.pause()] {
        let why = refused(&world, request);
        assert!(why.contains("no space left on device"), "{why}");
    }
    assert_eq!(world.standing(), "a active, b standby");
    assert!(!world.coordinator.is_paused());
}
