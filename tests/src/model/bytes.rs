//! Frames as bytes: fields read and written in network order, and Internet checksums by their definition.
//!
//! What always holds: a checksum is summed over all that it covers (RFC 1071). Nothing is updated by differences.

use std::net::{IpAddr, Ipv6Addr};

/// An address of either family in 16 bytes; IPv4 in its IPv6-mapped form (RFC 4291, section 2.5.5.2).
pub type Octets = [u8; 16];

/// The 16 bytes of an address.
pub fn octets(ip: IpAddr) -> Octets {
    match ip {
        IpAddr::V4(v4) => v4.to_ipv6_mapped().octets(),
        IpAddr::V6(v6) => v6.octets(),
    }
}

/// The address of 16 bytes.
pub fn address(octets: Octets) -> IpAddr {
    Ipv6Addr::from(octets).to_canonical()
}

/// Two bytes as a number.
pub fn get16(bytes: &[u8], at: usize) -> u16 {
    u16::from_be_bytes([bytes[at], bytes[at + 1]])
}

/// Four bytes as a number.
pub fn get32(bytes: &[u8], at: usize) -> u32 {
    u32::from(get16(bytes, at)) << 16 | u32::from(get16(bytes, at + 2))
}

/// Writes a number as two bytes.
pub fn put16(bytes: &mut [u8], at: usize, number: u16) {
    bytes[at..at + 2].copy_from_slice(&number.to_be_bytes());
}

/// The one's complement sum of a buffer's 16-bit words, an odd last byte filled up by zero: 0 only if all are.
pub fn sum(bytes: &[u8]) -> u16 {
    let word = |pair: &[u8]| u64::from(pair[0]) << 8 | u64::from(pair.get(1).copied().unwrap_or(0));
    let mut total: u64 = bytes.chunks(2).map(word).sum();
    while total > 0xffff {
        total = (total >> 16) + (total & 0xffff);
    }
    total as u16
}

/// One's complement addition.
pub fn add(one: u16, other: u16) -> u16 {
    sum(&[one.to_be_bytes(), other.to_be_bytes()].concat())
}

/// The checksum that, with the rest of the buffer summing up to `rest`, makes the whole sum up to `whole`.
///
/// If `whole` is 0xffff that is the right checksum. If it is not, the packet came with a wrong one, and this
/// one is wrong by exactly as much: a rewrite hides no damage (RFC 1624, section 5).
pub fn keeping(whole: u16, rest: u16) -> u16 {
    match add(whole, !rest) {
        // The two zeros of one's complement: a checksum is the complement of a sum, which is never 0.
        0xffff => 0,
        checksum => checksum,
    }
}
