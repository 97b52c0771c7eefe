//! A packet of a flow whose backend is dead, or whose flows are cut: its sender learns at once, by a reset
//! that it accepts, instead of waiting for answers that never come.

use aya_ebpf::bindings::xdp_md;
use aya_ebpf::helpers::bpf_xdp_adjust_tail;
use aya_ebpf::helpers::generated::bpf_xdp_get_buff_len;
use lb_common::Reason;
use lb_common::answer::Reset;
use lb_common::checksum::Delta;
use lb_common::endpoint::TCP;

use crate::family::{Family, Fresh, Ipv4, Ipv6};
use crate::packet::{Ethernet, LINK_MASK, Packet, TcpHeader};

/// A TCP header without options.
const TCP_BYTES: i32 = 20;

/// Refuses a packet; answers with the reason that counts it.
#[inline(always)]
pub(crate) fn refuse<F: Family>(ctx: *mut xdp_md, packet: &Packet<F>) -> u32 {
    if packet.is_datagram() || packet.resets() {
        return Reason::RefusedSilently as u32;
    }
    // SAFETY: the context is the one that the kernel gave, and the packet was parsed as a segment.
    if unsafe { answer_with_reset(ctx, packet.link_bytes(), u32::from(F::IS_V6)) } == 0 {
        return Reason::Unanswerable as u32;
    }
    Reason::RefusedReset as u32
}

/// Turns the segment whose IP header begins after `link_bytes` into the reset that answers it; 0 if it cannot
/// be trimmed.
///
/// # Safety
///
/// `ctx` must be the context that the kernel gave, of a frame that was parsed as such a segment.
#[inline(never)]
#[unsafe(no_mangle)]
unsafe extern "C" fn answer_with_reset(ctx: *mut xdp_md, link_bytes: u32, is_v6: u32) -> u32 {
    // SAFETY: by this function's contract.
    let done =
        unsafe { if is_v6 == 0 { answer::<Ipv4>(ctx, link_bytes) } else { answer::<Ipv6>(ctx, link_bytes) } };
    u32::from(done.is_some())
}

/// # Safety
///
/// As [`answer_with_reset`].
#[inline(always)]
unsafe fn answer<F: Family>(ctx: *mut xdp_md, link_bytes: u32) -> Option<()> {
    // SAFETY: by this function's contract.
    let (start, end) = unsafe { ((*ctx).data as usize, (*ctx).data_end as usize) };
    if start + size_of::<Ethernet>() > end {
        return None;
    }
    let link_bytes = link_bytes & LINK_MASK as u32;
    let ip = start + link_bytes as usize;
    let transport = ip + size_of::<F>();
    if transport + size_of::<TcpHeader>() > end {
        return None;
    }
    // SAFETY: all three headers lie within the packet.
    unsafe {
        let (ethernet, ip, tcp) = (start as *mut Ethernet, ip as *mut F, transport as *mut TcpHeader);
        let (_, ip_bytes) = (*ip).inspect().ok()?;
        let headers = size_of::<F>() as u32 + u32::from((*tcp).data_offset >> 4) * 4;
        let reset = Reset::answering(
            u32::from_be((*tcp).sequence),
            u32::from_be((*tcp).acknowledgement),
            (*tcp).flags,
            ip_bytes.wrapping_sub(headers),
        );
        (*ethernet).turn_round();
        (*ip).write(&Fresh {
            source: (*ip).destination(),
            destination: (*ip).source(),
            protocol: TCP,
            traffic_class: 0,
            payload_bytes: size_of::<TcpHeader>() as u16,
            may_fragment: false,
        });
        (*tcp).answer(reset, (*ip).pseudo_header(TCP, size_of::<TcpHeader>() as u16));
        // What lies behind the header goes; a padded frame loses its padding too.
        let kept = link_bytes.cast_signed() + F::BYTES + TCP_BYTES;
        let all = bpf_xdp_get_buff_len(ctx.cast()) as i32;
        if bpf_xdp_adjust_tail(ctx, kept - all) == 0 { Some(()) } else { None }
    }
}

impl TcpHeader {
    /// Makes a reset for the sender out of the segment's own header; `pseudo` is the sum of the pseudo-header.
    #[inline(always)]
    fn answer(&mut self, reset: Reset, pseudo: Delta) {
        let (to, from) = (self.source_port, self.destination_port);
        let (sequence, acknowledgement) = (reset.sequence.to_be(), reset.acknowledgement.to_be());
        let data_offset = (size_of::<Self>() as u8 / 4) << 4;
        self.source_port = from;
        self.destination_port = to;
        self.sequence = sequence;
        self.acknowledgement = acknowledgement;
        self.data_offset = data_offset;
        self.flags = reset.flags;
        self.window = 0;
        self.urgent = 0;
        self.checksum = pseudo
            .plus_u16(from)
            .plus_u16(to)
            .plus_u32(sequence)
            .plus_u32(acknowledgement)
            .plus_u16(u16::from_ne_bytes([data_offset, reset.flags]))
            .checksum();
    }
}
