//! What a frame is: found out step by step, from its first byte on.
//!
//! Sources: IEEE 802.1Q (tags), RFC 791 (IPv4), RFC 8200 (IPv6), RFC 9293 (TCP), RFC 768 (UDP), RFC 792 and 4443 (ICMP).

use lb_common::Reason;

use super::bytes::{Octets, get16};

/// Protocol numbers of IANA's registry that this model tells apart.
pub mod protocol {
    /// RFC 792.
    pub const ICMP: u8 = 1;
    /// RFC 2003: IPv4 inside.
    pub const IPV4: u8 = 4;
    /// RFC 9293.
    pub const TCP: u8 = 6;
    /// RFC 768.
    pub const UDP: u8 = 17;
    /// RFC 4213, RFC 2473: IPv6 inside.
    pub const IPV6: u8 = 41;
    /// RFC 4443.
    pub const ICMPV6: u8 = 58;
    /// Fragment header (RFC 8200, section 4.5).
    pub const FRAGMENT: u8 = 44;
    /// Other headers that may stand before the transport: hop-by-hop, routing and destination options (RFC 8200),
    /// authentication (RFC 4302), mobility (RFC 6275), host identity (RFC 7401), shim6 (RFC 5533).
    pub const EXTENSIONS: [u8; 7] = [0, 43, 51, 60, 135, 139, 140];
}

/// Bytes of the shortest transport header, that of UDP: a frame that has no room for it behind its IP header is
/// not looked at further.
const LEAST_TRANSPORT: usize = 8;

/// A frame whose headers are understood.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Packet {
    /// Whether it is IPv6.
    pub v6: bool,
    /// Where the IP header begins.
    pub ip: usize,
    /// Where the transport header begins.
    pub transport: usize,
    /// First byte behind the packet; padding may follow.
    pub end: usize,
    /// The number of what follows the IP header: TCP, UDP or the family's ICMP.
    pub protocol: u8,
    /// Where it comes from; the port is 0 if it has none.
    pub source: (Octets, u16),
    /// Where it goes.
    pub destination: (Octets, u16),
    /// Whether routers may cut it into pieces.
    pub may_fragment: bool,
    /// Of a segment: its flags and how long its header is.
    pub tcp: Option<Tcp>,
}

/// What matters of a TCP header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tcp {
    /// The byte of flags.
    pub flags: u8,
    /// Bytes of header, options included.
    pub header_bytes: usize,
}

impl Packet {
    /// Bytes of IP packet.
    pub fn ip_bytes(&self) -> usize {
        self.end - self.ip
    }

    /// Bytes behind the transport header; a datagram counts as data even if it is empty.
    pub fn has_payload(&self) -> bool {
        self.tcp.is_none_or(|tcp| self.transport + tcp.header_bytes < self.end)
    }

    /// Whether all of these TCP flags are set.
    pub fn has(&self, flags: u8) -> bool {
        self.tcp.is_some_and(|tcp| tcp.flags & flags == flags)
    }

    /// Whether it is a datagram.
    pub fn is_datagram(&self) -> bool {
        self.protocol == protocol::UDP
    }

    /// Whether it is an ICMP message.
    pub fn is_icmp(&self) -> bool {
        matches!(self.protocol, protocol::ICMP | protocol::ICMPV6)
    }
}

/// Understands a frame, or says why it is left to the stack.
pub fn parse(frame: &[u8]) -> Result<Packet, Reason> {
    let mut at = 14;
    if frame.len() < at {
        return Err(Reason::Malformed);
    }
    for _ in 0..2 {
        if !matches!(get16(frame, at - 2), 0x8100 | 0x88a8) {
            break;
        }
        at += 4;
        if frame.len() < at {
            return Err(Reason::Malformed);
        }
    }
    match get16(frame, at - 2) {
        0x0800 => parse_ip(frame, at, false),
        0x86dd => parse_ip(frame, at, true),
        _ => Err(Reason::NotIp),
    }
}

fn parse_ip(frame: &[u8], ip: usize, v6: bool) -> Result<Packet, Reason> {
    let header = header_at(frame, ip, v6)?;
    let packet = Packet {
        v6,
        ip,
        transport: header.end,
        end: ip + header.packet_bytes,
        protocol: header.protocol,
        source: (header.source, 0),
        destination: (header.destination, 0),
        may_fragment: header.may_fragment,
        tcp: None,
    };
    if packet.end > frame.len() {
        return Err(Reason::Malformed);
    }
    match packet.protocol {
        protocol::TCP => parse_tcp(frame, packet),
        protocol::UDP if packet.transport + 8 > packet.end => Err(Reason::Malformed),
        protocol::UDP => Ok(with_ports(frame, packet)),
        protocol::ICMP if !v6 => Ok(packet),
        protocol::ICMPV6 if v6 => Ok(packet),
        protocol::FRAGMENT if v6 => Err(Reason::Fragment),
        other if v6 && protocol::EXTENSIONS.contains(&other) => Err(Reason::ExtensionHeader),
        _ => Err(Reason::NotSteered),
    }
}

/// An IP header without options, whole, with room for a transport's behind it.
pub struct Header {
    /// Behind its last byte.
    pub end: usize,
    /// Bytes that the packet says it has.
    pub packet_bytes: usize,
    /// What follows.
    pub protocol: u8,
    /// The sender.
    pub source: Octets,
    /// The receiver.
    pub destination: Octets,
    /// IPv4 without "don't fragment".
    pub may_fragment: bool,
}

/// The IP header at `ip`, or why there is none that is steered.
pub fn header_at(frame: &[u8], ip: usize, v6: bool) -> Result<Header, Reason> {
    let end = ip + if v6 { 40 } else { 20 };
    if end + LEAST_TRANSPORT > frame.len() {
        return Err(Reason::Malformed);
    }
    let (version, words) = (frame[ip] >> 4, frame[ip] & 15);
    if v6 {
        if version != 6 {
            return Err(Reason::Malformed);
        }
        let (source, destination) = (octets_at(frame, ip + 8), octets_at(frame, ip + 24));
        // IPv4 addresses in IPv6's form are on no wire by rights (RFC 6890), and name no IPv4 service.
        if is_mapped(source) || is_mapped(destination) {
            return Err(Reason::NotForService);
        }
        return Ok(Header {
            end,
            packet_bytes: 40 + usize::from(get16(frame, ip + 4)),
            protocol: frame[ip + 6],
            source,
            destination,
            may_fragment: false,
        });
    }
    if version != 4 || words < 5 {
        return Err(Reason::Malformed);
    }
    if words > 5 {
        return Err(Reason::IpOptions);
    }
    let fragment = get16(frame, ip + 6);
    let (more, offset) = (fragment & 0x2000 != 0, fragment & 0x1fff);
    if more || offset != 0 {
        return Err(Reason::Fragment);
    }
    Ok(Header {
        end,
        packet_bytes: usize::from(get16(frame, ip + 2)),
        protocol: frame[ip + 9],
        source: mapped(&frame[ip + 12..ip + 16]),
        destination: mapped(&frame[ip + 16..ip + 20]),
        may_fragment: fragment & 0x4000 == 0,
    })
}

fn octets_at(frame: &[u8], at: usize) -> Octets {
    let mut octets = [0; 16];
    octets.copy_from_slice(&frame[at..at + 16]);
    octets
}

fn is_mapped(octets: Octets) -> bool {
    octets[..12] == mapped(&[0; 4])[..12]
}

fn mapped(v4: &[u8]) -> Octets {
    let mut octets = [0; 16];
    octets[10..12].fill(0xff);
    octets[12..].copy_from_slice(v4);
    octets
}

fn parse_tcp(frame: &[u8], mut packet: Packet) -> Result<Packet, Reason> {
    if packet.transport + 20 > frame.len() {
        return Err(Reason::Malformed);
    }
    let header_bytes = usize::from(frame[packet.transport + 12] >> 4) * 4;
    if header_bytes < 20 || packet.transport + header_bytes > packet.end {
        return Err(Reason::Malformed);
    }
    packet.tcp = Some(Tcp { flags: frame[packet.transport + 13], header_bytes });
    Ok(with_ports(frame, packet))
}

fn with_ports(frame: &[u8], mut packet: Packet) -> Packet {
    packet.source.1 = get16(frame, packet.transport);
    packet.destination.1 = get16(frame, packet.transport + 2);
    packet
}

/// The packet that an ICMP error is about, as far as it is quoted.
#[derive(Clone, Copy, Debug)]
pub struct Quoted {
    /// Where its IP header begins.
    pub ip: usize,
    /// Where its transport header begins.
    pub transport: usize,
    /// TCP or UDP.
    pub protocol: u8,
    /// Where it came from.
    pub source: (Octets, u16),
    /// Where it went.
    pub destination: (Octets, u16),
}

/// What an ICMP message quotes, or why it is left to the stack: it is no error (RFC 792; RFC 4443, section 2.1), or
/// quotes less than an IP header and eight bytes, or no packet that could be of a flow.
pub fn quoted(frame: &[u8], message: &Packet) -> Result<Quoted, Reason> {
    let ip = message.transport + 8;
    let header_bytes = if message.v6 { 40 } else { 20 };
    if ip + header_bytes + 8 > message.end {
        return Err(Reason::Icmp);
    }
    let kind = frame[message.transport];
    // Unreachable, too big (ICMPv6), time exceeded, parameter problem.
    let is_error = if message.v6 { matches!(kind, 1..=4) } else { matches!(kind, 3 | 11 | 12) };
    if !is_error {
        return Err(Reason::Icmp);
    }
    let header = header_at(frame, ip, message.v6).map_err(|_| Reason::IcmpUnknown)?;
    if !matches!(header.protocol, protocol::TCP | protocol::UDP) {
        return Err(Reason::IcmpUnknown);
    }
    let port = |at: usize| get16(frame, header.end + at);
    Ok(Quoted {
        ip,
        transport: header.end,
        protocol: header.protocol,
        source: (header.source, port(0)),
        destination: (header.destination, port(2)),
    })
}
