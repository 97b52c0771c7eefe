//! Where a service's network goes: which /28 of the pool, which name for the host's link, and whether the VIP
//! and the pool may be taken at all. Pure: everything it knows of the host is in a [`HostView`].

use std::net::Ipv4Addr;

use ipnet::Ipv4Net;
use thiserror::Error;

use super::topology::{BACKENDS_ROOM, HOST_LINK_PREFIX, Placement, SUBNET_PREFIX, Spec};
use crate::names::ServiceName;
use crate::net::netlink::{Route, RouteKind};

/// Networks are made no smaller than what IPv4 guarantees to pass, and no larger than Ethernet's usual frame:
/// native XDP wants a packet in one page.
const MTU_RANGE: (u32, u32) = (576, 1500);

/// A route this wide is a default route in effect (VPNs add 0.0.0.0/1 and 128.0.0.0/1): it claims no address.
const WIDEST_CLAIM: u8 = 2;

/// What of the host decides about a placement.
#[derive(Clone, Debug, Default)]
pub struct HostView {
    /// The host's interfaces.
    pub links: Vec<HostLink>,
    /// The host's routes.
    pub routes: Vec<Route>,
    /// The services that exist, from their links and their run directories.
    pub services: Vec<KnownService>,
}

/// An interface of the host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostLink {
    /// Index.
    pub index: u32,
    /// Name.
    pub name: String,
    /// Largest packet, in bytes.
    pub mtu: u32,
    /// True if it is a loopback interface.
    pub loopback: bool,
    /// The service that it belongs to, if it is one of ours.
    pub service: Option<ServiceName>,
    /// Its addresses, each with the length of its network.
    pub addresses: Vec<Ipv4Net>,
}

/// What a service that exists has taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KnownService {
    /// Its name.
    pub name: ServiceName,
    /// Its VIP, if it is known.
    pub vip: Option<Ipv4Addr>,
    /// Its /28, if it is known.
    pub subnet: Option<Ipv4Net>,
}

/// Why a service cannot be placed.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum PlaceError {
    /// It has none, or more than its network has room for.
    #[error("a service whose backends Baton runs has 1 to {BACKENDS_ROOM} of them, not {0}")]
    Backends(usize),
    /// A service of this name has a network already.
    #[error("service {0} has a network on this host already; `baton down --name {0}` removes it")]
    NameTaken(ServiceName),
    /// The VIP is of a kind that no service can have.
    #[error("VIP {vip} is {kind} address; choose a unicast address that no machine has")]
    VipReserved {
        /// The VIP.
        vip: Ipv4Addr,
        /// What it is.
        kind: &'static str,
    },
    /// The VIP is this host's.
    #[error("VIP {vip} is an address of interface {ifname} of this host; choose one that no machine has")]
    VipOnInterface {
        /// The VIP.
        vip: Ipv4Addr,
        /// The interface.
        ifname: String,
    },
    /// The VIP is the first or last address of a network of this host.
    #[error("VIP {vip} is the network or broadcast address of {net} on interface {ifname}; choose another")]
    VipAtEdge {
        /// The VIP.
        vip: Ipv4Addr,
        /// The network.
        net: Ipv4Net,
        /// The interface.
        ifname: String,
    },
    /// The VIP is a router's.
    #[error("VIP {vip} is the gateway of this host's route {route}; choose one that no machine has")]
    VipIsGateway {
        /// The VIP.
        vip: Ipv4Addr,
        /// The route.
        route: String,
    },
    /// The host sends the VIP elsewhere on purpose.
    #[error("this host has a route {route} of its own; choose another VIP, or remove it with `ip route del`")]
    VipRouted {
        /// The route.
        route: String,
    },
    /// The VIP is another service's.
    #[error("VIP {vip} is in use by service {service}; choose another, or `baton down --name {service}`")]
    VipInUse {
        /// The VIP.
        vip: Ipv4Addr,
        /// Who has it.
        service: ServiceName,
    },
    /// The VIP is one of the addresses that services are wired with.
    #[error("VIP {vip} lies in {net}, where addresses of {owner} come from; choose another, or --subnet")]
    VipInPool {
        /// The VIP.
        vip: Ipv4Addr,
        /// The pool, or a service's /28.
        net: Ipv4Net,
        /// Whose addresses they are.
        owner: String,
    },
    /// No /28 fits into the pool.
    #[error("subnet {pool} is too small: two backends need a /{SUBNET_PREFIX} (16 addresses)")]
    PoolTooSmall {
        /// The pool.
        pool: Ipv4Net,
    },
    /// The pool is of a kind that no network can have.
    #[error(
        "subnet {pool} is no unicast network; choose a private one, such as 10.77.128.0/17, with --subnet"
    )]
    PoolReserved {
        /// The pool.
        pool: Ipv4Net,
    },
    /// The host sends addresses of the pool elsewhere.
    #[error("subnet {pool} collides with this host's route {route} ({ifname}); choose another with --subnet")]
    PoolCollides {
        /// The pool.
        pool: Ipv4Net,
        /// The route.
        route: String,
        /// The interface that it leaves by.
        ifname: String,
    },
    /// Every /28 of the pool is taken.
    #[error("subnet {pool} has no free /{SUBNET_PREFIX} left; choose another with --subnet")]
    PoolFull {
        /// The pool.
        pool: Ipv4Net,
    },
}

/// Chooses the place of a service's network.
pub fn place(view: &HostView, spec: &Spec) -> Result<Placement, PlaceError> {
    if view.services.iter().any(|service| service.name == spec.name) {
        return Err(PlaceError::NameTaken(spec.name.clone()));
    }
    if !(1..=BACKENDS_ROOM).contains(&spec.backends.len()) {
        return Err(PlaceError::Backends(spec.backends.len()));
    }
    check_pool(view, spec.pool)?;
    check_vip(view, spec)?;
    let taken = |subnet: &Ipv4Net| {
        view.services.iter().any(|service| {
            service.subnet.is_some_and(|other| overlap(*subnet, other))
                || service.vip.is_some_and(|vip| subnet.contains(&vip))
        })
    };
    let subnets =
        spec.pool.subnets(SUBNET_PREFIX).map_err(|_| PlaceError::PoolTooSmall { pool: spec.pool })?;
    let free = (0_u32..).zip(subnets).find(|(_, subnet)| !taken(subnet));
    let (slot, subnet) = free.ok_or(PlaceError::PoolFull { pool: spec.pool })?;
    Ok(Placement { subnet, host_link: free_link(view, slot), mtu: mtu(view) })
}

/// The interfaces whose networks hold the VIP: their other machines ask for it by ARP.
pub fn proxied_on(view: &HostView, vip: Ipv4Addr) -> Vec<&HostLink> {
    let holds =
        |link: &&HostLink| link.addresses.iter().any(|net| net.prefix_len() < 32 && net.contains(&vip));
    view.links.iter().filter(|link| !link.loopback && link.service.is_none()).filter(holds).collect()
}

fn check_pool(view: &HostView, pool: Ipv4Net) -> Result<(), PlaceError> {
    if pool.prefix_len() > SUBNET_PREFIX {
        return Err(PlaceError::PoolTooSmall { pool });
    }
    let edges = [pool.network(), pool.broadcast()];
    if pool.prefix_len() < 8 || edges.iter().any(|edge| reserved_kind(*edge).is_some()) {
        return Err(PlaceError::PoolReserved { pool });
    }
    let collides = |route: &&Route| {
        let claims = matches!(route.kind, RouteKind::Unicast | RouteKind::Local)
            && route.destination.prefix_len() >= WIDEST_CLAIM;
        claims && overlap(route.destination, pool) && !view.is_ours(route)
    };
    match view.routes.iter().find(collides) {
        Some(route) => Err(PlaceError::PoolCollides {
            pool,
            route: route.to_string(),
            ifname: view.name_of(route.index).to_owned(),
        }),
        None => Ok(()),
    }
}

fn check_vip(view: &HostView, spec: &Spec) -> Result<(), PlaceError> {
    let vip = spec.vip;
    if let Some(kind) = reserved_kind(vip) {
        return Err(PlaceError::VipReserved { vip, kind });
    }
    for service in &view.services {
        if service.vip == Some(vip) {
            return Err(PlaceError::VipInUse { vip, service: service.name.clone() });
        }
        if let Some(net) = service.subnet.filter(|net| net.contains(&vip)) {
            return Err(PlaceError::VipInPool { vip, net, owner: format!("service {}", service.name) });
        }
    }
    if spec.pool.contains(&vip) {
        return Err(PlaceError::VipInPool { vip, net: spec.pool, owner: "all services".to_owned() });
    }
    for link in view.links.iter().filter(|link| link.service.is_none()) {
        check_vip_on_link(vip, link)?;
    }
    for route in view.routes.iter().filter(|route| !view.is_ours(route)) {
        if route.via == Some(vip) {
            return Err(PlaceError::VipIsGateway { vip, route: route.to_string() });
        }
        if route.destination.prefix_len() == 32 && route.destination.addr() == vip {
            return Err(PlaceError::VipRouted { route: route.to_string() });
        }
    }
    Ok(())
}

fn check_vip_on_link(vip: Ipv4Addr, link: &HostLink) -> Result<(), PlaceError> {
    let ifname = link.name.clone();
    for net in &link.addresses {
        if net.addr() == vip {
            return Err(PlaceError::VipOnInterface { vip, ifname });
        }
        if net.prefix_len() < 31 && (net.network() == vip || net.broadcast() == vip) {
            return Err(PlaceError::VipAtEdge { vip, net: net.trunc(), ifname });
        }
    }
    Ok(())
}

fn reserved_kind(address: Ipv4Addr) -> Option<&'static str> {
    if address.is_unspecified() || address.octets()[0] == 0 {
        Some("an unspecified")
    } else if address.is_loopback() {
        Some("a loopback")
    } else if address.is_multicast() {
        Some("a multicast")
    } else if address.is_broadcast() {
        Some("the broadcast")
    } else if address.octets()[0] >= 240 {
        Some("a reserved")
    } else {
        None
    }
}

fn overlap(one: Ipv4Net, other: Ipv4Net) -> bool {
    one.contains(&other) || other.contains(&one)
}

/// `bt` and the slot's number; a later number if another pool's service has that one.
fn free_link(view: &HostView, slot: u32) -> String {
    let name = |number: u32| format!("{HOST_LINK_PREFIX}{number}");
    let taken = |name: &String| view.links.iter().any(|link| link.name == *name);
    let mut number = slot;
    while taken(&name(number)) {
        number += 1;
    }
    name(number)
}

/// What leaves the host has to fit through the interfaces of its default routes.
fn mtu(view: &HostView) -> u32 {
    let (least, most) = MTU_RANGE;
    let default_routes = view
        .routes
        .iter()
        .filter(|route| route.kind == RouteKind::Unicast && route.destination.prefix_len() < WIDEST_CLAIM);
    let links = default_routes.filter_map(|route| view.links.iter().find(|link| link.index == route.index));
    links.map(|link| link.mtu).min().unwrap_or(most).clamp(least, most)
}

impl HostView {
    fn is_ours(&self, route: &Route) -> bool {
        self.links.iter().any(|link| link.index == route.index && link.service.is_some())
    }

    fn name_of(&self, index: u32) -> &str {
        self.links.iter().find(|link| link.index == index).map_or("no interface", |link| &link.name)
    }
}

#[cfg(test)]
#[path = "place_tests.rs"]
mod tests;
