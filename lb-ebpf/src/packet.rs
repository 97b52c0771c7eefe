//! The packet as the program sees it: one bound check, then typed access.
//!
//! A [`Packet`] exists only for an unfragmented IPv4 packet without options that carries a whole TCP
//! header, so whoever holds one may read and rewrite those headers.

use aya_ebpf::programs::XdpContext;
use lb_common::endpoint::TCP;
use lb_common::{Address, Endpoint, Reason};

/// Ethernet type of IPv4, as it lies in a frame.
const ETHERTYPE_IPV4: u16 = 0x0800_u16.to_be();
/// Version 4 and a header of five 32-bit words: no options.
const VERSION_4_NO_OPTIONS: u8 = 0x45;
/// "More fragments" and the fragment offset, as they lie in a packet (RFC 791, section 3.1).
const FRAGMENT_MASK: u16 = 0x3fff_u16.to_be();
const IPV4_LEN: u16 = 20;
const TCP_LEN: u16 = 20;

/// Ethernet, IPv4 and TCP headers as they lie in a frame; integers keep the network's byte order.
#[repr(C, packed(2))]
pub(crate) struct Headers {
    pub(crate) mac_destination: [u8; 6],
    pub(crate) mac_source: [u8; 6],
    ethertype: u16,
    version_ihl: u8,
    tos: u8,
    total_length: u16,
    identification: u16,
    fragment: u16,
    ttl: u8,
    protocol: u8,
    pub(crate) ip_checksum: u16,
    pub(crate) source: u32,
    pub(crate) destination: u32,
    pub(crate) source_port: u16,
    pub(crate) destination_port: u16,
    sequence: u32,
    acknowledgement: u32,
    data_offset: u8,
    flags: u8,
    window: u16,
    pub(crate) tcp_checksum: u16,
    urgent: u16,
}

const _: () = assert!(size_of::<Headers>() == 54);

/// An unfragmented IPv4/TCP packet without IP options.
pub(crate) struct Packet {
    headers: *mut Headers,
    /// Length of the IP packet in bytes.
    pub(crate) ip_bytes: u16,
    /// TCP flags ([`lb_common::flow::tcp_flags`]).
    pub(crate) flags: u8,
    /// Whether it carries data.
    pub(crate) has_payload: bool,
}

impl Packet {
    /// Recognises the packet, or says why it is none that this program steers.
    #[inline(always)]
    pub(crate) fn parse(ctx: &XdpContext) -> Result<Self, Reason> {
        let (start, end) = (ctx.data(), ctx.data_end());
        if start + 14 > end {
            return Err(Reason::Malformed);
        }
        let headers = start as *mut Headers;
        // SAFETY: the 14 bytes of the Ethernet header lie within the packet.
        if unsafe { (*headers).ethertype } != ETHERTYPE_IPV4 {
            return Err(Reason::NotIpv4);
        }
        if start + 14 + IPV4_LEN as usize > end {
            return Err(Reason::Malformed);
        }
        // SAFETY: so do the 20 bytes of the IPv4 header.
        let (version_ihl, protocol, fragment, total_length) = unsafe {
            (
                (*headers).version_ihl,
                (*headers).protocol,
                (*headers).fragment,
                u16::from_be((*headers).total_length),
            )
        };
        if version_ihl != VERSION_4_NO_OPTIONS {
            return Err(if version_ihl >> 4 == 4 && version_ihl & 0xf > 5 {
                Reason::IpOptions
            } else {
                Reason::Malformed
            });
        }
        if fragment & FRAGMENT_MASK != 0 {
            return Err(Reason::Fragment);
        }
        if protocol != TCP {
            return Err(Reason::NotTcp);
        }
        if start + size_of::<Headers>() > end || start + 14 + total_length as usize > end {
            return Err(Reason::Malformed);
        }
        // SAFETY: the whole of `Headers` lies within the packet.
        let (data_offset, flags) = unsafe { ((*headers).data_offset, (*headers).flags) };
        let header_bytes = IPV4_LEN + u16::from(data_offset >> 4) * 4;
        if header_bytes < IPV4_LEN + TCP_LEN || header_bytes > total_length {
            return Err(Reason::Malformed);
        }
        Ok(Self { headers, ip_bytes: total_length, flags, has_payload: total_length > header_bytes })
    }

    /// The headers, to read.
    #[inline(always)]
    pub(crate) fn headers(&self) -> &Headers {
        // SAFETY: `parse` has checked that all of `Headers` lies within the packet, which stays mapped.
        unsafe { &*self.headers }
    }

    /// The headers, to rewrite.
    #[inline(always)]
    #[expect(
        clippy::mut_from_ref,
        reason = "a packet belongs to one program run; no two borrows are alive at once"
    )]
    pub(crate) fn headers_mut(&self) -> &mut Headers {
        // SAFETY: as above, and a packet is seen by one CPU at a time.
        unsafe { &mut *self.headers }
    }

    /// Where it comes from.
    #[inline(always)]
    pub(crate) fn source(&self) -> Endpoint {
        let headers = self.headers();
        Endpoint::from_wire(Address::from_v4_word(headers.source), headers.source_port, TCP)
    }

    /// Where it goes.
    #[inline(always)]
    pub(crate) fn destination(&self) -> Endpoint {
        let headers = self.headers();
        Endpoint::from_wire(Address::from_v4_word(headers.destination), headers.destination_port, TCP)
    }

    /// Whether all of these flags are set.
    #[inline(always)]
    pub(crate) const fn has(&self, flags: u8) -> bool {
        self.flags & flags == flags
    }
}
