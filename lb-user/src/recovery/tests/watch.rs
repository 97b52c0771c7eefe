//! The watchdog: failures among passes, clients who confirm a death, those who fail again and again, and rules that
//! only speak.

use super::world::World;
use super::{name, policy};
use crate::check::Window;
use crate::recovery::report::Reason;
use crate::recovery::{Finding, Input, Policy, ShadowRules, State};

/// Tells results of checks of `a`: `+` passed, `-` refused.
fn checks(world: &mut World, results: &str) {
    let instance = world.life("a").instance;
    for result in results.chars() {
        let result = if result == '+' { Ok(()) } else { Err(Finding::WrongAnswer("no".into())) };
        world.tell(&Input::Checked { backend: name("a"), instance, result });
    }
}

#[test]
fn failures_among_passes_count_if_a_window_is_wanted() {
    let often = "-+-++-+";
    let mut world = World::up(policy());
    checks(&mut world, often);
    assert_eq!(world.state("a"), State::Active);
    let window = Some(Window { failures: 3, checks: 10 });
    let mut world = World::up(Policy { fall_window: window, ..policy() });
    checks(&mut world, "-+-++");
    assert_eq!(world.state("a"), State::Active);
    checks(&mut world, "-");
    assert_eq!(world.standing(), "a draining, b active");
}

/// How long after its end without a word new flows go away from `a`, in milliseconds.
fn until_noticed(policy: Policy, clients_ask: bool) -> u64 {
    let mut world = World::up(policy);
    world.clients_ask = clients_ask;
    let life = world.life("a");
    (life.wedged, life.mute) = (true, true);
    let struck = world.now;
    world.run_until("a recovering, b active");
    world.now.ms_since(struck)
}

#[test]
fn clients_who_ask_in_vain_confirm_a_death_before_all_checks_have_failed() {
    let alone = until_noticed(policy(), false);
    let confirmed = until_noticed(policy(), true);
    assert!(confirmed + 1_000 <= alone, "{confirmed} ms and {alone} ms");
    assert_eq!(until_noticed(Policy { fall_ignored: 1_000, ..policy() }, true), alone);
}

/// Resets all checks of `a`, and its clients if they `meet` the same; true if it is taken out before enough of its
/// checks have failed.
fn is_taken_out_early(policy: Policy, meet: bool, answered: bool) -> bool {
    let mut world = World::up(Policy { fall: 100, ..policy });
    let instance = world.life("a").instance;
    for number in 0..3 {
        let (turns, resets) = (if answered { number } else { 0 }, if meet { number } else { 0 });
        world.tell(&Input::Answered { backend: name("a"), turns });
        world.tell(&Input::Asked { backend: name("a"), flows: 0, resets });
        world.tell(&Input::Checked { backend: name("a"), instance, result: Err(Finding::Reset) });
    }
    world.standing() == "a draining, b active"
}

#[test]
fn clients_who_are_reset_as_the_checks_are_confirm_that_a_backend_is_unfit() {
    assert!(is_taken_out_early(policy(), true, false));
    assert!(!is_taken_out_early(policy(), false, false), "nobody was reset");
    assert!(!is_taken_out_early(policy(), true, true), "clients are answered");
    assert!(!is_taken_out_early(Policy { fall_ignored: 1_000, ..policy() }, true, false));
}

#[test]
fn a_backend_that_resets_everybody_is_suspect_and_finishes_what_it_has() {
    let mut world = World::up(policy());
    let life = world.life("a");
    (life.resets, life.mute) = (true, true);
    world.machine("a").flows = 1;
    let struck = world.now;
    world.run_until("a draining, b active");
    assert!(world.now.ms_since(struck) < 2 * policy().check_period_ms + 500, "{}", world.said());
}

#[test]
fn clients_who_are_answered_confirm_nothing() {
    let mut world = World::up(Policy { fall: 100, ..policy() });
    world.clients_ask = true;
    world.life("a").wedged = true;
    world.run(10_000);
    assert_eq!(world.state("a"), State::Active);
}

/// Fails all checks of a member of a pool until it is out, and lets it come back; how long that takes from its
/// return to its checks.
fn ejected_for(world: &mut World, one: &str) -> u64 {
    world.life(one).wedged = true;
    for _ in 0..1_000 {
        if world.machine(one).starts > 1 && world.state(one) == State::Starting {
            break;
        }
        world.run(10);
    }
    let before = world.now;
    world.run_until("a active, b active, c active");
    world.machine(one).starts = 1;
    world.now.ms_since(before)
}

#[test]
fn who_fails_again_and_again_stays_out_for_longer_each_time_until_that_is_forgotten() {
    let policy = Policy { ejection_step_ms: 20_000, ejection_most_ms: 50_000, ..policy() };
    let mut world = World::pool(&policy, &["a", "b", "c"]);
    let waits: Vec<_> = (0..4).map(|_| ejected_for(&mut world, "b") / 10_000).collect();
    assert!(waits[0] == 0 && waits.is_sorted() && waits[1] >= 1 && waits[2] >= 3, "{waits:?}");
    assert!(waits[3] < 5, "{waits:?}");
    assert!(
        world.said().contains("b: failed its checks 3 times lately, stays out for 40.0 s"),
        "{}",
        world.said()
    );
    assert!(world.reports.iter().all(|report| report.duration_ms < 20_000), "a report waits for nothing");
    world.run(4 * policy.ejection_forget_ms);
    assert!(ejected_for(&mut world, "b") < 10_000);
}

#[test]
fn who_stays_out_comes_back_when_it_is_needed() {
    let policy = Policy { ejection_step_ms: 200_000, active_least: 2, ..policy() };
    let mut world = World::pool(&policy, &["a", "b", "c"]);
    ejected_for(&mut world, "b");
    world.life("b").wedged = true;
    world.run(20_000);
    assert_eq!(world.standing(), "a active, b starting, c active");
    world.machine("a").bad_starts = 1_000;
    world.kill("a");
    world.run(1_000);
    assert_eq!(world.active(), "b c", "{}", world.said());
}

#[test]
fn a_rule_hands_over_to_nobody_who_stays_out_and_a_failure_does() {
    let mut world = World::up(Policy { ejection_step_ms: 200_000, ..policy() });
    for _ in 0..2 {
        world.life("b").wedged = true;
        world.run_until("a active, b failed");
        world.run_until("a active, b standby");
    }
    world.life("a").memory = 600;
    world.run(20_000);
    assert_eq!(world.standing(), "a active, b standby");
    assert!(world.said().contains("b has failed its checks again and again"), "{}", world.said());
    world.kill("a");
    world.run(1_000);
    assert_eq!(world.active(), "b");
}

#[test]
fn a_check_in_shadow_speaks_and_takes_nobody_out() {
    for spread in [false, true] {
        let policy = Policy { spread, shadow: ShadowRules { checks: true, ceiling: false }, ..policy() };
        let mut world = World::new(policy, &["a", "b", "c"], 1);
        world.run(5_000);
        let before = (world.standing(), world.active());
        for _ in 0..2 {
            let life = world.life("a");
            (life.wedged, life.mute) = (true, true);
            world.run(20_000);
            let life = world.life("a");
            (life.wedged, life.mute) = (false, false);
            world.run(5_000);
        }
        assert_eq!((world.standing(), world.active()), before);
        let said = world.said();
        assert_eq!(
            said.matches("a: would be taken out (no answer in time), and is not").count(),
            2,
            "{said}"
        );
        let standing = world.coordinator.standing(&name("a"), world.now).unwrap();
        assert_eq!((standing.shadow_ejections, standing.ejections), (2, 0));
        // Death of a process is no matter of checks.
        world.kill("a");
        world.run(500);
        assert!(!world.active().contains('a'), "{}", world.standing());
    }
}

#[test]
fn a_ceiling_in_shadow_speaks_and_renews_nobody() {
    for spread in [false, true] {
        let mut world = World::new(
            Policy { spread, shadow: ShadowRules { checks: false, ceiling: true }, ..policy() },
            &["a", "b"],
            1,
        );
        world.run(5_000);
        let one = world.word.active.first().unwrap().clone();
        world.life(one.as_str()).memory = 600;
        world.run(60_000);
        assert_eq!(world.journal, []);
        assert_eq!(world.said().matches("would be renewed").count(), 1, "{}", world.said());
        assert_eq!(world.coordinator.standing(&one, world.now).unwrap().shadow_rejuvenations, 1);
        // An operator's word is no rule.
        let request = world.rejuvenate_one(one.as_str());
        world.run(20_000);
        assert_eq!(world.report_of(request).reason, Reason::Operator);
    }
}
