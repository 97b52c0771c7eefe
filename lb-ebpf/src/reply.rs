//! From a backend back to the client, as if the VIP had answered.
//!
//! A reply without an entry is rewritten all the same: its flow is served unpinned, or its entry was lost,
//! and the backend knows better than any steering that the flow is its own.

use lb_common::flow::tcp_flags::RST;
use lb_common::{Flow, FlowKey, Half, NextHop, Owner, Reason, Service};

use crate::packet::Packet;
use crate::{Verdict, backends, count, flows, rewrite, services};

/// Steers a packet that comes from a backend's service port.
#[inline(always)]
pub(crate) fn to_client(packet: &Packet, owner: Owner) -> Verdict {
    let Some(service) = services::get(owner.service) else {
        return Verdict::end(Reason::NotForService);
    };
    let destination = packet.destination();
    if backends::get(owner.backend).is_some_and(|backend| backend.checked_from == destination.address()) {
        return Verdict::end(Reason::ToBalancer);
    }
    let key = FlowKey {
        client: destination.address(),
        client_port: destination.wire_port(),
        service: owner.service,
    };
    if let Some(flow) = flows::find(&key) {
        if flow.backend != owner.backend {
            return Verdict::end(Reason::ReplyStale);
        }
        flow.server = flows::after_server(flow, packet.flags, packet.has_payload);
        return send(packet, owner, service, Reason::Reply);
    }
    let mut flow = Flow {
        backend: owner.backend,
        taken_up: 1,
        epoch: services::steering(owner.service).epoch,
        client: Half::default(),
        server: Half::default(),
    };
    flow.server = flows::after_server(&flow, packet.flags, packet.has_payload);
    let pinned = !packet.has(RST) && flows::pin(&key, &flow).is_ok();
    send(packet, owner, service, if pinned { Reason::ReplyTakenUp } else { Reason::ReplyUnpinned })
}

#[inline(always)]
fn send(packet: &Packet, owner: Owner, service: &Service, reason: Reason) -> Verdict {
    count::backend(owner.backend, |counters| {
        counters.packets_out += 1;
        counters.bytes_out += u64::from(packet.ip_bytes);
        counters.resets_out += u64::from(packet.has(RST));
    });
    let NextHop { ifindex, .. } = service.uplink;
    rewrite::source(packet, &service.vip);
    rewrite::next_hop(packet, &service.uplink);
    Verdict::send(reason, ifindex)
}
