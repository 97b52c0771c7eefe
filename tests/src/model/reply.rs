//! The way of a packet from a backend to a client.

use lb_common::tables::service_flags as flags;
use lb_common::{BackendId, BackendState, Reason};

use super::bytes::octets;
use super::fate::{Change, Fate, answered, dropped, forwarded, refused, untouched};
use super::flow::{Flow, flag};
use super::parse::Packet;
use super::path::{lends, passes};
use super::rewrite::{self, End};
use super::state::{Model, Tally};
use super::world::Site;

impl Model {
    /// A packet from a backend's service port.
    pub(super) fn reply_fate(&self, frame: &[u8], packet: &Packet, site: &Site, from: BackendId) -> Fate {
        let (_, replica, backend) = self.backend(from);
        let mut client = packet.destination;
        if lends(site, client.1) {
            match self.lent.get(&(site.id, client.1)) {
                Some((_, ip, port)) => client = (*ip, *port),
                None => return untouched(frame, Reason::SnatUnknown, Some(site)),
            }
        }
        let key = (site.id, client.0, client.1);
        let before = self.flows.get(&key).copied();
        if octets(replica.local) == client.0 {
            return untouched(frame, Reason::ToBalancer, Some(site));
        }
        if backend.state == BackendState::Refused && !packet.has(flag::RST) {
            return Fate::new(refused(frame, packet, site), before, Change::default());
        }
        let uplink = &self.uplinks[usize::from(site.id)];
        let fits = packet.ip_bytes() <= passes(uplink, 0);
        if !fits && !packet.may_fragment {
            let answer = rewrite::too_big(frame, packet, uplink.mtu);
            return Fate::new(answered(Reason::TooBig, site, answer), before, Change::default());
        }
        let mut change = Change::default();
        let tracked = !site.has(flags::DRAIN_ONLY) || self.steering(site.id).draining != 0;
        let (reason, answers) = match before {
            _ if !tracked => (Reason::ReplyUntracked, false),
            Some(flow) if flow.backend == from => {
                let after = flow.after_server(packet);
                change.flow = Some((key, after));
                change.closing(site, &flow, &after);
                (Reason::Reply, packet.has_payload() && flow.has_open_turn())
            }
            // A segment of a backend that the flow has left would break what took its tuple.
            Some(_) if !packet.is_datagram() => {
                return Fate::new(dropped(Reason::ReplyStale, site), before, change);
            }
            Some(_) => (Reason::ReplyUnpinned, false),
            None if packet.has(flag::RST) => (Reason::ReplyUnpinned, false),
            None => {
                let epoch = self.steering(site.id).epoch as u8;
                let flow = Flow::new(from, epoch, packet.is_datagram(), false).after_server(packet);
                change.flow = Some((key, flow));
                (Reason::ReplyTakenUp, false)
            }
        };
        let mut out = frame.to_vec();
        if packet.has(flag::SYN) {
            self.clamp(&mut out, packet, site, backend.hop);
        }
        if client != packet.destination {
            rewrite::endpoint(&mut out, packet, End::Destination, client);
        }
        rewrite::endpoint(&mut out, packet, End::Source, (octets(site.vip.ip()), site.vip.port()));
        change.tally = Some((from, tally_out(packet, answers)));
        Fate::new(forwarded(out, reason, site, uplink, fits), before, change)
    }
}

fn tally_out(packet: &Packet, answers: bool) -> Tally {
    Tally {
        packets_out: 1,
        bytes_out: packet.ip_bytes() as u64,
        resets_out: u64::from(packet.has(flag::RST)),
        turns: u64::from(answers),
        ..Tally::default()
    }
}
