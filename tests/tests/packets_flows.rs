//! The flow table as `baton flows` reads it: all that the controller sees, and nothing is changed.

use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};

use baton::dataplane::{Clients, FlowPinner, FlowRecord, FlowTimeouts, FlowView, OpenError};
use baton_tests::bench::{A, ADDRESS_A, ADDRESS_B, B, Bench, CLIENT, FLOWS, SERVICE, UPLINK, VIP};
use baton_tests::frame::{read, segment};
use baton_tests::snapshot::{snapshot, touched_since};
use lb_common::affinity::Prefixes;
use lb_common::{Endpoint, FlowState, Service, Steer};
use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::unistd::Pid;

fn establish(bench: &mut Bench, client: SocketAddrV4) {
    for segment in [segment(client, VIP, "S"), segment(ADDRESS_A, client, "SA"), segment(client, VIP, "A")] {
        bench.run(&segment.frame());
    }
}

fn seen(view: &mut FlowView, clients: Clients) -> Vec<FlowRecord> {
    let mut flows: Vec<_> = view.flows(&FlowTimeouts::default(), clients).collect();
    flows.sort_by_key(|flow| flow.client);
    flows
}

#[test]
fn a_view_names_flows_that_no_controller_has_looked_at_and_touches_nothing() {
    let mut bench = Bench::new();
    establish(&mut bench, CLIENT);
    bench.run(&segment(CLIENT, VIP, "A").with(b"GET /").frame());
    bench.dataplane.steer(SERVICE, Steer { active: B, draining: A, epoch: 2 });
    let other = SocketAddrV4::new(*CLIENT.ip(), 40_002);
    bench.run(&segment(other, VIP, "S").frame());

    let before = snapshot(bench.pins());
    let mut view = FlowView::open(bench.pins()).unwrap();
    let flows = seen(&mut view, Clients::Named);
    assert_eq!(touched_since(&before, bench.pins()), [""; 0]);

    let [first, second] = &flows[..] else { panic!("{flows:?}") };
    assert_eq!((first.client, second.client), (Some(SocketAddr::V4(CLIENT)), Some(SocketAddr::V4(other))));
    assert_eq!((first.service, first.backend, first.epoch), (Some(SERVICE), A, 1));
    assert_eq!((second.service, second.backend, second.epoch), (Some(SERVICE), B, 2));
    assert_eq!((first.state, second.state), (FlowState::Established, FlowState::HalfOpen));
    assert_eq!((first.awaits_response, second.awaits_response), (true, false));
    let mut controllers = bench.dataplane.flows(&FlowTimeouts::default());
    controllers.sort_by_key(|flow| flow.client);
    let facts = |flows: &[FlowRecord]| -> Vec<_> {
        flows.iter().map(|flow| (flow.client, flow.service, flow.backend, flow.epoch, flow.state)).collect()
    };
    assert_eq!(facts(&flows), facts(&controllers));

    // What the controller has read, and put beside the table, is named from there.
    let mut view = FlowView::open(bench.pins()).unwrap();
    assert_eq!(facts(&seen(&mut view, Clients::Named)), facts(&controllers));
    assert!(seen(&mut view, Clients::LeftOut).iter().all(|flow| flow.client.is_none()));
}

#[test]
fn a_client_that_nobody_wrote_down_in_time_is_unknown_and_its_flow_is_not() {
    // Each CPU has its own log: one that takes all of them wraps.
    let mut one = CpuSet::new();
    let allowed = sched_getaffinity(Pid::from_raw(0)).unwrap();
    one.set((0..CpuSet::count()).find(|cpu| allowed.is_set(*cpu).unwrap()).unwrap()).unwrap();
    sched_setaffinity(Pid::from_raw(0), &one).unwrap();
    let mut bench = Bench::new();
    establish(&mut bench, CLIENT);
    // Handshakes that do not get on give up their entries to the next; each is logged.
    for number in 0..=FLOWS * 3 {
        let client =
            SocketAddrV4::new(Ipv4Addr::from(0x0a00_0000 + number / 50_000), (number % 50_000) as u16 + 1);
        bench.dataplane.run(&segment(client, VIP, "S").frame()).unwrap();
    }
    let mut view = FlowView::open(bench.pins()).unwrap();
    let flows = seen(&mut view, Clients::Named);
    let established: Vec<_> = flows.iter().filter(|flow| flow.state == FlowState::Established).collect();
    let [first] = established[..] else { panic!("{established:?}") };
    assert_eq!((first.client, first.backend), (None, A));
    assert!(flows.iter().filter(|flow| flow.client.is_some()).count() > FLOWS as usize / 2);
}

#[test]
fn a_client_that_is_kept_with_its_backend_is_no_flow() {
    let mut bench = Bench::new();
    let service = Service::new(Endpoint::tcp(SocketAddr::V4(VIP)), UPLINK);
    bench.dataplane.set_service(SERVICE, &service.with_affinity(60_000, Prefixes::HOSTS)).unwrap();
    establish(&mut bench, CLIENT);
    assert_eq!(bench.dataplane.table_use().0, 2, "the flow and the lease");
    let mut view = FlowView::open(bench.pins()).unwrap();
    let flows = seen(&mut view, Clients::Named);
    assert_eq!(flows.iter().map(|flow| flow.client).collect::<Vec<_>>(), [Some(SocketAddr::V4(CLIENT))]);
}

#[test]
fn a_flow_that_is_pinned_beforehand_goes_there_and_its_syn_is_sent_again_only_when_it_is() {
    let mut bench = Bench::new();
    let pinner = FlowPinner::open(bench.pins()).unwrap();
    assert!(pinner.pin(SocketAddr::V4(CLIENT), SERVICE, B, 1), "an empty table has room");
    assert!(!pinner.pin(SocketAddr::V4(CLIENT), SERVICE, A, 1), "it has not closed");
    for (segment, reason) in [
        (segment(CLIENT, VIP, "S"), "pinned_flow"),
        (segment(CLIENT, VIP, "S"), "syn_retransmit"),
        (segment(ADDRESS_B, CLIENT, "SA"), "reply"),
        (segment(CLIENT, VIP, "A").with(b"GET /"), "pinned_flow"),
        (segment(ADDRESS_B, CLIENT, "A").with(b"200 OK!"), "reply"),
    ] {
        let (counted, outcome) = bench.run(&segment.frame());
        assert_eq!(counted, reason);
        let to =
            if segment.from == SocketAddr::V4(CLIENT) { SocketAddr::V4(ADDRESS_B) } else { CLIENT.into() };
        assert_eq!(read(&outcome.frame).to, to);
    }
    let counters = bench.dataplane.backend_counters(B).unwrap();
    assert_eq!((counters.flows_new, counters.syn_retransmits, counters.turns), (0, 1, 1));
    assert_eq!(bench.dataplane.backend_counters(A).unwrap().packets_in, 0);

    // Whoever takes the tuple after its end may be pinned beforehand again.
    bench.run(&segment(CLIENT, VIP, "FA").frame());
    bench.run(&segment(ADDRESS_B, CLIENT, "FA").frame());
    assert!(pinner.pin(SocketAddr::V4(CLIENT), SERVICE, A, 2), "it has closed");
    assert_eq!(bench.run(&segment(CLIENT, VIP, "S").frame()).0, "pinned_flow");
    assert_eq!(bench.dataplane.backend_counters(A).unwrap().syn_retransmits, 0);
}

#[test]
fn where_no_table_was_finished_there_is_nothing_to_see_and_nothing_is_cleared_away() {
    let bench = Bench::new();
    std::fs::remove_file(bench.pins().join("TABLE_SETTINGS")).unwrap();
    let pinned = || std::fs::read_dir(bench.pins()).unwrap().count();
    let before = pinned();
    assert!(
        matches!(FlowView::open(bench.pins()), Err(OpenError::NothingPinned(path)) if path == bench.pins())
    );
    assert_eq!(pinned(), before);
}
