//! What is to become of a frame: what can be seen of it, and what the model remembers of it.

use baton::dataplane::XdpAction;
use lb_common::tables::service_flags as flags;
use lb_common::{BackendId, FlowState, NextHop, Reason, ServiceId};

use super::bytes::Octets;
use super::flow::{Flow, Key, flag};
use super::parse::Packet;
use super::rewrite;
use super::state::{HashedTo, Tally};
use super::world::{INGRESS, Site};

/// What is to become of a frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Expected {
    /// The one reason that is counted.
    pub reason: Reason,
    /// The service that it is counted for.
    pub service: Option<ServiceId>,
    /// What the program returns.
    pub action: XdpAction,
    /// What leaves; nobody sees what is dropped.
    pub frame: Option<Vec<u8>>,
}

/// A frame's end, and what is remembered of it.
#[derive(Clone, Debug)]
pub struct Fate {
    /// What is to be seen.
    pub expected: Expected,
    /// The flow that it was of, before and after: for coverage.
    pub states: (Option<FlowState>, Option<FlowState>),
    pub(super) change: Change,
}

impl Fate {
    /// The end of a packet whose flow was this before.
    pub(super) fn new(expected: Expected, before: Option<Flow>, change: Change) -> Self {
        let after = change.flow.map(|(_, flow)| flow).or(before);
        Self { expected, states: (before.map(|flow| flow.state()), after.map(|flow| flow.state())), change }
    }

    /// The flow that it pins or changes.
    pub(super) fn pins(&self) -> Option<(Key, Flow)> {
        self.change.flow
    }

    /// Leaves open what a hash has chosen: nobody could see it.
    pub(super) fn forget_hash(&mut self) {
        self.change.hashed = None;
    }
}

/// What a packet changes in the model.
#[derive(Clone, Debug, Default)]
pub(super) struct Change {
    pub(super) flow: Option<(Key, Flow)>,
    pub(super) lease: Option<(ServiceId, Octets, BackendId)>,
    pub(super) lent: Option<(ServiceId, u16, Key)>,
    pub(super) hashed: Option<(HashedTo, BackendId)>,
    pub(super) open: Vec<(BackendId, i64)>,
    pub(super) tally: Option<(BackendId, Tally)>,
}

impl Change {
    /// Counts away a flow that this packet has closed, where open flows are counted.
    pub(super) fn closing(&mut self, site: &Site, before: &Flow, after: &Flow) {
        if site.has(flags::COUNT_OPEN)
            && before.state() != FlowState::Closed
            && after.state() == FlowState::Closed
        {
            self.open.push((before.backend, -1));
        }
    }
}

/// A packet that is left as it is.
pub(super) fn untouched(frame: &[u8], reason: Reason, site: Option<&Site>) -> Fate {
    let service = site.map(|site| site.id);
    let frame = Some(frame.to_vec());
    let expected = Expected { reason, service, action: XdpAction::Pass, frame };
    Fate { expected, states: (None, None), change: Change::default() }
}

/// A packet that is discarded.
pub(super) fn dropped(reason: Reason, site: &Site) -> Expected {
    Expected { reason, service: Some(site.id), action: XdpAction::Drop, frame: None }
}

/// A packet that is answered: the answer goes back by the interface that it came in by.
pub(super) fn answered(reason: Reason, site: &Site, frame: Vec<u8>) -> Expected {
    Expected { reason, service: Some(site.id), action: XdpAction::Tx, frame: Some(frame) }
}

/// A segment of a flow that is refused is answered by a reset; resets and datagrams are not answered.
pub(super) fn refused(frame: &[u8], packet: &Packet, site: &Site) -> Expected {
    if packet.is_datagram() || packet.has(flag::RST) {
        return dropped(Reason::RefusedSilently, site);
    }
    answered(Reason::RefusedReset, site, rewrite::reset(frame, packet))
}

/// A rewritten packet: sent to its next hop, or left to the stack, which forwards it or cuts it into pieces. The stack
/// takes only frames that are addressed to it, so one that is left to it keeps its Ethernet addresses.
pub(super) fn forwarded(
    mut frame: Vec<u8>,
    reason: Reason,
    site: &Site,
    hop: &NextHop,
    fits: bool,
) -> Expected {
    let action = match hop.ifindex {
        0 => XdpAction::Pass,
        _ if !fits => XdpAction::Pass,
        INGRESS => XdpAction::Tx,
        _ => XdpAction::Redirect,
    };
    if action != XdpAction::Pass {
        rewrite::next_hop(&mut frame, hop);
    }
    Expected { reason, service: Some(site.id), action, frame: Some(frame) }
}
