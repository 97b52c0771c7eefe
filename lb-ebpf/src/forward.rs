//! From a client to a backend.
//!
//! - A SYN is a new flow and goes where steering says, unless its tuple belongs to a flow that has not
//!   closed: then it is a retransmission and stays where that flow is.
//! - Any other packet belongs to an old flow. With an entry it goes to the entry's backend, whatever the
//!   steering says; without one it goes to the backend that drains, else to the active one, and is taken up.

use lb_common::flow::tcp_flags::{ACK, RST, SYN};
use lb_common::{Backend, BackendId, Flow, FlowKey, FlowState, Half, Reason, ServiceId};

use crate::packet::Packet;
use crate::{Verdict, backends, count, flows, rewrite, services};

/// Steers a packet that is for a service.
#[inline(always)]
pub(crate) fn to_backend(packet: &Packet, service: ServiceId) -> Verdict {
    let source = packet.source();
    let key = FlowKey { client: source.address(), client_port: source.wire_port(), service };
    let opens = packet.has(SYN) && !packet.has(ACK);

    if let Some(flow) = flows::find(&key)
        && !(opens && matches!(flow.state(), FlowState::Closed))
        && let Some(backend) = backends::get(flow.backend)
    {
        flow.client = flows::after_client(flow, packet.flags, packet.has_payload);
        let reason = if opens { Reason::SynRetransmit } else { Reason::PinnedFlow };
        return send(packet, flow.backend, backend, reason);
    }

    let steering = services::steering(service);
    let id = if opens { steering.for_new_flow() } else { steering.for_old_flow() };
    let Some(backend) = backends::get(id) else {
        return Verdict::end(Reason::NoBackend);
    };
    let mut flow = Flow {
        backend: id,
        taken_up: u16::from(!opens),
        epoch: steering.epoch,
        client: Half::default(),
        server: Half::default(),
    };
    flow.client = flows::after_client(&flow, packet.flags, packet.has_payload);
    let reason = if packet.has(RST) || flows::pin(&key, &flow).is_err() {
        Reason::Unpinned
    } else if opens {
        Reason::NewFlow
    } else {
        Reason::TakenUp
    };
    send(packet, id, backend, reason)
}

#[inline(always)]
fn send(packet: &Packet, id: BackendId, backend: &Backend, reason: Reason) -> Verdict {
    count::backend(id, |counters| {
        counters.packets_in += 1;
        counters.bytes_in += u64::from(packet.ip_bytes);
        counters.flows_new += u64::from(matches!(reason, Reason::NewFlow));
        counters.syn_retransmits += u64::from(matches!(reason, Reason::SynRetransmit));
        counters.resets_in += u64::from(packet.has(RST));
    });
    rewrite::destination(packet, &backend.endpoint);
    rewrite::next_hop(packet, &backend.hop);
    Verdict::send(reason, backend.hop.ifindex)
}
