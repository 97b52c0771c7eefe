//! Days full of faults: whatever fails whenever, the invariants hold after each step, and once the faults stop
//! everything is in order again.

mod several;

use std::collections::BTreeMap;
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};

use rand::Rng;
use serde::Serialize;

use super::world::{Faults, World};
use super::{name, policy};
use crate::check;
use crate::names::BackendName;
use crate::recovery::hook::Phase;
use crate::recovery::window::{DAILY, Window};
use crate::recovery::{Evidence, Policy, Rung, State, Step};

/// Days that every test run simulates, in as many tests as run at the same time.
const SEEDS: [Range<u64>; 2] = [0..1_000, 1_000..2_000];
/// Set to one seed to replay that day alone, or to `FIRST..LAST` to search further.
const SEED_VARIABLE: &str = "BATON_SEED";
/// Names the file that gets the figures of a search.
const FIGURES_VARIABLE: &str = "BATON_SIMULATION_FIGURES";
const DISTURBANCES: u32 = 120;
const HOUR_MS: u64 = 3_600_000;
/// 2026-03-30 00:00 UTC, the day after summer time has begun in Europe.
const MONDAY: u64 = 1_774_828_800_000;
/// Everything is in order again this long after the last fault.
const RECOVERY_MS: u64 = 300_000;

#[test]
fn whatever_fails_the_invariants_hold_and_the_service_recovers() {
    assert_eq!(simulate(seeds().unwrap_or(SEEDS[0].clone())).violations, 0);
}

#[test]
fn whatever_else_fails_the_invariants_hold_and_the_service_recovers() {
    assert_eq!(simulate(SEEDS[1].clone()).violations, 0);
}

#[test]
#[ignore = "searches as far as it is told to: cargo xtask simulate"]
fn no_seed_of_the_environment_breaks_an_invariant() {
    let seeds = seeds().expect("the seeds to simulate");
    let threads = std::thread::available_parallelism().map_or(1, |count| count.get() as u64);
    let share = (seeds.end - seeds.start).div_ceil(threads).max(1);
    let figures = std::thread::scope(|scope| {
        let starts = (seeds.start..seeds.end).step_by(share as usize);
        let parts: Vec<_> =
            starts.map(|start| scope.spawn(move || simulate(start..seeds.end.min(start + share)))).collect();
        parts.into_iter().map(|part| part.join().unwrap()).reduce(Figures::plus).unwrap_or_default()
    });
    if let Ok(path) = std::env::var(FIGURES_VARIABLE) {
        std::fs::write(path, serde_json::to_string(&figures).unwrap()).unwrap();
    }
    assert_eq!(figures.violations, 0);
}

#[test]
fn the_same_seed_is_the_same_day() {
    for seed in [5, 6] {
        assert_eq!(format!("{:?}", day(seed, false).orders), format!("{:?}", day(seed, false).orders));
    }
}

/// What a search has found.
#[derive(Clone, Copy, Debug, Default, Serialize)]
struct Figures {
    seeds: u64,
    steps: u64,
    violations: u64,
}

impl Figures {
    fn plus(self, other: Self) -> Self {
        Self {
            seeds: self.seeds + other.seeds,
            steps: self.steps + other.steps,
            violations: self.violations + other.violations,
        }
    }
}

/// Simulates these days, and says which of them fail.
fn simulate(seeds: Range<u64>) -> Figures {
    let traces = seeds.end - seeds.start == 1;
    let mut figures = Figures::default();
    for seed in seeds {
        figures.seeds += 1;
        if let Ok(steps) = catch_unwind(AssertUnwindSafe(|| steps_of(seed, traces))) {
            figures.steps += steps;
        } else {
            figures.violations += 1;
            eprintln!("seed {seed} fails; replay it with `cargo xtask simulate --seed {seed}`");
        }
    }
    figures
}

fn seeds() -> Option<Range<u64>> {
    let text = std::env::var(SEED_VARIABLE).ok()?;
    let number = |text: &str| text.parse().expect("a seed is a number");
    Some(match text.split_once("..") {
        Some((first, last)) => number(first)..number(last),
        None => number(&text)..number(&text) + 1,
    })
}

/// What each kind of day has: backends, and whether they are a pool.
const KINDS: [(&[&str], bool); 8] = [
    (&["a", "b"], false),
    (&["a", "b", "c"], true),
    (&["a", "b"], false),
    (&["a", "b", "c"], false),
    (&["a", "b", "c", "d"], true),
    (&["a", "b"], false),
    (&["a", "b", "c", "d", "e"], true),
    (&["a", "b", "c", "d", "e"], false),
];

/// Lives through a day; one of ten is that of several services.
fn steps_of(seed: u64, traces: bool) -> u64 {
    if seed % 10 == 9 { several::day(seed, traces) } else { day(seed, traces).steps }
}

fn day(seed: u64, traces: bool) -> World {
    let (names, spread) = KINDS[(seed % KINDS.len() as u64) as usize];
    let mut world = World::new(policy(), names, seed);
    let policy = Policy { spread, ..some_policy(&mut world) };
    // The same seed, from the start, under the policy that it chose.
    world = World::new(policy, names, seed);
    world.traces = traces;
    world.faults = some_faults(&mut world);
    world.clients_ask = seed.is_multiple_of(3);
    for _ in 0..DISTURBANCES {
        let ms = world.rng.random_range(0..1_500);
        world.run(ms);
        disturb(&mut world, names);
        if world.rng.random_range(0..100) == 0 {
            disturb_clocks(&mut [&mut world]);
        }
    }
    calm(&mut world, names);
    world.run(RECOVERY_MS);
    in_order(&world);
    world
}

fn one_of<T: Copy>(world: &mut World, of: &[T]) -> T {
    of[world.rng.random_range(0..of.len())]
}

fn some_policy(world: &mut World) -> Policy {
    Policy {
        drain_deadline_ms: one_of(world, &[0, 2_000, 20_000]),
        observation_ms: one_of(world, &[0, 3_000, 30_000]),
        settle_ms: one_of(world, &[0, 300]),
        ready_deadline_ms: one_of(world, &[1_500, 5_000]),
        retry_ms: one_of(world, &[50, 1_000]),
        cooldown_ms: one_of(world, &[0, 1_000]),
        rise: one_of(world, &[1, 2, 3]),
        fall: one_of(world, &[1, 3]),
        fall_window: one_of(world, &[None, None, Some(check::Window { failures: 3, checks: 10 })]),
        fall_ignored: one_of(world, &[1, 2]),
        ejection_step_ms: one_of(world, &[0, 1_000, 10_000]),
        ejection_most_ms: 60_000,
        ejection_forget_ms: one_of(world, &[5_000, 600_000]),
        active_least: one_of(world, &[1, 1, 2]),
        min_uptime_ms: one_of(world, &[0, 0, 10_000]),
        warm_up_requests: one_of(world, &[0, 0, 10]),
        warm_up_deadline_ms: 1_000,
        quarantine_after: one_of(world, &[0, 1, 3]),
        ladders: some_ladders(world),
        hooks: some_hooks(world),
        veto_retry_ms: one_of(world, &[500, 5_000]),
        veto_limit_ms: one_of(world, &[0, 3_000, 20_000]),
        diagnosis_ms: one_of(world, &[None, None, Some(1_000)]),
        windows: some_windows(world),
        ceiling_breaks_window: world.rng.random(),
        ..policy()
    }
}

/// Rules may do something at all times, or for a part of each day.
fn some_windows(world: &mut World) -> Vec<Window> {
    let zone = "Europe/Berlin".to_owned().try_into().unwrap();
    let window = Window { days: DAILY, start_minute: 22 * 60 + 30, length_ms: 4 * HOUR_MS, zone };
    one_of(world, &[false, false, true]).then_some(window).into_iter().collect()
}

/// Each backend has some of the steps.
fn some_ladders(world: &mut World) -> BTreeMap<BackendName, Vec<Rung>> {
    let rung = |step, evidence| Rung { step, evidence };
    let all = [
        rung(Step::Graceful, Evidence::Process),
        rung(Step::Restart, Evidence::Process),
        rung(Step::Reboot, Evidence::Boot),
        rung(Step::Recreate, Evidence::Commands),
    ];
    let names = ["a", "b", "c", "d", "e"].map(name);
    names.into_iter().map(|name| (name, all[..one_of(world, &[1, 2, 3, 4])].to_vec())).collect()
}

fn some_hooks(world: &mut World) -> BTreeMap<Phase, u64> {
    let asks = one_of(world, &[0, 0, 1, 2, 3]);
    let phases = Phase::ALL.into_iter().filter(|phase| match phase {
        Phase::BeforeHandover => asks & 1 != 0,
        Phase::BeforeStop => asks & 2 != 0,
        _ => asks == 3,
    });
    phases.map(|phase| (phase, 1_000)).collect()
}

fn some_faults(world: &mut World) -> Faults {
    Faults {
        start_fails: one_of(world, &[0, 100, 300]),
        stop_fails: one_of(world, &[0, 50]),
        check_flaps: one_of(world, &[0, 20, 200]),
        journal_fails: one_of(world, &[0, 10, 200]),
        crashes: one_of(world, &[0, 2, 10]),
        orders_lost: one_of(world, &[0, 0, 100]),
        samples_lost: one_of(world, &[0, 0, 300]),
        latency_ms: one_of(world, &[0, 20, 800]),
        warm_up_fails: one_of(world, &[0, 100, 500]),
        warm_up_lost: one_of(world, &[0, 100]),
        vetoes: one_of(world, &[0, 100, 500]),
        lost_answers: one_of(world, &[0, 0, 100]),
    }
}

fn disturb(world: &mut World, all: &[&str]) {
    let names: Vec<_> = all.iter().copied().filter(|text| world.machines.contains_key(&name(text))).collect();
    let who = one_of(world, &names);
    match world.rng.random_range(0..100) {
        0..8 => world.kill(who),
        8..9 => world.reboot(),
        9..14 => world.crash(),
        14..24 => {
            let by_reset = world.now.boot_ms.is_multiple_of(3);
            if let Some(life) = &mut world.machine(who).life {
                life.wedged = !life.wedged;
                life.resets = life.wedged && by_reset;
            }
        }
        24..38 => drop(world.rejuvenate()),
        38..44 => drop(world.rejuvenate_one(who)),
        44..64 => {
            // Only who gets new flows has more of them, and who drains, by a late packet of an old one.
            let takes = matches!(world.state(who), State::Active | State::Draining | State::Drained);
            if takes && world.machine(who).life.is_some() {
                let machine = world.machine(who);
                machine.flows += 2;
                machine.leases += u64::from(machine.flows.is_multiple_of(3));
            }
        }
        64..82 => {
            let machine = world.machine(who);
            machine.flows = machine.flows.saturating_sub(3);
            machine.leases = machine.leases.saturating_sub(1);
        }
        82..84 => world.journal_works = !world.journal_works,
        84..86 => {
            if let Some(life) = &mut world.machine(who).life {
                life.mute = !life.mute;
            }
        }
        86..88 => drop(world.drain(who)),
        88..90 => reload(world, all),
        90..92 => drop(world.ready(who)),
        92..93 => drop(world.pause()),
        93..95 => drop(world.resume_rules()),
        95..97 => {
            let on = world.rng.random();
            world.maintain(on);
        }
        _ => {
            if let Some(life) = &mut world.machine(who).life {
                life.memory += 250;
            }
        }
    }
}

/// Operators change their minds in the middle of whatever is under way: about what is no identity, everything; and
/// about who serves.
fn reload(world: &mut World, names: &[&str]) {
    let Policy { spread, asks, .. } = world.policy;
    let policy = Policy { spread, asks, ..some_policy(world) };
    if world.rng.random() {
        return world.change_policy(policy);
    }
    let is_there = |world: &World, text: &str| world.machines.contains_key(&name(text));
    let mut wanted: Vec<_> = names.iter().copied().filter(|text| is_there(world, text)).collect();
    let mut stay = wanted.clone();
    let who = one_of(world, names);
    match world.rng.random_range(0..6) {
        // One leaves, or comes back.
        0 | 1 if is_there(world, who) && wanted.len() > 2 => wanted.retain(|text| *text != who),
        0 | 1 if !is_there(world, who) => wanted.push(who),
        // Another one takes its place.
        2 => stay.retain(|text| *text != who),
        _ => {}
    }
    stay.retain(|text| wanted.contains(text));
    world.reload(&policy, &wanted, &stay);
}

/// The wall clock of a machine is set, or it sleeps for a while.
fn disturb_clocks(worlds: &mut [&mut World]) {
    let Some(first) = worlds.first_mut() else { return };
    let (sleeps, hours) = (first.rng.random(), first.rng.random_range(0..48));
    for world in worlds {
        if sleeps {
            world.sleep(hours * HOUR_MS);
        } else {
            world.set_clock(MONDAY + hours * HOUR_MS);
        }
    }
}

/// No fault from here on, and no reason for a rejuvenation.
fn calm(world: &mut World, names: &[&str]) {
    world.faults = Faults::default();
    world.journal_works = true;
    for machine in world.machines.values_mut() {
        (machine.flows, machine.leases) = (0, 0);
        if let Some(life) = &mut machine.life {
            (life.wedged, life.mute, life.resets, life.memory) = (false, false, false, 100);
        }
    }
    // Until the journal is known to work again, no word is taken.
    world.run(5_000);
    for text in names.iter().filter(|text| world.machines.contains_key(&name(text))).collect::<Vec<_>>() {
        world.ready(text);
    }
    world.resume_rules();
    world.maintain(false);
}

fn in_order(world: &World) {
    let states: Vec<State> = world.coordinator.states().map(|(_, state)| state).collect();
    let count = |wanted| states.iter().filter(|state| **state == wanted).count();
    let standing = world.standing();
    let active = if world.policy.spread { states.len() } else { 1 };
    assert_eq!((count(State::Active), count(State::Standby)), (active, states.len() - active), "{standing}");
    assert_eq!(world.coordinator.activity(world.now), None);
    assert_eq!(world.word.draining, None);
    assert!(world.unanswered.is_empty(), "unanswered: {:?}", world.unanswered);
    assert!(world.machines.values().all(|machine| machine.life.is_some()));
}
