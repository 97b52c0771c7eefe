//! What each policy promises, on simulated flows.

extern crate std;

use core::cell::{Cell, RefCell};
use std::vec::Vec;
use std::{format, vec};

use proptest::prelude::*;

use super::fill::mix;
use super::*;
use crate::endpoint::Endpoint;
use crate::steer::{NO_BACKEND, Steer};

/// The packet path's part: a new client for each choice, and the flows that are open.
struct Bench {
    pool: Pool,
    choices: Cell<u32>,
    open: RefCell<Vec<u32>>,
    asked: Cell<u32>,
}

impl Bench {
    fn new(policy: Policy, candidates: &[Candidate]) -> Self {
        let mut pool = Pool::EMPTY;
        pool.fill(policy, candidates).unwrap();
        let open = RefCell::new(vec![0; BACKENDS_MAX as usize]);
        Self { pool, choices: Cell::new(0), open, asked: Cell::new(0) }
    }

    fn choose(&self) -> Option<BackendId> {
        let chosen = choose(&self.pool, self);
        self.choices.set(self.choices.get().wrapping_add(1));
        chosen
    }

    /// A flow that stays.
    fn open(&self) -> Option<BackendId> {
        let chosen = self.choose();
        if let Some(backend) = chosen {
            self.open.borrow_mut()[backend as usize] += 1;
        }
        chosen
    }

    fn close(&self, backend: BackendId) {
        self.open.borrow_mut()[backend as usize] -= 1;
    }

    fn opened(&self, backends: core::ops::RangeInclusive<BackendId>) -> Vec<u32> {
        backends.map(|backend| self.open.borrow()[backend as usize]).collect()
    }
}

impl Circumstances for Bench {
    fn turn(&self) -> u32 {
        self.choices.get()
    }
    fn address_hash(&self) -> u32 {
        mix(u64::from(self.choices.get()) / 10) as u32
    }
    fn flow_hash(&self) -> u32 {
        mix(u64::from(self.choices.get())) as u32
    }
    fn random(&self) -> u64 {
        mix(u64::from(self.choices.get()) ^ 0x5eed << 32)
    }
    fn open_flows(&self, backend: BackendId) -> u32 {
        self.asked.set(self.asked.get() + 1);
        self.open.borrow()[backend as usize]
    }
}

/// Candidates with the ids 1, 2, 3, … and these weights, without limits.
fn weighing(weights: &[u16]) -> Vec<Candidate> {
    let ids = 1..=weights.len() as u16;
    ids.zip(weights)
        .map(|(backend, weight)| Candidate {
            backend,
            weight: *weight,
            limit: 0,
            identity: u64::from(backend),
        })
        .collect()
}

fn with_pool() -> impl Iterator<Item = Policy> {
    Policy::ALL.into_iter().filter(|policy| policy.has_pool())
}

fn any_pool_policy() -> impl Strategy<Value = Policy> {
    proptest::sample::select(with_pool().collect::<Vec<_>>())
}

#[test]
fn an_empty_pool_and_memory_without_a_pool_name_nobody() {
    for policy in Policy::ALL {
        assert_eq!(Bench::new(policy, &[]).choose(), None);
        assert_eq!(Bench::new(policy, &weighing(&[0, 0])).choose(), None);
    }
    let mut bench = Bench::new(Policy::Rr, &weighing(&[1]));
    bench.pool.policy = 77;
    assert_eq!(bench.choose(), None);
    bench.pool = Pool::EMPTY;
    assert_eq!(bench.choose(), None);
}

#[test]
fn a_single_member_gets_everything() {
    for policy in with_pool() {
        let bench = Bench::new(policy, &weighing(&[7]));
        assert!((0..10).all(|_| bench.open() == Some(1)), "{}", policy.name());
    }
}

#[test]
fn a_member_without_weight_gets_nothing() {
    for policy in with_pool() {
        let bench = Bench::new(policy, &weighing(&[1, 0, 2]));
        (0..1000).for_each(|_| assert!(bench.open().is_some()));
        assert_eq!(bench.opened(2..=2), [0], "{}", policy.name());
    }
}

#[test]
fn round_robin_takes_turns_whatever_the_weights() {
    let bench = Bench::new(Policy::Rr, &weighing(&[9, 1, 5]));
    let order: Vec<_> = (0..6).map(|_| bench.open()).collect();
    assert_eq!(order, [1, 2, 3, 1, 2, 3].map(Some));
}

#[test]
fn weighted_round_robin_mixes_a_heavy_member_with_light_ones() {
    // The example of nginx, where this order comes from.
    let bench = Bench::new(Policy::Wrr, &weighing(&[5, 1, 1]));
    let order: Vec<_> = (0..7).map(|_| bench.open()).collect();
    assert_eq!(order, [1, 1, 2, 1, 3, 1, 1].map(Some));
}

#[test]
fn least_connections_levels_what_is_open_and_ignores_weights() {
    let bench = Bench::new(Policy::Lc, &weighing(&[9, 1, 5]));
    bench.open.borrow_mut()[2] = 50;
    (0..100).for_each(|_| assert!(bench.open().is_some()));
    assert_eq!(bench.opened(1..=3), [50, 50, 50]);
}

#[test]
fn weighted_least_connections_levels_what_is_open_by_weight() {
    let bench = Bench::new(Policy::Wlc, &weighing(&[1, 2, 5]));
    bench.open.borrow_mut()[3] = 300;
    (0..500).for_each(|_| assert!(bench.open().is_some()));
    assert_eq!(bench.opened(1..=3), [100, 200, 500]);
}

#[test]
fn least_connections_shares_out_flows_that_end_at_once() {
    for (policy, expected) in [(Policy::Lc, [80, 80, 80]), (Policy::Wlc, [30, 60, 150])] {
        let bench = Bench::new(policy, &weighing(&[1, 2, 5]));
        let mut counts = [0; 3];
        (0..240).for_each(|_| counts[bench.choose().unwrap() as usize - 1] += 1);
        assert_eq!(counts, expected, "{}", policy.name());
    }
}

#[test]
fn source_hashing_keeps_an_address_and_maglev_a_flow() {
    let sh = Bench::new(Policy::Sh, &weighing(&[1, 2, 3, 4]));
    let of_clients: Vec<Vec<_>> = (0..100).map(|_| (0..10).map(|_| sh.open()).collect()).collect();
    assert!(of_clients.iter().all(|flows| flows.iter().all(|backend| *backend == flows[0])));
    let maglev = Bench::new(Policy::Maglev, &weighing(&[1, 2, 3, 4]));
    let first: Vec<_> = (0..1000).map(|_| maglev.open()).collect();
    maglev.choices.set(0);
    let again: Vec<_> = (0..1000).map(|_| maglev.open()).collect();
    assert_eq!(first, again);
    assert!(first.chunks(10).any(|client| client.iter().any(|backend| *backend != client[0])));
}

#[test]
fn clients_of_a_full_member_keep_to_another_one() {
    let mut candidates = weighing(&[1, 2, 3, 4]);
    candidates[3].limit = 1;
    let bench = Bench::new(Policy::Sh, &candidates);
    bench.open.borrow_mut()[4] = 1;
    let of_clients: Vec<Vec<_>> = (0..500).map(|_| (0..10).map(|_| bench.open()).collect()).collect();
    let restless = of_clients.iter().filter(|flows| flows.iter().any(|backend| *backend != flows[0])).count();
    // Four slots in a row are the full member's for 2.6 % of the clients; those go where there is least to do.
    assert!(restless < 25, "{restless}");
}

#[test]
fn hashing_follows_weights() {
    let bench = Bench::new(Policy::Maglev, &weighing(&[1, 2, 3, 4]));
    (0..100_000).for_each(|_| assert!(bench.open().is_some()));
    for (opened, tenth) in bench.opened(1..=4).into_iter().zip(1..) {
        assert!(opened.abs_diff(tenth * 10_000) < 500, "{opened}");
    }
}

#[test]
fn failover_goes_by_weight_from_one_limit_to_the_next() {
    let mut candidates = weighing(&[3, 9, 5]);
    for one in &mut candidates {
        one.limit = 2;
    }
    let bench = Bench::new(Policy::Fo, &candidates);
    let order: Vec<_> = (0..7).map(|_| bench.open()).collect();
    assert_eq!(order, [Some(2), Some(2), Some(3), Some(3), Some(1), Some(1), None]);
    bench.close(3);
    assert_eq!(bench.open(), Some(3));
}

#[test]
fn two_choices_level_loads_that_one_choice_leaves_uneven() {
    // Flows stay open for as long as 1600 later ones come: 100 for each member on average.
    let spread = |policy| {
        let bench = Bench::new(policy, &weighing(&[1; 16]));
        let mut alive = std::collections::VecDeque::new();
        let mut worst = 0;
        for _ in 0..50_000 {
            alive.push_back(bench.open().unwrap());
            if alive.len() > 1600 {
                bench.close(alive.pop_front().unwrap());
                worst = worst.max(*bench.opened(1..=16).iter().max().unwrap());
            }
        }
        worst
    };
    // One random choice goes to 137 flows, two to 104.
    let (one, two) = (spread(Policy::Maglev), spread(Policy::Random2));
    assert!(one > 130 && two < 107, "{one} {two}");
}

#[test]
fn two_choices_level_loads_by_weight() {
    let bench = Bench::new(Policy::Random2, &weighing(&[1, 2, 5]));
    bench.open.borrow_mut()[1] = 70;
    (0..7930).for_each(|_| assert!(bench.open().is_some()));
    for (opened, weight) in bench.opened(1..=3).into_iter().zip([1, 2, 5]) {
        assert!(opened.abs_diff(weight * 1000) < 20, "{opened}");
    }
}

#[test]
fn what_a_full_member_cannot_take_is_spread_over_all_others() {
    for policy in [Policy::Rr, Policy::Wrr, Policy::Sh, Policy::Maglev] {
        let mut candidates = weighing(&[10; 6]);
        candidates[0].limit = 1;
        let bench = Bench::new(policy, &candidates);
        (0..60_001).for_each(|_| assert!(bench.open().is_some()));
        let opened = bench.opened(1..=6);
        assert_eq!(opened[0], 1);
        // 10,000 of their own and a fifth of the full member's.
        let bounds = if policy == Policy::Sh { 11_000..13_000 } else { 11_700..12_300 };
        assert!(opened[1..].iter().all(|count| bounds.contains(count)), "{} {opened:?}", policy.name());
    }
}

#[test]
fn nobody_is_asked_for_flows_that_do_not_matter() {
    for policy in with_pool() {
        let bench = Bench::new(policy, &weighing(&[1, 2, 3]));
        (0..100).for_each(|_| assert!(bench.open().is_some()));
        assert_eq!(bench.asked.get() != 0, policy.needs_loads(), "{}", policy.name());
    }
}

#[test]
fn misfits_are_named_and_leave_the_pool_as_it_was() {
    let bench = Bench::new(Policy::Rr, &weighing(&[1, 1]));
    let mut pool = bench.pool;
    let one = weighing(&[1])[0];
    let cases = [
        (vec![one; 2], Unfit::BackendTwice(1), "backend id 1 is in the pool twice"),
        (
            vec![Candidate { backend: 1024, ..one }],
            Unfit::BackendOutOfRange(1024),
            "backend id 1024 is not between 1 and 1023",
        ),
        (
            vec![Candidate { backend: NO_BACKEND, ..one }],
            Unfit::BackendOutOfRange(0),
            "backend id 0 is not between 1 and 1023",
        ),
        (weighing(&[1; 65]), Unfit::TooMany, "a pool holds at most 64 backends with weight"),
    ];
    for (candidates, unfit, message) in cases {
        assert_eq!(pool.fill(Policy::Wrr, &candidates), Err(unfit));
        assert_eq!(format!("{unfit}"), message);
    }
    assert!(pool == bench.pool);
    let mut many = weighing(&[1; 65]);
    many[20].weight = 0;
    assert_eq!(pool.fill(Policy::Wrr, &many), Ok(()));
    assert_eq!(pool.members().len(), MEMBERS_MAX);
}

#[test]
fn a_steering_word_leads_to_either_pool_or_to_a_backend() {
    for buffer in 0..2 {
        let word = Steer { active: steering_to(buffer), draining: 3, epoch: 9 }.to_word();
        assert_eq!(steered_to(Steer::from_word(word).active), Some(buffer));
    }
    assert!((0..BACKENDS_MAX as BackendId).all(|backend| steered_to(backend).is_none()));
    let mut places: Vec<_> =
        (0..SERVICES_MAX as ServiceId).flat_map(|id| [place(id, 0), place(id, 1)]).collect();
    places.dedup();
    assert_eq!(places, (0..POOLS_MAX).collect::<Vec<_>>());
}

#[test]
fn identities_differ_by_address_port_and_protocol() {
    let socket = |text: &str| text.parse().unwrap();
    let identities = [
        identity_of(&Endpoint::tcp(socket("10.77.128.2:80"))),
        identity_of(&Endpoint::tcp(socket("10.77.128.3:80"))),
        identity_of(&Endpoint::tcp(socket("10.77.128.2:81"))),
        identity_of(&Endpoint::new(socket("10.77.128.2:80"), crate::endpoint::UDP)),
        identity_of(&Endpoint::tcp(socket("[fd77::2]:80"))),
    ];
    for (index, identity) in identities.iter().enumerate() {
        assert!(!identities[..index].contains(identity));
    }
    // Other balancers lead the same flows to the same backends: this value may never change.
    assert_eq!(identities[0], 17_295_700_709_395_922_268);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn a_turn_is_taken_modulo_the_period(turn: u32, period in 1..=SLOTS as u32) {
        let mut pool = Pool::EMPTY;
        pool.set_period(period);
        for (position, slot) in pool.table.iter_mut().enumerate() {
            *slot = Slot(position as u16);
        }
        for turn in [turn, 0, period - 1, period, u32::MAX, u32::MAX / period * period] {
            prop_assert_eq!(u32::from(pool.slot_by_turn(turn).0), turn % period);
            prop_assert!(u32::from(pool.slot_by_hash(turn).0) < period);
        }
    }

    /// Flows come and go; whoever has room is used to the last place, and nobody beyond it.
    #[test]
    fn limits_are_reached_and_never_exceeded(
        policy in any_pool_policy(),
        members in proptest::collection::vec((1..=1000u16, 1..20u32), 1..=MEMBERS_MAX),
        seed: u64,
    ) {
        let mut candidates = weighing(&members.iter().map(|(weight, _)| *weight).collect::<Vec<_>>());
        candidates.iter_mut().zip(&members).for_each(|(one, (_, limit))| one.limit = *limit);
        let room: u32 = members.iter().map(|(_, limit)| limit).sum();
        let bench = Bench::new(policy, &candidates);
        let mut alive = Vec::new();
        for step in 0..u64::from(room) * 4 {
            let chosen = bench.open();
            prop_assert_eq!(chosen.is_some(), (alive.len() as u32) < room);
            alive.extend(chosen);
            for one in &candidates {
                prop_assert!(bench.opened(one.backend..=one.backend)[0] <= one.limit);
            }
            let number = mix(seed ^ step) as usize;
            if number.is_multiple_of(4) {
                bench.close(alive.swap_remove(number / 4 % alive.len()));
            }
        }
    }

    #[test]
    fn the_order_in_which_members_are_named_does_not_matter(
        policy in any_pool_policy(),
        weights in proptest::collection::vec(0..100u16, 1..=MEMBERS_MAX),
        seed: u64,
    ) {
        let mut candidates = weighing(&weights);
        for one in &mut candidates {
            one.identity = mix(one.identity ^ seed);
        }
        let pool = Bench::new(policy, &candidates).pool;
        candidates.sort_by_key(|one| mix(one.identity));
        prop_assert!(pool == Bench::new(policy, &candidates).pool);
    }
}
