//! ICMP messages of both versions, made and checked with sums of our own definition (RFC 1071), which shares
//! no code with Baton.

use std::net::{IpAddr, SocketAddr};

use etherparse::{EtherType, Ethernet2Header, IpNumber, Ipv4Header, Ipv6FlowLabel, Ipv6Header};

use crate::frame::unwrap_tunnel;

/// An ICMP message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Icmp {
    /// Who says it.
    pub from: IpAddr,
    /// To whom.
    pub to: IpAddr,
    /// Type and code.
    pub kind: (u8, u8),
    /// The four bytes that depend on the type.
    pub rest: u32,
    /// What follows: of an error, the packet that it is about.
    pub body: Vec<u8>,
}

impl Icmp {
    /// The frame that carries it.
    ///
    /// # Panics
    ///
    /// Panics if the addresses are of different families.
    pub fn frame(&self) -> Vec<u8> {
        let mut message = vec![self.kind.0, self.kind.1, 0, 0];
        message.extend(self.rest.to_be_bytes());
        message.extend(&self.body);
        let length = u16::try_from(message.len()).expect("a message that fits");
        let sum = !ones_sum(&[pseudo_header(self.from, self.to, length), message.clone()].concat());
        message[2..4].copy_from_slice(&sum.to_be_bytes());
        let mut frame = Vec::new();
        let ether_type = if self.from.is_ipv4() { EtherType::IPV4 } else { EtherType::IPV6 };
        let ethernet = Ethernet2Header { destination: [4; 6], source: [2; 6], ether_type };
        ethernet.write(&mut frame).expect("room");
        match (self.from, self.to) {
            (IpAddr::V4(from), IpAddr::V4(to)) => {
                let mut ip =
                    Ipv4Header::new(length, 64, IpNumber::ICMP, from.octets(), to.octets()).expect("fits");
                ip.header_checksum = ip.calc_header_checksum();
                ip.write(&mut frame).expect("room");
            }
            (IpAddr::V6(from), IpAddr::V6(to)) => Ipv6Header {
                traffic_class: 0,
                flow_label: Ipv6FlowLabel::ZERO,
                payload_length: length,
                next_header: IpNumber::IPV6_ICMP,
                hop_limit: 64,
                source: from.octets(),
                destination: to.octets(),
            }
            .write(&mut frame)
            .expect("room"),
            mixed => panic!("{mixed:?} are not of one family"),
        }
        frame.extend(message);
        frame
    }

    /// Reads the message that a frame carries.
    ///
    /// # Panics
    ///
    /// Panics if it is none, or if a checksum is wrong.
    pub fn read(frame: &[u8]) -> Self {
        let (header, message) = unwrap_tunnel(frame);
        let (from, to, protocol): (IpAddr, IpAddr, IpNumber) = match header {
            etherparse::IpHeaders::Ipv4(ip, _) => (ip.source.into(), ip.destination.into(), ip.protocol),
            etherparse::IpHeaders::Ipv6(ip, _) => (ip.source.into(), ip.destination.into(), ip.next_header),
        };
        assert!(protocol == IpNumber::ICMP || protocol == IpNumber::IPV6_ICMP, "{protocol:?}");
        let length = u16::try_from(message.len()).expect("a message");
        let sum = ones_sum(&[pseudo_header(from, to, length), message.clone()].concat());
        assert_eq!(sum, 0xffff, "ICMP checksum");
        Self {
            from,
            to,
            kind: (message[0], message[1]),
            rest: u32::from_be_bytes([message[4], message[5], message[6], message[7]]),
            body: message[8..].to_vec(),
        }
    }

    /// The ends of the packet that an error quotes, whose IP checksum must be right.
    ///
    /// # Panics
    ///
    /// Panics if it quotes no whole header with ports behind it.
    pub fn quoted(&self) -> (SocketAddr, SocketAddr) {
        let port = |at: usize| u16::from_be_bytes([self.body[at], self.body[at + 1]]);
        if self.from.is_ipv4() {
            assert_eq!(ones_sum(&self.body[..20]), 0xffff, "checksum of the quoted header");
            let address =
                |at: usize| IpAddr::from(<[u8; 4]>::try_from(&self.body[at..at + 4]).expect("four"));
            (SocketAddr::new(address(12), port(20)), SocketAddr::new(address(16), port(22)))
        } else {
            let address =
                |at: usize| IpAddr::from(<[u8; 16]>::try_from(&self.body[at..at + 16]).expect("16"));
            (SocketAddr::new(address(8), port(40)), SocketAddr::new(address(24), port(42)))
        }
    }
}

/// ICMPv6 sums the addresses too (RFC 4443, section 2.3); ICMP does not.
fn pseudo_header(from: IpAddr, to: IpAddr, length: u16) -> Vec<u8> {
    let (IpAddr::V6(from), IpAddr::V6(to)) = (from, to) else { return Vec::new() };
    let mut bytes = [from.octets(), to.octets()].concat();
    bytes.extend([0, 0]);
    bytes.extend(length.to_be_bytes());
    bytes.extend([0, 0, 0, 58]);
    bytes
}

fn ones_sum(bytes: &[u8]) -> u16 {
    let word = |pair: &[u8]| u32::from(pair[0]) << 8 | u32::from(pair.get(1).copied().unwrap_or(0));
    let mut sum: u32 = bytes.chunks(2).map(word).sum();
    while sum > 0xffff {
        sum = (sum >> 16) + (sum & 0xffff);
    }
    sum as u16
}
