//! The decision: from what the kernel has said of links, neighbours, bridges and routes to the next hops, and
//! to what it has to be asked next.
//!
//! What always holds: a next hop is resolved only while every part of the way is known to be good, so each
//! message that spoils a part takes the hop away at once.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use lb_common::NextHop;
use netlink_packet_route::route::RouteMessage;
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};

use super::links::{Link, Links, Sending};
use super::neighbours::{Neighbours, Ports, Standing, is_of_bridge};
use super::ways::{Way, concerns};
use super::{Hops, Resolved, Unresolved};

/// What the kernel has to be asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Question {
    /// Which way packets to this address take; the answer goes to [`Table::set_way`].
    Way(IpAddr),
    /// Where a neighbour is.
    Ask {
        /// Index of the interface.
        index: u32,
        /// The neighbour.
        neighbour: IpAddr,
    },
    /// Whether a neighbour is still there.
    Verify {
        /// Index of the interface.
        index: u32,
        /// The neighbour.
        neighbour: IpAddr,
    },
}

/// All that is known.
#[derive(Clone, Debug)]
pub(super) struct Table {
    links: Links,
    neighbours: Neighbours,
    ports: Ports,
    ways: BTreeMap<IpAddr, Way>,
    /// Addresses whose way is in doubt.
    doubtful: BTreeSet<IpAddr>,
    /// Neighbours that were asked for since the last refresh.
    asked: BTreeSet<(u32, IpAddr)>,
    verify: bool,
}

impl Table {
    /// Knows nothing yet.
    pub(super) fn new(targets: &[IpAddr]) -> Self {
        Self {
            links: Links::default(),
            neighbours: Neighbours::default(),
            ports: Ports::default(),
            ways: targets.iter().map(|target| (*target, Way::None(Unresolved::NotRead))).collect(),
            doubtful: targets.iter().copied().collect(),
            asked: BTreeSet::new(),
            verify: false,
        }
    }

    /// Takes over an announcement, or a part of a list.
    pub(super) fn apply(&mut self, message: &RouteNetlinkMessage) {
        use RouteNetlinkMessage as Message;
        match message {
            Message::NewLink(link) => {
                let changed = self.links.set(link);
                self.links_changed(changed);
            }
            Message::DelLink(link) => {
                let changed = self.links.remove(link);
                self.links_changed(changed);
            }
            Message::NewNeighbour(entry) if is_of_bridge(entry) => self.ports.set(entry),
            Message::DelNeighbour(entry) if is_of_bridge(entry) => self.ports.remove(entry),
            Message::NewNeighbour(neighbour) => self.neighbours.set(neighbour),
            Message::DelNeighbour(neighbour) => self.neighbours.remove(neighbour),
            Message::NewRoute(route) | Message::DelRoute(route) => self.route_changed(route),
            // With an address go the routes that send from it, unannounced.
            Message::NewAddress(address) | Message::DelAddress(address) => self.doubt(address.header.family),
            Message::NewRule(rule) | Message::DelRule(rule) => self.doubt(rule.header.family),
            _ => {}
        }
    }

    /// Takes over the answer about a way.
    pub(super) fn set_way(&mut self, target: IpAddr, way: Way) {
        self.ways.insert(target, way);
    }

    /// Time to look after the neighbours again: those that are known, and those that have not answered.
    pub(super) fn refresh(&mut self) {
        self.asked.clear();
        self.verify = true;
    }

    /// What has to be asked now; each question is handed out once.
    pub(super) fn questions(&mut self) -> Vec<Question> {
        let verify = std::mem::take(&mut self.verify);
        let doubtful = std::mem::take(&mut self.doubtful);
        let mut questions: BTreeSet<Question> = doubtful.into_iter().map(Question::Way).collect();
        for way in self.ways.values() {
            let Way::Over { index, via: neighbour, .. } = *way else { continue };
            if self.link(index).is_err() {
                continue;
            }
            match self.neighbours.standing(index, neighbour) {
                Standing::Known(_) => {
                    self.asked.remove(&(index, neighbour));
                    if verify && self.neighbours.wants_verifying(index, neighbour) {
                        questions.insert(Question::Verify { index, neighbour });
                    }
                }
                Standing::Silent | Standing::Unknown => {
                    let ours = self.neighbours.wants_asking(index, neighbour);
                    if ours && self.asked.insert((index, neighbour)) {
                        questions.insert(Question::Ask { index, neighbour });
                    }
                }
            }
        }
        questions.into_iter().collect()
    }

    /// The next hops by all that is known.
    pub(super) fn hops(&self) -> Hops {
        self.ways.iter().map(|(target, way)| (*target, self.resolve(way))).collect()
    }

    fn resolve(&self, way: &Way) -> Result<Resolved, Unresolved> {
        let (index, via, route_mtu) = match way {
            Way::Over { index, via, mtu } => (*index, *via, *mtu),
            Way::None(why) => return Err(why.clone()),
        };
        let link = self.link(index)?;
        let source = link.mac.ok_or_else(|| Unresolved::NoEthernet(link.name.clone()))?;
        let interface = link.name.clone();
        let destination = match self.neighbours.standing(index, via) {
            Standing::Known(mac) => mac,
            Standing::Silent => return Err(Unresolved::Silent { neighbour: via, interface }),
            Standing::Unknown => return Err(Unresolved::Asked { neighbour: via, interface }),
        };
        let mut mtu = link.mtu.min(route_mtu.unwrap_or(u32::MAX));
        let mut ifindex = index;
        if link.sending() == Sending::ByPort {
            let no_port = || Unresolved::NoPort { bridge: interface, neighbour: via };
            ifindex = self.ports.port(index, destination).ok_or_else(no_port)?;
            let port = self.link(ifindex)?;
            mtu = mtu.min(port.mtu);
        }
        let hop = NextHop {
            ifindex,
            destination: destination.octets(),
            source: source.octets(),
            mtu: u16::try_from(mtu).unwrap_or(u16::MAX),
            vlan: 0,
        };
        Ok(Resolved { hop, mtu })
    }

    /// An interface that XDP can send over, at least by way of a port.
    fn link(&self, index: u32) -> Result<&Link, Unresolved> {
        let link = self.links.usable(index)?;
        match link.sending() {
            Sending::Direct | Sending::ByPort => Ok(link),
            Sending::ByStack => {
                Err(Unresolved::NoRedirect { interface: link.name.clone(), kind: link.kind() })
            }
        }
    }

    /// IPv4 routes come and go with their interface, partly unannounced.
    fn links_changed(&mut self, changed: bool) {
        if changed {
            self.doubtful.extend(self.ways.keys());
            self.asked.clear();
        }
    }

    fn route_changed(&mut self, route: &RouteMessage) {
        let concerned = self.ways.keys().filter(|target| concerns(route, **target));
        self.doubtful.extend(concerned);
    }

    fn doubt(&mut self, family: AddressFamily) {
        let concerned = self.ways.keys().filter(|target| match target {
            IpAddr::V4(_) => family == AddressFamily::Inet,
            IpAddr::V6(_) => family == AddressFamily::Inet6,
        });
        self.doubtful.extend(concerned);
    }
}
