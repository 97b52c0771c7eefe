//! From a backend back to the client, as if the VIP had answered.
//!
//! A reply without an entry is rewritten all the same: its flow is served unpinned, or its entry was lost,
//! and the backend knows better than any steering that the flow is its own.

use aya_ebpf::EbpfContext;
use aya_ebpf::bindings::xdp_md;
use aya_ebpf::programs::XdpContext;
use lb_common::flow::tcp_flags::SYN;
use lb_common::tables::service_flags;
use lb_common::{Address, BackendState, FlowKey, Halves, Listener, Reason, Service, Ticks};

use crate::family::{End, Family, Ipv4, Ipv6};
use crate::flows::{find, fingerprint, now};
use crate::forward::note_change;
use crate::open::{Opening, open};
use crate::packet::{LINK_MASK, Packet};
use crate::refuse::refuse;
use crate::{Verdict, backends, count, explain, mss, response, rewrite, services, snat, too_big};

/// Steers a packet that comes from a backend's service port.
#[inline(always)]
pub(crate) fn to_client<F: Family>(ctx: &XdpContext, packet: &Packet<F>, from: Listener) -> Verdict {
    let ctx = ctx.as_ptr().cast();
    let (Some(service), Some(backend)) = (services::get(from.service), backends::get(from.backend)) else {
        return Verdict::end(Reason::NotForService as u32);
    };
    let (client, client_port) = match addressee(packet, from, service) {
        Ok(client) => client,
        Err(reason) => return Verdict::end(reason as u32),
    };
    if backend.local == client {
        return Verdict::end(Reason::ToBalancer as u32);
    }
    // What is answered is answered in the words that the backend has used: nothing is rewritten before.
    if matches!(backend.state(), BackendState::Refused) && !packet.resets() {
        return Verdict::end(refuse(ctx, packet));
    }
    if service.uplink.passes_bytes() < packet.ip_bytes && !packet.may_fragment() {
        return Verdict::end(too_big::tell(ctx, packet, service.uplink.mtu));
    }
    if from.has(service_flags::SNAT) {
        give_back(ctx, packet, service);
    }
    if packet.has(SYN) {
        mss::clamp(ctx, packet, service.uplink.mtu, backend.hop.mtu);
    }
    if from.has(service_flags::DRAIN_ONLY) && services::steering(from.service).is_settled() {
        return send(packet, from, service, Reason::ReplyUntracked as u32, false);
    }
    let key = FlowKey { client, client_port, service: from.service };
    let (print, now) = (fingerprint(&key), now());
    let mut answers = false;
    let found = find(print).map(|entry| (entry, entry.halves()));
    if let Some((entry, halves)) = found {
        explain::entry(entry.id, halves);
    }
    let reason = match found {
        Some((entry, halves)) if entry.id.backend() == from.backend => {
            answers = packet.has_payload && !halves.server.same_turn_as(halves.client);
            let shown = after(packet, halves, now);
            entry.set_server(shown.server);
            if answers {
                response::begun(print, from.backend);
            }
            note_change(packet, from, &key, from.backend, halves, shown);
            Reason::Reply as u32
        }
        // A segment of a backend that the flow has left would break what took its tuple; a datagram still
        // answers the client.
        Some(_) if packet.is_datagram() => Reason::ReplyUnpinned as u32,
        Some(_) => return Verdict::end(Reason::ReplyStale as u32),
        None => {
            let halves = after(packet, Halves::default(), now).to_word();
            let (from, kind, old_slot) = (from.backend, packet.kind(from), Opening::NO_ENTRY);
            open(&Opening { halves, print, key, now, old_slot, from, kind }).1
        }
    };
    send(packet, from, service, reason, answers)
}

/// The client that a packet is for: its destination, unless that is a port that was lent to a flow.
#[inline(always)]
fn addressee<F: Family>(
    packet: &Packet<F>,
    from: Listener,
    service: &Service,
) -> Result<(Address, u16), Reason> {
    let (address, port) = packet.destination();
    if !from.has(service_flags::SNAT) || !service.snat.contains(u16::from_be(port)) {
        return Ok((address, port));
    }
    match snat::flow_of(service.snat.slot(u16::from_be(port))) {
        Some(flow) => Ok((flow.client, flow.client_port)),
        None => Err(Reason::SnatUnknown),
    }
}

/// Puts the client in the place of the port that was lent to it, if the packet is for such a port.
#[inline(always)]
fn give_back<F: Family>(ctx: *mut xdp_md, packet: &Packet<F>, service: &Service) {
    let port = u16::from_be(packet.destination().1);
    if service.snat.contains(port) {
        // SAFETY: the context is the one that the kernel gave, and the packet was parsed.
        unsafe { readdress(ctx, packet.link_bytes(), u32::from(F::IS_V6), service.snat.slot(port)) };
    }
}

/// Readdresses the packet whose IP header begins after `link_bytes` to the flow that has this slot's port. A function
/// of its own: inlined, it would cost the verifier a fifth more.
///
/// # Safety
///
/// `ctx` must be the context that the kernel gave, of a frame that was parsed.
#[inline(never)]
#[unsafe(no_mangle)]
unsafe extern "C" fn readdress(ctx: *mut xdp_md, link_bytes: u32, is_v6: u32, slot: u32) -> u32 {
    let ctx = XdpContext::new(ctx);
    let network = ctx.data() + (link_bytes as usize & LINK_MASK);
    let done = if is_v6 == 0 {
        Packet::parse_at(&ctx, network).map(|packet: Packet<Ipv4>| readdress_to(&packet, slot))
    } else {
        Packet::parse_at(&ctx, network).map(|packet: Packet<Ipv6>| readdress_to(&packet, slot))
    };
    u32::from(done == Ok(true))
}

#[inline(always)]
fn readdress_to<F: Family>(packet: &Packet<F>, slot: u32) -> bool {
    let Some(flow) = snat::flow_of(slot) else { return false };
    rewrite::endpoint(packet, End::Destination, flow.client, flow.client_port);
    true
}

/// What the flow has shown after a packet from its backend: data answers the turn that is open.
#[inline(always)]
fn after<F: Family>(packet: &Packet<F>, halves: Halves, now: Ticks) -> Halves {
    let server = if packet.is_datagram() {
        halves.server.after_datagram(now)
    } else {
        halves.server.after(packet.flags, packet.has_payload, now)
    };
    let server = if packet.has_payload { server.answering(halves.client) } else { server };
    Halves { client: halves.client, server }
}

#[inline(always)]
fn send<F: Family>(
    packet: &Packet<F>,
    from: Listener,
    service: &Service,
    reason: u32,
    answers: bool,
) -> Verdict {
    count::backend(from.backend, |counters| {
        counters.packets_out += 1;
        counters.bytes_out += u64::from(packet.ip_bytes);
        counters.resets_out += u64::from(packet.resets());
        counters.turns += u64::from(answers);
    });
    rewrite::endpoint(packet, End::Source, service.vip.address(), service.vip.wire_port());
    // What is too long and may be cut is cut by the stack.
    let fits = service.uplink.passes_bytes() >= packet.ip_bytes;
    let ifindex = if fits { service.uplink.ifindex } else { 0 };
    rewrite::next_hop(packet.ethernet, &service.uplink, ifindex);
    Verdict::send(reason, from.service, ifindex)
}
