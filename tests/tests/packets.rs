//! Packet tables: a packet in, a verdict, a packet out and a counter, through `BPF_PROG_TEST_RUN`.

use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};

use baton::dataplane::{FlowTimeouts, XdpAction};
use baton_tests::bench::{
    A, ADDRESS_A, ADDRESS_B, B, Bench, CHECKS_A_FROM, CLIENT, HOP_A, HOP_B, SERVICE, UPLINK, VIP,
};
use baton_tests::frame::{Segment, read, segment};
use lb_common::{FlowState, NextHop, Steer};

fn from_client(flags: &'static str) -> Segment {
    segment(CLIENT, VIP, flags)
}

fn from_a(flags: &'static str) -> Segment {
    segment(ADDRESS_A, CLIENT, flags)
}

fn handover_to_b(bench: &Bench) {
    bench.dataplane.steer(SERVICE, Steer { active: B, draining: A, epoch: 2 });
}

fn open_flow(bench: &mut Bench) {
    for (segment, reason) in [
        (from_client("S"), "new_flow"),
        (from_a("SA"), "reply"),
        (from_client("A"), "pinned_flow"),
        (from_a("A"), "reply"),
    ] {
        assert_eq!(bench.run(&segment.frame()).0, reason);
    }
}

fn state(bench: &mut Bench) -> FlowState {
    bench.dataplane.flows(&FlowTimeouts::default())[0].state
}

#[track_caller]
fn assert_sent(
    bench: &mut Bench,
    segment: &Segment,
    reason: &str,
    from: impl Into<SocketAddr>,
    to: impl Into<SocketAddr>,
    hop: NextHop,
) {
    let (counted, outcome) = bench.run(&segment.frame());
    assert_eq!((counted, outcome.action), (reason, XdpAction::Redirect));
    let out = read(&outcome.frame);
    assert_eq!((out.from, out.to, out.hardware), (from.into(), to.into(), (hop.destination, hop.source)));
    assert_eq!(out.payload, segment.payload);
}

#[test]
fn a_syn_goes_to_the_active_backend_and_its_reply_comes_from_the_vip() {
    let bench = &mut Bench::new();
    assert_sent(bench, &from_client("S"), "new_flow", CLIENT, ADDRESS_A, HOP_A);
    assert_sent(bench, &from_a("SA"), "reply", VIP, CLIENT, UPLINK);
    assert_sent(bench, &from_client("A").with(b"GET /"), "pinned_flow", CLIENT, ADDRESS_A, HOP_A);
    assert_sent(bench, &from_a("A").with(b"200 OK!"), "reply", VIP, CLIENT, UPLINK);
}

#[test]
fn a_pinned_flow_stays_after_the_handover_and_a_new_one_goes_to_the_standby() {
    let bench = &mut Bench::new();
    open_flow(bench);
    handover_to_b(bench);
    assert_sent(bench, &from_client("A").with(b"more"), "pinned_flow", CLIENT, ADDRESS_A, HOP_A);
    let other = SocketAddrV4::new(*CLIENT.ip(), 40_002);
    assert_sent(bench, &segment(other, VIP, "S"), "new_flow", other, ADDRESS_B, HOP_B);
}

#[test]
fn a_syn_sent_again_over_the_handover_stays_where_it_was() {
    let bench = &mut Bench::new();
    bench.run(&from_client("S").frame());
    handover_to_b(bench);
    assert_sent(bench, &from_client("S"), "syn_retransmit", CLIENT, ADDRESS_A, HOP_A);
}

#[test]
fn a_syn_on_the_tuple_of_a_closed_flow_is_a_new_flow() {
    let bench = &mut Bench::new();
    open_flow(bench);
    bench.run(&from_client("FA").frame());
    bench.run(&from_a("FA").frame());
    assert_eq!(state(bench), FlowState::Closed);
    handover_to_b(bench);
    assert_sent(bench, &from_client("S"), "new_flow", CLIENT, ADDRESS_B, HOP_B);
}

#[test]
fn a_late_packet_of_the_old_backend_never_reaches_the_flow_that_took_its_tuple() {
    let bench = &mut Bench::new();
    open_flow(bench);
    bench.run(&from_client("R").frame());
    handover_to_b(bench);
    bench.run(&from_client("S").frame());
    let (reason, outcome) = bench.run(&from_a("FA").frame());
    assert_eq!((reason, outcome.action), ("reply_stale", XdpAction::Drop));
}

#[test]
fn a_packet_without_entry_is_an_old_flow_and_goes_to_the_draining_backend() {
    let bench = &mut Bench::new();
    handover_to_b(bench);
    assert_sent(bench, &from_client("A").with(b"x"), "taken_up", CLIENT, ADDRESS_A, HOP_A);
    bench.dataplane.steer(SERVICE, Steer { active: B, draining: 0, epoch: 2 });
    assert_sent(bench, &from_client("A").with(b"y"), "pinned_flow", CLIENT, ADDRESS_A, HOP_A);
    let other = SocketAddrV4::new(*CLIENT.ip(), 40_002);
    assert_sent(bench, &segment(other, VIP, "A"), "taken_up", other, ADDRESS_B, HOP_B);
}

#[test]
fn a_flow_that_only_a_client_claims_is_unconfirmed_until_the_backend_answers() {
    let bench = &mut Bench::new();
    bench.run(&from_client("A").frame());
    assert_eq!(state(bench), FlowState::HalfOpen);
    bench.run(&from_a("A").frame());
    assert_eq!(state(bench), FlowState::Established);
}

#[test]
fn a_reply_without_entry_still_comes_from_the_vip_and_pins_its_flow() {
    let bench = &mut Bench::new();
    assert_sent(bench, &from_a("A").with(b"late"), "reply_taken_up", VIP, CLIENT, UPLINK);
    handover_to_b(bench);
    bench.dataplane.steer(SERVICE, Steer { active: B, draining: 0, epoch: 3 });
    assert_sent(bench, &from_client("A"), "pinned_flow", CLIENT, ADDRESS_A, HOP_A);
}

#[test]
fn a_bare_reset_leaves_no_entry() {
    let bench = &mut Bench::new();
    assert_sent(bench, &from_client("R"), "unpinned", CLIENT, ADDRESS_A, HOP_A);
    assert_sent(bench, &from_a("RA"), "reply_unpinned", VIP, CLIENT, UPLINK);
    assert!(bench.dataplane.flows(&FlowTimeouts::default()).is_empty());
}

#[test]
fn a_reset_that_says_syn_too_is_a_reset() {
    let bench = &mut Bench::new();
    assert_sent(bench, &from_client("SR"), "unpinned", CLIENT, ADDRESS_A, HOP_A);
    open_flow(bench);
    assert_sent(bench, &from_client("SR"), "pinned_flow", CLIENT, ADDRESS_A, HOP_A);
    let counters = bench.dataplane.backend_counters(A).unwrap();
    assert_eq!((counters.resets_in, counters.syn_retransmits), (2, 0));
}

#[test]
fn a_forged_reset_unpins_nothing() {
    let bench = &mut Bench::new();
    open_flow(bench);
    bench.run(&from_client("R").frame());
    assert_eq!(state(bench), FlowState::Closed);
    handover_to_b(bench);
    assert_sent(bench, &from_client("A").with(b"alive"), "pinned_flow", CLIENT, ADDRESS_A, HOP_A);
    assert_eq!(state(bench), FlowState::Established);
}

#[test]
fn a_half_closed_flow_still_carries_the_response() {
    let bench = &mut Bench::new();
    open_flow(bench);
    bench.run(&from_client("FA").frame());
    assert_eq!(state(bench), FlowState::HalfClosed);
    assert_sent(bench, &from_a("A").with(b"body"), "reply", VIP, CLIENT, UPLINK);
    assert_eq!(state(bench), FlowState::HalfClosed);
}

#[test]
fn a_request_awaits_its_response_until_the_first_byte() {
    let bench = &mut Bench::new();
    open_flow(bench);
    let awaits = |bench: &mut Bench| bench.dataplane.flows(&FlowTimeouts::default())[0].awaits_response;
    assert!(!awaits(bench));
    bench.run(&from_client("A").with(b"GET /").frame());
    assert!(awaits(bench));
    bench.run(&from_a("A").frame());
    assert!(awaits(bench), "an acknowledgement is no response");
    bench.run(&from_a("A").with(b"200").frame());
    assert!(!awaits(bench));
}

#[test]
fn an_unresolved_next_hop_leaves_the_rewritten_packet_to_the_stack() {
    let bench = &mut Bench::new();
    bench.dataplane.set_backend_hop(A, NextHop::default()).unwrap();
    let (reason, outcome) = bench.run(&from_client("S").frame());
    assert_eq!((reason, outcome.action), ("new_flow", XdpAction::Pass));
    assert_eq!(read(&outcome.frame).to, ADDRESS_A.into());
}

#[test]
fn a_hop_by_the_ingress_interface_is_transmitted_there() {
    let bench = &mut Bench::new();
    bench.dataplane.set_backend_hop(A, NextHop { ifindex: 1, ..HOP_A }).unwrap();
    assert_eq!(bench.run(&from_client("S").frame()).1.action, XdpAction::Tx);
}

#[test]
fn replies_to_the_balancers_own_checks_are_left_alone() {
    let bench = &mut Bench::new();
    let check = segment(ADDRESS_A, SocketAddrV4::new(CHECKS_A_FROM, 50_000), "SA");
    assert_untouched(bench, &check.frame(), "to_balancer");
}

#[test]
fn a_service_without_active_backend_is_refused_by_the_stack() {
    let bench = &mut Bench::new();
    bench.dataplane.steer(SERVICE, Steer::default());
    assert_untouched(bench, &from_client("S").frame(), "no_backend");
}

#[track_caller]
fn assert_untouched(bench: &mut Bench, frame: &[u8], reason: &str) {
    let (counted, outcome) = bench.run(frame);
    assert_eq!((counted, outcome.action), (reason, XdpAction::Pass));
    assert_eq!(outcome.frame, frame);
}

#[test]
fn what_is_not_for_the_service_passes_untouched() {
    let bench = &mut Bench::new();
    let syn = from_client("S").frame();
    let edited = |at: usize, byte: u8| {
        let mut frame = syn.clone();
        frame[at] = byte;
        frame
    };
    let other_port = segment(CLIENT, SocketAddrV4::new(*VIP.ip(), 81), "S");
    let other_address = segment(CLIENT, SocketAddrV4::new(Ipv4Addr::new(10, 77, 0, 2), 80), "S");
    let cases = [
        ("another port of the VIP", other_port.frame(), "not_for_service"),
        ("another address", other_address.frame(), "not_for_service"),
        ("ARP", edited(13, 0x06), "not_ip"),
        ("OSPF", edited(23, 89), "not_steered"),
        ("IP options", edited(14, 0x46), "ip_options"),
        ("IP version 6 in an IPv4 frame", edited(14, 0x65), "malformed"),
        ("IP header of four words", edited(14, 0x44), "malformed"),
        ("first fragment", edited(20, 0x20), "fragment"),
        ("later fragment", edited(21, 0x01), "fragment"),
        ("TCP header of four words", edited(46, 0x40), "malformed"),
        ("TCP header beyond the packet", edited(46, 0xf0), "malformed"),
        ("total length beyond the frame", edited(16, 0x10), "malformed"),
        ("cut within TCP", syn[..50].to_vec(), "malformed"),
        ("cut within IP", syn[..30].to_vec(), "malformed"),
    ];
    for (what, frame, reason) in cases {
        let (counted, outcome) = bench.run(&frame);
        assert_eq!((counted, outcome.action), (reason, XdpAction::Pass), "{what}");
        assert_eq!(outcome.frame, frame, "{what}");
    }
    assert!(bench.dataplane.flows(&FlowTimeouts::default()).is_empty());
}

#[test]
fn an_ipv4_service_is_not_reached_by_its_address_in_ipv6() {
    let bench = &mut Bench::new();
    open_flow(bench);
    let mapped = |socket: SocketAddrV4| SocketAddr::new(socket.ip().to_ipv6_mapped().into(), socket.port());
    for (from, to) in [(CLIENT, VIP), (ADDRESS_A, CLIENT)] {
        assert_untouched(bench, &segment(mapped(from), mapped(to), "R").frame(), "not_for_service");
    }
    assert_eq!(state(bench), FlowState::Established, "nor is its flow touched");
}

#[test]
fn checksums_are_exact_for_every_port_and_payload() {
    let bench = &mut Bench::new();
    for port in (1024..65_000).step_by(97) {
        let client = SocketAddrV4::new(Ipv4Addr::from(u32::from(port) * 66_049), port);
        let payload: Vec<u8> = (0..port % 701).map(|n| (n * 31 % 251) as u8).collect();
        assert_sent(bench, &segment(client, VIP, "S").with(&payload), "new_flow", client, ADDRESS_A, HOP_A);
        assert_sent(bench, &segment(ADDRESS_A, client, "A").with(&payload), "reply", VIP, client, UPLINK);
    }
}

#[test]
fn a_restarted_controller_adopts_flows_steering_and_counters() {
    let bench = &mut Bench::new();
    open_flow(bench);
    handover_to_b(bench);
    let before = bench.dataplane.reasons().unwrap();
    bench.reopen();
    assert_eq!(bench.dataplane.reasons().unwrap(), before);
    assert_eq!(bench.dataplane.steering(SERVICE), Steer { active: B, draining: A, epoch: 2 });
    assert_sent(bench, &from_client("A"), "pinned_flow", CLIENT, ADDRESS_A, HOP_A);
}

#[test]
fn counters_of_a_backend_add_up() {
    let bench = &mut Bench::new();
    open_flow(bench);
    bench.run(&from_client("S").frame());
    bench.run(&from_a("RA").frame());
    let counters = bench.dataplane.backend_counters(A).unwrap();
    assert_eq!((counters.packets_in, counters.packets_out), (3, 3));
    assert_eq!((counters.bytes_in, counters.bytes_out), (120, 120));
    assert_eq!((counters.flows_new, counters.syn_retransmits), (1, 1));
    assert_eq!((counters.resets_in, counters.resets_out), (0, 1));
    assert_eq!(bench.dataplane.backend_counters(B).unwrap().packets_in, 0);
}

#[test]
fn silent_flows_are_forgotten_by_state_and_others_kept() {
    let bench = &mut Bench::new();
    open_flow(bench);
    bench.run(&segment(SocketAddrV4::new(*CLIENT.ip(), 40_002), VIP, "S").frame());
    // The clock of the table moves in steps of about a second.
    while bench.dataplane.flows(&FlowTimeouts::default()).iter().any(|flow| flow.idle_ms == 0) {
        std::thread::yield_now();
    }
    let timeouts = FlowTimeouts { half_open_ms: 5, ..FlowTimeouts::default() };
    assert_eq!(bench.dataplane.forget_expired(&timeouts), 1);
    assert_eq!(state(bench), FlowState::Established);
}
