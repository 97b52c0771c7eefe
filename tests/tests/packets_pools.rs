//! Pools of more than two backends: which one a new flow gets, and whose flows stay where they are.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};

use baton::dataplane::FlowTimeouts;
use baton_tests::bench::{Bench, HOP_A, SERVICE, UPLINK, VIP};
use baton_tests::frame::{read, segment};
use lb_common::affinity::Prefixes;
use lb_common::pool::{Candidate, Policy, identity_of};
use lb_common::tables::service_flags;
use lb_common::{Backend, BackendId, Endpoint, Service, Steer};

fn address(id: BackendId) -> SocketAddr {
    SocketAddr::from(([10, 77, 128, id as u8], 8080))
}

fn candidate(id: BackendId, weight: u16) -> Candidate {
    Candidate { backend: id, weight, limit: 0, identity: identity_of(&Endpoint::tcp(address(id))) }
}

/// A service with backends 1 to `weights.len()`, spread by `policy`.
fn pool(policy: Policy, weights: &[u16], service: impl Fn(Service) -> Service) -> Bench {
    let mut bench = Bench::new();
    let vip = Endpoint::tcp(SocketAddr::V4(VIP));
    let flags = if policy.needs_loads() { service_flags::COUNT_OPEN } else { 0 };
    let service = service(Service::new(vip, UPLINK).with_flags(flags));
    bench.dataplane.set_service(SERVICE, &service).unwrap();
    let mut candidates = Vec::new();
    for (id, weight) in (1..).zip(weights) {
        let backend = Backend::new(Endpoint::tcp(address(id)), HOP_A, Ipv4Addr::new(10, 77, 128, 200).into());
        bench.dataplane.set_backend(SERVICE, id, &backend).unwrap();
        candidates.push(candidate(id, *weight));
    }
    bench.dataplane.spread(SERVICE, policy, &candidates, 0).unwrap();
    bench
}

fn client(number: u32) -> SocketAddrV4 {
    SocketAddrV4::new(Ipv4Addr::from(0xc000_0200 + number), 40_001)
}

/// Where a packet of this client went.
fn backend_of(bench: &mut Bench, client: SocketAddrV4, flags: &'static str) -> BackendId {
    let outcome = bench.run(&segment(client, VIP, flags).frame()).1;
    let SocketAddr::V4(to) = read(&outcome.frame).to else { panic!("IPv4") };
    to.ip().octets()[3].into()
}

/// How many of so many new clients each backend gets.
fn spread(bench: &mut Bench, clients: std::ops::Range<u32>) -> BTreeMap<BackendId, u32> {
    let mut counts = BTreeMap::new();
    for number in clients {
        *counts.entry(backend_of(bench, client(number), "S")).or_default() += 1;
    }
    counts
}

/// Runs on one CPU: turns are counted by CPU.
fn stay_on_one_cpu() {
    let mut cpus = nix::sched::CpuSet::new();
    cpus.set(0).unwrap();
    nix::sched::sched_setaffinity(nix::unistd::Pid::from_raw(0), &cpus).unwrap();
}

#[test]
fn who_gets_new_flows_can_be_read_back() {
    let mut bench = pool(Policy::Wrr, &[1, 0, 3], |service| service);
    let sorted = |mut active: Vec<BackendId>| {
        active.sort_unstable();
        active
    };
    assert_eq!(sorted(bench.dataplane.active(SERVICE)), [1, 3], "a backend without weight gets none");
    let candidates = [candidate(2, 1), candidate(3, 1)];
    bench.dataplane.spread(SERVICE, Policy::Maglev, &candidates, 1).unwrap();
    assert_eq!(sorted(bench.dataplane.active(SERVICE)), [2, 3]);
    bench.dataplane.steer(SERVICE, Steer { active: 2, draining: 0, epoch: 9 });
    assert_eq!(bench.dataplane.active(SERVICE), [2]);
    bench.dataplane.steer(SERVICE, Steer { active: 0, draining: 0, epoch: 10 });
    assert!(bench.dataplane.active(SERVICE).is_empty());
}

#[test]
fn turns_are_taken_by_weight() {
    stay_on_one_cpu();
    let counts = spread(&mut pool(Policy::Rr, &[1, 5, 9], |s| s), 0..300);
    assert_eq!(counts, BTreeMap::from([(1, 100), (2, 100), (3, 100)]));
    let counts = spread(&mut pool(Policy::Wrr, &[1, 2, 3], |s| s), 0..300);
    assert_eq!(counts, BTreeMap::from([(1, 50), (2, 100), (3, 150)]));
}

#[test]
fn the_least_loaded_backend_gets_the_next_flow() {
    stay_on_one_cpu();
    let bench = &mut pool(Policy::Lc, &[1, 1, 1], |s| s);
    assert_eq!(spread(bench, 0..30), BTreeMap::from([(1, 10), (2, 10), (3, 10)]));
    // Whoever loses flows gets the next ones.
    let of_two: Vec<_> = (0..30).filter(|n| backend_of(bench, client(*n), "S") == 2).collect();
    for number in &of_two {
        bench.run(&segment(client(*number), VIP, "R").frame());
    }
    assert_eq!(spread(bench, 100..110), BTreeMap::from([(2, 10)]));
    let bench = &mut pool(Policy::Wlc, &[1, 3], |s| s);
    assert_eq!(spread(bench, 0..40), BTreeMap::from([(1, 10), (2, 30)]));
}

#[test]
fn loads_are_corrected_by_a_scan() {
    stay_on_one_cpu();
    let bench = &mut pool(Policy::Lc, &[1, 1], |s| s);
    spread(bench, 0..20);
    // Flows that vanish without a word.
    bench.dataplane.forget_backend(1);
    assert_eq!(spread(bench, 100..110), BTreeMap::from([(1, 10)]));
}

#[test]
fn a_backend_at_its_limit_gets_nothing_more() {
    stay_on_one_cpu();
    for policy in [Policy::Rr, Policy::Maglev, Policy::Sh, Policy::Random2, Policy::Fo, Policy::Lc] {
        let bench = &mut pool(policy, &[3, 2, 1], |s| s.with_flags(service_flags::COUNT_OPEN));
        let limited: Vec<_> = (1..=3).map(|id| Candidate { limit: 5, ..candidate(id, 4 - id) }).collect();
        bench.dataplane.spread(SERVICE, policy, &limited, 0).unwrap();
        let mut counts = BTreeMap::new();
        for number in 0..20 {
            let (reason, outcome) = bench.run(&segment(client(number), VIP, "S").frame());
            match reason {
                "new_flow" => *counts.entry(read(&outcome.frame).to).or_insert(0) += 1,
                other => assert_eq!(other, "no_backend"),
            }
        }
        let full: BTreeMap<_, _> = (1..=3).map(|id| (address(id), 5)).collect();
        assert_eq!(counts, full, "{}", policy.name());
    }
}

#[test]
fn failover_uses_the_heaviest_that_is_there() {
    let bench = &mut pool(Policy::Fo, &[1, 7, 3], |s| s);
    assert_eq!(spread(bench, 0..20), BTreeMap::from([(2, 20)]));
    bench.dataplane.spread(SERVICE, Policy::Fo, &[candidate(1, 1), candidate(3, 3)], 2).unwrap();
    assert_eq!(spread(bench, 20..40), BTreeMap::from([(3, 20)]));
    assert_eq!(backend_of(bench, client(3), "A"), 2, "a flow stays");
}

#[test]
fn hashing_policies_send_a_client_to_the_same_backend_every_time() {
    for policy in [Policy::Sh, Policy::Maglev] {
        let bench = &mut pool(policy, &[1, 1, 1], |s| s);
        for number in 0..200 {
            let first = backend_of(bench, client(number), "S");
            bench.run(&segment(client(number), VIP, "R").frame());
            bench.dataplane.forget_backend(first);
            assert_eq!(backend_of(bench, client(number), "S"), first);
            let other_port = SocketAddrV4::new(*client(number).ip(), 50_000);
            let same_address = backend_of(bench, other_port, "S") == first;
            assert!(same_address || policy == Policy::Maglev);
        }
        let counts = spread(bench, 1000..1900);
        assert!(counts.values().all(|count| (200..400).contains(count)), "{counts:?}");
    }
}

#[test]
fn one_of_three_drains_and_every_flow_stays_where_it_is() {
    for policy in [Policy::Rr, Policy::Lc, Policy::Sh, Policy::Maglev, Policy::Random2] {
        let bench = &mut pool(policy, &[1, 1, 1], |s| s);
        let before: Vec<_> = (0..90).map(|number| backend_of(bench, client(number), "S")).collect();
        bench.dataplane.spread(SERVICE, policy, &[candidate(1, 1), candidate(3, 1)], 2).unwrap();
        for (number, backend) in (0..).zip(&before) {
            assert_eq!(backend_of(bench, client(number), "A"), *backend, "{}", policy.name());
        }
        let counts = spread(bench, 100..200);
        assert!(!counts.contains_key(&2) && counts.len() == 2, "{}: {counts:?}", policy.name());
    }
}

#[test]
fn a_flow_whose_entry_is_lost_is_found_by_the_hash_of_the_pool_before() {
    let bench = &mut pool(Policy::Maglev, &[1, 1, 1], |s| s);
    let before: Vec<_> = (0..90).map(|number| backend_of(bench, client(number), "S")).collect();
    let forgotten: usize = (1..=3).map(|id| bench.dataplane.forget_backend(id)).sum();
    assert_eq!(forgotten, 90);
    bench.dataplane.spread(SERVICE, Policy::Maglev, &[candidate(1, 1), candidate(3, 1)], 2).unwrap();
    for (number, backend) in (0..).zip(&before) {
        assert_eq!(backend_of(bench, client(number), "A"), *backend);
    }
}

const MINUTE_MS: u64 = 60_000;
/// Longer than any flood takes, on the busiest machine.
const HOUR_MS: u64 = 60 * MINUTE_MS;

fn establish(bench: &mut Bench, client: SocketAddrV4) -> BackendId {
    let backend = backend_of(bench, client, "S");
    bench.run(&segment(address(backend), client, "SA").frame());
    backend_of(bench, client, "A")
}

#[test]
fn a_client_stays_with_its_backend_by_address_or_by_prefix() {
    let network = Prefixes::new(24, 64).unwrap();
    for (prefixes, other_host_too) in [(Prefixes::HOSTS, false), (network, true)] {
        let bench = &mut pool(Policy::Rr, &[1, 1, 1], |s| s.with_affinity(MINUTE_MS, prefixes));
        let first = establish(bench, client(1));
        for port in 1..30 {
            assert_eq!(establish(bench, SocketAddrV4::new(*client(1).ip(), port)), first);
        }
        let others: Vec<_> = (2..30).map(|number| backend_of(bench, client(number), "S")).collect();
        assert_eq!(others.iter().all(|backend| *backend == first), other_host_too);
        let flows = bench.dataplane.flows(&FlowTimeouts::default());
        assert_eq!(flows.len(), 30 + 28, "leases are no flows");
    }
}

#[test]
fn only_its_own_flows_lease_a_client_to_a_backend() {
    let bench = &mut pool(Policy::Fo, &[1, 9], |s| s.with_affinity(MINUTE_MS, Prefixes::HOSTS));
    // A stray of the other backend, which nobody has asked.
    assert_eq!(bench.run(&segment(address(1), client(1), "S").frame()).0, "reply_taken_up");
    assert_eq!(backend_of(bench, SocketAddrV4::new(*client(1).ip(), 7), "S"), 2);
}

#[test]
fn who_leased_a_backend_goes_elsewhere_when_its_leases_are_forgotten_and_its_flows_stay() {
    let bench = &mut pool(Policy::Fo, &[1, 9], |s| s.with_affinity(MINUTE_MS, Prefixes::HOSTS));
    let other_port = |number, port| SocketAddrV4::new(*client(number).ip(), port);
    assert_eq!((establish(bench, client(1)), establish(bench, client(2))), (2, 2));
    bench.dataplane.spread(SERVICE, Policy::Fo, &[candidate(1, 1)], 0).unwrap();
    assert_eq!(establish(bench, other_port(1, 7)), 2, "it stays, and stays the longer for that");
    assert_eq!((bench.dataplane.forget_leases(1), bench.dataplane.forget_leases(2)), (0, 2));
    assert_eq!(bench.dataplane.flows(&FlowTimeouts::default()).len(), 3);
    for flow in [client(1), other_port(1, 7), client(2)] {
        assert_eq!(backend_of(bench, flow, "A"), 2, "flows stay");
    }
    for number in [1, 2] {
        assert_eq!(establish(bench, other_port(number, 8)), 1);
    }
    // Whoever has the id next gets nobody by it.
    bench.dataplane.spread(SERVICE, Policy::Fo, &[candidate(1, 1), candidate(2, 9)], 0).unwrap();
    assert_eq!((establish(bench, client(3)), establish(bench, other_port(1, 9))), (2, 1));
}

#[test]
fn at_a_drain_affinity_is_honoured_or_broken_as_configured() {
    for (flags, stays) in [(0, true), (service_flags::BREAK_AFFINITY, false)] {
        let service = |s: Service| s.with_affinity(MINUTE_MS, Prefixes::HOSTS).with_flags(flags);
        let bench = &mut pool(Policy::Fo, &[1, 9], service);
        assert_eq!(establish(bench, client(1)), 2);
        bench.dataplane.spread(SERVICE, Policy::Fo, &[candidate(1, 1)], 2).unwrap();
        let again = SocketAddrV4::new(*client(1).ip(), 7);
        assert_eq!(establish(bench, again) == 2, stays);
        assert_eq!(backend_of(bench, client(1), "A"), 2, "the flow itself stays in any case");
        assert_eq!(backend_of(bench, client(2), "S"), 1, "a new client");
    }
}

#[test]
fn a_flood_of_forged_syns_evicts_no_lease_of_a_real_client() {
    let service = |s: Service| s.with_affinity(HOUR_MS, Prefixes::HOSTS);
    let bench = &mut pool(Policy::Rr, &[1, 1, 1], service);
    let real: Vec<_> = (0..100).map(|number| establish(bench, client(number))).collect();
    for number in 0..10 * baton_tests::bench::FLOWS {
        bench.run(&segment(client(100_000 + number), VIP, "S").frame());
    }
    for (number, backend) in (0..).zip(&real) {
        assert_eq!(backend_of(bench, client(number), "A"), *backend);
        assert_eq!(backend_of(bench, SocketAddrV4::new(*client(number).ip(), 7), "S"), *backend);
    }
}

#[test]
fn the_time_to_the_first_byte_is_measured_once_a_turn() {
    let bench = &mut pool(Policy::Fo, &[1], |s| s);
    establish(bench, client(1));
    for turn in 1..=5 {
        bench.run(&segment(client(1), VIP, "A").with(b"GET /").frame());
        bench.run(&segment(address(1), client(1), "A").with(b"200").frame());
        bench.run(&segment(address(1), client(1), "A").with(b"more").frame());
        let times = bench.dataplane.response_times(1).unwrap();
        assert_eq!(times.0.iter().sum::<u64>(), turn);
        assert_eq!(bench.dataplane.backend_counters(1).unwrap().turns, turn);
    }
}
