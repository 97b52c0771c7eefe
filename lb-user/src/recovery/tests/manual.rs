//! Backends that only their operator can restart.

use super::world::World;
use super::{name, policy};
use crate::recovery::Policy;

#[test]
fn whom_only_their_operator_can_restart_no_rule_takes_out_and_no_report_boasts_of() {
    let ladders = ["a", "b"].map(|text| (name(text), Vec::new())).into();
    let manual = Policy { ladders, max_age_ms: Some(10_000), ..policy() };
    let mut world = World::up(manual.clone());
    world.life("a").memory = 900;
    world.run(60_000);
    assert!(world.reports.is_empty() && !world.said().contains("handover"), "{}", world.said());
    let request = world.rejuvenate();
    assert!(world.answers[&request].as_ref().unwrap_err().contains("driver `manual`"));
    world.life("a").wedged = true;
    world.run_until("a standby, b active");
    assert_eq!(world.reports.last().unwrap().steps, []);
}

#[test]
fn of_a_pool_the_oldest_is_renewed_that_can_be() {
    let ladders = [(name("a"), Vec::new())].into();
    let mut world = World::pool(&Policy { ladders, ..policy() }, &["a", "b", "c"]);
    for _ in 0..4 {
        let request = world.rejuvenate();
        world.run(10_000);
        assert!(world.report_of(request).is_clean());
    }
    let starts = ["a", "b", "c"].map(|name| world.machine(name).starts);
    assert_eq!(starts, [1, 3, 3], "they take turns");
}
