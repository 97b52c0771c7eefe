//! A packet inside a packet (`ipip`): how it reaches a backend across routers.
//!
//! IPv4 in IPv4 (RFC 2003), IPv6 in IPv4 (RFC 4213), and either in IPv6 (RFC 2473). The outer source is the
//! balancer's own address towards the backend. The backend takes the inner packet out and answers the
//! client by itself.

use aya_ebpf::bindings::xdp_md;
use aya_ebpf::helpers::bpf_xdp_adjust_head;
use lb_common::Backend;
use lb_common::checksum::Delta;

use crate::backends;
use crate::family::{Ipv4, Ipv6};
use crate::packet::{ETHERTYPE_IPV4, ETHERTYPE_IPV6};

/// Protocol numbers of a packet inside another one.
const IPV4_INSIDE: u8 = 4;
const IPV6_INSIDE: u8 = 41;
/// "Don't fragment", as it lies in a packet (RFC 791): the sender hears of a path that is too narrow.
const DONT_FRAGMENT: u16 = 0x4000_u16.to_be();
const HOPS: u8 = 64;

/// Puts the packet, whose network header begins after `link_bytes`, into one for the backend; 0 if the
/// driver has left no room before it.
///
/// # Safety
///
/// `ctx` must be the context that the kernel gave.
#[inline(never)]
#[unsafe(no_mangle)]
pub(crate) unsafe extern "C" fn encapsulate(ctx: *mut xdp_md, backend: u32, link_bytes: u32) -> u32 {
    let Some(backend) = backends::get(backend as u16) else { return 0 };
    let done = if backend.local.is_v4() {
        // SAFETY: by this function's contract.
        unsafe { wrap::<Ipv4>(ctx, backend, link_bytes) }
    } else {
        // SAFETY: as above.
        unsafe { wrap::<Ipv6>(ctx, backend, link_bytes) }
    };
    u32::from(done.is_some())
}

/// # Safety
///
/// `ctx` must be the context that the kernel gave.
#[inline(always)]
unsafe fn wrap<Outer: OuterHeader>(ctx: *mut xdp_md, backend: &Backend, link_bytes: u32) -> Option<()> {
    // SAFETY: by this function's contract.
    if unsafe { bpf_xdp_adjust_head(ctx, Outer::GROWTH) } != 0 {
        return None;
    }
    // SAFETY: as above.
    let (start, end) = unsafe { ((*ctx).data as usize, (*ctx).data_end as usize) };
    match link_bytes {
        14 => fill::<Outer, 14>(start, end, backend),
        18 => fill::<Outer, 18>(start, end, backend),
        _ => fill::<Outer, 22>(start, end, backend),
    }
}

/// Moves the link header of `LINK` bytes to the frame's new start and writes the outer header behind it.
#[inline(always)]
fn fill<Outer: OuterHeader, const LINK: usize>(start: usize, end: usize, backend: &Backend) -> Option<()> {
    let inner = start + size_of::<Outer>() + LINK;
    if inner + size_of::<Ipv4>() > end {
        return None;
    }
    // SAFETY: the link header, the outer one and twenty bytes of the inner one lie within the packet, which
    // the kernel aligns to two bytes.
    unsafe {
        let (from, to) = ((start + size_of::<Outer>()) as *const u16, start as *mut u16);
        for word in 0..LINK / 2 - 1 {
            to.add(word).write_volatile(from.add(word).read_volatile());
        }
        to.add(LINK / 2 - 1).write_volatile(Outer::ETHERTYPE);
        Outer::write((start + LINK) as *mut Outer, &Inner::read(inner), backend);
    }
    Some(())
}

/// What the outer header has to know of the inner one.
struct Inner {
    protocol: u8,
    traffic_class: u8,
    bytes: u16,
}

impl Inner {
    /// # Safety
    ///
    /// Twenty bytes of an IP header must lie at `header`, aligned to two bytes.
    #[inline(always)]
    unsafe fn read(header: usize) -> Self {
        // SAFETY: by this function's contract; what both families have in common says which one it is.
        unsafe {
            let v4 = header as *const Ipv4;
            if (*v4).version_ihl >> 4 == 4 {
                let bytes = u16::from_be((*v4).total_length);
                Self { protocol: IPV4_INSIDE, traffic_class: (*v4).tos, bytes }
            } else {
                // The whole of an IPv6 header need not be read: only its first eight bytes are.
                let v6 = header as *const Ipv6;
                let class = u32::from_be((&raw const (*v6).version_class_label).read_unaligned()) >> 20;
                let bytes = u16::from_be((*v6).payload_length) + size_of::<Ipv6>() as u16;
                Self { protocol: IPV6_INSIDE, traffic_class: class as u8, bytes }
            }
        }
    }
}

/// An IP header that another packet stands behind.
trait OuterHeader: Sized {
    const ETHERTYPE: u16;
    /// How the start of the frame moves, in bytes.
    const GROWTH: i32;

    /// # Safety
    ///
    /// `header` must be valid for writes and aligned.
    unsafe fn write(header: *mut Self, inner: &Inner, backend: &Backend);
}

impl OuterHeader for Ipv4 {
    const ETHERTYPE: u16 = ETHERTYPE_IPV4;
    const GROWTH: i32 = -20;

    // SAFETY: as the trait says.
    #[inline(always)]
    unsafe fn write(header: *mut Self, inner: &Inner, backend: &Backend) {
        let version_ihl = 0x45;
        let total_length = (inner.bytes + size_of::<Self>() as u16).to_be();
        let (source, destination) = (backend.local.v4_word(), backend.endpoint.address().v4_word());
        let checksum = Delta::new()
            .plus_u16(u16::from_ne_bytes([version_ihl, inner.traffic_class]))
            .plus_u16(total_length)
            .plus_u16(DONT_FRAGMENT)
            .plus_u16(u16::from_ne_bytes([HOPS, inner.protocol]))
            .plus_u32(source)
            .plus_u32(destination)
            .checksum();
        // SAFETY: by this function's contract.
        unsafe {
            (*header).version_ihl = version_ihl;
            (*header).tos = inner.traffic_class;
            (*header).total_length = total_length;
            (*header).identification = 0;
            (*header).fragment = DONT_FRAGMENT;
            (*header).ttl = HOPS;
            (*header).protocol = inner.protocol;
            (*header).checksum = checksum;
            (*header).source = source;
            (*header).destination = destination;
        }
    }
}

impl OuterHeader for Ipv6 {
    const ETHERTYPE: u16 = ETHERTYPE_IPV6;
    const GROWTH: i32 = -40;

    // SAFETY: as the trait says.
    #[inline(always)]
    unsafe fn write(header: *mut Self, inner: &Inner, backend: &Backend) {
        // SAFETY: by this function's contract.
        unsafe {
            (*header).version_class_label = (6 << 28 | u32::from(inner.traffic_class) << 20).to_be();
            (*header).payload_length = inner.bytes.to_be();
            (*header).next_header = inner.protocol;
            (*header).hop_limit = HOPS;
            (*header).source = backend.local.words();
            (*header).destination = backend.endpoint.address().words();
        }
    }
}
