//! Days of several services under one budget: whatever fails in whichever of them, no more is taken out on purpose
//! than the budget and the hosts allow, and once the faults stop everybody gets a turn.

use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

use super::super::services::Site;
use super::super::world::World;
use super::{calm, disturb, disturb_clocks, in_order, some_faults, some_policy};
use crate::recovery::Policy;
use crate::recovery::budget::Limits;
use crate::recovery::tests::policy;

const DISTURBANCES: u32 = 200;
/// Everything is in order again this long after the last fault, and everybody had a turn after as long again.
const RECOVERY_MS: u64 = 300_000;
const KINDS: [(&[&str], bool); 3] =
    [(&["a", "b"], false), (&["a", "b", "c"], true), (&["a", "b", "c"], false)];

/// Lives through a day; the steps of all coordinators.
pub(super) fn day(seed: u64, traces: bool) -> u64 {
    let mut rng = SmallRng::seed_from_u64(seed);
    let kinds: Vec<_> =
        (0..rng.random_range(2..=4)).map(|_| KINDS[rng.random_range(0..KINDS.len())]).collect();
    let worlds = kinds.iter().enumerate().map(|(number, (names, spread))| {
        let seed = seed * 10 + number as u64;
        let policy =
            Policy { spread: *spread, asks: true, ..some_policy(&mut World::new(policy(), names, seed)) };
        let mut world = World::new(policy, names, seed);
        world.traces = traces;
        world.faults = some_faults(&mut world);
        world
    });
    let mut site = Site::of(worlds.collect(), some_limits(&mut rng));
    for _ in 0..DISTURBANCES {
        site.run(rng.random_range(0..500));
        let whom = rng.random_range(0..kinds.len());
        match rng.random_range(0..100) {
            0..2 => site.crash(),
            2..3 => site.change_limits(some_limits(&mut rng)),
            3..4 => disturb_clocks(&mut site.worlds.iter_mut().collect::<Vec<_>>()),
            _ => disturb(&mut site.worlds[whom], kinds[whom].0),
        }
    }
    for (world, (names, _)) in site.worlds.iter_mut().zip(&kinds) {
        calm(world, names);
    }
    site.run(RECOVERY_MS);
    site.worlds.iter().for_each(in_order);
    everybody_gets_a_turn(&mut site);
    site.worlds.iter().map(|world| world.steps).sum()
}

fn some_limits(rng: &mut SmallRng) -> Limits {
    let per_host = [None, Some(1), Some(2)][rng.random_range(0..3)];
    Limits { rejuvenations: rng.random_range(1..=2), per_host }
}

/// All ask at the same time, and each is served.
fn everybody_gets_a_turn(site: &mut Site) {
    let requests: Vec<_> = site.worlds.iter_mut().map(World::rejuvenate).collect();
    site.run(RECOVERY_MS);
    for (world, request) in site.worlds.iter().zip(requests) {
        let answer = world.answers.get(&request).unwrap_or_else(|| {
            panic!("{} waits {:?}", world.standing(), world.coordinator.waits());
        });
        // A pool that needs all of its members can spare none.
        let may_refuse = world.policy.spread;
        assert!(answer.is_ok() || may_refuse, "{answer:?}");
    }
    assert_eq!(site.under_way(), 0);
    site.worlds.iter().for_each(in_order);
}
