//! The checker itself: for each invariant an order that breaks it, which must not pass.

use std::collections::BTreeSet;

use super::world::World;
use super::{name, policy};
use crate::flow_counts::OpenFlows;
use crate::recovery::event::Event;
use crate::recovery::hook::Phase;
use crate::recovery::journal::Record;
use crate::recovery::report::{Outcome, Reason};
use crate::recovery::{Input, Output, Policy, State, Steering, Step};

fn steer(world: &World, active: Option<&str>) -> Output {
    let active: BTreeSet<_> = active.map(name).into_iter().collect();
    let epoch = world.word.epoch + u32::from(active != world.word.active);
    Output::Steer(Steering { active, draining: None, epoch })
}

fn stop(backend: &str) -> Output {
    Output::Stop(name(backend), Step::Graceful)
}

fn written(world: &World, cycle: u64) -> Record {
    Record::Handover {
        cycle,
        from: name("a"),
        to: Some(name("b")),
        epoch: world.word.epoch + 1,
        reason: Reason::Operator,
        at: world.now,
        drain_deadline_ms: world.now.boot_ms + policy().drain_deadline_ms,
        instance: world.machines[&name("a")].life.as_ref().map(|life| life.instance),
    }
}

/// What the checker says of this order, with its record on disk.
fn verdict(world: &mut World, order: Output) -> String {
    world.carry_out(vec![order]).expect_err("the checker must object")
}

/// The checker is told, and the coordinator is not.
fn hear_of_the_end_of(world: &mut World, backend: &str) {
    let instance = world.checker.life(&name(backend)).unwrap();
    let exited = Input::Exited { backend: name(backend), instance, status: "killed by signal 9".into() };
    world.checker.hear(&exited, world.now);
}

fn draining() -> World {
    let mut world = World::up(policy());
    world.machine("a").flows = 1;
    world.rejuvenate();
    world.run(1_000);
    world
}

#[test]
fn the_real_orders_pass() {
    let mut world = draining();
    world.machine("a").flows = 0;
    world.run_until("a standby, b active");
}

#[test]
fn a_handover_to_a_backend_that_has_not_passed_its_checks_is_caught() {
    let mut world = World::up(policy());
    world.life("b").wedged = true;
    world.run(2_000);
    let record = written(&world, 1);
    world.checker.store(record);
    let order = steer(&world, Some("b"));
    assert_eq!(verdict(&mut world, order), "new flows go to b, which has not just passed its checks");
}

#[test]
fn a_handover_on_passes_of_long_ago_is_caught() {
    let mut world = World::up(policy());
    let record = written(&world, 1);
    world.checker.store(record);
    let order = steer(&world, Some("b"));
    world.now = world.now.plus_ms(2 * policy().check_period_ms + 2_000);
    assert_eq!(verdict(&mut world, order), "new flows go to b, which has not just passed its checks");
}

#[test]
fn a_handover_that_is_not_written_down_is_caught() {
    let mut world = World::up(policy());
    let order = steer(&world, Some("b"));
    assert_eq!(verdict(&mut world, order), "new flows leave a without a record");
}

#[test]
fn a_second_backend_that_is_taken_out_is_caught() {
    let mut world = draining();
    world.machine("a").flows = 0;
    world.run_until("a drained, b active");
    hear_of_the_end_of(&mut world, "b");
    assert_eq!(verdict(&mut world, stop("a")), "a is stopped while 0 others serve");
}

#[test]
fn a_stop_of_the_standby_without_a_rejuvenation_is_caught() {
    let mut world = World::up(policy());
    let said = verdict(&mut world, stop("b"));
    assert_eq!(said, "b lives and is stopped without a rejuvenation");
}

#[test]
fn a_stop_with_open_flows_before_the_deadline_is_caught() {
    let mut world = draining();
    let said = verdict(&mut world, stop("a"));
    assert_eq!(said, "a is stopped with Some(1) flows before its deadline");
}

#[test]
fn a_stop_that_is_not_written_down_is_caught() {
    let mut world = draining();
    let open = OpenFlows::default();
    world.checker.hear(&Input::Flows { backend: name("a"), open, leases: 0 }, world.now);
    assert_eq!(verdict(&mut world, stop("a")), "a is stopped without a record");
}

#[test]
fn a_second_stop_of_the_same_life_is_caught() {
    let mut world = draining();
    world.machine("a").flows = 0;
    world.run_until("a recovering, b active");
    assert_eq!(verdict(&mut world, stop("a")), "a is stopped twice");
}

#[test]
fn new_flows_that_do_not_go_back_are_caught() {
    let mut world = draining();
    // The coordinator has not been told, so it stays where it is.
    hear_of_the_end_of(&mut world, "b");
    let said = world.checker.settled(&world.coordinator, world.now).unwrap_err();
    assert_eq!(said, "b has failed and new flows do not go back to a");
}

#[test]
fn a_service_that_nobody_serves_although_somebody_could_is_caught() {
    let mut world = World::up(policy());
    hear_of_the_end_of(&mut world, "a");
    let order = steer(&world, None);
    world.carry_out(vec![order]).unwrap();
    let states = world.coordinator.states().map(|(name, _)| (name, State::Standby)).collect();
    let said = world.checker.somebody_serves(&states, world.now).unwrap_err();
    assert_eq!(said, "nobody is active although b could be");
}

#[test]
fn states_that_do_not_fit_the_steering_are_caught() {
    let mut world = World::up(policy());
    hear_of_the_end_of(&mut world, "a");
    let order = steer(&world, None);
    world.carry_out(vec![order]).unwrap();
    let said = world.checker.settled(&world.coordinator, world.now).unwrap_err();
    assert!(said.starts_with("a is active under"), "{said}");
}

#[test]
fn an_epoch_that_does_not_count_handovers_is_caught() {
    let mut world = World::up(policy());
    let record = written(&world, 1);
    world.checker.store(record);
    let word = Steering { active: BTreeSet::from([name("b")]), draining: None, epoch: world.word.epoch };
    assert!(verdict(&mut world, Output::Steer(word)).starts_with("epoch 1 after"));
}

#[test]
fn a_record_of_another_outcome_does_not_allow_a_handover() {
    let mut world = World::up(policy());
    world.checker.store(Record::Ended { cycle: 1, outcome: Outcome::Completed });
    let order = steer(&world, Some("b"));
    assert_eq!(verdict(&mut world, order), "new flows leave a without a record");
}

/// A pool of three, the floor of which is two.
fn pool() -> World {
    World::pool(&Policy { active_least: 2, ..policy() }, &["a", "b", "c"])
}

fn spread(world: &World, active: &[&str]) -> Output {
    let active = active.iter().map(|text| name(text)).collect();
    Output::Steer(Steering { active, draining: None, epoch: world.word.epoch + 1 })
}

fn taken_out(world: &World, backend: &str) -> Record {
    Record::Handover {
        cycle: 1,
        from: name(backend),
        to: None,
        epoch: world.word.epoch + 1,
        reason: Reason::Operator,
        at: world.now,
        drain_deadline_ms: world.now.boot_ms,
        instance: world.machines[&name(backend)].life.as_ref().map(|life| life.instance),
    }
}

#[test]
fn a_member_that_is_taken_out_without_a_record_is_caught() {
    let mut world = pool();
    let order = spread(&world, &["a", "b"]);
    assert_eq!(verdict(&mut world, order), "new flows leave c without a record");
}

#[test]
fn a_second_member_that_is_taken_out_in_the_same_step_is_caught() {
    let mut world = pool();
    let record = taken_out(&world, "c");
    world.checker.store(record);
    let order = spread(&world, &["a"]);
    assert_eq!(verdict(&mut world, order), "new flows leave b without a record");
}

#[test]
fn a_member_that_is_taken_out_below_the_floor_is_caught() {
    let mut world = pool();
    hear_of_the_end_of(&mut world, "a");
    let record = taken_out(&world, "c");
    world.checker.store(record);
    let order = spread(&world, &["b"]);
    assert_eq!(verdict(&mut world, order), "new flows leave c, and 1 fit backends are left");
}

#[test]
fn a_member_that_joins_without_having_passed_its_checks_is_caught() {
    let mut world = pool();
    world.machine("c").bad_starts = u32::MAX;
    world.kill("c");
    world.run_until("a active, b active, c failed");
    let order = spread(&world, &["a", "b", "c"]);
    assert_eq!(verdict(&mut world, order), "new flows go to c, which has not just passed its checks");
}

#[test]
fn a_member_that_could_serve_and_does_not_is_caught() {
    let mut world = pool();
    let record = taken_out(&world, "c");
    world.checker.store(record);
    let order = spread(&world, &["a", "b"]);
    world.carry_out(vec![order]).unwrap();
    let states = ["a", "b", "c"].map(name);
    let states = states.iter().map(|name| (name, State::Standby)).collect();
    let said = world.checker.all_serve_who_can(&states, world.now).unwrap_err();
    assert_eq!(said, "c is ready, and standby instead of active");
}

#[test]
fn a_member_that_has_failed_and_stays_is_caught() {
    let mut world = pool();
    hear_of_the_end_of(&mut world, "c");
    let said = world.checker.settled(&world.coordinator, world.now).unwrap_err();
    assert_eq!(said, "c has failed and is active beside 2 fit ones");
}

#[test]
fn a_member_that_is_stopped_while_too_few_serve_is_caught() {
    let mut world = pool();
    world.machine("a").flows = 1;
    world.rejuvenate_one("a");
    world.run(1_000);
    world
        .checker
        .hear(&Input::Flows { backend: name("a"), open: OpenFlows::default(), leases: 0 }, world.now);
    hear_of_the_end_of(&mut world, "b");
    assert_eq!(verdict(&mut world, stop("a")), "a is stopped while 1 others serve");
}

#[test]
fn two_active_backends_of_what_is_no_pool_are_caught() {
    let mut world = World::up(policy());
    let order = spread(&world, &["a", "b"]);
    assert!(verdict(&mut world, order).ends_with("are active, and it is no pool"));
}

#[test]
fn an_order_about_a_backend_that_is_held_out_is_caught() {
    let mut world = World::pool(&policy(), &["a", "b", "c"]);
    world.drain("c");
    world.run_until("a active, b active, c maintenance");
    for order in [Output::Start(name("c")), stop("c"), spread(&world, &["a", "b", "c"])] {
        assert_eq!(verdict(&mut world, order), "c is held out");
    }
}

#[test]
fn a_reset_of_the_flows_of_one_that_lives_is_caught() {
    let mut world = World::up(policy());
    let said = verdict(&mut world, Output::Refuse(name("a")));
    assert_eq!(said, "the flows of a are reset, and it is not dead");
}

#[test]
fn a_word_of_the_operator_that_is_forgotten_is_caught() {
    let mut world = World::up(policy());
    world.checker.store(Record::HeldOut { backend: name("b") });
    let said = world.checker.settled(&world.coordinator, world.now).unwrap_err();
    assert_eq!(said, "b is to be held out, and is standby");
}

/// `b` waits for its warm-up, of which nothing is heard.
fn warming() -> World {
    let mut world = World::up(Policy { warm_up_requests: 10, ..policy() });
    world.faults.warm_up_lost = 1_000;
    world.kill("b");
    world.run_until("a active, b warming");
    world.run(1_000);
    world
}

#[test]
fn a_handover_to_a_backend_that_was_not_warmed_up_is_caught() {
    let mut world = warming();
    let record = written(&world, 1);
    world.checker.store(record);
    let order = steer(&world, Some("b"));
    assert_eq!(verdict(&mut world, order), "new flows go to b, which has not been warmed up");
}

#[test]
fn a_warm_up_of_one_that_serves_is_caught() {
    let mut world = warming();
    let order = Output::WarmUp { backend: name("a"), instance: world.life("a").instance };
    assert_eq!(verdict(&mut world, order), "a is warmed up while it serves");
}

#[test]
fn a_stop_of_one_whose_warm_up_may_still_succeed_is_caught() {
    let mut world = warming();
    let said = verdict(&mut world, stop("b"));
    assert_eq!(said, "b lives and is stopped without a rejuvenation");
}

#[test]
fn a_step_of_a_machine_that_is_not_written_down_is_caught() {
    let mut world = World::up(policy());
    hear_of_the_end_of(&mut world, "b");
    let order = || Output::Stop(name("b"), Step::Reboot);
    assert_eq!(verdict(&mut world, order()), "a reboot of b is ordered without a record");
    world.checker.store(Record::Step { backend: name("b"), step: Step::Recreate, number: 1 });
    hear_of_a_stop(&mut world, "b");
    assert_eq!(verdict(&mut world, order()), "a reboot of b is ordered without a record");
}

#[test]
fn a_step_of_a_machine_that_is_done_twice_is_caught() {
    let mut world = World::up(policy());
    hear_of_the_end_of(&mut world, "b");
    world.checker.store(Record::Step { backend: name("b"), step: Step::Reboot, number: 1 });
    let order = || Output::Stop(name("b"), Step::Reboot);
    world.carry_out(vec![order()]).unwrap();
    hear_of_a_stop(&mut world, "b");
    assert_eq!(verdict(&mut world, order()), "the reboot of b is ordered twice");
}

/// The checker is told that an order to stop has been carried out.
fn hear_of_a_stop(world: &mut World, backend: &str) {
    world.checker.hear(&Input::Stopped { backend: name(backend), cut: Vec::new() }, world.now);
}

fn with_hooks() -> Policy {
    Policy {
        hooks: [Phase::BeforeHandover, Phase::BeforeStop].map(|phase| (phase, 1_000)).into(),
        ..policy()
    }
}

fn handover(from: &str) -> Output {
    let reason = Reason::Operator;
    Output::Event(Event::Handover { cycle: 1, from: name(from), to: Some(name("b")), reason })
}

#[test]
fn a_planned_handover_without_the_consent_of_hooks_is_caught() {
    let mut world = World::up(with_hooks());
    assert_eq!(verdict(&mut world, handover("a")), "a hands over, and hooks have not consented");
}

#[test]
fn a_consent_that_is_used_twice_is_caught() {
    let mut world = World::up(with_hooks());
    world.machine("a").flows = 1;
    world.rejuvenate();
    world.run_until("a draining, b active");
    assert_eq!(verdict(&mut world, handover("a")), "a hands over, and hooks have not consented");
}

#[test]
fn a_stop_without_the_consent_of_hooks_is_caught() {
    let mut world = World::up(with_hooks());
    world.rejuvenate();
    world.run_until("a draining, b active");
    world.faults.vetoes = 1_000;
    world.run_until("a drained, b active");
    world.run(500);
    let instance = world.checker.life(&name("a"));
    world.checker.store(Record::Stopping { cycle: 1, instance });
    assert_eq!(verdict(&mut world, stop("a")), "a is stopped, and hooks have not consented");
}
