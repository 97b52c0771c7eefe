//! Forwarding modes, families and tags: what leaves for a packet that came in.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV4};
use std::ops::RangeInclusive;

use baton::dataplane::{FlowTimeouts, XdpAction};
use baton_tests::bench::{A, B, Bench, HOP_A, HOP_B, SERVICE};
use baton_tests::ends::Ends;
use baton_tests::frame::{Segment, datagram, read, read_packet, segment, unwrap_tunnel};
use etherparse::IpHeaders;
use lb_common::endpoint::{TCP, UDP};
use lb_common::snat::PortRange;
use lb_common::tables::service_flags;
use lb_common::{Backend, Endpoint, FlowState, Forwarding, NextHop, Service, Steer};

fn packet(protocol: u8, from: SocketAddr, to: SocketAddr, flags: &'static str, data: &[u8]) -> Segment {
    if protocol == TCP { segment(from, to, flags).with(data) } else { datagram(from, to, data) }
}

#[test]
fn both_families_and_both_protocols_go_there_and_back_with_and_without_tags() {
    for ends in [Ends::v4(), Ends::v6()] {
        for protocol in [TCP, UDP] {
            for vlans in [&[][..], &[7], &[7, 42]] {
                let mut bench = ends.bench(protocol, |service| service, Forwarding::Nat);
                let there = packet(protocol, ends.client, ends.vip, "S", b"ask").vlans(vlans);
                let (reason, outcome) = bench.run(&there.frame());
                assert_eq!((reason, outcome.action), ("new_flow", XdpAction::Redirect));
                let out = read(&outcome.frame);
                assert_eq!((out.from, out.to), (ends.client, ends.backend));
                assert_eq!((out.hardware, &out.vlans[..]), ((HOP_A.destination, HOP_A.source), vlans));
                assert_eq!(out.payload, b"ask");

                let back = packet(protocol, ends.backend, ends.client, "SA", b"answer").vlans(vlans);
                let (reason, outcome) = bench.run(&back.frame());
                assert_eq!((reason, outcome.action), ("reply", XdpAction::Redirect));
                let out = read(&outcome.frame);
                assert_eq!((out.from, out.to, &out.payload[..]), (ends.vip, ends.client, &b"answer"[..]));
            }
        }
    }
}

#[test]
fn a_datagram_without_checksum_stays_without_one() {
    let ends = Ends::v4();
    let mut bench = ends.bench(UDP, |service| service, Forwarding::Nat);
    let mut frame = datagram(ends.client, ends.vip, b"ask").frame();
    frame[40..42].fill(0);
    let out = bench.run(&frame).1.frame;
    assert_eq!(out[40..42], [0, 0]);
    assert_eq!(read(&out).to, ends.backend);
}

#[test]
fn dsr_changes_nothing_but_the_hardware_addresses() {
    for ends in [Ends::v4(), Ends::v6()] {
        let mut bench = ends.bench(TCP, |service| service, Forwarding::Dsr);
        for (flags, reason) in [("S", "new_flow"), ("A", "pinned_flow")] {
            let sent = segment(ends.client, ends.vip, flags).with(b"x").frame();
            let (counted, outcome) = bench.run(&sent);
            assert_eq!((counted, outcome.action), (reason, XdpAction::Redirect));
            assert_eq!(outcome.frame[..6], HOP_A.destination);
            assert_eq!(outcome.frame[12..], sent[12..]);
        }
        let flows = bench.dataplane.flows(&FlowTimeouts::default());
        assert_eq!(flows[0].state, FlowState::Established, "nobody has seen the backend's half");
        assert!(!flows[0].awaits_response);
    }
}

#[test]
fn a_tuple_that_is_used_again_after_its_clients_fin_is_a_new_flow_though_no_reply_was_seen() {
    for way in [Forwarding::Dsr, Forwarding::Ipip] {
        for ends in [Ends::v4(), Ends::v6()] {
            let mut bench = ends.bench(TCP, |service| service, way);
            let standby = Backend::new(Endpoint::new(ends.backend, TCP), HOP_B, ends.local.into());
            bench.dataplane.set_backend(SERVICE, B, &standby.with_forwarding(way)).unwrap();
            let run = |bench: &mut Bench, flags| {
                let (reason, outcome) = bench.run(&segment(ends.client, ends.vip, flags).frame());
                (reason, outcome.frame[..6] == HOP_B.destination)
            };
            assert_eq!(run(&mut bench, "S"), ("new_flow", false));
            bench.dataplane.steer(SERVICE, Steer { active: B, draining: A, epoch: 2 });
            assert_eq!(run(&mut bench, "S"), ("syn_retransmit", false));
            assert_eq!(run(&mut bench, "A"), ("pinned_flow", false));
            assert_eq!(run(&mut bench, "S"), ("syn_retransmit", false), "its client has not finished");
            assert_eq!(run(&mut bench, "FA"), ("pinned_flow", false));
            assert_eq!(run(&mut bench, "A"), ("pinned_flow", false), "the end of what it answers to");
            assert_eq!(run(&mut bench, "S"), ("new_flow", true));
            assert_eq!(run(&mut bench, "A"), ("pinned_flow", true));
        }
    }
}

#[test]
fn ipip_carries_either_family_in_either() {
    for inner in [Ends::v4(), Ends::v6()] {
        for outer in [Ends::v4(), Ends::v6()] {
            for vlans in [&[][..], &[7], &[7, 42]] {
                let ends = Ends { vip: inner.vip, client: inner.client, ..outer };
                let mut bench = ends.bench(TCP, |service| service, Forwarding::Ipip);
                let sent = segment(ends.client, ends.vip, "S").with(b"whole").vlans(vlans);
                let (reason, outcome) = bench.run(&sent.frame());
                assert_eq!((reason, outcome.action), ("new_flow", XdpAction::Redirect));
                assert_eq!(outcome.frame[..6], HOP_A.destination);
                let (header, carried) = unwrap_tunnel(&outcome.frame);
                let (from, to, protocol): (IpAddr, IpAddr, u8) = match header {
                    IpHeaders::Ipv4(ip, _) => {
                        assert_eq!(usize::from(ip.total_len), 20 + carried.len());
                        assert!(ip.dont_fragment);
                        (ip.source.into(), ip.destination.into(), ip.protocol.0)
                    }
                    IpHeaders::Ipv6(ip, _) => {
                        assert_eq!(usize::from(ip.payload_length), carried.len());
                        (ip.source.into(), ip.destination.into(), ip.next_header.0)
                    }
                };
                assert_eq!((from, to), (ends.local, ends.backend.ip()));
                assert_eq!(protocol, if ends.vip.is_ipv4() { 4 } else { 41 });
                assert_eq!(carried, sent.packet(), "the inner packet is untouched");
                assert_eq!(read_packet(&carried).0, ends.client);
            }
        }
    }
}

fn with_snat(count: u16) -> impl Fn(Service) -> Service {
    move |service| service.with_snat(PortRange { first: 20_000, count, group: 0 })
}

#[test]
fn snat_sends_from_an_address_of_the_balancer_and_finds_the_client_again() {
    for ends in [Ends::v4(), Ends::v6()] {
        for protocol in [TCP, UDP] {
            let mut bench = ends.bench(protocol, with_snat(1000), Forwarding::Nat);
            let (reason, outcome) = bench.run(&packet(protocol, ends.client, ends.vip, "S", b"ask").frame());
            assert_eq!((reason, outcome.action), ("new_flow", XdpAction::Redirect));
            let lent = read(&outcome.frame);
            assert_eq!((lent.from.ip(), lent.to), (ends.local, ends.backend));
            assert!((20_000..21_000).contains(&lent.from.port()));

            let again = bench.run(&packet(protocol, ends.client, ends.vip, "A", b"more").frame()).1;
            assert_eq!(read(&again.frame).from, lent.from, "a flow keeps its port");

            let (reason, outcome) =
                bench.run(&packet(protocol, ends.backend, lent.from, "A", b"yes").frame());
            assert_eq!((reason, outcome.action), ("reply", XdpAction::Redirect));
            let out = read(&outcome.frame);
            assert_eq!((out.from, out.to, &out.payload[..]), (ends.vip, ends.client, &b"yes"[..]));
        }
    }
}

#[test]
fn snat_lends_no_port_twice_and_says_when_none_is_left() {
    let ends = Ends::v4();
    let mut bench = ends.bench(TCP, with_snat(100), Forwarding::Nat);
    let mut lent = BTreeSet::new();
    let mut refused = 0;
    for port in 1000..1200 {
        let client = SocketAddrV4::new(Ipv4Addr::new(192, 0, 2, 8), port);
        match bench.run(&segment(client, ends.vip, "S").frame()) {
            ("new_flow", outcome) => assert!(lent.insert(read(&outcome.frame).from), "{client}"),
            ("snat_exhausted", outcome) => {
                assert_eq!(outcome.action, XdpAction::Drop);
                refused += 1;
            }
            (other, _) => panic!("{other}"),
        }
    }
    assert!(lent.len() >= 95, "{} of 100 ports were lent", lent.len());
    assert_eq!(lent.len() + refused, 200);
    let stranger = segment(ends.backend, SocketAddr::new(ends.local, 20_100), "A");
    assert_eq!(bench.run(&stranger.frame()).0, "to_balancer", "not one of the range");
}

#[test]
fn the_port_of_a_flow_that_is_gone_is_lent_again() {
    let ends = Ends::v4();
    let mut bench = ends.bench(TCP, with_snat(1), Forwarding::Nat);
    assert_eq!(bench.run(&segment(ends.client, ends.vip, "S").frame()).0, "new_flow");
    let other = segment(SocketAddrV4::new(Ipv4Addr::new(192, 0, 2, 8), 1), ends.vip, "S").frame();
    assert_eq!(bench.run(&other).0, "snat_exhausted");
    bench.dataplane.forget_backend(A);
    // A port is not taken back before its flow has had the time to be written down.
    baton_tests::lab::eventually("the port is free", || {
        bench.dataplane.forget_backend(A);
        bench.run(&other).0 == "new_flow"
    });
}

#[test]
fn no_stack_takes_what_is_for_a_backend_by_dsr_while_its_next_hop_is_not_known() {
    for ends in [Ends::v4(), Ends::v6()] {
        let mut bench = ends.bench(TCP, |service| service, Forwarding::Dsr);
        let ask = |flags| segment(ends.client, ends.vip, flags).frame();
        assert_eq!(bench.run(&ask("S")).0, "new_flow");
        bench.dataplane.set_backend_hop(A, NextHop::default()).unwrap();
        let (reason, outcome) = bench.run(&ask("A"));
        assert_eq!((reason, outcome.action), ("no_hop", XdpAction::Drop));
        bench.dataplane.set_backend_hop(A, HOP_A).unwrap();
        assert_eq!(bench.run(&ask("A")).0, "pinned_flow");
    }
}

#[test]
fn a_flow_keeps_its_port_when_one_that_it_would_have_liked_better_becomes_free() {
    let ends = Ends::v4();
    let mut bench = ends.bench(TCP, with_snat(48), Forwarding::Nat);
    let client = |port: u16| SocketAddrV4::new(Ipv4Addr::new(192, 0, 2, 8), port);
    let open = |bench: &mut Bench, ports: RangeInclusive<u16>| -> Vec<_> {
        let opened = ports.map(|port| (port, bench.run(&segment(client(port), ends.vip, "S").frame())));
        let lent = opened.filter(|(_, (reason, _))| *reason == "new_flow");
        lent.map(|(port, (_, outcome))| (port, read(&outcome.frame).from)).collect()
    };
    let early = open(&mut bench, 1000..=1023);
    let late = open(&mut bench, 2000..=2099);
    assert!(early.len() == 24 && late.len() >= 12, "{} and {}", early.len(), late.len());
    for (port, _) in early {
        bench.run(&segment(client(port), ends.vip, "R").frame());
    }
    let mut probes = 3000..;
    baton_tests::lab::eventually("the ports of those that have ended are free", || {
        bench.dataplane.forget_expired(&FlowTimeouts { closed_ms: 0, ..FlowTimeouts::default() });
        let probe = probes.next().unwrap();
        !open(&mut bench, probe..=probe).is_empty()
    });
    for (port, lent) in late {
        let outcome = bench.run(&segment(client(port), ends.vip, "A").frame()).1;
        assert_eq!(read(&outcome.frame).from, lent, "client port {port}");
    }
}

#[test]
fn a_conversation_of_datagrams_follows_the_handover_if_it_may() {
    for (flags, expected) in [(0, "pinned_flow"), (service_flags::MOVE_DATAGRAMS, "moved")] {
        let ends = Ends::v4();
        let mut bench = ends.bench(UDP, |service| service.with_flags(flags), Forwarding::Nat);
        let ask = datagram(ends.client, ends.vip, b"ask").frame();
        assert_eq!(bench.run(&ask).0, "new_flow");
        let second: SocketAddr = "10.77.128.10:8080".parse().unwrap();
        let standby = Backend::new(Endpoint::new(second, UDP), HOP_A, ends.local.into());
        bench.dataplane.set_backend(SERVICE, B, &standby).unwrap();
        let steer = Steer { active: B, draining: A, epoch: 2 };
        bench.dataplane.steer(SERVICE, steer);
        let (reason, outcome) = bench.run(&ask);
        assert_eq!(reason, expected);
        assert_eq!(read(&outcome.frame).to, if flags == 0 { ends.backend } else { second });
        let late = bench.run(&datagram(ends.backend, ends.client, b"late").frame()).1;
        assert_eq!((late.action, read(&late.frame).from), (XdpAction::Redirect, ends.vip));
    }
}

#[test]
fn a_drain_only_service_tracks_nothing_until_a_backend_drains() {
    let ends = Ends::v4();
    let only = |service: Service| service.with_flags(service_flags::DRAIN_ONLY);
    let mut bench = ends.bench(TCP, only, Forwarding::Nat);
    assert_eq!(bench.run(&segment(ends.client, ends.vip, "S").frame()).0, "untracked");
    assert_eq!(bench.run(&segment(ends.backend, ends.client, "SA").frame()).0, "reply_untracked");
    assert!(bench.dataplane.flows(&FlowTimeouts::default()).is_empty());
    let standby = Backend::new(Endpoint::tcp("10.77.128.10:8080".parse().unwrap()), HOP_A, ends.local.into());
    bench.dataplane.set_backend(SERVICE, B, &standby).unwrap();
    let steer = Steer { active: B, draining: A, epoch: 2 };
    bench.dataplane.steer(SERVICE, steer);
    let (reason, outcome) = bench.run(&segment(ends.client, ends.vip, "A").frame());
    assert_eq!((reason, read(&outcome.frame).to), ("taken_up", ends.backend), "an old flow stays");
    let other = SocketAddrV4::new(Ipv4Addr::new(192, 0, 2, 8), 1);
    let (reason, outcome) = bench.run(&segment(other, ends.vip, "S").frame());
    assert_eq!((reason, read(&outcome.frame).to.port()), ("new_flow", 8080));
    assert_eq!(bench.dataplane.flows(&FlowTimeouts::default()).len(), 2);
}
