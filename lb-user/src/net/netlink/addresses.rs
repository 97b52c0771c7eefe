//! IPv4 addresses of interfaces.

use std::net::IpAddr;

use ipnet::Ipv4Net;
use netlink_packet_route::address::{AddressAttribute, AddressMessage};

use super::{Netlink, NetlinkError, done, dump};

/// An IPv4 address of an interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Address {
    /// Index of the interface.
    pub index: u32,
    /// The address with the length of its network.
    pub net: Ipv4Net,
}

impl Netlink {
    /// All IPv4 addresses.
    pub async fn addresses(&self) -> Result<Vec<Address>, NetlinkError> {
        let messages = dump("list the addresses", self.handle.address().get().execute()).await?;
        Ok(messages.iter().filter_map(address_of).collect())
    }

    /// Gives an interface an address; one that it has already is fine.
    pub async fn add_address(&self, index: u32, net: Ipv4Net) -> Result<(), NetlinkError> {
        let request = self.handle.address().add(index, IpAddr::V4(net.addr()), net.prefix_len());
        done(|| format!("give {net} to interface {index}"), request.replace().execute()).await
    }
}

fn address_of(message: &AddressMessage) -> Option<Address> {
    let local = message.attributes.iter().find_map(|attribute| match attribute {
        AddressAttribute::Local(IpAddr::V4(address)) => Some(*address),
        _ => None,
    })?;
    Some(Address { index: message.header.index, net: Ipv4Net::new(local, message.header.prefix_len).ok()? })
}
