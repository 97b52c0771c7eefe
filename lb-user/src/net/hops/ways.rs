//! Which way packets to an address take: the kernel's answer about one route, and which announcements of
//! routes put an answer in doubt.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;
use netlink_packet_route::AddressFamily;
use netlink_packet_route::route::{
    RouteAddress, RouteAttribute, RouteMessage, RouteMetric, RouteType, RouteVia,
};
use nix::errno::Errno;

use super::Unresolved;

/// The way to an address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Way {
    /// Over an interface to a neighbour: a router, or the address itself.
    Over {
        /// Index of the interface.
        index: u32,
        /// The neighbour.
        via: IpAddr,
        /// Largest packet in bytes, if the route sets a limit or has learnt one.
        mtu: Option<u32>,
    },
    /// There is none, and why.
    None(Unresolved),
}

impl Way {
    /// The way that a route shows; `None` is the absence of a route.
    pub(super) fn of(target: IpAddr, route: Option<&RouteMessage>) -> Self {
        let Some(route) = route else { return Self::None(Unresolved::NoRoute) };
        let (mut index, mut via, mut mtu) = (None, target, None);
        for attribute in &route.attributes {
            match attribute {
                RouteAttribute::Oif(interface) => index = Some(*interface),
                RouteAttribute::Gateway(address) => via = ip(address).unwrap_or(via),
                // A router of the other family.
                RouteAttribute::Via(RouteVia::Inet(address)) => via = IpAddr::V4(*address),
                RouteAttribute::Via(RouteVia::Inet6(address)) => via = IpAddr::V6(*address),
                RouteAttribute::Metrics(metrics) => {
                    mtu = metrics.iter().find_map(|metric| match metric {
                        RouteMetric::Mtu(mtu) if *mtu > 0 => Some(*mtu),
                        _ => None,
                    });
                }
                _ => {}
            }
        }
        match (route.header.kind, index) {
            (RouteType::Unicast, Some(index)) => Self::Over { index, via, mtu },
            (RouteType::Local, _) => Self::None(Unresolved::OwnAddress),
            (kind, _) => refused_by(kind),
        }
    }

    /// The meaning of an error number with which the kernel answers a question about a route; `None` if it
    /// is a failure instead of an answer.
    pub(super) fn refused(code: i32) -> Option<Self> {
        match Errno::from_raw(code) {
            Errno::ENETUNREACH => Some(Self::None(Unresolved::NoRoute)),
            Errno::EHOSTUNREACH => Some(refused_by(RouteType::Unreachable)),
            Errno::EACCES => Some(refused_by(RouteType::Prohibit)),
            Errno::EINVAL => Some(refused_by(RouteType::BlackHole)),
            _ => None,
        }
    }
}

fn refused_by(kind: RouteType) -> Way {
    Way::None(Unresolved::Refused(match kind {
        RouteType::BlackHole => "blackhole",
        RouteType::Prohibit => "prohibit",
        RouteType::Unreachable => "unreachable",
        _ => "not one that packets to a single host take",
    }))
}

/// Whether a route that came or went can change the way to `target`.
pub(super) fn concerns(route: &RouteMessage, target: IpAddr) -> bool {
    let destination = route.attributes.iter().find_map(|attribute| match attribute {
        RouteAttribute::Destination(address) => ip(address),
        _ => None,
    });
    let destination = destination.or(match route.header.address_family {
        AddressFamily::Inet => Some(Ipv4Addr::UNSPECIFIED.into()),
        AddressFamily::Inet6 => Some(Ipv6Addr::UNSPECIFIED.into()),
        _ => None,
    });
    let net = destination.and_then(|base| IpNet::new(base, route.header.destination_prefix_length).ok());
    net.is_some_and(|net| net.contains(&target))
}

fn ip(address: &RouteAddress) -> Option<IpAddr> {
    match address {
        RouteAddress::Inet(address) => Some(IpAddr::V4(*address)),
        RouteAddress::Inet6(address) => Some(IpAddr::V6(*address)),
        _ => None,
    }
}
