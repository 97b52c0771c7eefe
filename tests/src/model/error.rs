//! ICMP messages: an error about a flow goes on to whoever sent the packet that it is about, in either direction.

use lb_common::{BackendId, Forwarding, Reason};

use super::bytes::octets;
use super::fate::{Change, Fate, forwarded, untouched};
use super::parse::{Packet, Quoted, quoted};
use super::path::lends;
use super::rewrite::{self, ErrorChange};
use super::state::Model;
use super::world::Site;

impl Model {
    /// An ICMP message: an error about a flow is sent on, all else is left to the stack.
    pub(super) fn error_fate(&self, frame: &[u8], message: &Packet) -> Fate {
        let about = match quoted(frame, message) {
            Ok(quoted) => quoted,
            Err(reason) => return untouched(frame, reason, None),
        };
        let found = if let Some(site) = self.site_at(message.v6, about.source, about.protocol) {
            self.error_to_backend(frame, message, &about, site)
        } else if let Some((site, id)) = self.replica_at(message.v6, about.destination, about.protocol) {
            self.error_to_client(frame, message, &about, site, id)
        } else {
            Err(Reason::IcmpUnknown)
        };
        found.unwrap_or_else(|reason| untouched(frame, reason, None))
    }

    /// About a packet that the VIP sent to a client.
    fn error_to_backend(
        &self,
        frame: &[u8],
        message: &Packet,
        about: &Quoted,
        site: &Site,
    ) -> Result<Fate, Reason> {
        let key = (site.id, about.destination.0, about.destination.1);
        let flow =
            self.flows.get(&key).filter(|flow| self.present(flow.backend)).ok_or(Reason::IcmpUnknown)?;
        let (_, replica, backend) = self.backend(flow.backend);
        let mut out = frame.to_vec();
        let backend_ip = octets(replica.address.ip());
        match site.kind.way {
            Forwarding::Nat => {
                let mut change = ErrorChange {
                    to: Some(backend_ip),
                    quoted_source: Some((backend_ip, replica.address.port())),
                    ..ErrorChange::default()
                };
                if site.ports.is_some() {
                    let port = self.port_of(&key).ok_or(Reason::IcmpUnknown)?;
                    change.quoted_destination = Some((octets(replica.local), port));
                }
                rewrite::error(&mut out, message, about, &change);
            }
            Forwarding::Dsr => {}
            Forwarding::Ipip => {
                let v6 = replica.address.is_ipv6();
                out = rewrite::encapsulate(&out, message, octets(replica.local), backend_ip, v6);
            }
        }
        let expected = forwarded(out, Reason::IcmpError, site, &backend.hop, true);
        Ok(Fate::new(expected, Some(*flow), Change::default()))
    }

    /// About a packet that went to a backend.
    fn error_to_client(
        &self,
        frame: &[u8],
        message: &Packet,
        about: &Quoted,
        site: &Site,
        id: BackendId,
    ) -> Result<Fate, Reason> {
        let (_, replica, _) = self.backend(id);
        let mut change = ErrorChange::default();
        if lends(site, about.source.1) {
            let (_, client, port) = *self.lent.get(&(site.id, about.source.1)).ok_or(Reason::IcmpUnknown)?;
            change.quoted_source = Some((client, port));
            change.to = Some(client);
        } else if about.source.0 == octets(replica.local) {
            return Err(Reason::ToBalancer);
        }
        // A router keeps its name; the backend has none but the VIP's.
        let vip = octets(site.vip.ip());
        if message.source.0 == octets(replica.address.ip()) {
            change.from = Some(vip);
        }
        change.quoted_destination = Some((vip, site.vip.port()));
        let mut out = frame.to_vec();
        rewrite::error(&mut out, message, about, &change);
        let uplink = &self.uplinks[usize::from(site.id)];
        Ok(Fate::new(forwarded(out, Reason::ReplyIcmpError, site, uplink, true), None, Change::default()))
    }
}
