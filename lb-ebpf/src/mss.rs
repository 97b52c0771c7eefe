//! The largest segment that the ends of a connection tell each other (RFC 9293, section 3.7.1), brought down
//! to what passes on both sides of the balancer: then full-size segments need no discovery of the path.

use aya_ebpf::bindings::xdp_md;
use lb_common::answer::{HEADERS_V4, HEADERS_V6, largest_segment};
use lb_common::checksum::Delta;
use lb_common::flow::tcp_flags::SYN;

use crate::family::{Family, Ipv4, Ipv6};
use crate::packet::{LINK_MASK, Packet, TcpHeader};

/// Option kinds (RFC 9293, section 3.1).
const END: u8 = 0;
const NO_OPERATION: u8 = 1;
const SEGMENT_SIZE: u8 = 2;
const SEGMENT_SIZE_BYTES: usize = 4;
/// Options that are looked at: the one that is sought comes first in practice.
const OPTIONS_MAX: usize = 8;

/// Brings down the segment size that a SYN or SYN-ACK announces.
#[inline(always)]
pub(crate) fn clamp<F: Family>(ctx: *mut xdp_md, packet: &Packet<F>, mtu: u16, other_mtu: u16) {
    if packet.has(SYN)
        && let Some(largest) = largest_segment(mtu, other_mtu, if F::IS_V6 { HEADERS_V6 } else { HEADERS_V4 })
    {
        // SAFETY: the context is the one that the kernel gave, and the packet was parsed.
        unsafe { clamp_mss(ctx, packet.link_bytes(), u32::from(F::IS_V6), largest.into()) };
    }
}

/// # Safety
///
/// `ctx` must be the context that the kernel gave.
#[inline(never)]
#[unsafe(no_mangle)]
unsafe extern "C" fn clamp_mss(ctx: *mut xdp_md, link_bytes: u32, is_v6: u32, largest: u32) -> u32 {
    // SAFETY: by this function's contract.
    let (start, end) = unsafe { ((*ctx).data as usize, (*ctx).data_end as usize) };
    let network_bytes = if is_v6 == 0 { size_of::<Ipv4>() } else { size_of::<Ipv6>() };
    let offset = (link_bytes as usize & LINK_MASK) + network_bytes;
    let tcp = (start + offset) as *mut TcpHeader;
    if tcp as usize + size_of::<TcpHeader>() > end {
        return 0;
    }
    // SAFETY: the header lies within the packet.
    let options_end = unsafe { usize::from((*tcp).data_offset >> 4) * 4 };
    let mut at = size_of::<TcpHeader>();
    for _ in 0..OPTIONS_MAX {
        if at + 2 > options_end {
            break;
        }
        // At most 60 bytes of TCP header: tells the verifier how far this can go.
        let option = tcp as usize + (at & 63);
        if option + SEGMENT_SIZE_BYTES > end {
            break;
        }
        let option = option as *mut u8;
        // SAFETY: four bytes from the option on lie within the packet.
        let (kind, length) = unsafe { (option.read_volatile(), option.add(1).read_volatile()) };
        match kind {
            END => break,
            NO_OPERATION => at += 1,
            SEGMENT_SIZE if usize::from(length) == SEGMENT_SIZE_BYTES => {
                if at + SEGMENT_SIZE_BYTES > options_end {
                    break;
                }
                // SAFETY: as above, and the TCP header lies within the packet.
                return unsafe { lower(tcp, option.add(2), at & 1 != 0, largest as u16) };
            }
            _ if length < 2 => break,
            _ => at += usize::from(length),
        }
    }
    0
}

/// # Safety
///
/// `tcp` and the two bytes of `size` must lie within the packet.
#[inline(always)]
unsafe fn lower(tcp: *mut TcpHeader, size: *mut u8, is_odd: bool, largest: u16) -> u32 {
    // SAFETY: by this function's contract.
    unsafe {
        let old = [size.read_volatile(), size.add(1).read_volatile()];
        if u16::from_be_bytes(old) <= largest {
            return 0;
        }
        let new = largest.to_be_bytes();
        size.write_volatile(new[0]);
        size.add(1).write_volatile(new[1]);
        let (old, new) = (u16::from_ne_bytes(old), u16::from_ne_bytes(new));
        // At an odd place its bytes count in the other half of the words that the checksum adds up.
        let (old, new) = if is_odd { (old.swap_bytes(), new.swap_bytes()) } else { (old, new) };
        (*tcp).checksum = Delta::new().replace_u16(old, new).apply((*tcp).checksum);
    }
    1
}
