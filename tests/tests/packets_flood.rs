//! Floods of ten times the table, and forged ends of every flow: what carries requests loses nothing.

use std::net::{Ipv4Addr, SocketAddrV4};

use baton::dataplane::{FlowTimeouts, XdpAction};
use baton_tests::bench::{A, ADDRESS_A, ADDRESS_B, B, Bench, SERVICE, VIP};
use baton_tests::frame::{read, segment};
use lb_common::{FlowState, Steer};

/// Flows that the table is made for: it has twice as many entries.
const TABLE: u32 = 1 << 14;
/// Flows that carry requests: so few that both buckets of one are full of them in no more than one run of a million,
/// whatever the keys of the hash.
const LIVE: u32 = 3_000;
/// Packets of a flood.
const FLOOD: u32 = 10 * TABLE;

fn client(number: u32) -> SocketAddrV4 {
    SocketAddrV4::new(Ipv4Addr::from(0xc612_0000 + number / 50_000), 1024 + (number % 50_000) as u16)
}

fn stranger(number: u32) -> SocketAddrV4 {
    SocketAddrV4::new(Ipv4Addr::from(0xcb00_7100 + (number >> 14)), 1024 + (number & 0x3fff) as u16)
}

/// A table with live flows at `A`, after a handover to `B`: a flow that loses its entry goes elsewhere.
fn with_live_flows() -> Bench {
    let mut bench = Bench::sized(TABLE);
    for number in 0..LIVE {
        bench.run(&segment(client(number), VIP, "S").frame());
        bench.run(&segment(ADDRESS_A, client(number), "SA").frame());
        bench.run(&segment(client(number), VIP, "A").frame());
    }
    bench.dataplane.steer(SERVICE, Steer { active: B, draining: 0, epoch: 2 });
    bench
}

/// A request and its response on every live flow; panics at the first that does not stay at `A`.
fn all_carry_requests(bench: &mut Bench) {
    for number in 0..LIVE {
        let there = bench.dataplane.run(&segment(client(number), VIP, "A").with(b"GET /").frame()).unwrap();
        assert_eq!(there.action, XdpAction::Redirect);
        assert_eq!(read(&there.frame).to, ADDRESS_A.into(), "flow {number} was moved");
        let back =
            bench.dataplane.run(&segment(ADDRESS_A, client(number), "A").with(b"200").frame()).unwrap();
        assert_eq!((back.action, read(&back.frame).from), (XdpAction::Redirect, VIP.into()));
    }
}

fn flood(bench: &mut Bench, flags: &'static str) {
    for number in 0..FLOOD {
        let outcome = bench.dataplane.run(&segment(stranger(number), VIP, flags).frame()).unwrap();
        assert_eq!(outcome.action, XdpAction::Redirect, "a flood does not keep new flows from being served");
        // Requests go on meanwhile.
        if number % (FLOOD / 4) == 0 {
            all_carry_requests(bench);
        }
    }
}

fn live_flows(bench: &mut Bench) -> usize {
    let flows = bench.dataplane.flows(&FlowTimeouts::default());
    flows.iter().filter(|flow| flow.backend == A && flow.state == FlowState::Established).count()
}

#[test]
fn a_flood_of_syns_moves_no_flow() {
    let bench = &mut with_live_flows();
    flood(bench, "S");
    all_carry_requests(bench);
    assert_eq!(live_flows(bench), LIVE as usize);
}

#[test]
fn a_flood_of_forged_acknowledgements_moves_no_flow_and_fills_nothing() {
    let bench = &mut with_live_flows();
    flood(bench, "A");
    all_carry_requests(bench);
    assert_eq!(live_flows(bench), LIVE as usize);
    // Real clients find room: what nobody has confirmed gives way.
    for number in 0..1000 {
        let new = SocketAddrV4::new(Ipv4Addr::new(192, 0, 2, 1), 1024 + number);
        assert_eq!(bench.run(&segment(new, VIP, "S").frame()).0, "new_flow");
        bench.run(&segment(ADDRESS_B, new, "SA").frame());
        assert_eq!(bench.run(&segment(new, VIP, "A").frame()).0, "pinned_flow");
    }
}

#[test]
fn forged_resets_and_ends_of_every_flow_unpin_none() {
    for flags in ["R", "RA", "FA"] {
        let bench = &mut with_live_flows();
        for number in 0..LIVE {
            bench.dataplane.run(&segment(client(number), VIP, flags).frame()).unwrap();
        }
        flood(bench, "S");
        all_carry_requests(bench);
        assert_eq!(live_flows(bench), LIVE as usize, "after forged {flags}");
    }
}
