//! Steps that do not help, the next ones, and backends that nothing helps.

use std::collections::BTreeMap;

use super::world::World;
use super::{name, policy};
use crate::recovery::journal::Record;
use crate::recovery::report::Outcome;
use crate::recovery::{Evidence, Output, Policy, Rung, State, Step};

const ALL: [Rung; 4] = [
    Rung { step: Step::Graceful, evidence: Evidence::Process },
    Rung { step: Step::Restart, evidence: Evidence::Process },
    Rung { step: Step::Reboot, evidence: Evidence::Boot },
    Rung { step: Step::Recreate, evidence: Evidence::Commands },
];

fn with(steps: usize) -> Policy {
    let ladders: BTreeMap<_, _> = ["a", "b", "c"].map(|text| (name(text), ALL[..steps].to_vec())).into();
    Policy { ladders, ..policy() }
}

/// Two backends with so many steps; what was done to bring them up is forgotten.
fn up(policy: Policy) -> World {
    let mut world = World::up(policy);
    world.orders.clear();
    world
}

/// The command of a backend ends, and it is told.
fn lose(world: &mut World, backend: &str) {
    world.kill(backend);
    world.run(5);
}

/// The steps that were ordered of a backend.
fn steps(world: &World, backend: &str) -> Vec<Step> {
    let step = |order: &Output| match order {
        Output::Stop(name, step) if name.as_str() == backend => Some(*step),
        _ => None,
    };
    world.orders.iter().filter_map(step).collect()
}

#[test]
fn one_step_that_helps_is_all_that_is_done() {
    let mut world = up(with(4));
    let request = world.rejuvenate();
    world.run_until("a standby, b active");
    assert_eq!(steps(&world, "a"), [Step::Graceful]);
    let report = world.report_of(request);
    let [step] = &report.steps[..] else { panic!("{:?}", report.steps) };
    let proof = step.proof.expect("a proof");
    assert_eq!(
        (proof.evidence, proof.before, proof.after),
        (Evidence::Process, report.proof.before, report.proof.after)
    );
    assert!(step.failure.is_none() && step.took_ms.is_some());
}

#[test]
fn a_stop_that_hangs_is_followed_by_force_and_the_report_has_both() {
    let mut world = up(with(4));
    let request = world.rejuvenate();
    world.run_until("a drained, b active");
    world.faults.stop_fails = 1_000;
    world.run_until("a recovering, b active");
    world.run(150);
    world.faults.stop_fails = 0;
    world.run_until("a standby, b active");
    let taken: Vec<_> = world.report_of(request).steps.clone();
    assert!(taken.len() >= 2, "{taken:?}");
    assert_eq!(
        (taken[0].step, taken[0].failure.as_deref()),
        (Step::Graceful, Some("it hangs in the kernel"))
    );
    let last = taken.last().unwrap();
    assert!(taken[0].proof.is_none() && last.proof.is_some(), "{taken:?}");
    assert!(world.said().contains("a: the graceful restart did not bring it back: it hangs in the kernel"));
    assert!(world.said().contains("a: restart by force begins"), "{}", world.said());
}

#[test]
fn every_step_is_taken_in_turn_and_then_all_of_them_again() {
    let mut world = up(with(4));
    world.machine("b").bad_starts = 6;
    lose(&mut world, "b");
    world.run_until("a active, b standby");
    let once = [Step::Graceful, Step::Restart, Step::Reboot, Step::Recreate];
    assert_eq!(steps(&world, "b"), [&once[..], &once[..3]].concat());
    assert!(world.journal.contains(&Record::Recovered { backend: name("b") }));
    lose(&mut world, "b");
    world.run_until("a active, b standby");
    assert_eq!(steps(&world, "b").last(), Some(&Step::Graceful), "it was well, so it begins anew");
}

#[test]
fn a_life_that_does_not_become_ready_in_time_leads_to_the_next_step() {
    let mut world = up(with(2));
    lose(&mut world, "b");
    world.run_until("a active, b starting");
    world.run(100);
    world.life("b").wedged = true;
    world.run(policy().ready_deadline_ms + 2_000);
    world.run_until("a active, b standby");
    assert_eq!(steps(&world, "b"), [Step::Graceful, Step::Restart]);
}

#[test]
fn a_report_waits_for_every_step_of_the_first_run_and_says_why_each_did_not_help() {
    let mut world = up(with(4));
    let request = world.rejuvenate();
    for _ in 0..3 {
        world.run_until("a starting, b active");
        world.run(100);
        world.life("a").wedged = true;
        world.run_until("a recovering, b active");
    }
    world.run_until("a standby, b active");
    let report = world.report_of(request);
    assert_eq!(report.outcome, Outcome::Completed);
    assert_eq!(report.steps.iter().map(|step| step.step).collect::<Vec<_>>(), ALL.map(|rung| rung.step));
    let (last, before) = report.steps.split_last().unwrap();
    assert!(last.proof.is_some(), "{last:?}");
    for step in before {
        assert!(step.failure.as_ref().is_some_and(|why| why.starts_with("not ready in time")), "{step:?}");
    }
}

#[test]
fn a_step_of_the_machine_is_written_down_before_it_is_done() {
    let mut world = up(with(3));
    world.machine("b").bad_starts = 3;
    lose(&mut world, "b");
    world.run_until("a active, b standby");
    let step = Record::Step { backend: name("b"), step: Step::Reboot, number: 1 };
    assert_eq!(world.journal.iter().filter(|record| **record == step).count(), 1);
}

#[test]
fn without_a_journal_no_machine_is_touched() {
    let mut world = up(with(4));
    world.machine("b").bad_starts = 9;
    world.journal_works = false;
    lose(&mut world, "b");
    world.run(60_000);
    assert!(steps(&world, "b").iter().all(|step| !step.is_of_machine()), "{:?}", steps(&world, "b"));
    world.journal_works = true;
    world.run_until("a active, b standby");
}

#[test]
fn a_controller_that_dies_in_a_step_of_the_machine_does_it_no_second_time() {
    for seed in 0..20 {
        let mut world = World::new(with(3), &["a", "b"], seed);
        world.run(5_000);
        let out = if world.active() == "a" { "b" } else { "a" };
        world.machine(out).bad_starts = 2;
        lose(&mut world, out);
        while steps(&world, out).last() != Some(&Step::Reboot) {
            world.run(5);
        }
        world.crash();
        world.run(30_000);
        assert_eq!(world.state(out), State::Standby, "{}", world.said());
        let reboots = steps(&world, out).iter().filter(|step| **step == Step::Reboot).count();
        assert_eq!(reboots, 1, "seed {seed}: {}", world.said());
    }
}

#[test]
fn a_backend_that_nothing_helps_is_left_alone_until_an_operator_wants_it() {
    let mut world = up(Policy { quarantine_after: 2, ..with(2) });
    world.machine("b").bad_starts = u32::MAX;
    lose(&mut world, "b");
    world.run(60_000);
    assert_eq!((world.state("b"), steps(&world, "b").len()), (State::Failed, 4));
    assert!(world.said().contains("b: left alone after 2 recoveries that failed"), "{}", world.said());
    let told = world.coordinator.recovery(&name("b"));
    assert_eq!(told.as_deref(), Some("left alone after recoveries that failed"));
    world.crash();
    world.run(60_000);
    assert_eq!((world.state("b"), steps(&world, "b").len()), (State::Failed, 4), "the next controller knows");
    world.machine("b").bad_starts = 0;
    let request = world.ready("b");
    assert!(world.answers[&request].is_ok());
    world.run_until("a active, b standby");
}

#[test]
fn the_last_backend_is_never_left_alone() {
    let mut world = up(Policy { quarantine_after: 1, ..with(2) });
    world.machine("b").bad_starts = u32::MAX;
    lose(&mut world, "b");
    world.run(10_000);
    assert!(world.said().contains("b: left alone"), "{}", world.said());
    // Now it is the last one that could serve.
    world.machine("a").bad_starts = 5;
    world.machine("b").bad_starts = 3;
    lose(&mut world, "a");
    world.run(120_000);
    assert!(world.said().contains("b: tried again: nobody else serves"), "{}", world.said());
    let states: Vec<_> = world.coordinator.states().map(|(_, state)| state).collect();
    assert!(states.contains(&State::Active), "{states:?}");
}
