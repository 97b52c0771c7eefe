//! Network interfaces: listing, veth pairs, state, alias.

use std::os::fd::AsRawFd;

use netlink_packet_route::link::{InfoData, InfoVeth, LinkAttribute, LinkFlags, LinkMessage};
use rtnetlink::{LinkMessageBuilder, LinkUnspec, LinkVeth};

use super::{Netlink, NetlinkError, done, if_present};
use crate::net::mac::Mac;
use crate::net::netns::NetnsHandle;

/// A network interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    /// Index in its namespace.
    pub index: u32,
    /// Name in its namespace.
    pub name: String,
    /// Alias, if one is set.
    pub alias: Option<String>,
    /// Ethernet address, if it has one.
    pub mac: Option<Mac>,
    /// Largest packet, in bytes.
    pub mtu: u32,
    /// True if it is a loopback interface.
    pub loopback: bool,
    /// True if it is switched on.
    pub up: bool,
    /// True if packets can pass: switched on, and the other end too.
    pub running: bool,
}

/// One end of a veth pair that is to be made.
#[derive(Clone, Copy, Debug)]
pub struct VethEnd<'a> {
    /// Name, at most 15 bytes.
    pub name: &'a str,
    /// Ethernet address.
    pub mac: Mac,
}

impl Netlink {
    /// All interfaces.
    pub async fn links(&self) -> Result<Vec<Link>, NetlinkError> {
        Ok(self.link_messages().await?.into_iter().map(Link::from).collect())
    }

    /// The interface of this name, if there is one.
    pub async fn link(&self, name: &str) -> Result<Option<Link>, NetlinkError> {
        Ok(self.links().await?.into_iter().find(|link| link.name == name))
    }

    /// Makes a veth pair whose far end appears in another namespace at once.
    pub async fn add_veth(
        &self,
        near: VethEnd<'_>,
        far: VethEnd<'_>,
        far_netns: &NetnsHandle,
        mtu: u32,
    ) -> Result<(), NetlinkError> {
        let peer = LinkUnspec::new_with_name(far.name)
            .address(far.mac.octets().to_vec())
            .mtu(mtu)
            .setns_by_fd(far_netns.file().as_raw_fd())
            .build();
        let message = LinkMessageBuilder::<LinkVeth>::new(near.name, far.name)
            .set_info_data(InfoData::Veth(InfoVeth::Peer(peer)))
            .address(near.mac.octets().to_vec())
            .mtu(mtu)
            .build();
        let action = || format!("make the veth pair {} - {}", near.name, far.name);
        done(action, self.handle.link().add(message).execute()).await
    }

    /// Switches an interface on.
    pub async fn set_up(&self, index: u32) -> Result<(), NetlinkError> {
        let message = LinkUnspec::new_with_index(index).up().build();
        let action = || format!("switch on interface {index}");
        done(action, self.handle.link().change(message).execute()).await
    }

    /// Sets an interface's alias, which `ip link` shows.
    pub async fn set_alias(&self, index: u32, alias: &str) -> Result<(), NetlinkError> {
        let message = LinkUnspec::new_with_index(index).alias(alias).build();
        let action = || format!("set the alias of interface {index}");
        done(action, self.handle.link().change(message).execute()).await
    }

    /// Removes an interface, and its other end if it is a veth; false if there is none.
    pub async fn delete_link(&self, index: u32) -> Result<bool, NetlinkError> {
        let action = || format!("remove interface {index}");
        if_present(done(action, self.handle.link().del(index).execute()).await)
    }
}

impl From<LinkMessage> for Link {
    fn from(message: LinkMessage) -> Self {
        let flags = message.header.flags;
        let mut link = Self {
            index: message.header.index,
            name: String::new(),
            alias: None,
            mac: None,
            mtu: 0,
            loopback: flags.contains(LinkFlags::Loopback),
            up: flags.contains(LinkFlags::Up),
            running: flags.contains(LinkFlags::LowerUp),
        };
        for attribute in message.attributes {
            match attribute {
                LinkAttribute::IfName(name) => link.name = name,
                LinkAttribute::IfAlias(alias) => link.alias = Some(alias),
                LinkAttribute::Mtu(mtu) => link.mtu = mtu,
                LinkAttribute::Address(bytes) => {
                    link.mac = <[u8; 6]>::try_from(bytes).ok().map(Mac::from);
                }
                _ => {}
            }
        }
        link
    }
}
