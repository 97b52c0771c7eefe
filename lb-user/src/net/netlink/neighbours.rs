//! IPv4 neighbours: permanent entries, and addresses that this host answers for.

use std::net::{IpAddr, Ipv4Addr};

use netlink_packet_route::AddressFamily;
use netlink_packet_route::neighbour::{
    NeighbourAddress, NeighbourAttribute, NeighbourFlags, NeighbourMessage, NeighbourState,
};

use super::{Netlink, NetlinkError, done, dump, if_present};
use crate::net::mac::Mac;

/// A neighbour whose Ethernet address is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Neighbour {
    /// Index of the interface that it is reached by.
    pub index: u32,
    /// Its address.
    pub address: Ipv4Addr,
    /// Its Ethernet address.
    pub mac: Mac,
    /// True if the entry never ages.
    pub permanent: bool,
}

/// An address that this host answers ARP requests for, though it is another's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Proxy {
    /// Index of the interface on which it answers.
    pub index: u32,
    /// The address.
    pub address: Ipv4Addr,
}

impl Netlink {
    /// All IPv4 neighbours with a known Ethernet address.
    pub async fn neighbours(&self) -> Result<Vec<Neighbour>, NetlinkError> {
        let request = self.handle.neighbours().get().set_address_family(AddressFamily::Inet);
        let messages = dump("list the neighbours", request.execute()).await?;
        Ok(messages.iter().filter_map(neighbour_of).collect())
    }

    /// Adds or replaces a neighbour entry that never ages.
    pub async fn set_neighbour(&self, index: u32, address: Ipv4Addr, mac: Mac) -> Result<(), NetlinkError> {
        let request = self
            .handle
            .neighbours()
            .add(index, IpAddr::V4(address))
            .link_layer_address(&mac.octets())
            .state(NeighbourState::Permanent)
            .replace();
        done(|| format!("set the neighbour {address} of interface {index}"), request.execute()).await
    }

    /// All addresses that this host answers for.
    pub async fn proxies(&self) -> Result<Vec<Proxy>, NetlinkError> {
        let request = self.handle.neighbours().get().proxies().set_address_family(AddressFamily::Inet);
        let messages = dump("list the proxied neighbours", request.execute()).await?;
        Ok(messages.iter().filter_map(proxy_of).collect())
    }

    /// Answers for an address; if it does so already, that is fine.
    pub async fn add_proxy(&self, proxy: Proxy) -> Result<(), NetlinkError> {
        let request = self
            .handle
            .neighbours()
            .add(proxy.index, IpAddr::V4(proxy.address))
            .flags(NeighbourFlags::Proxy)
            .replace();
        let action = || format!("answer for {} on interface {}", proxy.address, proxy.index);
        done(action, request.execute()).await
    }

    /// Stops answering for an address; false if it did not.
    pub async fn delete_proxy(&self, proxy: Proxy) -> Result<bool, NetlinkError> {
        let mut message = NeighbourMessage::default();
        message.header.family = AddressFamily::Inet;
        message.header.ifindex = proxy.index;
        message.header.flags = NeighbourFlags::Proxy;
        message.attributes = vec![NeighbourAttribute::Destination(NeighbourAddress::Inet(proxy.address))];
        let action = || format!("stop answering for {} on interface {}", proxy.address, proxy.index);
        if_present(done(action, self.handle.neighbours().del(message).execute()).await)
    }
}

fn destination(message: &NeighbourMessage) -> Option<Ipv4Addr> {
    message.attributes.iter().find_map(|attribute| match attribute {
        NeighbourAttribute::Destination(NeighbourAddress::Inet(address)) => Some(*address),
        _ => None,
    })
}

fn neighbour_of(message: &NeighbourMessage) -> Option<Neighbour> {
    let mac = message.attributes.iter().find_map(|attribute| match attribute {
        NeighbourAttribute::LinkLayerAddress(bytes) => <[u8; 6]>::try_from(bytes.as_slice()).ok(),
        _ => None,
    })?;
    Some(Neighbour {
        index: message.header.ifindex,
        address: destination(message)?,
        mac: mac.into(),
        permanent: message.header.state == NeighbourState::Permanent,
    })
}

fn proxy_of(message: &NeighbourMessage) -> Option<Proxy> {
    // Kernels before 5.0 ignore the filter and list everything.
    let is_proxy = message.header.flags.contains(NeighbourFlags::Proxy);
    is_proxy.then_some(Proxy { index: message.header.ifindex, address: destination(message)? })
}
