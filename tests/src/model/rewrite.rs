//! What leaves: frames changed as the documentation says, each checksum summed anew over all that it covers.
//!
//! What always holds of a rewrite: sums that were right stay right, and what was wrong stays exactly as wrong, so that
//! the receiver still notices ([`keeping`]).

use lb_common::NextHop;

use super::bytes::{Octets, add, get16, get32, keeping, put16, sum};
use super::flow::flag;
use super::parse::{Packet, Quoted, protocol};

/// Which end of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// Where it comes from.
    Source,
    /// Where it goes.
    Destination,
}

/// Replaces an end of a TCP segment or datagram.
pub fn endpoint(frame: &mut [u8], packet: &Packet, end: End, (address, port): (Octets, u16)) {
    keeping_sums(frame, packet, |frame| {
        put_address(frame, packet.ip, packet.v6, end, address);
        put_port(frame, packet.transport, end, port);
    });
}

/// Lowers the segment size that a SYN announces to `largest` bytes, if it announces more.
///
/// Eight options are looked at, and of them the first well-formed one counts (RFC 9293, section 3.2).
pub fn clamp_segment_size(frame: &mut [u8], packet: &Packet, largest: u16) {
    let Some(tcp) = packet.tcp else { return };
    let end = packet.transport + tcp.header_bytes;
    let mut at = packet.transport + 20;
    for _ in 0..8 {
        if at + 2 > end || frame[at] == 0 {
            return;
        }
        if frame[at] == 1 {
            at += 1;
            continue;
        }
        let length = usize::from(frame[at + 1]);
        if frame[at] == 2 && length == 4 && at + 4 <= end {
            if get16(frame, at + 2) > largest {
                keeping_sums(frame, packet, |frame| put16(frame, at + 2, largest));
            }
            return;
        }
        if length < 2 {
            return;
        }
        at += length;
    }
}

/// Addresses a frame to a neighbour.
pub fn next_hop(frame: &mut [u8], hop: &NextHop) {
    frame[..6].copy_from_slice(&hop.destination);
    frame[6..12].copy_from_slice(&hop.source);
}

/// The frame with its packet inside another one (RFC 2003, RFC 4213, RFC 2473).
pub fn encapsulate(frame: &[u8], packet: &Packet, source: Octets, destination: Octets, v6: bool) -> Vec<u8> {
    let inside = if packet.v6 { protocol::IPV6 } else { protocol::IPV4 };
    let class = if packet.v6 { (get16(frame, packet.ip) >> 4) as u8 } else { frame[packet.ip + 1] };
    let mut out = frame[..packet.ip].to_vec();
    put16(&mut out, packet.ip - 2, if v6 { 0x86dd } else { 0x0800 });
    let bytes = packet.ip_bytes() as u16;
    out.extend(header(source, destination, v6, inside, class, bytes, packet.may_fragment));
    out.extend(&frame[packet.ip..]);
    out
}

/// A fresh IP header for a packet of the balancer's own.
fn header(
    source: Octets,
    destination: Octets,
    v6: bool,
    protocol: u8,
    class: u8,
    payload_bytes: u16,
    may_fragment: bool,
) -> Vec<u8> {
    let mut out = Vec::new();
    if v6 {
        out.extend((6 << 28 | u32::from(class) << 20).to_be_bytes());
        out.extend(payload_bytes.to_be_bytes());
        out.extend([protocol, 64]);
        out.extend(source);
        out.extend(destination);
    } else {
        out.extend([0x45, class]);
        out.extend((payload_bytes + 20).to_be_bytes());
        out.extend([0, 0, if may_fragment { 0 } else { 0x40 }, 0, 64, protocol, 0, 0]);
        out.extend(&source[12..]);
        out.extend(&destination[12..]);
        let checksum = !sum(&out);
        put16(&mut out, 10, checksum);
    }
    out
}

/// Turns a frame's link header round: back to whom it came from.
fn link_back(frame: &[u8], packet: &Packet) -> Vec<u8> {
    [&frame[6..12], &frame[..6], &frame[12..packet.ip]].concat()
}

/// The reset that answers a segment (RFC 9293, section 3.10.7.1): it stands where the sender expects the next byte, or
/// acknowledges all that was sent.
pub fn reset(frame: &[u8], packet: &Packet) -> Vec<u8> {
    let tcp = &frame[packet.transport..];
    let (sequence, acknowledgement) = (get32(tcp, 4), get32(tcp, 8));
    let header_bytes = packet.tcp.map_or(20, |tcp| tcp.header_bytes);
    let mut length = (packet.end - packet.transport - header_bytes) as u32;
    length += u32::from(packet.has(flag::SYN)) + u32::from(packet.has(flag::FIN));
    let (sequence, acknowledgement, flags) = if packet.has(flag::ACK) {
        (acknowledgement, 0, flag::RST)
    } else {
        (0, sequence.wrapping_add(length), flag::RST | flag::ACK)
    };
    let mut segment = [&tcp[2..4], &tcp[..2]].concat();
    segment.extend(sequence.to_be_bytes());
    segment.extend(acknowledgement.to_be_bytes());
    segment.extend([5 << 4, flags, 0, 0, 0, 0, 0, 0]);
    let (from, to) = (packet.destination.0, packet.source.0);
    let checksum = !add(pseudo_header(from, to, protocol::TCP, segment.len()), sum(&segment));
    put16(&mut segment, 16, checksum);
    let mut out = link_back(frame, packet);
    out.extend(header(from, to, packet.v6, protocol::TCP, 0, segment.len() as u16, false));
    out.extend(segment);
    out
}

/// Bytes of a packet that an error quotes.
const QUOTED: usize = 96;

/// The error that tells a packet's sender how long it may be (RFC 1191, RFC 8201).
pub fn too_big(frame: &[u8], packet: &Packet, mtu: u16) -> Vec<u8> {
    let mut message = if packet.v6 { vec![2, 0, 0, 0] } else { vec![3, 4, 0, 0] };
    message.extend(u32::from(mtu).to_be_bytes());
    message.extend(&frame[packet.ip..packet.ip + QUOTED]);
    let (from, to) = (packet.destination.0, packet.source.0);
    let mut total = sum(&message);
    if packet.v6 {
        total = add(total, pseudo_header(from, to, protocol::ICMPV6, message.len()));
    }
    put16(&mut message, 2, !total);
    let mut out = link_back(frame, packet);
    let number = if packet.v6 { protocol::ICMPV6 } else { protocol::ICMP };
    out.extend(header(from, to, packet.v6, number, 0, message.len() as u16, true));
    out.extend(message);
    out
}

/// What is changed in an ICMP error on its way.
#[derive(Clone, Copy, Debug, Default)]
pub struct ErrorChange {
    /// Who says it.
    pub from: Option<Octets>,
    /// To whom.
    pub to: Option<Octets>,
    /// Where the quoted packet came from.
    pub quoted_source: Option<(Octets, u16)>,
    /// Where it went.
    pub quoted_destination: Option<(Octets, u16)>,
}

/// Rewrites an ICMP error and the packet that it quotes. Of the quoted checksums those of IPv4 and UDP lie within the
/// bytes that are always quoted; TCP's does not, and is left.
pub fn error(frame: &mut [u8], message: &Packet, quoted: &Quoted, change: &ErrorChange) {
    keeping_sums(frame, message, |frame| {
        keeping_quoted_sums(frame, message, quoted, |frame| {
            let ends = [(End::Source, change.quoted_source), (End::Destination, change.quoted_destination)];
            for (end, (address, port)) in ends.into_iter().filter_map(|(end, to)| Some((end, to?))) {
                put_address(frame, quoted.ip, message.v6, end, address);
                put_port(frame, quoted.transport, end, port);
            }
        });
        for (end, address) in [(End::Source, change.from), (End::Destination, change.to)] {
            if let Some(address) = address {
                put_address(frame, message.ip, message.v6, end, address);
            }
        }
    });
}

fn put_address(frame: &mut [u8], ip: usize, v6: bool, end: End, address: Octets) {
    let second = usize::from(end == End::Destination);
    if v6 {
        let at = ip + 8 + 16 * second;
        frame[at..at + 16].copy_from_slice(&address);
    } else {
        let at = ip + 12 + 4 * second;
        frame[at..at + 4].copy_from_slice(&address[12..]);
    }
}

fn put_port(frame: &mut [u8], transport: usize, end: End, port: u16) {
    put16(frame, transport + 2 * usize::from(end == End::Destination), port);
}

/// The sum of the pseudo-header (RFC 9293, section 3.1; RFC 8200, section 8.1). An IPv4 address adds what its mapped
/// form adds less the constant prefix, which is zero in one's complement: 0xffff.
fn pseudo_header(source: Octets, destination: Octets, protocol: u8, bytes: usize) -> u16 {
    let length = (bytes as u32).to_be_bytes();
    sum(&[&source[..], &destination[..], &length[..], &[0, protocol]].concat())
}

/// Where a transport's checksum stands.
fn checksum_at(protocol: u8, transport: usize) -> usize {
    transport
        + match protocol {
            protocol::TCP => 16,
            protocol::UDP => 6,
            _ => 2,
        }
}

/// Changes a packet, and its checksums so that they are as right or wrong as before. Of the pseudo-header only the
/// addresses are summed: length and protocol stay, and count the same before and after.
fn keeping_sums(frame: &mut [u8], packet: &Packet, change: impl FnOnce(&mut [u8])) {
    let checksum = checksum_at(packet.protocol, packet.transport);
    let covered = |frame: &[u8]| {
        let bytes = sum(&frame[packet.transport..packet.end]);
        // ICMP has no pseudo-header, ICMPv6 does (RFC 4443, section 2.3).
        if packet.protocol == protocol::ICMP {
            return bytes;
        }
        let ends = if packet.v6 { 8..40 } else { 12..20 };
        add(bytes, sum(&frame[packet.ip..][ends]))
    };
    let whole = covered(frame);
    keeping_header_sum(frame, packet.ip, packet.v6, change);
    put_checksum(frame, packet.protocol, checksum, whole, covered);
}

fn keeping_quoted_sums(frame: &mut [u8], message: &Packet, quoted: &Quoted, change: impl FnOnce(&mut [u8])) {
    let checksum = checksum_at(quoted.protocol, quoted.transport);
    // As much as is quoted for sure; the rest does not change.
    let covered =
        |frame: &[u8]| sum(&frame[quoted.ip + if message.v6 { 8 } else { 12 }..quoted.transport + 8]);
    let whole = covered(frame);
    keeping_header_sum(frame, quoted.ip, message.v6, change);
    if quoted.protocol == protocol::UDP {
        put_checksum(frame, quoted.protocol, checksum, whole, covered);
    }
}

fn keeping_header_sum(frame: &mut [u8], ip: usize, v6: bool, change: impl FnOnce(&mut [u8])) {
    let whole = sum(&frame[ip..ip + 20]);
    change(frame);
    if !v6 {
        put16(frame, ip + 10, 0);
        let checksum = keeping(whole, sum(&frame[ip..ip + 20]));
        put16(frame, ip + 10, checksum);
    }
}

fn put_checksum(frame: &mut [u8], protocol: u8, at: usize, whole: u16, covered: impl Fn(&[u8]) -> u16) {
    // A datagram may have none, and says so by 0 (RFC 768); one whose checksum is 0 says 0xffff.
    let is_datagram = protocol == protocol::UDP;
    if is_datagram && get16(frame, at) == 0 {
        return;
    }
    put16(frame, at, 0);
    let checksum = match keeping(whole, covered(frame)) {
        0 if is_datagram => 0xffff,
        checksum => checksum,
    };
    put16(frame, at, checksum);
}
