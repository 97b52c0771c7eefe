//! Rewrites of a packet, each with the checksums that cover it.
//!
//! The time to live stays: to its client the VIP is the end of the path, not a router before it, and a
//! rewritten packet cannot loop because it is no longer for the service.

use lb_common::checksum::Delta;
use lb_common::{Address, NextHop};

use crate::family::{End, Family};
use crate::packet::{Ethernet, Packet};

/// Replaces the address and port at one end of the packet, `port` as it is to lie there.
#[inline(always)]
pub(crate) fn endpoint<F: Family>(packet: &Packet<F>, end: End, address: Address, port: u16) {
    // SAFETY: `Packet::parse` has checked that the headers lie within the packet, and one CPU sees a packet
    // at a time.
    unsafe {
        let delta = (*packet.ip).replace(end, address);
        let ports = packet.udp();
        let delta = match end {
            End::Source => {
                let delta = delta.replace_u16((*ports).source_port, port);
                (*ports).source_port = port;
                delta
            }
            End::Destination => {
                let delta = delta.replace_u16((*ports).destination_port, port);
                (*ports).destination_port = port;
                delta
            }
        };
        transport_checksum(packet, delta);
    }
}

/// Brings the transport's checksum up to date; its pseudo-header covers the addresses too.
#[inline(always)]
fn transport_checksum<F: Family>(packet: &Packet<F>, delta: Delta) {
    // SAFETY: as above; which of the two headers is there is what the protocol says.
    unsafe {
        if packet.is_datagram() {
            let udp = packet.udp();
            (*udp).checksum = delta.apply_to_datagram((*udp).checksum);
        } else {
            let tcp = packet.tcp();
            (*tcp).checksum = delta.apply((*tcp).checksum);
        }
    }
}

/// Addresses the frame to a neighbour, if it is to leave by an interface. What is left to the stack keeps its
/// addresses, for the stack takes only frames that are addressed to it. `ethernet` lies within the packet.
#[inline(always)]
pub(crate) fn next_hop(ethernet: *mut Ethernet, hop: &NextHop, ifindex: u32) {
    if ifindex != 0 {
        // SAFETY: as above. A hop is aligned to four bytes, and the kernel aligns frames to two.
        unsafe {
            copy_hardware_address(
                (&raw const hop.destination).cast(),
                (&raw mut (*ethernet).destination).cast(),
            );
            copy_hardware_address((&raw const hop.source).cast(), (&raw mut (*ethernet).source).cast());
        }
    }
}

/// Copies three half-words, one by one: as a whole they would be copied by a call to `memmove`.
///
/// # Safety
///
/// `from` must be valid for reads of three half-words, `to` for writes, both aligned to two bytes.
#[inline(always)]
unsafe fn copy_hardware_address(from: *const u16, to: *mut u16) {
    for word in 0..3 {
        // SAFETY: by this function's contract.
        unsafe { to.add(word).write_volatile(from.add(word).read_volatile()) };
    }
}
