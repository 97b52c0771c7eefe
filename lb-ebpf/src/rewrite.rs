//! Rewrites of a packet, each with the checksums that cover it.
//!
//! The time to live stays: to its client the VIP is the end of the path, not a router before it, and a
//! rewritten packet cannot loop because it is no longer for the service.

use lb_common::checksum::Delta;
use lb_common::{Endpoint, NextHop};

use crate::packet::{Headers, Packet};

/// Makes the packet go to `to`.
#[inline(always)]
pub(crate) fn destination(packet: &Packet, to: &Endpoint) {
    let headers = packet.headers_mut();
    let (address, port) = (to.address().v4_word(), to.wire_port());
    let addresses = Delta::new().replace_u32(headers.destination, address);
    let ports = addresses.replace_u16(headers.destination_port, port);
    headers.destination = address;
    headers.destination_port = port;
    update_checksums(headers, addresses, ports);
}

/// Makes the packet come from `from`.
#[inline(always)]
pub(crate) fn source(packet: &Packet, from: &Endpoint) {
    let headers = packet.headers_mut();
    let (address, port) = (from.address().v4_word(), from.wire_port());
    let addresses = Delta::new().replace_u32(headers.source, address);
    let ports = addresses.replace_u16(headers.source_port, port);
    headers.source = address;
    headers.source_port = port;
    update_checksums(headers, addresses, ports);
}

/// Addresses the frame to a neighbour; one that is not resolved leaves it to the stack.
#[inline(always)]
pub(crate) fn next_hop(packet: &Packet, hop: &NextHop) {
    if hop.is_resolved() {
        let headers = packet.headers_mut();
        headers.mac_destination = hop.destination;
        headers.mac_source = hop.source;
    }
}

#[inline(always)]
fn update_checksums(headers: &mut Headers, addresses: Delta, ports: Delta) {
    headers.ip_checksum = addresses.apply(headers.ip_checksum);
    // The pseudo-header covers the addresses too (RFC 9293, section 3.1).
    headers.tcp_checksum = ports.apply(headers.tcp_checksum);
}
