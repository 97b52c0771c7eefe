//! The dead and the suspect: whose flows are reset, and whose are kept.

use super::world::World;
use super::{name, policy};
use crate::recovery::report::Reason;
use crate::recovery::{Finding, Input, Output, Policy, State};

fn refusals(world: &World) -> Vec<&str> {
    let mut names = Vec::new();
    for output in &world.orders {
        if let Output::Refuse(name) = output {
            names.push(name.as_str());
        }
    }
    names
}

#[test]
fn a_backend_that_answers_nobody_is_dead_and_its_flows_are_reset() {
    let mut world = World::up(policy());
    world.machine("a").flows = 2;
    world.life("a").wedged = true;
    world.life("a").mute = true;
    world.run_until("a recovering, b active");
    assert_eq!(refusals(&world), ["a"]);
    world.run_until("a standby, b active");
    let report = world.reports.last().unwrap();
    let status = "no answer in time, and no client was answered since".to_owned();
    assert_eq!(report.reason, Reason::Died { status });
    assert_eq!(report.cut.len(), 2);
}

#[test]
fn a_backend_that_answers_clients_is_suspect_and_keeps_its_flows() {
    let mut world = World::up(policy());
    world.machine("a").flows = 2;
    world.life("a").wedged = true;
    world.run_until("a draining, b active");
    world.run(10_000);
    assert_eq!((world.state("a"), refusals(&world).len()), (State::Draining, 0));
}

#[test]
fn a_wrong_answer_is_no_death_although_no_client_is_answered() {
    let mut world = World::up(policy());
    let instance = world.life("a").instance;
    world.machine("a").flows = 1;
    for _ in 0..3 {
        world.tell(&Input::Answered { backend: name("a"), turns: 7 });
        let result = Err(Finding::WrongAnswer("status 500".into()));
        world.tell(&Input::Checked { backend: name("a"), instance, result });
    }
    assert_eq!((world.state("a"), refusals(&world).len()), (State::Draining, 0));
}

#[test]
fn without_evidence_nobody_who_lives_is_dead() {
    let mut world = World::up(policy());
    let instance = world.life("a").instance;
    for _ in 0..3 {
        world.tell(&Input::Checked { backend: name("a"), instance, result: super::refused() });
    }
    assert_eq!((world.state("a"), refusals(&world).len()), (State::Draining, 0));
}

#[test]
fn if_every_check_fails_the_prober_is_suspected_and_nobody_dies() {
    for spread in [false, true] {
        let mut world = World::new(Policy { spread, ..policy() }, &["a", "b"], 1);
        world.run(5_000);
        for one in ["a", "b"] {
            let life = world.life(one);
            (life.wedged, life.mute) = (true, true);
        }
        world.run(4_000);
        assert_eq!(refusals(&world).len(), 0, "{}", world.standing());
        assert!(!world.word.active.is_empty());
    }
}

#[test]
fn a_draining_backend_that_dies_in_silence_is_not_waited_for() {
    let mut world = World::up(policy());
    world.machine("a").flows = 2;
    world.rejuvenate();
    world.run(500);
    let life = world.life("a");
    (life.wedged, life.mute) = (true, true);
    world.run(5_000);
    assert_eq!(refusals(&world), ["a"]);
    world.run_until("a standby, b active");
    assert_eq!(world.reports.last().unwrap().cut.len(), 2);
}

#[test]
fn a_silent_backend_that_is_held_out_is_left_as_it_is() {
    let mut world = World::up(policy());
    world.machine("a").flows = 1;
    let request = world.drain("a");
    world.run(500);
    let life = world.life("a");
    (life.wedged, life.mute) = (true, true);
    world.run(60_000);
    assert_eq!((world.state("a"), world.machine("a").starts), (State::Maintenance, 1));
    assert!(world.report_of(request).detail.as_ref().unwrap().contains("cannot be told"));
}

#[test]
fn the_flows_of_a_process_that_has_ended_are_reset_unless_they_are_to_be_kept() {
    for reset_dead in [true, false] {
        let mut world = World::up(Policy { reset_dead, ..policy() });
        world.machine("a").flows = 2;
        world.kill("a");
        world.run_until("a standby, b active");
        assert_eq!(refusals(&world).len(), usize::from(reset_dead));
        assert_eq!(world.reports.last().unwrap().cut.len(), 2);
    }
}

#[test]
fn a_member_of_a_pool_that_answers_nobody_is_restarted_at_once() {
    let mut world = World::pool(&policy(), &["a", "b", "c"]);
    world.machine("b").flows = 3;
    let life = world.life("b");
    (life.wedged, life.mute) = (true, true);
    world.run_until("a active, b recovering, c active");
    assert_eq!(refusals(&world), ["b"]);
    world.run_until("a active, b active, c active");
}

#[test]
fn a_controller_that_dies_between_a_death_and_the_stop_restarts_the_dead_once() {
    let mut world = World::up(policy());
    world.machine("a").flows = 2;
    let life = world.life("a");
    (life.wedged, life.mute) = (true, true);
    world.run_until("a recovering, b active");
    world.kill_controller_before_its_actions();
    world.run_until("a standby, b active");
    assert_eq!((world.machine("a").starts, world.machine("b").starts), (2, 1));
}
