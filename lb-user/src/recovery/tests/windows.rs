//! Windows, ages and jitter, on a wall clock that may be set and that summer time moves.

use rand::Rng;

use super::world::World;
use super::{name, policy};
use crate::recovery::event::Event;
use crate::recovery::report::Reason;
use crate::recovery::window::{DAILY, Window};
use crate::recovery::{Jitter, Output, Policy};

const HOUR_MS: u64 = 3_600_000;
/// 2026-03-29 00:00 UTC, an hour before clocks go forward in Berlin.
const SPRING: u64 = 1_774_742_400_000;
/// 2026-10-25 00:00 UTC, an hour before clocks go back in Berlin.
const AUTUMN: u64 = 1_792_886_400_000;

/// From 02:30 for an hour, which in Berlin is not there in spring and comes twice in autumn.
fn nightly() -> Policy {
    let zone = "Europe/Berlin".to_owned().try_into().unwrap();
    let window = Window { days: DAILY, start_minute: 150, length_ms: HOUR_MS, zone };
    Policy { windows: vec![window], ceiling_breaks_window: false, ..policy() }
}

fn up_at(policy: Policy, unix_ms: u64) -> World {
    let mut world = World::up(policy);
    world.set_clock(unix_ms);
    world
}

/// How long it takes until a rule rejuvenates, in minutes of the wall clock.
fn minutes_until_handover(world: &mut World) -> u64 {
    let begun = world.now.unix_ms;
    for _ in 0..3_000 {
        if world.said().contains("handover") {
            return (world.now.unix_ms - begun) / 60_000;
        }
        world.run(60_000);
    }
    panic!("no handover: {}", world.said());
}

#[test]
fn a_rule_waits_for_its_window_also_when_clocks_change() {
    // What aged at midnight UTC waits until 01:30 UTC in spring, and until 00:30 UTC in autumn.
    for (midnight, minutes) in [(SPRING, 90), (AUTUMN, 30)] {
        let mut world = up_at(nightly(), midnight);
        world.life("a").memory = 900;
        world.run(5_000);
        assert!(world.said().contains("waits: for the next window, Sun 2026-"), "{}", world.said());
        let waited = minutes_until_handover(&mut world);
        assert!((minutes - 1..=minutes + 1).contains(&waited), "{waited} and not {minutes}");
        assert_eq!(world.said().matches("waits").count(), 1, "it is said once: {}", world.said());
    }
}

#[test]
fn a_ceiling_may_break_a_window_and_an_operator_does_unless_told_otherwise() {
    let mut world = up_at(Policy { ceiling_breaks_window: true, ..nightly() }, SPRING);
    world.life("a").memory = 900;
    world.run(5_000);
    assert!(world.said().contains("handover 1"));
    let mut world = up_at(nightly(), SPRING);
    let patient = world.rejuvenate_in_window();
    world.run(5_000);
    assert!(world.unanswered.contains(&patient), "it waits");
    assert!(world.coordinator.waits().unwrap().contains("window"));
    let second = world.rejuvenate();
    assert!(world.answers[&second].as_ref().unwrap_err().contains("waits already"));
    world.run(2 * HOUR_MS);
    assert!(world.report_of(patient).is_clean());
    let at_once = world.rejuvenate();
    world.run(10_000);
    assert!(world.report_of(at_once).is_clean());
}

#[test]
fn a_wall_clock_that_is_set_opens_and_closes_windows() {
    let mut world = up_at(nightly(), SPRING);
    world.life("a").memory = 900;
    world.run(5_000);
    world.set_clock(SPRING + 100 * 60_000);
    world.run(5_000);
    assert!(world.said().contains("handover 1"));
    world.run_until("a standby, b active");
    world.set_clock(SPRING);
    world.life("b").memory = 900;
    world.run(60_000);
    assert!(!world.said().contains("handover 2"), "{}", world.said());
}

#[test]
fn a_life_of_its_age_is_renewed_and_the_report_says_so() {
    let policy = Policy { max_age_ms: Some(HOUR_MS), jitter: Jitter::Percent(10), ..policy() };
    let mut world = World::up(policy.clone());
    world.run(HOUR_MS * 9 / 10 - 60_000);
    assert!(world.reports.is_empty(), "too early");
    world.run(10 * 60_000);
    let report = world.reports.first().expect("a report");
    let Reason::Age { age_ms, limit_ms } = report.reason else { panic!("{:?}", report.reason) };
    assert!(age_ms >= limit_ms && (HOUR_MS * 9 / 10..=HOUR_MS).contains(&limit_ms), "{age_ms} {limit_ms}");
    let text = serde_json::to_value(&report.reason).unwrap();
    assert_eq!(text["code"], "age");
    // Whoever is too young for it is left alone.
    let mut world = World::up(Policy { min_uptime_ms: 2 * HOUR_MS, ..policy });
    world.run(HOUR_MS + 60_000);
    assert!(world.reports.is_empty());
}

#[test]
fn a_rejuvenation_outside_its_window_is_caught() {
    let mut world = up_at(nightly(), SPRING);
    let handover =
        |reason| Output::Event(Event::Handover { cycle: 1, from: name("a"), to: Some(name("b")), reason });
    let age = || Reason::Age { age_ms: 2, limit_ms: 1 };
    let said = world.carry_out(vec![handover(age())]).unwrap_err();
    assert_eq!(said, "a is rejuvenated by a rule outside its window");
    world.carry_out(vec![handover(Reason::Operator)]).unwrap();
    world.set_clock(SPRING + 100 * 60_000);
    world.carry_out(vec![handover(age())]).unwrap();
}

#[test]
fn whatever_the_wall_clock_does_no_rule_rejuvenates_outside_a_window() {
    for seed in 0..6 {
        let policy = Policy { max_age_ms: Some(HOUR_MS / 2), jitter: Jitter::Percent(50), ..nightly() };
        let mut world = up_at(policy, if seed % 2 == 0 { SPRING } else { AUTUMN });
        for _ in 0..25 {
            let minutes = world.rng.random_range(0..10);
            world.run(minutes * 60_000);
            match world.rng.random_range(0..6) {
                0 => {
                    let base = if seed % 2 == 0 { SPRING } else { AUTUMN };
                    let minutes: u64 = world.rng.random_range(0..48 * 60);
                    world.set_clock(base + minutes * 60_000);
                }
                1 => world.crash(),
                2 => drop(world.rejuvenate_in_window()),
                _ => {
                    if let Some(life) = &mut world.machine("a").life {
                        life.memory = 900;
                    }
                }
            }
        }
    }
}

#[test]
fn what_an_operator_asked_for_waits_for_whatever_comes_in_between() {
    let mut world = up_at(nightly(), SPRING);
    let patient = world.rejuvenate_in_window();
    world.run(5_000);
    world.machine("b").bad_starts = 3;
    world.kill("b");
    world.run(500);
    assert!(world.coordinator.waits().unwrap().contains("no standby is ready"));
    assert!(world.unanswered.contains(&patient), "{:?}", world.answers.get(&patient));
    world.run(2 * HOUR_MS);
    assert!(world.report_of(patient).is_clean());
}

#[test]
fn what_an_operator_asked_for_and_is_not_going_to_begin_is_not_forgotten_in_silence() {
    let mut world = up_at(nightly(), SPRING);
    let patient = world.rejuvenate_in_window();
    world.run(5_000);
    world.maintain(true);
    assert!(world.answers[&patient].is_err());
    assert!(world.said().contains("is not going to begin: the service went into maintenance"));
    // Who is refused at once hears it, and nobody else has to.
    let mut world = up_at(nightly(), SPRING);
    let refused = world.rejuvenate_one("nobody");
    assert!(world.answers[&refused].is_err());
    assert!(!world.said().contains("is not going to begin"));
}

#[test]
fn rules_do_not_wait_for_an_operator_who_waits_for_a_window() {
    let mut world = up_at(Policy { ceiling_breaks_window: true, ..nightly() }, SPRING);
    let patient = world.rejuvenate_in_window();
    world.run(5_000);
    world.life("a").memory = 900;
    world.run_until("a standby, b active");
    assert!(matches!(world.reports[0].reason, Reason::Ceiling { .. }), "{:?}", world.reports);
    assert!(world.unanswered.contains(&patient));
    world.run(2 * HOUR_MS);
    assert_eq!(world.report_of(patient).reason, Reason::Operator);
    let said = world.said();
    assert_eq!(
        said.matches("waits: for the next window").count(),
        2,
        "before the other one and after it: {said}"
    );
}

#[test]
fn what_an_operator_asked_for_does_not_wait_for_backends_that_are_not_there() {
    let policy = Policy { spread: true, active_least: 2, ..nightly() };
    let mut world = World::pool(&policy, &["a", "b", "c"]);
    world.set_clock(SPRING);
    let patient = world.rejuvenate_in_window();
    world.run(1_000);
    assert!(world.unanswered.contains(&patient));
    world.reload(&policy, &["a", "b"], &["a", "b"]);
    world.run(1_000);
    assert!(world.answers[&patient].as_ref().unwrap_err().contains("2 have to be"), "{}", world.said());
}
