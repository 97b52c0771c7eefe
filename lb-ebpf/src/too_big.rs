//! A packet that does not fit where it has to go: its sender learns how large it may be, by "fragmentation
//! needed" (RFC 1191) or "packet too big" (RFC 8201), as if a router on the way had said it.

use aya_ebpf::bindings::xdp_md;
use aya_ebpf::helpers::generated::bpf_xdp_get_buff_len;
use aya_ebpf::helpers::{bpf_xdp_adjust_head, bpf_xdp_adjust_tail};
use lb_common::Reason;
use lb_common::checksum::Delta;

use crate::encapsulate::move_link;
use crate::family::{Family, Fresh, Ipv4, Ipv6};
use crate::packet::{Ethernet, Packet};

/// Bytes of the packet that are quoted: enough for both headers and more (RFC 1812, section 4.3.2.3).
const QUOTED: u32 = 96;

/// ICMP header of this kind of error, as both versions have it.
#[repr(C)]
struct IcmpHeader {
    kind: u8,
    code: u8,
    checksum: u16,
    unused: u16,
    mtu: u16,
}

/// Tells the sender that its packet is longer than `mtu`; answers with the reason that counts it.
#[inline(always)]
pub(crate) fn tell<F: Family>(ctx: *mut xdp_md, packet: &Packet<F>, mtu: u16) -> u32 {
    // SAFETY: the context is the one that the kernel gave, and the packet was parsed.
    if unsafe { answer_too_big(ctx, packet.link_bytes(), u32::from(F::IS_V6), mtu.into()) } == 0 {
        return Reason::Unanswerable as u32;
    }
    Reason::TooBig as u32
}

const ICMP_BYTES: u8 = 8;
const _: () = assert!(size_of::<IcmpHeader>() == ICMP_BYTES as usize);

/// Turns the packet, which is longer than `mtu` and whose IP header begins after `link_bytes`, into the error
/// that tells its sender; 0 if the driver leaves no room.
///
/// # Safety
///
/// `ctx` must be the context that the kernel gave, of a frame that was parsed.
#[inline(never)]
#[unsafe(no_mangle)]
unsafe extern "C" fn answer_too_big(ctx: *mut xdp_md, link_bytes: u32, is_v6: u32, mtu: u32) -> u32 {
    // SAFETY: by this function's contract.
    let done = unsafe {
        if is_v6 == 0 {
            answer::<Ipv4>(ctx, link_bytes, mtu as u16)
        } else {
            answer::<Ipv6>(ctx, link_bytes, mtu as u16)
        }
    };
    u32::from(done.is_some())
}

/// # Safety
///
/// As [`answer_too_big`].
#[inline(always)]
unsafe fn answer<F: Family>(ctx: *mut xdp_md, link_bytes: u32, mtu: u16) -> Option<()> {
    // SAFETY: by this function's contract.
    unsafe {
        let kept = (link_bytes + QUOTED).cast_signed();
        if bpf_xdp_adjust_tail(ctx, kept - bpf_xdp_get_buff_len(ctx.cast()) as i32) != 0
            || bpf_xdp_adjust_head(ctx, -(F::BYTES + i32::from(ICMP_BYTES))) != 0
        {
            return None;
        }
        let (start, end) = ((*ctx).data as usize, (*ctx).data_end as usize);
        match link_bytes {
            14 => fill::<F, 14>(start, end, mtu),
            18 => fill::<F, 18>(start, end, mtu),
            _ => fill::<F, 22>(start, end, mtu),
        }
    }
}

#[inline(always)]
fn fill<F: Family, const LINK: usize>(start: usize, end: usize, mtu: u16) -> Option<()> {
    let icmp_bytes = size_of::<IcmpHeader>() + QUOTED as usize;
    if start + LINK + size_of::<F>() + icmp_bytes > end {
        return None;
    }
    // SAFETY: link header, both IP headers, the ICMP header and what is quoted lie within the packet.
    unsafe {
        move_link::<LINK>(start + size_of::<F>() + size_of::<IcmpHeader>(), start);
        (*(start as *mut Ethernet)).turn_round();
        let ip = (start + LINK) as *mut F;
        let icmp = (start + LINK + size_of::<F>()) as *mut IcmpHeader;
        let quoted = (start + LINK + size_of::<F>() + size_of::<IcmpHeader>()) as *const u32;
        let original = quoted.cast::<F>();
        (*ip).write(&Fresh {
            source: (*original).destination(),
            destination: (*original).source(),
            protocol: F::ICMP,
            traffic_class: 0,
            payload_bytes: icmp_bytes as u16,
            may_fragment: true,
        });
        let (kind, code) = if F::IS_V6 { (2, 0) } else { (3, 4) };
        let mtu = mtu.to_be();
        let mut sum = if F::IS_V6 { (*ip).pseudo_header(F::ICMP, icmp_bytes as u16) } else { Delta::new() };
        sum = sum.plus_u16(u16::from_ne_bytes([kind, code])).plus_u16(mtu);
        for word in 0..QUOTED as usize / 4 {
            sum = sum.plus_u32(quoted.add(word).read_volatile());
        }
        *icmp = IcmpHeader { kind, code, checksum: sum.checksum(), unused: 0, mtu };
    }
    Some(())
}
