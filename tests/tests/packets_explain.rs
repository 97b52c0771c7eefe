//! `baton explain` asks a copy of the program: its answer is what the real program then does, and asking
//! leaves no trace.

use std::collections::BTreeSet;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};

use baton::dataplane::{Answer, ExplainError, Explainer, FlowRecord, XdpAction};
use baton_tests::bench::{
    A, ADDRESS_A, ADDRESS_B, B, Bench, CLIENT, FLOWS, HOP_A, HOP_B, SERVICE, UPLINK, VIP,
};
use baton_tests::ends::Ends;
use baton_tests::frame::{Segment, datagram, segment};
use baton_tests::snapshot::{snapshot, touched_since};
use lb_common::affinity::Prefixes;
use lb_common::endpoint::{TCP, UDP};
use lb_common::pool::{Candidate, Policy, identity_of, steered_to};
use lb_common::snat::PortRange;
use lb_common::tables::service_flags::COUNT_OPEN;
use lb_common::{BackendState, Endpoint, FlowState, Forwarding, Reason, Service, Steer};
use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::unistd::Pid;

/// Asks, sees that nothing was touched, and lets the real program answer.
#[track_caller]
fn explain(bench: &mut Bench, packet: &Segment) -> Answer {
    let before = snapshot(bench.pins());
    let mut explainer = Explainer::open(bench.pins()).unwrap();
    let answer = explainer.explain(&packet.frame(), packet.from).unwrap();
    drop(explainer);
    assert_eq!(touched_since(&before, bench.pins()), [""; 0], "asking changed something");
    let (reason, outcome) = bench.run(&packet.frame());
    assert_eq!((answer.reason.name(), &answer.outcome), (reason, &outcome), "what was said, what was done");
    assert!(
        touched_since(&before, bench.pins()).contains(&"REASON_COUNTERS"),
        "a snapshot sees what is done"
    );
    answer
}

fn from_client(flags: &'static str) -> Segment {
    segment(CLIENT, VIP, flags)
}

fn establish(bench: &mut Bench, client: SocketAddrV4) {
    for packet in [segment(client, VIP, "S"), segment(ADDRESS_A, client, "SA"), segment(client, VIP, "A")] {
        bench.dataplane.run(&packet.frame()).unwrap();
    }
}

fn handover(bench: &Bench) {
    bench.dataplane.steer(SERVICE, Steer { active: B, draining: A, epoch: 2 });
}

#[track_caller]
fn assert_goes(answer: &Answer, reason: Reason, backend: u16, ifindex: u32) {
    assert_eq!((answer.reason, answer.service), (reason, Some(SERVICE)));
    assert_eq!(answer.backend.map(|(id, _)| id), Some(backend));
    assert_eq!((answer.ifindex, answer.outcome.action), (Some(ifindex), XdpAction::Redirect));
}

#[track_caller]
fn flow(answer: &Answer) -> FlowRecord {
    answer.flow.expect("a flow with an entry")
}

#[test]
fn a_new_flow_goes_to_the_active_backend() {
    let bench = &mut Bench::new();
    let answer = explain(bench, &from_client("S"));
    assert_goes(&answer, Reason::NewFlow, A, HOP_A.ifindex);
    assert_eq!(answer.flow, None);
    assert_eq!(answer.backend.unwrap().1.endpoint.socket(), SocketAddr::V4(ADDRESS_A));
    assert_eq!(answer.steering, Some(Steer { active: A, draining: 0, epoch: 1 }));
}

#[test]
fn a_pinned_flow_stays_where_it_is_and_its_entry_is_told() {
    let bench = &mut Bench::new();
    establish(bench, CLIENT);
    handover(bench);
    let answer = explain(bench, &from_client("A").with(b"GET /"));
    assert_goes(&answer, Reason::PinnedFlow, A, HOP_A.ifindex);
    let flow = flow(&answer);
    assert_eq!((flow.backend, flow.epoch, flow.state), (A, 1, FlowState::Established));
    assert!(!flow.awaits_response, "the flow before this packet");
    assert_eq!(flow.client, Some(SocketAddr::V4(CLIENT)));
}

#[test]
fn a_syn_sent_again_stays_where_it_was() {
    let bench = &mut Bench::new();
    bench.run(&from_client("S").frame());
    handover(bench);
    let answer = explain(bench, &from_client("S"));
    assert_goes(&answer, Reason::SynRetransmit, A, HOP_A.ifindex);
    assert_eq!(flow(&answer).state, FlowState::HalfOpen);
}

#[test]
fn a_syn_on_a_closed_flow_is_new_although_there_is_an_entry() {
    let bench = &mut Bench::new();
    establish(bench, CLIENT);
    bench.run(&from_client("R").frame());
    handover(bench);
    let answer = explain(bench, &from_client("S"));
    assert_goes(&answer, Reason::NewFlow, B, HOP_B.ifindex);
    assert_eq!((flow(&answer).backend, flow(&answer).state), (A, FlowState::Closed));
}

#[test]
fn an_old_flow_without_entry_goes_to_the_draining_backend() {
    let bench = &mut Bench::new();
    handover(bench);
    let answer = explain(bench, &from_client("A"));
    assert_goes(&answer, Reason::TakenUp, A, HOP_A.ifindex);
    assert_eq!((answer.flow, answer.steering.unwrap().draining), (None, A));
}

#[test]
fn a_reset_without_entry_is_sent_and_pins_nothing() {
    let bench = &mut Bench::new();
    assert_goes(&explain(bench, &from_client("R")), Reason::Unpinned, A, HOP_A.ifindex);
}

#[test]
fn a_service_without_backend_leaves_packets_to_the_stack() {
    let bench = &mut Bench::new();
    bench.dataplane.steer(SERVICE, Steer::default());
    let answer = explain(bench, &from_client("S"));
    assert_eq!((answer.reason, answer.service, answer.backend), (Reason::NoBackend, Some(SERVICE), None));
    assert_eq!((answer.ifindex, answer.outcome.action), (None, XdpAction::Pass));
}

#[test]
fn what_is_for_no_service_passes() {
    let bench = &mut Bench::new();
    let answer = explain(bench, &segment(CLIENT, SocketAddrV4::new(*VIP.ip(), 81), "S"));
    assert_eq!((answer.reason, answer.service, answer.steering), (Reason::NotForService, None, None));
    assert_eq!((answer.backend, answer.flow, answer.outcome.action), (None, None, XdpAction::Pass));
}

#[test]
fn a_reply_goes_to_its_client_and_a_late_one_is_dropped() {
    let bench = &mut Bench::new();
    let reply = segment(ADDRESS_A, CLIENT, "A");
    assert_eq!(explain(bench, &reply).reason, Reason::ReplyTakenUp);
    let answer = explain(bench, &reply);
    assert_eq!((answer.reason, answer.backend.unwrap().0), (Reason::Reply, A));
    bench.run(&from_client("R").frame());
    handover(bench);
    bench.run(&from_client("S").frame());
    let answer = explain(bench, &reply);
    assert_eq!((answer.reason, answer.outcome.action), (Reason::ReplyStale, XdpAction::Drop));
}

#[test]
fn a_full_table_is_seen_before_it_turns_a_flow_away() {
    let bench = &mut Bench::new();
    let client = |number: u32| {
        SocketAddrV4::new(Ipv4Addr::from(0x0a00_0000 + number / 50_000), (number % 50_000) as u16 + 1)
    };
    (0..FLOWS * 2).for_each(|number| establish(bench, client(number)));
    let mut reasons = Vec::new();
    let mut explainer = Explainer::open(bench.pins()).unwrap();
    for number in FLOWS * 2..FLOWS * 2 + 200 {
        let syn = segment(client(number), VIP, "S");
        let answer = explainer.explain(&syn.frame(), syn.from).unwrap();
        let (reason, outcome) = bench.run(&syn.frame());
        assert_eq!((answer.reason.name(), &answer.outcome), (reason, &outcome));
        reasons.push(answer.reason);
    }
    assert!(reasons.contains(&Reason::Unpinned) && reasons.contains(&Reason::NewFlow), "{reasons:?}");
}

#[test]
fn a_flow_of_a_dead_backend_is_refused() {
    let bench = &mut Bench::new();
    establish(bench, CLIENT);
    bench.dataplane.set_backend_state(A, BackendState::Refused).unwrap();
    let answer = explain(bench, &from_client("A").with(b"GET /"));
    assert_eq!((answer.reason, answer.outcome.action), (Reason::RefusedReset, XdpAction::Tx));
    assert_eq!((flow(&answer).backend, flow(&answer).state), (A, FlowState::Established));
}

#[test]
fn every_way_to_a_backend_is_explained_in_both_families_and_protocols() {
    let lends = |service: Service| service.with_snat(PortRange { first: 20_000, count: 4, group: 0 });
    for ends in [Ends::v4(), Ends::v6()] {
        for protocol in [TCP, UDP] {
            let there = match protocol {
                TCP => segment(ends.client, ends.vip, "S"),
                _ => datagram(ends.client, ends.vip, b"ask"),
            };
            for (way, ports) in [
                (Forwarding::Nat, false),
                (Forwarding::Nat, true),
                (Forwarding::Dsr, false),
                (Forwarding::Ipip, false),
            ] {
                let service = |service| if ports { lends(service) } else { service };
                let bench = &mut ends.bench(protocol, service, way);
                for reason in [[Reason::NewFlow; 2], [Reason::SynRetransmit, Reason::PinnedFlow]] {
                    let reason = reason[usize::from(protocol == UDP)];
                    assert_goes(&explain(bench, &there), reason, A, HOP_A.ifindex);
                }
            }
        }
    }
}

#[test]
fn a_client_that_finds_no_port_is_told_so() {
    let ends = Ends::v4();
    let none = |service: Service| service.with_snat(PortRange { first: 20_000, count: 1, group: 0 });
    let bench = &mut ends.bench(TCP, none, Forwarding::Nat);
    assert_eq!(explain(bench, &segment(ends.client, ends.vip, "S")).reason, Reason::NewFlow);
    let other = SocketAddr::new(ends.client.ip(), 40_002);
    assert_eq!(explain(bench, &segment(other, ends.vip, "S")).reason, Reason::SnatExhausted);
}

#[test]
fn the_choice_from_a_pool_is_told_and_no_turn_is_taken_by_asking() {
    // Turns are counted by CPU.
    let mut cpu = CpuSet::new();
    let allowed = sched_getaffinity(Pid::from_raw(0)).unwrap();
    cpu.set((0..CpuSet::count()).find(|cpu| allowed.is_set(*cpu).unwrap()).unwrap()).unwrap();
    sched_setaffinity(Pid::from_raw(0), &cpu).unwrap();
    for policy in [Policy::Rr, Policy::Lc, Policy::Sh, Policy::Maglev, Policy::Random2] {
        for affinity_ms in [0, 60_000] {
            let bench = &mut pool(policy, affinity_ms);
            let mut chosen = BTreeSet::new();
            chosen.insert(explain(bench, &from_client("S")).backend.unwrap().0);
            assert_eq!(explain(bench, &from_client("A")).reason, Reason::PinnedFlow);
            let mut explainer = Explainer::open(bench.pins()).unwrap();
            for number in 0..16 {
                // Each address comes twice: with affinity the second one has a lease.
                let client =
                    SocketAddrV4::new(Ipv4Addr::from(0x0a00_0000 + number / 2), 40_000 + number as u16);
                let syn = segment(client, VIP, "S");
                let answer = explainer.explain(&syn.frame(), syn.from).unwrap();
                let (reason, outcome) = bench.run(&syn.frame());
                assert_eq!((answer.reason.name(), &answer.outcome), (reason, &outcome), "{policy:?}");
                assert_eq!(answer.flow, None, "a lease is no flow");
                chosen.insert(answer.backend.unwrap().0);
            }
            assert_eq!(chosen, BTreeSet::from([A, B]), "{policy:?}");
            assert!(steered_to(explain(bench, &from_client("A")).steering.unwrap().active).is_some());
        }
    }
}

/// A service that is spread over both backends.
fn pool(policy: Policy, affinity_ms: u64) -> Bench {
    let mut bench = Bench::new();
    let vip = Endpoint::tcp(SocketAddr::V4(VIP));
    let flags = if policy.needs_loads() { COUNT_OPEN } else { 0 };
    let service = Service::new(vip, UPLINK).with_flags(flags).with_affinity(affinity_ms, Prefixes::HOSTS);
    bench.dataplane.set_service(SERVICE, &service).unwrap();
    let candidate = |(backend, address)| {
        let identity = identity_of(&Endpoint::tcp(SocketAddr::V4(address)));
        Candidate { backend, weight: 1, limit: 0, identity }
    };
    let candidates = [(A, ADDRESS_A), (B, ADDRESS_B)].map(candidate);
    bench.dataplane.spread(SERVICE, policy, &candidates, 0).unwrap();
    bench
}

#[test]
fn a_program_that_is_attached_nowhere_is_not_spoken_for() {
    let bench = Bench::new();
    let mut explainer = Explainer::open(bench.pins()).unwrap();
    assert!(matches!(explainer.ensure_same(), Err(ExplainError::NotAttached(_))));
}
