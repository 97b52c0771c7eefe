//! Hooks that are asked, refuse, answer late or never, and diagnoses.

use std::collections::BTreeMap;

use super::world::{DIAGNOSIS_MS, World};
use super::{name, policy};
use crate::recovery::hook::{HookCall, Phase};
use crate::recovery::report::{Outcome, Reason};
use crate::recovery::{Output, Policy, State};

fn with(phases: &[Phase]) -> Policy {
    let hooks: BTreeMap<_, _> = phases.iter().map(|phase| (*phase, 1_000)).collect();
    Policy { hooks, veto_retry_ms: 2_000, veto_limit_ms: 10_000, ..policy() }
}

fn calls(world: &World) -> Vec<HookCall> {
    let call = |order: &Output| match order {
        Output::Hook(call) => Some((**call).clone()),
        _ => None,
    };
    world.orders.iter().filter_map(call).collect()
}

#[test]
fn a_hook_that_consents_lets_the_rejuvenation_begin_and_stands_in_the_report() {
    let mut world = World::up(with(&[Phase::BeforeHandover]));
    let request = world.rejuvenate();
    assert_eq!(world.standing(), "a active, b standby", "nothing is done before it has answered");
    world.run_until("a standby, b active");
    assert_eq!(world.coordinator.objections(world.now), [""; 0]);
    let report = world.report_of(request);
    assert_eq!(report.outcome, Outcome::Completed);
    assert_eq!(report.hooks.len(), 1);
    assert_eq!((report.hooks[0].phase, &report.hooks[0].failure), (Phase::BeforeHandover, &None));
}

#[test]
fn a_veto_answers_the_operator_and_the_next_request_is_asked_about_again() {
    let mut world = World::up(with(&[Phase::BeforeHandover]));
    world.faults.vetoes = 1_000;
    let request = world.rejuvenate();
    world.run(200);
    assert_eq!(world.standing(), "a active, b standby");
    let why = world.answers[&request].clone().unwrap_err();
    assert_eq!(why, "vetoed by a hook (before-handover): /bin/ask: exit status 1");
    let objections = world.coordinator.objections(world.now).join("\n");
    assert!(objections.contains("a: vetoed 0 s ago: /bin/ask: exit status 1"), "{objections}");
    world.faults.vetoes = 0;
    let request = world.rejuvenate();
    assert!(world.coordinator.waits().is_some_and(|waits| waits.contains("for its hooks")));
    world.run_until("a standby, b active");
    assert_eq!(world.report_of(request).outcome, Outcome::Completed);
}

#[test]
fn rules_ask_again_after_a_while() {
    let mut world = World::up(with(&[Phase::BeforeHandover]));
    world.faults.vetoes = 1_000;
    world.life("a").memory = 900;
    world.run(7_000);
    assert!((3..=4).contains(&calls(&world).len()), "{:?}", calls(&world));
    assert_eq!(world.state("a"), State::Active);
    assert!(
        world.said().contains("a: vetoed by a hook (before-handover), asked again in 2 s"),
        "{}",
        world.said()
    );
    world.faults.vetoes = 0;
    world.run_until("a standby, b active");
}

#[test]
fn an_answer_that_never_comes_is_a_veto() {
    let mut world = World::up(with(&[Phase::BeforeHandover]));
    world.faults.lost_answers = 1_000;
    let request = world.rejuvenate();
    world.run(10_000);
    let why = world.answers[&request].clone().unwrap_err();
    assert_eq!(why, "vetoed by a hook (before-handover): no answer in time");
}

#[test]
fn a_death_is_answered_at_once_whatever_hooks_would_say() {
    let mut world = World::up(with(&Phase::ALL));
    world.faults.vetoes = 1_000;
    world.kill("a");
    world.run(5);
    assert_eq!(world.standing(), "a recovering, b active");
    world.run_until("a standby, b active");
    let told: Vec<_> = calls(&world).iter().map(|call| call.phase).collect();
    let wanted = [Phase::AfterHandover, Phase::AfterStop, Phase::AfterStart, Phase::AfterRejoin];
    assert!(wanted.iter().all(|phase| told.contains(phase)), "{told:?}");
    assert!(!told.iter().any(|phase| phase.asks()), "{told:?}");
    assert!(
        world.said().contains("hook /bin/ask (after-handover) failed: exit status 1"),
        "{}",
        world.said()
    );
}

#[test]
fn an_operator_who_waits_for_hooks_waits_for_what_a_death_takes_too() {
    let mut world = World::up(with(&[Phase::BeforeHandover]));
    let request = world.rejuvenate();
    world.kill("a");
    world.run(600);
    assert!(world.unanswered.contains(&request));
    let said = world.said();
    assert!(said.contains("waits: rejuvenation 1 of a is under way: wait until it ends"), "{said}");
    world.run(60_000);
    assert!(world.report_of(request).is_clean(), "{}", world.said());
}

#[test]
fn a_veto_keeps_a_drained_backend_until_the_hook_agrees() {
    let mut world = World::up(with(&[Phase::BeforeStop]));
    world.faults.vetoes = 1_000;
    world.rejuvenate();
    world.run(5_000);
    assert_eq!((world.state("a"), world.machine("a").starts), (State::Drained, 1));
    let coordinator = &world.coordinator;
    let then = coordinator.after_cut(&name("a"));
    assert!(then.contains("once its hooks (before-stop) consent"), "{then}");
    let objections = coordinator.objections(world.now).join("\n");
    assert!(objections.starts_with("hooks (before-stop): a: "), "{objections}");
    world.faults.vetoes = 0;
    world.run_until("a standby, b active");
    assert!(!world.said().contains("although a hook"), "{}", world.said());
}

#[test]
fn a_veto_holds_no_longer_than_its_limit() {
    let mut world = World::up(with(&[Phase::BeforeStop]));
    world.faults.vetoes = 1_000;
    world.rejuvenate();
    world.run(9_000);
    assert_eq!(world.state("a"), State::Drained);
    world.run_until("a standby, b active");
    assert!(world.said().contains("a: stopped although a hook does not consent"), "{}", world.said());
}

#[test]
fn a_call_says_what_it_is_about() {
    let mut world = World::up(with(&[Phase::BeforeStop, Phase::AfterRejoin]));
    world.rejuvenate();
    world.run_until("a standby, b active");
    world.run(100);
    let [stop, rejoin] = &calls(&world)[..] else { panic!("{:?}", calls(&world)) };
    assert_eq!((stop.phase, stop.backend.as_str(), stop.cycle), (Phase::BeforeStop, "a", Some(1)));
    assert_eq!((&stop.reason, stop.states[&name("a")]), (&Some(Reason::Operator), State::Drained));
    assert_eq!((rejoin.phase, rejoin.backend.as_str(), rejoin.cycle), (Phase::AfterRejoin, "a", Some(1)));
    assert_eq!(rejoin.states[&name("a")], State::Standby);
    let document = serde_json::to_value(rejoin).unwrap();
    assert_eq!(document["phase"], "after-rejoin");
    assert_eq!(document["reason"]["code"], "operator");
}

#[test]
fn a_drained_backend_is_diagnosed_before_it_is_stopped() {
    let mut world = World::up(Policy { diagnosis_ms: Some(1_000), ..policy() });
    let request = world.rejuvenate();
    world.run_until("a drained, b active");
    world.run(DIAGNOSIS_MS - 100);
    assert_eq!((world.state("a"), world.machine("a").starts), (State::Drained, 1));
    world.run_until("a standby, b active");
    let report = world.report_of(request);
    let diagnosis = report.diagnosis.as_ref().expect("a diagnosis");
    assert_eq!((diagnosis.exit_status, diagnosis.last_lines.join(" ")), (Some(0), "dumped".to_owned()));
}

#[test]
fn a_diagnosis_that_never_ends_does_not_keep_the_backend() {
    let mut world = World::up(Policy { diagnosis_ms: Some(1_000), ..policy() });
    world.faults.lost_answers = 1_000;
    let request = world.rejuvenate();
    world.run(10_000);
    world.run_until("a standby, b active");
    let failure = world.report_of(request).diagnosis.as_ref().and_then(|diagnosis| diagnosis.failure.clone());
    assert_eq!(failure.as_deref(), Some("no answer in time"));
}

#[test]
fn a_backend_that_falls_silent_while_it_is_diagnosed_is_not_taken_for_dead() {
    let mut world = World::up(Policy { diagnosis_ms: Some(60_000), fall: 1, ..policy() });
    world.faults.lost_answers = 1_000;
    world.rejuvenate();
    world.run_until("a drained, b active");
    world.run(500);
    let life = world.life("a");
    (life.wedged, life.mute) = (true, true);
    world.run(20_000);
    assert_eq!(world.state("a"), State::Drained, "{}", world.said());
}
