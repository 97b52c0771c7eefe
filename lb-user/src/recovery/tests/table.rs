//! Every state against every kind of input: nothing panics, and what must always be so is so.

use std::collections::BTreeSet;

use super::world::World;
use super::{instance, name, policy, refused};
use crate::flow_counts::OpenFlows;
use crate::recovery::budget::Leave;
use crate::recovery::event::Event;
use crate::recovery::{CutFlow, Input, Output, Policy, State, Through, WarmUp};

/// A world whose `a` is in this state.
fn world_with(state: State) -> World {
    let mut world = World::up(policy());
    match state {
        State::Active => return world,
        State::Starting | State::Recovering => world.kill("a"),
        State::Failed => {
            world.machine("a").bad_starts = 9;
            world.kill("a");
        }
        State::Draining => {
            world.machine("a").flows = 1;
            world.rejuvenate();
        }
        State::Standby | State::Drained => {
            world.rejuvenate();
        }
        State::Maintenance => {
            world.drain("a");
        }
        State::Warming => {
            world = World::up(Policy { warm_up_requests: 10, ..policy() });
            world.rejuvenate();
        }
    }
    for _ in 0..1_000 {
        if world.state("a") == state {
            return world;
        }
        world.run(5);
    }
    panic!("a never is {state}");
}

fn inputs(world: &World) -> Vec<Input> {
    let backend = || name("a");
    let known = world.machines[&name("a")].life.as_ref().map_or(instance(1), |life| life.instance);
    let mut inputs = vec![
        Input::Tick,
        Input::StartFailed { backend: backend(), error: "no such file".into() },
        Input::Rejuvenate { request: 77, backend: None, in_window: false },
        Input::Maintenance { request: 77, on: true },
        Input::Maintenance { request: 77, on: false },
        Input::Leave(Leave::Granted),
        Input::Drain { request: 77, backend: backend() },
        Input::Drain { request: 77, backend: name("stranger") },
        Input::Ready { request: 77, backend: backend() },
        Input::Ready { request: 77, backend: name("stranger") },
        Input::Pause { request: 77 },
        Input::Resume { request: 77 },
        Input::Answered { backend: backend(), turns: 1 },
        Input::Answered { backend: name("stranger"), turns: 1 },
        Input::Cut,
        Input::Journal(Ok(())),
        Input::Journal(Err("no space left on device".into())),
        Input::Stopped { backend: backend(), cut: Vec::new() },
        Input::Stopped { backend: backend(), cut: vec![cut()] },
        Input::Flows { backend: backend(), open: OpenFlows::default(), leases: 0 },
        Input::Flows {
            backend: backend(),
            open: OpenFlows { half_open: 1, ..OpenFlows::default() },
            leases: 0,
        },
        Input::Flows { backend: name("stranger"), open: OpenFlows::default(), leases: 0 },
        Input::Stopped { backend: name("stranger"), cut: Vec::new() },
    ];
    for instance in [known, instance(2)] {
        inputs.extend([
            Input::Started { backend: backend(), instance },
            Input::Exited { backend: backend(), instance, status: "exit code 1".into() },
            Input::Checked { backend: backend(), instance, result: Ok(()) },
            Input::Checked { backend: backend(), instance, result: refused() },
            Input::WarmedUp { backend: backend(), instance, result: warm_up(10) },
            Input::WarmedUp { backend: backend(), instance, result: warm_up(0) },
            Input::Sampled { backend: backend(), instance, memory_rss_bytes: u64::MAX },
            Input::Started { backend: name("stranger"), instance },
        ]);
    }
    inputs
}

fn warm_up(ok: u64) -> WarmUp {
    WarmUp { through: Through::Direct, ok, failed: 10 - ok, took_ms: 5, first_failure: None }
}

fn cut() -> CutFlow {
    CutFlow {
        client: Some("10.0.0.1:1024".parse().unwrap()),
        state: "half-open".into(),
        idle_ms: 0,
        awaiting_response: true,
    }
}

#[test]
fn every_state_takes_every_input_over_and_over() {
    for state in State::ALL {
        let count = inputs(&world_with(state)).len();
        for at in 0..count {
            let mut world = world_with(state);
            let input = inputs(&world).swap_remove(at);
            for _ in 0..5 {
                let outputs = world.coordinator.step(world.now, input.clone());
                assert_in_order(&world, &outputs, &format!("{state}: {input:?}"));
                world.now = world.now.plus_ms(10);
            }
        }
    }
}

/// States and steering tell the same story, and no event says that nothing changed.
fn assert_in_order(world: &World, outputs: &[Output], what: &str) {
    let states = world.coordinator.states();
    let active: BTreeSet<_> =
        states.filter(|(_, state)| *state == State::Active).map(|(name, _)| name.clone()).collect();
    assert!(active.len() <= 1, "{what}: {active:?}");
    assert_eq!(world.coordinator.steering().active, active, "{what}");
    for output in outputs {
        let is_empty = matches!(output, Output::Event(Event::State { from, to, .. }) if from == to);
        assert!(!is_empty, "{what}: {output:?}");
    }
}

#[test]
fn an_input_that_a_state_does_not_expect_changes_nothing() {
    let started = || Input::Started { backend: name("a"), instance: instance(2) };
    let stopped = || Input::Stopped { backend: name("a"), cut: vec![cut()] };
    let start_failed = || Input::StartFailed { backend: name("a"), error: "late".into() };
    let exited = || Input::Exited { backend: name("a"), instance: instance(2), status: "late".into() };
    let unexpected = [
        (State::Active, vec![started(), stopped(), start_failed(), exited()]),
        (State::Standby, vec![started(), stopped(), start_failed(), exited()]),
        (State::Draining, vec![started(), stopped(), start_failed(), exited()]),
        (State::Drained, vec![started(), stopped(), start_failed(), exited()]),
        (State::Recovering, vec![started(), exited()]),
        (State::Failed, vec![started(), stopped(), start_failed(), exited()]),
        (State::Starting, vec![stopped(), exited()]),
        (State::Maintenance, vec![started(), stopped(), start_failed(), exited()]),
    ];
    for (state, inputs) in unexpected {
        for input in inputs {
            let mut world = world_with(state);
            let outputs = world.coordinator.step(world.now, input.clone());
            assert_eq!((outputs, world.state("a")), (Vec::new(), state), "{input:?}");
        }
    }
}
