//! What Baton answers by itself, and the errors of others that it passes on in words that the ends know.

use std::net::{IpAddr, SocketAddr};

use baton::dataplane::{FlowTimeouts, XdpAction};
use baton_tests::bench::{A, B, Bench, HOP_A, HOP_B, SERVICE, UPLINK};
use baton_tests::ends::Ends;
use baton_tests::frame::{ACKNOWLEDGED, Segment, datagram, read, segment, unwrap_tunnel};
use baton_tests::icmp::Icmp;
use lb_common::endpoint::{TCP, UDP};
use lb_common::snat::PortRange;
use lb_common::{Backend, BackendState, Endpoint, FlowState, Forwarding, NextHop, Service, Steer};

fn both() -> [Ends; 2] {
    [Ends::v4(), Ends::v6()]
}

fn plain(ends: &Ends, protocol: u8) -> Bench {
    ends.bench(protocol, |service| service, Forwarding::Nat)
}

fn establish(bench: &mut Bench, ends: &Ends) {
    for segment in [
        segment(ends.client, ends.vip, "S"),
        segment(ends.backend, ends.client, "SA"),
        segment(ends.client, ends.vip, "A"),
    ] {
        bench.run(&segment.frame());
    }
}

fn refuse(bench: &mut Bench) {
    bench.dataplane.set_backend_state(A, BackendState::Refused).unwrap();
}

#[track_caller]
fn assert_reset(bench: &mut Bench, sent: &Segment) -> (u32, u32, bool) {
    let (reason, outcome) = bench.run(&sent.frame());
    assert_eq!((reason, outcome.action), ("refused_reset", XdpAction::Tx));
    let out = read(&outcome.frame);
    assert_eq!((out.from, out.to), (sent.to, sent.from));
    assert_eq!((out.hardware, &out.vlans), (([2; 6], [4; 6]), &sent.vlans), "back to where it came from");
    assert!(out.payload.is_empty());
    let tcp = out.tcp.expect("a segment");
    assert!(tcp.rst && !tcp.syn && !tcp.fin && tcp.header_len() == 20);
    (tcp.sequence_number, tcp.acknowledgment_number, tcp.ack)
}

#[test]
fn a_segment_of_a_refused_flow_is_answered_by_a_reset_that_its_sender_accepts() {
    for ends in both() {
        for vlans in [&[][..], &[7], &[7, 42]] {
            let mut bench = plain(&ends, TCP);
            establish(&mut bench, &ends);
            refuse(&mut bench);
            let ask = segment(ends.client, ends.vip, "A").options(&[1; 12]).with(b"GET /").vlans(vlans);
            assert_eq!(assert_reset(&mut bench, &ask), (ACKNOWLEDGED, 0, false));
            let flows = bench.dataplane.flows(&FlowTimeouts::default());
            assert_eq!(flows[0].state, FlowState::Closed, "it counts as open no longer");
            let bare = segment(ends.client, ends.vip, "F").with(b"abc").vlans(vlans);
            assert_eq!(assert_reset(&mut bench, &bare), (0, bare.sequence + 4, true));
            let answer = segment(ends.backend, ends.client, "A").with(b"200 OK").vlans(vlans);
            assert_eq!(assert_reset(&mut bench, &answer), (ACKNOWLEDGED, 0, false));
        }
    }
}

#[test]
fn resets_and_datagrams_of_a_refused_flow_are_dropped() {
    for ends in both() {
        let mut bench = plain(&ends, TCP);
        establish(&mut bench, &ends);
        refuse(&mut bench);
        let (reason, outcome) = bench.run(&segment(ends.client, ends.vip, "R").frame());
        assert_eq!((reason, outcome.action), ("refused_silently", XdpAction::Drop));
        let (reason, outcome) = bench.run(&segment(ends.backend, ends.client, "R").frame());
        assert_eq!((reason, outcome.action), ("reply", XdpAction::Redirect), "the client may know");

        let mut bench = plain(&ends, UDP);
        bench.run(&datagram(ends.client, ends.vip, b"ask").frame());
        refuse(&mut bench);
        let (reason, outcome) = bench.run(&datagram(ends.client, ends.vip, b"ask").frame());
        assert_eq!((reason, outcome.action), ("refused_silently", XdpAction::Drop));
    }
}

#[test]
fn a_new_connection_on_a_refused_flows_tuple_goes_to_the_active_backend() {
    let ends = Ends::v4();
    let mut bench = plain(&ends, TCP);
    establish(&mut bench, &ends);
    let second: SocketAddr = "10.77.128.10:8080".parse().unwrap();
    let standby = Backend::new(Endpoint::tcp(second), HOP_B, ends.local.into());
    bench.dataplane.set_backend(SERVICE, B, &standby).unwrap();
    bench.dataplane.steer(SERVICE, Steer { active: B, draining: 0, epoch: 2 });
    refuse(&mut bench);
    let (reason, outcome) = bench.run(&segment(ends.client, ends.vip, "S").frame());
    assert_eq!((reason, read(&outcome.frame).to), ("new_flow", second));
}

fn narrow(bench: &mut Bench, mtu: u16) {
    bench.dataplane.set_backend_hop(A, NextHop { mtu, ..HOP_A }).unwrap();
}

#[test]
fn the_sender_of_a_packet_that_does_not_fit_is_told_how_large_it_may_be() {
    for ends in both() {
        for vlans in [&[][..], &[7], &[7, 42]] {
            let mut bench = plain(&ends, TCP);
            establish(&mut bench, &ends);
            narrow(&mut bench, 1400);
            let headers = if ends.vip.is_ipv4() { 40 } else { 60 };
            let fits = segment(ends.client, ends.vip, "A").with(&vec![7; 1400 - headers]).vlans(vlans);
            assert_eq!(bench.run(&fits.frame()).0, "pinned_flow");
            let sent = segment(ends.client, ends.vip, "A").with(&vec![7; 1401 - headers]).vlans(vlans);
            let (reason, outcome) = bench.run(&sent.frame());
            assert_eq!((reason, outcome.action), ("too_big", XdpAction::Tx));
            assert_eq!(outcome.frame[..12], [[2; 6], [4; 6]].concat());
            let error = Icmp::read(&outcome.frame);
            assert_eq!((error.from, error.to), (ends.vip.ip(), ends.client.ip()));
            assert_eq!(error.kind, if ends.vip.is_ipv4() { (3, 4) } else { (2, 0) });
            assert_eq!(error.rest, 1400);
            assert_eq!(error.body, sent.packet()[..error.body.len()]);
            assert_eq!(error.quoted(), (ends.client, ends.vip));
        }
    }
}

#[test]
fn a_backend_is_told_too_and_what_may_be_cut_is_left_to_the_stack() {
    let ends = Ends::v4();
    let narrow_uplink = |service: Service| Service::new(service.vip, NextHop { mtu: 1300, ..UPLINK });
    let mut bench = ends.bench(TCP, narrow_uplink, Forwarding::Nat);
    establish(&mut bench, &ends);
    let mut sent = segment(ends.backend, ends.client, "A").with(&[7; 1300]);
    let (reason, outcome) = bench.run(&sent.frame());
    assert_eq!((reason, outcome.action), ("too_big", XdpAction::Tx));
    let error = Icmp::read(&outcome.frame);
    assert_eq!((error.from, error.to, error.rest), (ends.client.ip(), ends.backend.ip(), 1300));
    sent.dont_fragment = false;
    let (reason, outcome) = bench.run(&sent.frame());
    assert_eq!((reason, outcome.action), ("reply", XdpAction::Pass));
    let out = read(&outcome.frame);
    assert_eq!((out.from, out.hardware), (ends.vip, ([4; 6], [2; 6])), "the stack takes only its own frames");

    narrow(&mut bench, 1200);
    let mut sent = segment(ends.client, ends.vip, "A").with(&[7; 1300]);
    sent.dont_fragment = false;
    let (reason, outcome) = bench.run(&sent.frame());
    assert_eq!((reason, outcome.action), ("pinned_flow", XdpAction::Pass));
    let out = read(&outcome.frame);
    assert_eq!((out.to, out.hardware), (ends.backend, ([4; 6], [2; 6])));
}

#[test]
fn a_backend_behind_lent_ports_is_answered_in_the_words_that_it_used() {
    for ends in both() {
        let ports = PortRange { first: 20_000, count: 1000, group: 0 };
        let service =
            |service: Service| Service::new(service.vip, NextHop { mtu: 1300, ..UPLINK }).with_snat(ports);
        let mut bench = ends.bench(TCP, service, Forwarding::Nat);
        let lent = read(&bench.run(&segment(ends.client, ends.vip, "S").frame()).1.frame).from;
        bench.run(&segment(ends.backend, lent, "SA").frame());

        let sent = segment(ends.backend, lent, "A").with(&[7; 1300]);
        let (reason, outcome) = bench.run(&sent.frame());
        assert_eq!((reason, outcome.action), ("too_big", XdpAction::Tx));
        let error = Icmp::read(&outcome.frame);
        assert_eq!((error.from, error.to, error.rest), (lent.ip(), ends.backend.ip(), 1300));
        assert_eq!(error.quoted(), (ends.backend, lent), "it knows of no other client");

        refuse(&mut bench);
        assert_reset(&mut bench, &segment(ends.backend, lent, "A").with(b"200 OK"));
    }
}

#[test]
fn the_outer_header_of_ipip_counts() {
    let ends = Ends::v4();
    let mut bench = ends.bench(TCP, |service| service, Forwarding::Ipip);
    bench.run(&segment(ends.client, ends.vip, "S").frame());
    let fits = segment(ends.client, ends.vip, "A").with(&[7; 1500 - 40 - 20]);
    assert_eq!(bench.run(&fits.frame()).0, "pinned_flow");
    let (reason, outcome) =
        bench.run(&segment(ends.client, ends.vip, "A").with(&[7; 1500 - 40 - 19]).frame());
    assert_eq!((reason, Icmp::read(&outcome.frame).rest), ("too_big", 1480));
}

#[test]
fn a_segment_size_beyond_the_path_is_brought_down_in_both_directions() {
    for ends in both() {
        let headers: u16 = if ends.vip.is_ipv4() { 40 } else { 60 };
        // The option alone, behind two others, behind one that puts it at an odd place, and one that is small.
        for (options, at, expected) in [
            (&[2, 4, 0x05, 0xb4][..], 2, 1400 - headers),
            (&[1, 1, 4, 2, 2, 4, 0x05, 0xb4], 6, 1400 - headers),
            (&[1, 2, 4, 0x05, 0xb4, 1, 1, 1], 3, 1400 - headers),
            (&[2, 4, 0x02, 0x00], 2, 512),
        ] {
            let mut bench = plain(&ends, TCP);
            narrow(&mut bench, 1400);
            for sent in [segment(ends.client, ends.vip, "S"), segment(ends.backend, ends.client, "SA")] {
                let out = read(&bench.run(&sent.options(options).frame()).1.frame);
                let tcp = out.tcp.expect("a segment");
                let options = tcp.options.as_slice();
                assert_eq!(u16::from_be_bytes([options[at], options[at + 1]]), expected);
            }
        }
    }
}

#[test]
fn options_that_make_no_sense_are_left_alone() {
    let ends = Ends::v4();
    let wrong_length = &[2, 6, 0x23, 0, 0, 0, 1, 1];
    for options in
        [&[2, 4, 0, 0][..], wrong_length, &[8, 0, 0, 0], &[0, 2, 4, 5], &[3, 60, 1, 1], &[1, 1, 2, 4]]
    {
        let mut bench = plain(&ends, TCP);
        narrow(&mut bench, 1400);
        let out = read(&bench.run(&segment(ends.client, ends.vip, "S").options(options).frame()).1.frame);
        assert_eq!(out.tcp.expect("a segment").options.as_slice(), options);
    }
}

/// An error about a packet, quoting so many bytes of it.
fn about(packet: &Segment, from: IpAddr, to: IpAddr, quoted: usize) -> Icmp {
    let kind = if from.is_ipv4() { (3, 1) } else { (1, 3) };
    Icmp { from, to, kind, rest: 0, body: packet.packet()[..quoted].to_vec() }
}

fn router(ends: &Ends) -> IpAddr {
    if ends.vip.is_ipv4() { "198.51.100.1".parse().unwrap() } else { "2001:db8:ffff::1".parse().unwrap() }
}

#[test]
fn an_error_about_a_reply_reaches_the_backend_in_its_own_words() {
    for ends in both() {
        for protocol in [TCP, UDP] {
            // Eight bytes behind the header are all that has to be quoted.
            let header = if ends.vip.is_ipv4() { 20 } else { 40 };
            for behind in [8, 28] {
                let mut bench = plain(&ends, protocol);
                bench.run(&some_packet(protocol, ends.client, ends.vip).frame());
                let reply = some_packet(protocol, ends.vip, ends.client);
                let error = about(&reply, router(&ends), ends.vip.ip(), header + behind);
                let (reason, outcome) = bench.run(&error.frame());
                assert_eq!((reason, outcome.action), ("icmp_error", XdpAction::Redirect));
                assert_eq!(outcome.frame[..6], HOP_A.destination);
                let out = Icmp::read(&outcome.frame);
                assert_eq!((out.from, out.to, out.kind), (error.from, ends.backend.ip(), error.kind));
                assert_eq!(out.quoted(), (ends.backend, ends.client));
                if protocol == UDP {
                    let expected = some_packet(protocol, ends.backend, ends.client).packet();
                    assert_eq!(out.body[header..], expected[header..header + behind], "with its checksum");
                }
            }
        }
    }
}

fn some_packet(protocol: u8, from: SocketAddr, to: SocketAddr) -> Segment {
    if protocol == TCP { segment(from, to, "S").with(&[5; 40]) } else { datagram(from, to, &[5; 40]) }
}

#[test]
fn an_error_about_a_packet_to_a_backend_reaches_the_client_in_its_own_words() {
    for ends in both() {
        for protocol in [TCP, UDP] {
            for (from, seen) in [(router(&ends), router(&ends)), (ends.backend.ip(), ends.vip.ip())] {
                let mut bench = plain(&ends, protocol);
                bench.run(&some_packet(protocol, ends.client, ends.vip).frame());
                let sent = some_packet(protocol, ends.client, ends.backend);
                let error = about(&sent, from, ends.client.ip(), 48);
                let (reason, outcome) = bench.run(&error.frame());
                assert_eq!((reason, outcome.action), ("reply_icmp_error", XdpAction::Redirect));
                assert_eq!(outcome.frame[..6], UPLINK.destination);
                let out = Icmp::read(&outcome.frame);
                assert_eq!((out.from, out.to), (seen, ends.client.ip()));
                assert_eq!(out.quoted(), (ends.client, ends.vip));
            }
        }
    }
}

#[test]
fn errors_find_their_way_through_snat() {
    for ends in both() {
        let ports = |service: Service| service.with_snat(PortRange { first: 20_000, count: 1000, group: 0 });
        let mut bench = ends.bench(UDP, ports, Forwarding::Nat);
        let lent = read(&bench.run(&datagram(ends.client, ends.vip, b"ask").frame()).1.frame).from;

        let sent = datagram(lent, ends.backend, &[5; 40]);
        let (reason, outcome) = bench.run(&about(&sent, ends.backend.ip(), lent.ip(), 48).frame());
        assert_eq!(reason, "reply_icmp_error");
        let out = Icmp::read(&outcome.frame);
        assert_eq!(
            (out.from, out.to, out.quoted()),
            (ends.vip.ip(), ends.client.ip(), (ends.client, ends.vip))
        );

        let reply = datagram(ends.vip, ends.client, &[5; 40]);
        let (reason, outcome) = bench.run(&about(&reply, router(&ends), ends.vip.ip(), 48).frame());
        assert_eq!(reason, "icmp_error");
        let out = Icmp::read(&outcome.frame);
        assert_eq!((out.to, out.quoted()), (ends.backend.ip(), (ends.backend, lent)));
    }
}

#[test]
fn an_error_about_a_flow_without_a_port_of_its_own_lends_none() {
    let ends = Ends::v4();
    let one = |service: Service| service.with_snat(PortRange { first: 20_000, count: 1, group: 0 });
    let mut bench = ends.bench(TCP, one, Forwarding::Nat);
    bench.run(&segment(ends.client, ends.vip, "S").frame());
    let second = SocketAddr::new(ends.client.ip(), 9);
    assert_eq!(bench.run(&segment(second, ends.vip, "S").frame()).0, "snat_exhausted");
    let sent = bench.dataplane.backend_counters(A).unwrap().packets_in;
    assert_eq!(sent, 1, "what is not sent is not counted as sent");
    let error = about(&some_packet(TCP, ends.vip, second), router(&ends), ends.vip.ip(), 48).frame();
    let (reason, outcome) = bench.run(&error);
    assert_eq!((reason, outcome.action, outcome.frame), ("icmp_unknown", XdpAction::Pass, error));
}

#[test]
fn padding_behind_an_error_is_no_quoted_packet() {
    for ends in both() {
        let mut bench = plain(&ends, TCP);
        bench.run(&segment(ends.client, ends.vip, "S").frame());
        let whole = about(&some_packet(TCP, ends.vip, ends.client), router(&ends), ends.vip.ip(), 48);
        let mut frame = Icmp { body: Vec::new(), ..whole.clone() }.frame();
        frame.extend(&whole.body);
        let (reason, outcome) = bench.run(&frame);
        assert_eq!((reason, outcome.action, outcome.frame), ("icmp", XdpAction::Pass, frame));
    }
}

#[test]
fn an_error_reaches_a_backend_that_answers_by_itself() {
    for way in [Forwarding::Dsr, Forwarding::Ipip] {
        let ends = Ends::v4();
        let mut bench = ends.bench(TCP, |service| service, way);
        bench.run(&segment(ends.client, ends.vip, "S").frame());
        let error = about(&some_packet(TCP, ends.vip, ends.client), router(&ends), ends.vip.ip(), 28).frame();
        let (reason, outcome) = bench.run(&error);
        assert_eq!((reason, outcome.action), ("icmp_error", XdpAction::Redirect));
        if way == Forwarding::Dsr {
            assert_eq!(outcome.frame[12..], error[12..]);
        } else {
            assert_eq!(unwrap_tunnel(&outcome.frame).1, error[14..]);
        }
    }
}

#[test]
fn other_icmp_is_left_to_the_stack() {
    for ends in both() {
        let mut bench = plain(&ends, TCP);
        bench.run(&segment(ends.client, ends.vip, "S").frame());
        let (from, to) = (ends.client.ip(), ends.vip.ip());
        let echo = if from.is_ipv4() { (8, 0) } else { (128, 0) };
        let stranger: SocketAddr = SocketAddr::new(from, 9);
        let cases = [
            ("icmp", Icmp { from, to, kind: echo, rest: 7, body: vec![1; 64] }),
            ("icmp_unknown", about(&some_packet(TCP, ends.vip, stranger), router(&ends), to, 48)),
            ("icmp_unknown", about(&some_packet(TCP, stranger, ends.client), router(&ends), to, 48)),
        ];
        for (expected, message) in cases {
            let frame = message.frame();
            let (reason, outcome) = bench.run(&frame);
            assert_eq!((reason, outcome.action), (expected, XdpAction::Pass));
            assert_eq!(outcome.frame, frame);
        }
    }
}
