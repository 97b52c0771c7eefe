//! Backends, starts and journals that fail.

use super::world::World;
use super::{instance, name, policy, refused};
use crate::recovery::report::{Outcome, Reason};
use crate::recovery::{Finding, Input, Policy, State};

#[test]
fn a_dead_active_backend_is_replaced_at_once_and_its_cut_flows_are_named() {
    let mut world = World::up(policy());
    world.machine("a").flows = 4;
    world.kill("a");
    world.run(5);
    assert_eq!(world.standing(), "a recovering, b active");
    world.run_until("a standby, b active");
    let report = world.reports.last().unwrap();
    assert_eq!(report.reason, Reason::Died { status: "killed by signal 9".into() });
    assert_eq!((report.outcome, report.cut.len()), (Outcome::CompletedWithCuts, 4));
    assert_eq!((report.flows_at_handover.established, report.flows_finished), (4, 0));
    assert!(report.proof.before.is_some() && report.proof.before != report.proof.after);
}

#[test]
fn a_wedged_active_backend_is_replaced_and_drained() {
    let mut world = World::up(policy());
    world.machine("a").flows = 1;
    world.life("a").wedged = true;
    world.run_until("a draining, b active");
    world.machine("a").flows = 0;
    world.run_until("a standby, b active");
    let report = world.reports.last().unwrap();
    assert_eq!(report.reason, Reason::Unhealthy { finding: "no answer in time".into() });
}

#[test]
fn a_wedged_active_backend_without_a_standby_goes_on_and_says_what_it_waits_for() {
    let mut world = World::up(policy());
    world.machine("b").bad_starts = 4;
    world.kill("b");
    world.life("a").wedged = true;
    world.run(5_000);
    assert_eq!(world.state("a"), State::Active);
    assert!(world.said().contains("rejuvenation (unhealthy: no answer in time) waits"), "{}", world.said());
    world.run_until("a standby, b active");
}

#[test]
fn when_both_die_the_first_one_back_serves() {
    let mut world = World::up(policy());
    world.kill("b");
    world.kill("a");
    world.run(5);
    assert_eq!(world.active(), "");
    world.run(5_000);
    assert_eq!(world.machines.values().map(|machine| machine.starts).sum::<u32>(), 4);
    assert!(!world.word.active.is_empty());
    let states: Vec<State> = world.coordinator.states().map(|(_, state)| state).collect();
    assert!(states.contains(&State::Standby), "{states:?}");
}

#[test]
fn a_start_that_fails_is_tried_ever_more_slowly() {
    let mut world = World::up(policy());
    world.machine("b").bad_starts = 5;
    world.kill("b");
    world.run(policy().retry_ms * (1 + 2 + 4 + 8 + 16) - 500);
    assert_eq!((world.state("b"), world.machine("b").starts), (State::Failed, 1));
    world.run(policy().retry_ms * (1 + 32) + 2_000);
    assert_eq!((world.state("b"), world.machine("b").starts), (State::Standby, 2));
}

#[test]
fn an_old_backend_that_does_not_start_again_ends_its_rejuvenation_as_not_ready() {
    let mut world = World::up(policy());
    world.machine("a").flows = 1;
    world.machine("a").bad_starts = 5;
    let request = world.rejuvenate();
    world.run(policy().drain_deadline_ms + policy().ready_deadline_ms + 2_000);
    let report = world.report_of(request);
    assert_eq!((report.outcome, report.cut.len()), (Outcome::NotReady, 1), "what was cut is not forgotten");
    assert_eq!(world.coordinator.activity(world.now), None);
    world.run_until("a standby, b active");
    world.rejuvenate();
    world.run_until("a active, b draining");
}

#[test]
fn a_life_that_becomes_ready_late_is_kept() {
    let mut world = World::up(policy());
    world.kill("b");
    world.run_until("a active, b starting");
    world.run(100);
    world.life("b").wedged = true;
    world.run_until("a active, b failed");
    world.life("b").wedged = false;
    world.run_until("a active, b standby");
    assert_eq!(world.machine("b").starts, 2);
}

#[test]
fn a_new_active_backend_that_dies_is_left_for_the_old_one_that_drains() {
    let mut world = World::up(policy());
    world.machine("a").flows = 1;
    let request = world.rejuvenate();
    world.run(1_000);
    world.kill("b");
    world.run(5);
    assert_eq!(world.standing(), "a active, b recovering");
    let report = world.report_of(request);
    assert_eq!(report.outcome, Outcome::RolledBack);
    assert_eq!(report.detail.as_deref(), Some("b failed: killed by signal 9"));
    world.run_until("a active, b standby");
    assert_eq!(world.machine("a").starts, 1, "the old one was never stopped");
    let report = world.reports.last().unwrap();
    assert_eq!((report.from.as_str(), report.outcome), ("b", Outcome::Completed));
}

#[test]
fn a_new_active_backend_that_wedges_is_left_and_keeps_the_flows_that_it_has() {
    let mut world = World::up(policy());
    world.machine("a").flows = 1;
    world.rejuvenate();
    world.machine("b").flows = 2;
    world.life("b").wedged = true;
    world.run_until("a active, b draining");
    world.run(5_000);
    assert_eq!((world.state("b"), world.machine("b").starts), (State::Draining, 1));
    world.machine("b").flows = 0;
    world.run_until("a active, b standby");
    assert_eq!(world.machine("b").starts, 2);
    assert_eq!(world.reports.iter().map(|r| r.cut.len()).sum::<usize>(), 0);
}

#[test]
fn beyond_the_window_only_an_old_backend_that_passes_its_checks_is_gone_back_to() {
    for (wedged, serves) in [(false, "a"), (true, "")] {
        let mut world = World::up(Policy { observation_ms: 0, ..policy() });
        world.machine("a").flows = 1;
        world.rejuvenate();
        world.life("a").wedged = wedged;
        world.run(5_000);
        world.kill("b");
        world.run(5);
        assert_eq!(world.active(), serves);
    }
}

#[test]
fn an_old_backend_that_dies_while_it_drains_is_restarted_and_the_cut_is_named() {
    let mut world = World::up(policy());
    world.machine("a").flows = 2;
    world.rejuvenate();
    world.run(500);
    world.kill("a");
    world.run_until("a standby, b active");
    let report = world.reports.last().unwrap();
    assert_eq!((report.outcome, report.cut.len()), (Outcome::CompletedWithCuts, 2));
    assert!(world.said().contains("a: killed by signal 9 while it drained"));
}

#[test]
fn a_drained_backend_is_not_stopped_while_nobody_else_serves() {
    let mut world = World::up(Policy { observation_ms: 0, ..policy() });
    world.machine("a").flows = 1;
    world.rejuvenate();
    world.run(1_000);
    // One failed check: not fit to take over, and not given up.
    world.life("a").wedged = true;
    world.run(1_500);
    world.machine("b").bad_starts = 9;
    world.kill("b");
    world.machine("a").flows = 0;
    world.run_until("a drained, b failed");
    world.run(200);
    assert_eq!(world.state("a"), State::Drained);
    world.life("a").wedged = false;
    world.run_until("a active, b failed");
    assert_eq!(world.machine("a").starts, 1);
}

#[test]
fn an_aged_backend_that_came_back_to_wait_is_renewed() {
    let mut world = World::up(policy());
    world.life("a").memory = 600;
    world.machine("a").flows = 1;
    world.run_until("a draining, b active");
    // Without the journal the next controller takes what drained for a standby, aged as it is.
    world.journal.clear();
    world.crash();
    world.machine("a").flows = 0;
    world.run_until("a draining, b active");
    world.run_until("a standby, b active");
    assert_eq!((world.machine("a").starts, world.machine("b").starts), (2, 1));
    assert_eq!(world.life("a").memory, 100);
}

#[test]
fn without_a_journal_nothing_is_begun_on_purpose() {
    let mut world = World::up(policy());
    world.journal_works = false;
    world.life("a").memory = 600;
    world.run(3_000);
    assert_eq!(world.standing(), "a active, b standby");
    assert!(world.said().contains("the journal cannot be written"), "{}", world.said());
    let request = world.rejuvenate();
    assert!(world.answers[&request].as_ref().unwrap_err().contains("no space left on device"));
    world.journal_works = true;
    world.run_until("a draining, b active");
}

#[test]
fn without_a_journal_a_death_and_a_wedge_are_survived() {
    for wedge in [false, true] {
        let mut world = World::up(policy());
        world.journal_works = false;
        if wedge {
            world.life("a").wedged = true;
        } else {
            world.kill("a");
        }
        world.run(8_000);
        assert_eq!(world.state("b"), State::Active, "wedge: {wedge}");
        assert_eq!(world.journal, []);
        world.journal_works = true;
        world.run_until("a standby, b active");
    }
}

#[test]
fn without_a_journal_a_drained_backend_is_not_stopped() {
    let mut world = World::up(policy());
    world.rejuvenate();
    world.journal_works = false;
    world.run(10_000);
    assert_eq!((world.standing().as_str(), world.machine("a").starts), ("a drained, b active", 1));
    world.journal_works = true;
    world.run_until("a standby, b active");
}

#[test]
fn reports_about_an_older_life_change_nothing() {
    let mut world = World::up(policy());
    let old = world.life("b").instance;
    world.kill("b");
    world.run_until("a active, b starting");
    world.run(60);
    world.life("b").wedged = true;
    for _ in 0..5 {
        world.tell(&Input::Checked { backend: name("b"), instance: old, result: Ok(()) });
        world.tell(&Input::Sampled { backend: name("b"), instance: old, memory_rss_bytes: 900 });
    }
    world.tell(&Input::Exited { backend: name("b"), instance: old, status: "late".into() });
    assert_eq!(world.state("b"), State::Starting);
    let present = world.life("b").instance;
    for _ in 0..5 {
        world.tell(&Input::Checked { backend: name("b"), instance: present, result: refused() });
    }
    assert_eq!(world.state("b"), State::Starting);
}

#[test]
fn a_check_that_could_not_be_made_speaks_against_nobody() {
    let mut world = World::up(policy());
    let unchecked = |world: &mut World, backend: &str| {
        let instance = world.life(backend).instance;
        let result = Err(Finding::Unchecked("no such script".into()));
        world.tell(&Input::Checked { backend: name(backend), instance, result });
    };
    for _ in 0..10 {
        unchecked(&mut world, "a");
        unchecked(&mut world, "b");
    }
    world.run(5);
    assert_eq!(world.standing(), "a active, b standby");
    // Nor does it excuse: failures in a row stay in a row.
    for _ in 0..policy().fall {
        unchecked(&mut world, "b");
        let instance = world.life("b").instance;
        world.tell(&Input::Checked { backend: name("b"), instance, result: refused() });
    }
    assert_eq!(world.state("b"), State::Starting);
}

#[test]
fn an_end_that_is_reported_before_its_start_is_not_lost() {
    let mut world = World::new(policy(), &["a"], 1);
    let (backend, life) = (name("a"), instance(9));
    world.tell(&Input::Exited { backend: backend.clone(), instance: life, status: "exit code 1".into() });
    assert_eq!(world.state("a"), State::Starting);
    world.tell(&Input::Started { backend, instance: life });
    assert_eq!(world.state("a"), State::Failed);
    assert!(world.said().contains("a: exit code 1"));
}

#[test]
fn an_end_that_is_reported_before_its_start_is_not_forgotten_for_a_late_older_one() {
    let mut world = World::up(policy());
    let old = world.life("b").instance;
    world.kill("b");
    world.run_until("a active, b starting");
    let (backend, new) = (name("b"), instance(9));
    for (instance, status) in [(new, "exit code 1"), (old, "stopped")] {
        world.tell(&Input::Exited { backend: backend.clone(), instance, status: status.into() });
    }
    world.tell(&Input::Started { backend, instance: new });
    assert_eq!(world.state("b"), State::Failed);
}

#[test]
fn a_stop_that_fails_is_tried_again() {
    let mut world = World::up(policy());
    world.faults.stop_fails = 1_000;
    world.rejuvenate();
    world.run_until("a failed, b active");
    world.faults.stop_fails = 0;
    world.run_until("a standby, b active");
    assert_eq!(world.machine("a").starts, 2);
}

/// `a` serves, and two wait.
fn three(policy: Policy) -> World {
    let mut world = World::new(policy, &["a", "b", "c"], 1);
    for late in ["b", "c"] {
        world.machine(late).bad_starts = 1;
    }
    world.run_until("a active, b standby, c standby");
    world.run(2_000);
    world
}

#[test]
fn a_suspect_passes_new_flows_on_though_another_one_is_being_renewed() {
    for is_silent in [false, true] {
        let mut world = three(Policy { observation_ms: 0, ..policy() });
        let request = world.rejuvenate();
        world.run_until("a starting, b active, c standby");
        world.machine("a").bad_starts = 10;
        world.machine("b").flows = 1;
        let life = world.life("b");
        (life.wedged, life.mute) = (true, is_silent);
        world.run(10_000);
        assert_eq!(world.active(), "c", "{}", world.said());
        let is_renewed = world.machine("b").starts > 1;
        assert_eq!(is_renewed, is_silent, "a suspect finishes what it has: {}", world.said());
        world.machine("a").bad_starts = 0;
        world.machine("b").flows = 0;
        world.run_until("a standby, b standby, c active");
        let report = world.report_of(request);
        assert!(report.troubles.iter().any(|what| what.contains("new flows went to c")), "{report:?}");
    }
}

#[test]
fn a_drained_backend_waits_for_a_third_one_only_as_long_as_a_start_may_take() {
    let mut world = three(Policy { ready_deadline_ms: 20_000, ..policy() });
    world.machine("a").flows = 1;
    let request = world.rejuvenate();
    world.machine("c").bad_starts = u32::MAX;
    world.kill("c");
    world.run(5_000);
    world.machine("a").flows = 0;
    world.run(10_000);
    assert_eq!(world.state("a"), State::Drained, "the third one may come back");
    world.run(20_000);
    assert_eq!((world.state("a"), world.active().as_str()), (State::Standby, "b"));
    assert_eq!((world.report_of(request).outcome, world.machine("a").starts), (Outcome::CalledOff, 1));
}

#[test]
fn a_drained_backend_is_stopped_once_the_third_one_is_back() {
    let mut world = three(Policy { ready_deadline_ms: 20_000, ..policy() });
    world.machine("a").flows = 1;
    let request = world.rejuvenate();
    world.machine("c").bad_starts = 3;
    world.kill("c");
    world.run(500);
    world.machine("a").flows = 0;
    world.run_until("a standby, b active, c standby");
    assert_eq!((world.report_of(request).outcome, world.machine("a").starts), (Outcome::Completed, 2));
}

#[test]
fn one_that_an_operator_takes_out_is_gone_back_to_only_for_want_of_others() {
    for with_another in [true, false] {
        let mut world = if with_another { three(policy()) } else { World::up(policy()) };
        world.machine("a").flows = 1;
        world.drain("a");
        world.run(1_000);
        assert_eq!((world.state("a"), world.active().as_str()), (State::Draining, "b"));
        world.life("b").wedged = true;
        world.run(5_000);
        assert_eq!(world.active(), if with_another { "c" } else { "a" }, "{}", world.said());
        assert_eq!(world.coordinator.is_held(&name("a")), with_another);
    }
}
