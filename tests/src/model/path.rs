//! The way of a packet from a client to a backend. The way back is in [`super::reply`].

use baton::dataplane::{Outcome, XdpAction};
use lb_common::tables::service_flags as flags;
use lb_common::{BackendId, BackendState, Forwarding, NextHop, Reason};

use super::bytes::{Octets, address, get16, octets};
use super::fate::{Change, Fate, answered, dropped, forwarded, refused, untouched};
use super::flow::{Flow, Key, flag};
use super::parse::{Packet, parse, protocol};
use super::rewrite::{self, End};
use super::state::{Model, Steering, Tally};
use super::world::Site;

/// The backend that a packet goes to, and why; or why it goes nowhere.
type Route = Result<(BackendId, Reason), Reason>;

impl Model {
    /// All fates that a frame may have. `seen` is what the program made of it: where the program is free in its choice
    /// of a port, the one that it took is looked up there.
    pub fn fates(&self, frame: &[u8], seen: &Outcome) -> Vec<Fate> {
        let packet = match parse(frame) {
            Ok(packet) => packet,
            Err(reason) => return vec![untouched(frame, reason, None)],
        };
        if packet.is_icmp() {
            return vec![self.error_fate(frame, &packet)];
        }
        if let Some(site) = self.site_at(packet.v6, packet.destination, packet.protocol) {
            self.request_fates(frame, &packet, site, seen)
        } else if let Some((site, from)) = self.replica_at(packet.v6, packet.source, packet.protocol) {
            vec![self.reply_fate(frame, &packet, site, from)]
        } else {
            vec![untouched(frame, Reason::NotForService, None)]
        }
    }

    /// Remembers what a frame has changed.
    pub fn accept(&mut self, fate: Fate) {
        let change = fate.change;
        self.flows.extend(change.flow);
        self.leases.extend(change.lease.map(|(service, client, backend)| ((service, client), backend)));
        self.lent.extend(change.lent.map(|(service, port, key)| ((service, port), key)));
        self.hashed.extend(change.hashed);
        for (backend, number) in change.open {
            *self.open.entry(backend).or_default() += number;
        }
        if let Some((backend, tally)) = change.tally {
            self.tallies.entry(backend).or_default().add(&tally);
        }
    }

    /// The service whose VIP this is.
    pub(super) fn site_at(&self, v6: bool, (ip, port): (Octets, u16), protocol: u8) -> Option<&Site> {
        self.world.sites.iter().find(|site| {
            site.v6 == v6
                && site.kind.protocol == protocol
                && (octets(site.vip.ip()), site.vip.port()) == (ip, port)
        })
    }

    /// The backend that this is, if its replies pass here.
    pub(super) fn replica_at(
        &self,
        v6: bool,
        (ip, port): (Octets, u16),
        protocol: u8,
    ) -> Option<(&Site, BackendId)> {
        let all = self.world.sites.iter().flat_map(|site| site.replicas.iter().map(move |one| (site, one)));
        let mut nat =
            all.filter(|(site, _)| site.kind.way == Forwarding::Nat && site.kind.protocol == protocol);
        nat.find(|(_, one)| {
            one.address.is_ipv6() == v6 && (octets(one.address.ip()), one.address.port()) == (ip, port)
        })
        .map(|(site, one)| (site, one.id))
    }

    fn request_fates(&self, frame: &[u8], packet: &Packet, site: &Site, seen: &Outcome) -> Vec<Fate> {
        let key = (site.id, packet.source.0, packet.source.1);
        let steering = self.steering(site.id);
        let settled = steering.draining == 0;
        if site.has(flags::DRAIN_ONLY) && settled {
            let route = self.available(steering.active).map(|id| (id, Reason::Untracked));
            return vec![self.sent(frame, packet, site, key, route, Change::default(), seen)];
        }
        let before = self.flows.get(&key).copied();
        if let Some(flow) = before.filter(|flow| goes_on(packet, flow, site, steering)) {
            match self.backends[&flow.backend].state {
                BackendState::Present => {
                    return vec![self.pinned_fate(frame, packet, site, key, flow, seen)];
                }
                BackendState::Refused if !opens(packet) => {
                    let change = Change { flow: Some((key, flow.aborted())), ..Change::default() };
                    return vec![Fate::new(refused(frame, packet, site), before, change)];
                }
                // A new flow on its tuple, or one that has lost its backend.
                BackendState::Refused | BackendState::Absent => {}
            }
        }
        let choices = self.choices(packet, site, &key, steering);
        choices
            .into_iter()
            .map(|(wanted, hashed)| {
                let route = wanted.and_then(|id| self.available(id));
                let mut change = Change { hashed: hashed.zip(route.ok()), ..Change::default() };
                let route = route.map(|id| (id, self.open_flow(packet, site, key, id, before, &mut change)));
                self.sent(frame, packet, site, key, route, change, seen)
            })
            .collect()
    }

    /// The backend, if it may get packets.
    fn available(&self, id: BackendId) -> Result<BackendId, Reason> {
        if self.present(id) { Ok(id) } else { Err(Reason::NoBackend) }
    }

    fn pinned_fate(
        &self,
        frame: &[u8],
        packet: &Packet,
        site: &Site,
        key: Key,
        flow: Flow,
        seen: &Outcome,
    ) -> Fate {
        let after = flow.after_client(packet);
        let mut change = Change { flow: Some((key, after)), ..Change::default() };
        change.closing(site, &flow, &after);
        let is_again = opens(packet) && flow.has_begun();
        let reason = if is_again { Reason::SynRetransmit } else { Reason::PinnedFlow };
        self.sent(frame, packet, site, key, Ok((flow.backend, reason)), change, seen)
    }

    /// Pins a flow that has no entry, or may not go on with the one it has.
    fn open_flow(
        &self,
        packet: &Packet,
        site: &Site,
        key: Key,
        backend: BackendId,
        before: Option<Flow>,
        change: &mut Change,
    ) -> Reason {
        let is_new = is_new(packet);
        if is_new && let Some(client) = lease_key(site, key.1) {
            change.lease = Some((site.id, client, backend));
        }
        // A reset of an unknown flow is passed on and leaves nothing.
        if packet.has(flag::RST) {
            return Reason::Unpinned;
        }
        let epoch = self.steering(site.id).epoch as u8;
        let one_way = site.kind.way != Forwarding::Nat;
        let flow = Flow::new(backend, epoch, packet.is_datagram(), one_way).after_client(packet);
        change.flow = Some((key, flow));
        if site.has(flags::COUNT_OPEN) {
            change.open.push((backend, 1));
        }
        match is_new {
            true if packet.is_datagram() && before.is_some() => Reason::Moved,
            true => Reason::NewFlow,
            false => Reason::TakenUp,
        }
    }

    /// Sends a packet to a backend in the service's way.
    #[expect(clippy::too_many_arguments, reason = "what is known of a packet, each once")]
    fn sent(
        &self,
        frame: &[u8],
        packet: &Packet,
        site: &Site,
        key: Key,
        route: Route,
        mut change: Change,
        seen: &Outcome,
    ) -> Fate {
        let before = self.flows.get(&key).copied();
        let (id, reason) = match route {
            Ok(route) => route,
            Err(reason) => return Fate::new(untouched(frame, reason, Some(site)).expected, before, change),
        };
        let (_, replica, backend) = self.backend(id);
        let overhead = match site.kind.way {
            Forwarding::Ipip if replica.local.is_ipv4() => 20,
            Forwarding::Ipip => 40,
            Forwarding::Nat | Forwarding::Dsr => 0,
        };
        let passes = passes(&backend.hop, overhead);
        let fits = packet.ip_bytes() <= passes;
        if !fits && !packet.may_fragment {
            let answer = rewrite::too_big(frame, packet, passes as u16);
            return Fate::new(answered(Reason::TooBig, site, answer), before, change);
        }
        let mut out = frame.to_vec();
        if site.kind.way == Forwarding::Nat {
            if opens(packet) {
                self.clamp(&mut out, packet, site, backend.hop);
            }
            if let Some((first, count)) = site.ports {
                let Some(port) = self.port(key, (first, count), packet, seen, &mut change) else {
                    let expected = dropped(Reason::SnatExhausted, site);
                    return Fate::new(expected, before, change);
                };
                rewrite::endpoint(&mut out, packet, End::Source, (octets(replica.local), port));
            }
            let to = (octets(replica.address.ip()), replica.address.port());
            rewrite::endpoint(&mut out, packet, End::Destination, to);
        }
        if site.kind.way == Forwarding::Dsr && (backend.hop.ifindex == 0 || !fits) {
            return Fate::new(dropped(Reason::NoHop, site), before, change);
        }
        change.tally = Some((id, tally_in(packet, reason)));
        if site.kind.way == Forwarding::Ipip {
            let (from, to) = (octets(replica.local), octets(replica.address.ip()));
            out = rewrite::encapsulate(&out, packet, from, to, replica.address.is_ipv6());
        }
        Fate::new(forwarded(out, reason, site, &backend.hop, fits), before, change)
    }

    /// The port that takes the place of the client's: the one that the flow has, or one that nobody has. `None` if all
    /// are lent. The program tries 32 ports of a range and may give up then.
    fn port(
        &self,
        key: Key,
        (first, count): (u16, u16),
        packet: &Packet,
        seen: &Outcome,
        change: &mut Change,
    ) -> Option<u16> {
        if let Some(port) = self.port_of(&key) {
            return Some(port);
        }
        let taken = |port: u16| self.lent.contains_key(&(key.0, port));
        let free = (first..first + count).filter(|port| !taken(*port));
        let lent = usize::from(count) - free.clone().count();
        let may_give_up = lent >= usize::from(count).min(32);
        if may_give_up && seen.action == XdpAction::Drop {
            return None;
        }
        // Whatever free port was taken; the first one stands for "some" if none was.
        let there = seen.frame.get(packet.transport..packet.transport + 2).map(|two| get16(two, 0));
        let port = free.clone().find(|port| Some(*port) == there).or_else(|| free.clone().next())?;
        change.lent = Some((key.0, port, key));
        Some(port)
    }

    /// Brings the segment size down to what passes on both sides.
    pub(super) fn clamp(&self, frame: &mut [u8], packet: &Packet, site: &Site, hop: NextHop) {
        let mtus = [hop.mtu, self.uplinks[usize::from(site.id)].mtu];
        let headers = if packet.v6 { 60 } else { 40 };
        // 0 is unknown, and no path is narrower than 68 bytes (RFC 791) for segments over IPv4.
        let narrow = mtus.into_iter().filter(|mtu| *mtu != 0).min();
        if let Some(largest) = narrow.filter(|mtu| *mtu >= headers + 28) {
            rewrite::clamp_segment_size(frame, packet, largest - headers);
        }
    }
}

/// Whether it asks for a new connection: of SYN and RST the reset is looked at first (RFC 9293, section 3.10.7).
pub(super) fn opens(packet: &Packet) -> bool {
    packet.has(flag::SYN) && !packet.has(flag::ACK) && !packet.has(flag::RST)
}

/// Whether a packet without entry begins a flow.
pub(super) fn is_new(packet: &Packet) -> bool {
    packet.is_datagram() || opens(packet)
}

/// Whether a packet may go where its flow went so far.
fn goes_on(packet: &Packet, flow: &Flow, site: &Site, steering: Steering) -> bool {
    if opens(packet) {
        return !flow.may_begin_anew();
    }
    // Conversations may have to follow a handover.
    !(packet.is_datagram() && site.has(flags::MOVE_DATAGRAMS) && steering.epoch as u8 != flow.epoch)
}

/// The part of a client's address that makes it one client.
pub(super) fn lease_key(site: &Site, client: Octets) -> Option<Octets> {
    let (v4, v6) = site.kind.affinity?;
    let bits = if address(client).is_ipv4() { 96 + v4 } else { v6 };
    let mask = u128::MAX.checked_shl(128 - bits).unwrap_or(0);
    Some((u128::from_be_bytes(client) & mask).to_be_bytes())
}

/// Whether a port is one of those that the service lends.
pub(super) fn lends(site: &Site, port: u16) -> bool {
    site.ports.is_some_and(|(first, count)| (first..first + count).contains(&port))
}

/// Longest packet that passes there, less what is put before it.
pub(super) fn passes(hop: &NextHop, overhead: usize) -> usize {
    if hop.mtu == 0 { usize::MAX } else { usize::from(hop.mtu) - overhead }
}

fn tally_in(packet: &Packet, reason: Reason) -> Tally {
    Tally {
        packets_in: 1,
        bytes_in: packet.ip_bytes() as u64,
        flows_new: u64::from(matches!(reason, Reason::NewFlow | Reason::Moved)),
        flows_taken_up: u64::from(reason == Reason::TakenUp),
        syn_retransmits: u64::from(reason == Reason::SynRetransmit),
        resets_in: u64::from(packet.has(flag::RST)),
        ..Tally::default()
    }
}

const _: () = assert!(protocol::TCP == lb_common::endpoint::TCP && protocol::UDP == lb_common::endpoint::UDP);
