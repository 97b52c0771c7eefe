//! From a client to a backend.
//!
//! With an entry a packet goes to the entry's backend, whatever the steering says: a SYN too, for it is a
//! retransmission while its flow has not closed, or the one for which user space has pinned the flow beforehand.
//! Without one it goes where [`crate::open`] says.

use aya_ebpf::EbpfContext;
use aya_ebpf::bindings::xdp_md;
use aya_ebpf::programs::XdpContext;
use lb_common::tables::service_flags;
use lb_common::{
    Backend, BackendId, BackendState, FlowKey, FlowState, Forwarding, Halves, Listener, Reason, ServiceId,
    Ticks,
};

use crate::encapsulate::encapsulate;
use crate::family::{End, Family};
use crate::flows::{Pinned, find, fingerprint, now};
use crate::open::{Opening, open};
use crate::packet::Packet;
use crate::refuse::refuse;
use crate::{
    Verdict, backends, count, explain, leases, mss, pools, response, rewrite, services, snat, too_big,
};

/// Where a packet goes, and why.
struct Route {
    id: BackendId,
    backend: &'static Backend,
    reason: u32,
}

/// Steers a packet that is for a service.
#[inline(always)]
pub(crate) fn to_backend<F: Family>(ctx: &XdpContext, packet: &Packet<F>, to: Listener) -> Verdict {
    let ctx = ctx.as_ptr().cast();
    match route(ctx, packet, to) {
        Ok(route) => send(ctx, packet, to, &route),
        Err(reason) => Verdict::end(reason),
    }
}

/// Where the packet goes, or the reason why it goes nowhere.
#[inline(always)]
fn route<F: Family>(ctx: *mut xdp_md, packet: &Packet<F>, to: Listener) -> Result<Route, u32> {
    if to.has(service_flags::DRAIN_ONLY)
        && let Some(route) = untracked(to.service)?
    {
        return Ok(route);
    }
    tracked(ctx, packet, to)
}

/// The active backend, if nothing drains: then flows of such a service are not looked up.
#[inline(always)]
fn untracked(service: ServiceId) -> Result<Option<Route>, u32> {
    let steering = services::steering(service);
    if !steering.is_settled() {
        return Ok(None);
    }
    match backends::get(steering.active) {
        Some(backend) if backend.is_present() => {
            Ok(Some(Route { id: steering.active, backend, reason: Reason::Untracked as u32 }))
        }
        _ => Err(Reason::NoBackend as u32),
    }
}

/// The backend of the packet's flow.
#[inline(always)]
fn tracked<F: Family>(ctx: *mut xdp_md, packet: &Packet<F>, to: Listener) -> Result<Route, u32> {
    let (client, client_port) = packet.source();
    let key = FlowKey { client, client_port, service: to.service };
    let (print, now) = (fingerprint(&key), now());
    let mut old_slot = Opening::NO_ENTRY;
    if let Some(entry) = find(print) {
        let halves = entry.halves();
        explain::entry(entry.id, halves);
        let id = entry.id.backend();
        if goes_on(packet, to, &entry, halves)
            && let Some(backend) = backends::get(id)
        {
            match backend.state() {
                BackendState::Present => {
                    let shown = after(packet, halves, now);
                    entry.set_client(shown.client);
                    if !shown.client.same_turn_as(halves.client) {
                        response::awaited(print);
                    }
                    note_change(packet, to, &key, id, halves, shown);
                    // A flow that was pinned beforehand begins with its SYN. Two ends spare packets without SYN the
                    // register that a reason takes until then.
                    if packet.opens() && halves.has_begun() {
                        return Ok(Route { id, backend, reason: Reason::SynRetransmit as u32 });
                    }
                    return Ok(Route { id, backend, reason: Reason::PinnedFlow as u32 });
                }
                BackendState::Refused if !packet.opens() => {
                    entry.set_server(halves.server.aborted());
                    return Err(refuse(ctx, packet));
                }
                // A new flow on an old tuple, or a flow that has lost its backend.
                BackendState::Refused | BackendState::Absent => {}
            }
        }
        old_slot = entry.slot;
    }
    let halves = after(packet, Halves::default(), now).to_word();
    let kind = packet.kind(to);
    let (id, reason) = open(&Opening { halves, print, key, now, old_slot, from: 0, kind });
    match backends::get(id) {
        Some(backend) if id != 0 => Ok(Route { id, backend, reason }),
        _ => Err(reason),
    }
}

/// Does what a flow's new state is to bring about, where the service asks for it.
#[inline(always)]
pub(crate) fn note_change<F: Family>(
    packet: &Packet<F>,
    of: Listener,
    key: &FlowKey,
    backend: BackendId,
    before: Halves,
    shown: Halves,
) {
    if of.has(service_flags::COUNT_OPEN)
        && packet.may_close()
        && !matches!(before.state(), FlowState::Closed)
        && matches!(shown.state(), FlowState::Closed)
    {
        pools::closed(backend);
    }
    if of.has(service_flags::AFFINITY)
        && matches!(before.state(), FlowState::HalfOpen)
        && matches!(shown.state(), FlowState::Established)
    {
        leases::confirm(key);
    }
}

/// Whether a flow's packet may go where the flow went so far.
#[inline(always)]
fn goes_on<F: Family>(packet: &Packet<F>, to: Listener, entry: &Pinned, halves: Halves) -> bool {
    if packet.opens() {
        return !halves.may_begin_anew();
    }
    // A conversation of datagrams may have to follow a handover that came after it was pinned.
    !(to.has(service_flags::MOVE_DATAGRAMS) && services::steering(to.service).epoch as u8 != entry.id.epoch())
}

/// What the flow has shown after a packet from its client: data after a response begins the next turn.
#[inline(always)]
fn after<F: Family>(packet: &Packet<F>, halves: Halves, now: Ticks) -> Halves {
    let client = if packet.is_datagram() {
        halves.client.after_datagram(now)
    } else {
        halves.client.after(packet.flags, packet.has_payload, now)
    };
    let client =
        if packet.has_payload && client.same_turn_as(halves.server) { client.next_turn() } else { client };
    Halves { client, server: halves.server }
}

#[inline(always)]
fn send<F: Family>(ctx: *mut xdp_md, packet: &Packet<F>, to: Listener, route: &Route) -> Verdict {
    let (backend, reason) = (route.backend, route.reason);
    let mut ifindex = backend.hop.ifindex;
    let passes_bytes = backend.passes_bytes();
    if passes_bytes < packet.ip_bytes {
        if !packet.may_fragment() {
            return Verdict::end(too_big::tell(ctx, packet, passes_bytes as u16));
        }
        // The stack cuts it into pieces.
        ifindex = 0;
    }
    match backend.forwarding() {
        Forwarding::Nat => {
            if packet.opens() {
                let uplink_mtu = services::get(to.service).map_or(0, |service| service.uplink.mtu);
                mss::clamp(ctx, packet, backend.hop.mtu, uplink_mtu);
            }
            if to.has(service_flags::SNAT) && !lend_port(packet, to.service, backend, reason) {
                return Verdict::end(Reason::SnatExhausted as u32);
            }
            rewrite::endpoint(
                packet,
                End::Destination,
                backend.endpoint.address(),
                backend.endpoint.wire_port(),
            );
            rewrite::next_hop(packet.ethernet, &backend.hop, ifindex);
        }
        // The VIP may be the balancer's own, too: its stack would answer in the backend's place.
        Forwarding::Dsr if ifindex == 0 => return Verdict::end(Reason::NoHop as u32),
        Forwarding::Dsr => rewrite::next_hop(packet.ethernet, &backend.hop, ifindex),
        Forwarding::Ipip => {
            rewrite::next_hop(packet.ethernet, &backend.hop, ifindex);
            // SAFETY: the context is the one that the kernel gave. The packet is not looked at afterwards.
            if unsafe { encapsulate(ctx, route.id.into(), packet.link_bytes()) } == 0 {
                return Verdict::end(Reason::NoHeadroom as u32);
            }
        }
    }
    count::backend(route.id, |counters| {
        counters.packets_in += 1;
        counters.bytes_in += u64::from(packet.ip_bytes);
        counters.flows_new += u64::from(reason == Reason::NewFlow as u32 || reason == Reason::Moved as u32);
        counters.flows_taken_up += u64::from(reason == Reason::TakenUp as u32);
        counters.syn_retransmits += u64::from(reason == Reason::SynRetransmit as u32);
        counters.resets_in += u64::from(packet.resets());
    });
    Verdict::send(reason, to.service, ifindex)
}

/// Puts a source of the balancer's own in the place of the client's; false if no port is left.
#[inline(always)]
fn lend_port<F: Family>(packet: &Packet<F>, service: ServiceId, backend: &Backend, reason: u32) -> bool {
    let Some(range) = services::get(service).map(|service| service.snat) else { return false };
    let (client, client_port) = packet.source();
    let key = FlowKey { client, client_port, service };
    let print = fingerprint(&key);
    // A port before its own may have become free: a flow that goes on keeps what it has.
    let held = if reason == Reason::NewFlow as u32 { 0 } else { snat::port_held_by(print, range) };
    let port = if held == 0 { snat::port_of(&key, print, range, now()) } else { held };
    if port == 0 {
        return false;
    }
    rewrite::endpoint(packet, End::Source, backend.local, port.to_be());
    true
}
