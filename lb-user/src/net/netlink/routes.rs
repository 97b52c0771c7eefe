//! IPv4 routes of the tables that decide by default: local, main and default.

use std::fmt;
use std::net::Ipv4Addr;

use ipnet::Ipv4Net;
use netlink_packet_route::route::{RouteAddress, RouteAttribute, RouteMessage, RouteType};
use rtnetlink::RouteMessageBuilder;

use super::{Netlink, NetlinkError, done, dump};

/// Tables 253 (default), 254 (main) and 255 (local).
const DECIDING_TABLES: std::ops::RangeInclusive<u32> = 253..=255;

/// Tells what happens to a packet that a route matches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RouteKind {
    /// It is sent on.
    Unicast,
    /// It is for this host.
    Local,
    /// It is for everybody on a link.
    Broadcast,
    /// It is refused: unreachable, prohibited, thrown away.
    Refused,
    /// Something else.
    Other,
}

/// An IPv4 route.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Route {
    /// Whom it is for; 0.0.0.0/0 for a default route.
    pub destination: Ipv4Net,
    /// The next hop; `None` if the destination is on the link.
    pub via: Option<Ipv4Addr>,
    /// Index of the interface that it leaves by; 0 if it leaves by none.
    pub index: u32,
    /// The address that this host sends from.
    pub source: Option<Ipv4Addr>,
    /// What happens to a packet.
    pub kind: RouteKind,
}

impl fmt::Display for Route {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.destination)?;
        if let Some(via) = self.via {
            write!(f, " via {via}")?;
        }
        Ok(())
    }
}

impl Netlink {
    /// All IPv4 routes of the deciding tables.
    pub async fn routes(&self) -> Result<Vec<Route>, NetlinkError> {
        let question = RouteMessageBuilder::<Ipv4Addr>::new().build();
        let messages = dump("list the routes", self.handle.route().get(question).execute()).await?;
        Ok(messages.iter().filter_map(route_of).collect())
    }

    /// Adds a unicast route to the main table. One that is there already is replaced only if `replace`.
    pub async fn add_route(&self, route: Route, replace: bool) -> Result<(), NetlinkError> {
        let destination = route.destination;
        let mut builder = RouteMessageBuilder::<Ipv4Addr>::new()
            .destination_prefix(destination.network(), destination.prefix_len())
            .output_interface(route.index);
        if let Some(via) = route.via {
            builder = builder.gateway(via);
        }
        if let Some(source) = route.source {
            builder = builder.pref_source(source);
        }
        let mut request = self.handle.route().add(builder.build());
        if replace {
            request = request.replace();
        }
        done(|| format!("add the route {route}"), request.execute()).await
    }
}

fn route_of(message: &RouteMessage) -> Option<Route> {
    let header = &message.header;
    let mut table = u32::from(header.table);
    let mut route = Route {
        destination: Ipv4Net::new(Ipv4Addr::UNSPECIFIED, header.destination_prefix_length).ok()?,
        via: None,
        index: 0,
        source: None,
        kind: kind_of(header.kind),
    };
    for attribute in &message.attributes {
        match attribute {
            RouteAttribute::Table(id) => table = *id,
            RouteAttribute::Oif(index) => route.index = *index,
            RouteAttribute::Gateway(RouteAddress::Inet(via)) => route.via = Some(*via),
            RouteAttribute::PrefSource(RouteAddress::Inet(source)) => route.source = Some(*source),
            RouteAttribute::Destination(RouteAddress::Inet(address)) => {
                route.destination = Ipv4Net::new(*address, header.destination_prefix_length).ok()?;
            }
            _ => {}
        }
    }
    DECIDING_TABLES.contains(&table).then_some(route)
}

fn kind_of(kind: RouteType) -> RouteKind {
    match kind {
        RouteType::Unicast => RouteKind::Unicast,
        RouteType::Local => RouteKind::Local,
        RouteType::Broadcast => RouteKind::Broadcast,
        RouteType::Unreachable | RouteType::Prohibit | RouteType::BlackHole | RouteType::Throw => {
            RouteKind::Refused
        }
        _ => RouteKind::Other,
    }
}
