//! Templates of frames, made by etherparse.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use etherparse::{IpHeaders, PacketBuilder, PacketBuilderStep, TcpHeader};
use lb_common::bench::{FRAME_BYTES, Frames, SCRAMBLE, WORDS};
use lb_common::endpoint::UDP;

use super::services::Kind;

/// Clients: networks that are set aside for benchmarks (RFC 2544 and RFC 5180).
const CLIENTS_4: Ipv4Addr = Ipv4Addr::new(198, 18, 0, 0);
const CLIENTS_6: Ipv6Addr = Ipv6Addr::new(0x2001, 2, 0, 0, 0, 0, 0, 0);
/// Where nobody listens.
const NOBODY: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::new(10, 77, 0, 99)), 80);

/// Bytes of the headers before and of an IP header.
const ETHERNET: usize = 14;
const IPV4: usize = 20;
const IPV6: usize = 40;

/// Frames from the clients of a service, with these TCP flags (letters of `SA`) and no data.
pub(super) fn to_service(kind: Kind, flags: &str) -> Frames {
    from_clients(kind.vip(), kind.protocol(), flags)
}

/// Frames from clients to where nobody listens.
pub(super) fn to_nobody() -> Frames {
    from_clients(NOBODY, Kind::Tcp4.protocol(), "A")
}

/// Frames from the backend of a service to its clients, with data unless they are part of a handshake.
pub(super) fn from_backend(kind: Kind, flags: &str) -> Frames {
    let from = kind.backend_address(kind.backend());
    let to = client(from);
    template(&frame(from, to, kind.protocol(), flags, !flags.contains('S')), End::Destination)
}

/// Frames of flows with these numbers, in scrambled order.
pub(super) fn of_flows(frames: Frames, first: u32, flows: u32) -> Frames {
    Frames { first_flow: first, flow_mask: flows.next_power_of_two() - 1, ..frames }
}

/// The same, one number after the other: a table is filled in another order than it is visited in, or else
/// what stands side by side in it would be met side by side.
pub(super) fn in_order(frames: Frames, first: u32, flows: u32) -> Frames {
    Frames { step: 1, ..of_flows(frames, first, flows) }
}

/// The frame of one flow, for whoever wants to look at a single one.
pub(super) fn single(frames: &Frames, flow: u32) -> Vec<u8> {
    let mut words = frames.words;
    let ports = usize::from(frames.ports_word);
    words[ports] = frames.ports(words[ports], flow);
    words[usize::from(frames.address_word)] = frames.client_address(flow);
    let head = frames.head.to_ne_bytes();
    head.into_iter().chain(words.into_iter().flat_map(u32::to_ne_bytes)).collect()
}

/// Which end of a frame the client is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum End {
    Source,
    Destination,
}

fn from_clients(to: SocketAddr, protocol: u8, flags: &str) -> Frames {
    template(&frame(client(to), to, protocol, flags, protocol == UDP), End::Source)
}

/// The client of flow 0 of the same family as `other`, without its port.
fn client(other: SocketAddr) -> SocketAddr {
    let address = if other.is_ipv4() { CLIENTS_4.into() } else { CLIENTS_6.into() };
    SocketAddr::new(address, 0)
}

fn frame(from: SocketAddr, to: SocketAddr, protocol: u8, flags: &str, data: bool) -> Vec<u8> {
    let builder = PacketBuilder::ethernet2([2; 6], [4; 6]);
    let (ip, builder) = match (from.ip(), to.ip()) {
        (IpAddr::V4(from), IpAddr::V4(to)) => (IPV4, builder.ipv4(from.octets(), to.octets(), 64)),
        (from, to) => (IPV6, builder.ipv6(octets(from), octets(to), 64)),
    };
    let transport = if protocol == UDP { 8 } else { TcpHeader::MIN_LEN };
    // What is no data is padding behind the packet.
    let payload = vec![0x5a; if data { FRAME_BYTES - ETHERNET - ip - transport } else { 0 }];
    let mut frame = Vec::with_capacity(FRAME_BYTES);
    if protocol == UDP {
        builder.udp(from.port(), to.port()).write(&mut frame, &payload)
    } else {
        with_segment(builder, from, to, flags).write(&mut frame, &payload)
    }
    .expect("a packet that fits into a frame");
    frame.resize(FRAME_BYTES, 0);
    frame
}

fn with_segment(
    builder: PacketBuilderStep<IpHeaders>,
    from: SocketAddr,
    to: SocketAddr,
    flags: &str,
) -> PacketBuilderStep<TcpHeader> {
    let mut tcp = TcpHeader::new(from.port(), to.port(), 0x1234_5678, 0xfeed);
    tcp.syn = flags.contains('S');
    tcp.ack = flags.contains('A');
    builder.tcp_header(tcp)
}

fn octets(address: IpAddr) -> [u8; 16] {
    match address {
        IpAddr::V4(v4) => v4.to_ipv6_mapped().octets(),
        IpAddr::V6(v6) => v6.octets(),
    }
}

fn template(frame: &[u8], client: End) -> Frames {
    let is_v6 = frame[12..14] == [0x86, 0xdd];
    // The last word of each address.
    let (source, destination, ports) =
        if is_v6 { (34, 50, ETHERNET + IPV6) } else { (26, 30, ETHERNET + IPV4) };
    let word = |at: usize| ((at - 2) / 4) as u8;
    let first = frame[..2].try_into().expect("two bytes");
    Frames {
        words: std::array::from_fn(|at| {
            u32::from_ne_bytes(frame[2 + 4 * at..][..4].try_into().expect("a word of the frame"))
        }),
        head: u16::from_ne_bytes(first),
        address_word: word(if client == End::Source { source } else { destination }),
        ports_word: word(ports),
        port_shift: if client == End::Source { 0 } else { 16 },
        address: if is_v6 { 0 } else { CLIENTS_4.to_bits() },
        first_flow: 0,
        flow_mask: 0,
        step: SCRAMBLE,
    }
}

const _: () = assert!(FRAME_BYTES >= ETHERNET + IPV6 + TcpHeader::MIN_LEN && WORDS < 256);

#[cfg(test)]
mod tests {
    use etherparse::{NetSlice, SlicedPacket, TransportSlice};

    use super::*;

    /// Source and destination of a frame, and its bytes of data.
    fn ends(frame: &[u8]) -> (SocketAddr, SocketAddr, usize) {
        let packet = SlicedPacket::from_ethernet(frame).unwrap();
        let (source, destination): (IpAddr, IpAddr) = match packet.net.unwrap() {
            NetSlice::Ipv4(ip) => (ip.header().source_addr().into(), ip.header().destination_addr().into()),
            NetSlice::Ipv6(ip) => (ip.header().source_addr().into(), ip.header().destination_addr().into()),
            NetSlice::Arp(_) => panic!("neither IPv4 nor IPv6"),
        };
        let (ports, data) = match packet.transport.unwrap() {
            TransportSlice::Tcp(tcp) => ((tcp.source_port(), tcp.destination_port()), tcp.payload().len()),
            TransportSlice::Udp(udp) => ((udp.source_port(), udp.destination_port()), udp.payload().len()),
            _ => panic!("neither TCP nor UDP"),
        };
        (SocketAddr::new(source, ports.0), SocketAddr::new(destination, ports.1), data)
    }

    #[test]
    fn a_frame_of_each_kind_comes_from_the_client_of_its_flow_and_the_answer_goes_back_to_it() {
        for kind in Kind::ALL {
            let flow = (3 << 12) + 5;
            let (client, vip, _) = ends(&single(&to_service(kind, "A"), flow));
            let host = if kind == Kind::Tcp6 { "[2001:2::3]:16389" } else { "198.18.0.3:16389" };
            assert_eq!((client, vip), (host.parse().unwrap(), kind.vip()));
            let (from, to, data) = ends(&single(&from_backend(kind, "A"), flow));
            assert_eq!((from, to), (kind.backend_address(kind.backend()), client));
            assert!(data > 0);
        }
    }

    #[test]
    fn an_acknowledgement_and_a_handshake_carry_no_data() {
        for frames in
            [to_service(Kind::Tcp4, "A"), to_service(Kind::Tcp6, "S"), from_backend(Kind::Tcp4, "SA")]
        {
            assert_eq!(ends(&single(&frames, 0)).2, 0);
        }
    }

    #[test]
    fn every_frame_is_of_the_same_length() {
        for kind in Kind::ALL {
            assert_eq!(single(&to_service(kind, "S"), 0).len(), FRAME_BYTES);
        }
    }
}
