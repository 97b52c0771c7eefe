//! The interfaces of a namespace, kept up to date by link messages.

use std::collections::BTreeMap;

use netlink_packet_route::AddressFamily;
use netlink_packet_route::link::{InfoKind, LinkAttribute, LinkFlags, LinkInfo, LinkLayerType, LinkMessage};

use super::Unresolved;
use crate::net::mac::Mac;

/// An interface, as far as sending over it goes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Link {
    /// Its name.
    pub(super) name: String,
    /// Its own address; `None` if it has none, or if what it carries is no Ethernet.
    pub(super) mac: Option<Mac>,
    /// Largest packet, in bytes.
    pub(super) mtu: u32,
    /// What made it; `None` for a network card.
    kind: Option<InfoKind>,
    up: bool,
    carrier: bool,
}

/// How XDP can send over an interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sending {
    /// By redirecting to it.
    Direct,
    /// By redirecting to the right one of its ports.
    ByPort,
    /// Not at all.
    ByStack,
}

impl Link {
    pub(super) fn sending(&self) -> Sending {
        match self.kind {
            // A card's driver, and of the virtual interfaces those that take frames from XDP.
            None | Some(InfoKind::Veth | InfoKind::Bond | InfoKind::Tun) => Sending::Direct,
            Some(InfoKind::Bridge) => Sending::ByPort,
            // The kernel drops, without a word, what native XDP redirects to any other.
            Some(_) => Sending::ByStack,
        }
    }

    /// The kind as `ip -d link` shows it.
    pub(super) fn kind(&self) -> String {
        self.kind.as_ref().map_or_else(|| "card".to_owned(), ToString::to_string)
    }
}

/// All interfaces of a namespace.
#[derive(Clone, Debug, Default)]
pub(super) struct Links(BTreeMap<u32, Link>);

impl Links {
    /// Takes over what the kernel says of an interface; true if packets may take other ways from now on.
    pub(super) fn set(&mut self, message: &LinkMessage) -> bool {
        // Bridges announce what happens to a port under its index; that is no news of the port as a link.
        if message.header.interface_family == AddressFamily::Bridge {
            return false;
        }
        let header = &message.header;
        let link = self.0.entry(header.index).or_default();
        let before = (link.up, link.carrier);
        link.up = header.flags.contains(LinkFlags::Up);
        // "Running" also wants the port to be authorised, where that is asked of it.
        link.carrier = header.flags.contains(LinkFlags::LowerUp | LinkFlags::Running);
        for attribute in &message.attributes {
            match attribute {
                LinkAttribute::IfName(name) => link.name.clone_from(name),
                LinkAttribute::Mtu(mtu) => link.mtu = *mtu,
                LinkAttribute::Address(bytes) => {
                    let octets = <[u8; 6]>::try_from(bytes.as_slice()).ok();
                    let ethernet = header.link_layer_type == LinkLayerType::Ether;
                    link.mac = octets.filter(|_| ethernet).map(Mac::from);
                }
                LinkAttribute::LinkInfo(infos) => {
                    link.kind = infos.iter().find_map(|info| match info {
                        LinkInfo::Kind(kind) => Some(kind.clone()),
                        _ => None,
                    });
                }
                _ => {}
            }
        }
        before != (link.up, link.carrier)
    }

    /// Forgets an interface that is gone; true if packets may take other ways from now on.
    pub(super) fn remove(&mut self, message: &LinkMessage) -> bool {
        // A port that leaves its bridge is announced like this too; the interface stays.
        message.header.interface_family != AddressFamily::Bridge
            && self.0.remove(&message.header.index).is_some()
    }

    /// The interface, if frames can leave by it now.
    pub(super) fn usable(&self, index: u32) -> Result<&Link, Unresolved> {
        let link = self.0.get(&index).ok_or(Unresolved::NoInterface(index))?;
        if !link.up {
            Err(Unresolved::Down(link.name.clone()))
        } else if !link.carrier {
            Err(Unresolved::NoCarrier(link.name.clone()))
        } else {
            Ok(link)
        }
    }
}
