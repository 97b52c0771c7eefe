//! What every namespace of a service has to look like. Pure: [`super::settle`] compares it with what is there.

use std::net::Ipv4Addr;

use ipnet::Ipv4Net;

use super::topology::{End, PAIR_PREFIX, Pair, Topology};
use crate::net::netlink::{Address, Neighbour, Route, RouteKind};
use crate::net::sysctl::{ipv4_conf, ipv6_conf};

/// The loopback interface is the first of every namespace.
const LOOPBACK: u32 = 1;

/// One place of a service's network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Site {
    Host,
    Balancer,
    Backend(usize),
}

/// What one place has to look like.
#[derive(Debug)]
pub(super) struct Wanted<'t> {
    pub(super) site: Site,
    /// The service's interfaces there.
    pub(super) ends: Vec<&'t End>,
    /// Indexes of all interfaces that have to be on.
    pub(super) up: Vec<u32>,
    pub(super) addresses: Vec<Address>,
    pub(super) neighbours: Vec<Neighbour>,
    pub(super) routes: Vec<Route>,
    /// Settings that every kernel has.
    pub(super) ipv4: Vec<(String, &'static str)>,
    /// Settings that are missing where IPv6 is.
    pub(super) ipv6: Vec<(String, &'static str)>,
}

/// What a service's network has to look like, place by place, from the backends to the host: so no packet
/// arrives where the way on is not laid yet.
pub(super) fn wanted(topology: &Topology) -> Vec<Wanted<'_>> {
    let backends = topology.backends.iter().enumerate().map(|(number, site)| backend(number, &site.pair));
    backends.chain([balancer(topology), host(topology)]).collect()
}

fn host(topology: &Topology) -> Wanted<'_> {
    let Pair { near, far } = &topology.uplink;
    let mut wanted = Wanted::of(Site::Host, &[(near, far)]);
    let vip = Route { source: Some(near.address), ..route(host_net(topology.vip), far.address, near) };
    wanted.routes = vec![vip, route(topology.subnet, far.address, near)];
    wanted.ipv4 = vec![
        (ipv4_conf(&near.ifname, "forwarding"), "1"),
        // Loose: a packet of the VIP may belong to a client that the host reaches by another interface.
        (ipv4_conf(&near.ifname, "rp_filter"), "2"),
    ];
    wanted
}

fn balancer(topology: &Topology) -> Wanted<'_> {
    let Pair { near, far } = &topology.uplink;
    let inner = topology.backends.iter().map(|site| (&site.pair.near, &site.pair.far));
    let pairs: Vec<_> = std::iter::once((far, near)).chain(inner).collect();
    let mut wanted = Wanted::of(Site::Balancer, &pairs);
    wanted.up.push(LOOPBACK);
    // The stack answers pings to the VIP, and refuses the ports that are not steered.
    wanted.addresses.push(Address { index: LOOPBACK, net: host_net(topology.vip) });
    wanted.routes = vec![route(Ipv4Net::default(), near.address, far)];
    wanted.ipv4 = vec![("ipv4/ip_forward".to_owned(), "1")];
    for site in &topology.backends {
        // Replies that the data plane hands to the stack, for want of a next hop, come from the backends in the
        // VIP's name, which is an address of this namespace: the stack would drop them.
        wanted.ipv4.push((ipv4_conf(&site.pair.near.ifname, "accept_local"), "1"));
        wanted.ipv4.push((ipv4_conf(&site.pair.near.ifname, "rp_filter"), "2"));
    }
    wanted
}

fn backend(number: usize, pair: &Pair) -> Wanted<'_> {
    let mut wanted = Wanted::of(Site::Backend(number), &[(&pair.far, &pair.near)]);
    wanted.up.push(LOOPBACK);
    wanted.routes = vec![route(Ipv4Net::default(), pair.near.address, &pair.far)];
    wanted
}

impl<'t> Wanted<'t> {
    /// What holds of every place: its ends are on and bear their addresses, and know their other ends.
    fn of(site: Site, pairs: &[(&'t End, &'t End)]) -> Self {
        let mut wanted = Self {
            site,
            ends: Vec::new(),
            up: Vec::new(),
            addresses: Vec::new(),
            neighbours: Vec::new(),
            routes: Vec::new(),
            ipv4: Vec::new(),
            ipv6: Vec::new(),
        };
        for (own, other) in pairs {
            wanted.ends.push(own);
            wanted.up.push(own.ifindex);
            wanted.addresses.push(Address { index: own.ifindex, net: pair_net(own.address) });
            // What XDP steers never confirms an entry of the stack: one that ages would be asked for for ever.
            let (index, address, mac) = (own.ifindex, other.address, other.mac);
            wanted.neighbours.push(Neighbour { index, address, mac, permanent: true });
            // No router may configure a namespace of ours by its advertisements.
            wanted.ipv6.push((ipv6_conf(&own.ifname, "accept_ra"), "0"));
            wanted.ipv6.push((ipv6_conf(&own.ifname, "autoconf"), "0"));
        }
        wanted
    }
}

fn route(destination: Ipv4Net, via: Ipv4Addr, by: &End) -> Route {
    Route { destination, via: Some(via), index: by.ifindex, source: None, kind: RouteKind::Unicast }
}

fn host_net(address: Ipv4Addr) -> Ipv4Net {
    Ipv4Net::from(address)
}

fn pair_net(address: Ipv4Addr) -> Ipv4Net {
    Ipv4Net::new_assert(address, PAIR_PREFIX)
}
