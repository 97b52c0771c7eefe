//! IPv4 and IPv6: what differs between them, so that each step of the packet path is written once.

use lb_common::checksum::Delta;
use lb_common::{Address, Reason};

/// Which end of a packet.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    /// Where it comes from.
    Source,
    /// Where it goes.
    Destination,
}

/// An IP header without options.
pub(crate) trait Family: Sized {
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
    fn why_not_steered(_protocol: u8) -> Reason {
        Reason::NotSteered
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
    #[inline(always)]
    fn inspect(&self) -> Result<(u8, u32), Reason> {
        if u32::from_be(self.version_class_label) >> 28 != 6 {
            return Err(Reason::Malformed);
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
