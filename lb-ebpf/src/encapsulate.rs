//! A packet inside a packet (`ipip`): how it reaches a backend across routers.
//!
//! IPv4 in IPv4 (RFC 2003), IPv6 in IPv4 (RFC 4213), and either in IPv6 (RFC 2473). The outer source is the
//! balancer's own address towards the backend. The backend takes the inner packet out and answers the
//! client by itself.

use aya_ebpf::bindings::xdp_md;
use aya_ebpf::helpers::bpf_xdp_adjust_head;
use lb_common::Backend;

use crate::backends;
use crate::family::{Family, Fresh, Ipv4, Ipv6};

/// Protocol numbers of a packet inside another one.
const IPV4_INSIDE: u8 = 4;
const IPV6_INSIDE: u8 = 41;

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
unsafe fn wrap<Outer: Family>(ctx: *mut xdp_md, backend: &Backend, link_bytes: u32) -> Option<()> {
    // SAFETY: by this function's contract.
    if unsafe { bpf_xdp_adjust_head(ctx, -Outer::BYTES) } != 0 {
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
fn fill<Outer: Family, const LINK: usize>(start: usize, end: usize, backend: &Backend) -> Option<()> {
    let inner = start + size_of::<Outer>() + LINK;
    if inner + size_of::<Ipv4>() > end {
        return None;
    }
    // SAFETY: the link header, the outer one and twenty bytes of the inner one lie within the packet, which
    // the kernel aligns to two bytes.
    unsafe {
        move_link::<LINK>(start + size_of::<Outer>(), start);
        ((start + LINK - 2) as *mut u16).write_volatile(Outer::ETHERTYPE);
        let (outer, inner) = ((start + LINK) as *mut Outer, Inner::read(inner));
        (*outer).write(&Fresh {
            source: backend.local,
            destination: backend.endpoint.address(),
            protocol: inner.protocol,
            traffic_class: inner.traffic_class,
            payload_bytes: inner.bytes,
            may_fragment: inner.may_fragment,
        });
    }
    Some(())
}

/// Moves an Ethernet header with its tags, `LINK` bytes, towards the start of the frame.
///
/// # Safety
///
/// Both places must lie within the packet and be aligned to two bytes; `to` lies before `from`.
#[inline(always)]
pub(crate) unsafe fn move_link<const LINK: usize>(from: usize, to: usize) {
    for word in 0..LINK / 2 {
        // SAFETY: by this function's contract.
        unsafe { (to as *mut u16).add(word).write_volatile((from as *const u16).add(word).read_volatile()) };
    }
}

/// What the outer header has to know of the inner one.
struct Inner {
    protocol: u8,
    traffic_class: u8,
    bytes: u16,
    may_fragment: bool,
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
                Self {
                    protocol: IPV4_INSIDE,
                    traffic_class: (*v4).tos,
                    bytes: u16::from_be((*v4).total_length),
                    may_fragment: (*v4).may_fragment(),
                }
            } else {
                // The whole of an IPv6 header need not be there: only its first eight bytes are read.
                let v6 = header as *const Ipv6;
                let class = u32::from_be((&raw const (*v6).version_class_label).read_unaligned()) >> 20;
                Self {
                    protocol: IPV6_INSIDE,
                    traffic_class: class as u8,
                    bytes: u16::from_be((*v6).payload_length) + size_of::<Ipv6>() as u16,
                    may_fragment: false,
                }
            }
        }
    }
}
