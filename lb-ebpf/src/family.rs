//! IPv4 and IPv6: what differs between them, so that each step of the packet path is written once.

use lb_common::checksum::Delta;
use lb_common::{Address, Reason};

use crate::packet::{ETHERTYPE_IPV4, ETHERTYPE_IPV6};

/// Which end of a packet.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    /// Where it comes from.
    Source,
    /// Where it goes.
    Destination,
}

/// Protocol numbers of ICMP (RFC 792) and ICMPv6 (RFC 4443).
pub(crate) const ICMP: u8 = 1;
pub(crate) const ICMPV6: u8 = 58;

/// What goes into the header of a packet of Baton's own.
pub(crate) struct Fresh {
    pub(crate) source: Address,
    pub(crate) destination: Address,
    pub(crate) protocol: u8,
    pub(crate) traffic_class: u8,
    pub(crate) payload_bytes: u16,
    pub(crate) may_fragment: bool,
}

/// An IP header without options.
pub(crate) trait Family: Sized {
    /// The Ethernet type, as it lies in a frame.
    const ETHERTYPE: u16;
    /// Length of the header.
    const BYTES: i32;
    /// Whether it is IPv6.
    const IS_V6: bool;
    /// The number of its ICMP.
    const ICMP: u8;
    /// Makes it the header of a packet of Baton's own.
    fn write(&mut self, fresh: &Fresh);
    /// What the pseudo-header adds to the transport's checksum (RFC 9293, section 3.1; RFC 8200, section 8.1).
    fn pseudo_header(&self, protocol: u8, transport_bytes: u16) -> Delta;
    /// Whether routers may cut the packet into pieces.
    fn may_fragment(&self) -> bool;
    /// The header's own checksum; 0 if it has none.
    fn header_checksum(&self) -> u16;
    /// The transport protocol and the packet's length in bytes, or why such a packet is not steered.
    fn inspect(&self) -> Result<(u8, u32), Reason>;
    /// Why a packet with this transport protocol is not steered.
    fn why_not_steered(protocol: u8) -> Reason;
    /// Where it comes from.
    fn source(&self) -> Address;
    /// Where it goes.
    fn destination(&self) -> Address;
    /// Replaces an address, with this header's own checksum; returns what that does to the transport's.
    fn replace(&mut self, end: End, address: Address) -> Delta;
}

/// Version 4 and a header of five 32-bit words: no options.
const VERSION_4_NO_OPTIONS: u8 = 0x45;
/// "More fragments" and the fragment offset, as they lie in a packet (RFC 791, section 3.1).
const FRAGMENT_MASK: u16 = 0x3fff_u16.to_be();
/// "Don't fragment", beside them.
const DONT_FRAGMENT: u16 = 0x4000_u16.to_be();
/// Time to live of packets of Baton's own (RFC 1700).
const HOPS: u8 = 64;

/// IPv4 header (RFC 791); integers keep the network's byte order.
#[repr(C, packed(2))]
pub(crate) struct Ipv4 {
    pub(crate) version_ihl: u8,
    pub(crate) tos: u8,
    pub(crate) total_length: u16,
    pub(crate) identification: u16,
    pub(crate) fragment: u16,
    pub(crate) ttl: u8,
    pub(crate) protocol: u8,
    pub(crate) checksum: u16,
    pub(crate) source: u32,
    pub(crate) destination: u32,
}

const _: () = assert!(size_of::<Ipv4>() == 20);

impl Family for Ipv4 {
    const ETHERTYPE: u16 = ETHERTYPE_IPV4;
    const BYTES: i32 = 20;
    const IS_V6: bool = false;
    const ICMP: u8 = ICMP;

    #[inline(always)]
    fn write(&mut self, fresh: &Fresh) {
        let total_length = (fresh.payload_bytes + size_of::<Self>() as u16).to_be();
        let fragment = if fresh.may_fragment { 0 } else { DONT_FRAGMENT };
        let (source, destination) = (fresh.source.v4_word(), fresh.destination.v4_word());
        self.version_ihl = VERSION_4_NO_OPTIONS;
        self.tos = fresh.traffic_class;
        self.total_length = total_length;
        self.identification = 0;
        self.fragment = fragment;
        self.ttl = HOPS;
        self.protocol = fresh.protocol;
        self.source = source;
        self.destination = destination;
        self.checksum = Delta::new()
            .plus_u16(u16::from_ne_bytes([VERSION_4_NO_OPTIONS, fresh.traffic_class]))
            .plus_u16(total_length)
            .plus_u16(fragment)
            .plus_u16(u16::from_ne_bytes([HOPS, fresh.protocol]))
            .plus_u32(source)
            .plus_u32(destination)
            .checksum();
    }

    #[inline(always)]
    fn pseudo_header(&self, protocol: u8, transport_bytes: u16) -> Delta {
        Delta::new()
            .plus_u32(self.source)
            .plus_u32(self.destination)
            .plus_u16(u16::from(protocol).to_be())
            .plus_u16(transport_bytes.to_be())
    }

    #[inline(always)]
    fn may_fragment(&self) -> bool {
        self.fragment & DONT_FRAGMENT == 0
    }

    #[inline(always)]
    fn header_checksum(&self) -> u16 {
        self.checksum
    }

    #[inline(always)]
    fn inspect(&self) -> Result<(u8, u32), Reason> {
        if self.version_ihl != VERSION_4_NO_OPTIONS {
            return Err(if self.version_ihl >> 4 == 4 && self.version_ihl & 0xf > 5 {
                Reason::IpOptions
            } else {
                Reason::Malformed
            });
        }
        if self.fragment & FRAGMENT_MASK != 0 {
            return Err(Reason::Fragment);
        }
        Ok((self.protocol, u32::from(u16::from_be(self.total_length))))
    }

    #[inline(always)]
    fn why_not_steered(protocol: u8) -> Reason {
        if protocol == ICMP { Reason::Icmp } else { Reason::NotSteered }
    }

    #[inline(always)]
    fn source(&self) -> Address {
        Address::from_v4_word(self.source)
    }

    #[inline(always)]
    fn destination(&self) -> Address {
        Address::from_v4_word(self.destination)
    }

    #[inline(always)]
    fn replace(&mut self, end: End, address: Address) -> Delta {
        let new = address.v4_word();
        let old = match end {
            End::Source => self.source,
            End::Destination => self.destination,
        };
        match end {
            End::Source => self.source = new,
            End::Destination => self.destination = new,
        }
        let delta = Delta::new().replace_u32(old, new);
        self.checksum = delta.apply(self.checksum);
        delta
    }
}

/// IPv6 header (RFC 8200); integers keep the network's byte order.
#[repr(C, packed(2))]
pub(crate) struct Ipv6 {
    pub(crate) version_class_label: u32,
    pub(crate) payload_length: u16,
    pub(crate) next_header: u8,
    pub(crate) hop_limit: u8,
    pub(crate) source: [u32; 4],
    pub(crate) destination: [u32; 4],
}

const _: () = assert!(size_of::<Ipv6>() == 40);

/// Header numbers that stand before the transport (RFC 8200, section 4; RFC 4302, 7401, 5533).
mod extension {
    pub(super) const HOP_BY_HOP: u8 = 0;
    pub(super) const ROUTING: u8 = 43;
    pub(super) const FRAGMENT: u8 = 44;
    pub(super) const AUTHENTICATION: u8 = 51;
    pub(super) const DESTINATION: u8 = 60;
    pub(super) const MOBILITY: u8 = 135;
    pub(super) const HOST_IDENTITY: u8 = 139;
    pub(super) const SHIM6: u8 = 140;
}

impl Family for Ipv6 {
    const ETHERTYPE: u16 = ETHERTYPE_IPV6;
    const BYTES: i32 = 40;
    const IS_V6: bool = true;
    const ICMP: u8 = ICMPV6;

    #[inline(always)]
    fn write(&mut self, fresh: &Fresh) {
        self.version_class_label = (6 << 28 | u32::from(fresh.traffic_class) << 20).to_be();
        self.payload_length = fresh.payload_bytes.to_be();
        self.next_header = fresh.protocol;
        self.hop_limit = HOPS;
        self.source = fresh.source.words();
        self.destination = fresh.destination.words();
    }

    #[inline(always)]
    fn pseudo_header(&self, protocol: u8, transport_bytes: u16) -> Delta {
        let (source, destination) = (self.source, self.destination);
        (0..4)
            .fold(Delta::new(), |sum, word| sum.plus_u32(source[word]).plus_u32(destination[word]))
            .plus_u16(u16::from(protocol).to_be())
            .plus_u16(transport_bytes.to_be())
    }

    #[inline(always)]
    fn may_fragment(&self) -> bool {
        false
    }

    #[inline(always)]
    fn header_checksum(&self) -> u16 {
        0
    }

    #[inline(always)]
    fn inspect(&self) -> Result<(u8, u32), Reason> {
        if u32::from_be(self.version_class_label) >> 28 != 6 {
            return Err(Reason::Malformed);
        }
        // An IPv4 address in IPv6's form is on no wire by rights (RFC 6890), and must not pass for the IPv4
        // service or client that it names.
        if self.source().is_v4() | self.destination().is_v4() {
            return Err(Reason::NotForService);
        }
        let bytes = u32::from(u16::from_be(self.payload_length)) + size_of::<Self>() as u32;
        Ok((self.next_header, bytes))
    }

    #[inline(always)]
    fn why_not_steered(protocol: u8) -> Reason {
        use extension::{
            AUTHENTICATION, DESTINATION, FRAGMENT, HOP_BY_HOP, HOST_IDENTITY, MOBILITY, ROUTING, SHIM6,
        };
        match protocol {
            FRAGMENT => Reason::Fragment,
            HOP_BY_HOP | ROUTING | AUTHENTICATION | DESTINATION | MOBILITY | HOST_IDENTITY | SHIM6 => {
                Reason::ExtensionHeader
            }
            ICMPV6 => Reason::Icmp,
            _ => Reason::NotSteered,
        }
    }

    #[inline(always)]
    fn source(&self) -> Address {
        let [a, b, c, d] = self.source;
        Address::from_words([a, b, c, d])
    }

    #[inline(always)]
    fn destination(&self) -> Address {
        let [a, b, c, d] = self.destination;
        Address::from_words([a, b, c, d])
    }

    #[inline(always)]
    fn replace(&mut self, end: End, address: Address) -> Delta {
        let old = match end {
            End::Source => self.source,
            End::Destination => self.destination,
        };
        let new = address.words();
        match end {
            End::Source => self.source = new,
            End::Destination => self.destination = new,
        }
        (0..4).fold(Delta::new(), |delta, word| delta.replace_u32(old[word], new[word]))
    }
}
