//! Who is reached by which Ethernet address, and by which port of a bridge: kept up to date by neighbour
//! messages, in which the kernel tells both.

use std::collections::BTreeMap;
use std::net::IpAddr;

use netlink_packet_route::AddressFamily;
use netlink_packet_route::neighbour::{
    NeighbourAddress, NeighbourAttribute, NeighbourExtFlags, NeighbourFlags, NeighbourMessage, NeighbourState,
};

use crate::net::mac::Mac;

/// How a neighbour stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Standing {
    /// Frames can be sent to it.
    Known(Mac),
    /// It has been asked for and has not answered.
    Silent,
    /// Nobody has asked for it, or the answer is not here yet.
    Unknown,
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    mac: Option<Mac>,
    state: NeighbourState,
    /// Somebody else keeps it: a person, a routing daemon, the kernel's own refresh. To ask on our own would
    /// take it from them.
    kept: bool,
}

/// All neighbours of a namespace, by interface and address.
#[derive(Clone, Debug, Default)]
pub(super) struct Neighbours(BTreeMap<(u32, IpAddr), Entry>);

impl Neighbours {
    /// Takes over what the kernel says of a neighbour.
    pub(super) fn set(&mut self, message: &NeighbourMessage) {
        let Some(key) = key(message) else { return };
        let flags = message.header.flags;
        let managed = message.attributes.iter().any(|attribute| match attribute {
            NeighbourAttribute::ExtFlags(flags) => flags.contains(NeighbourExtFlags::Managed),
            _ => false,
        });
        let state = message.header.state;
        let kept = managed
            || flags.contains(NeighbourFlags::ExtLearned)
            || matches!(state, NeighbourState::Permanent | NeighbourState::Noarp);
        self.0.insert(key, Entry { mac: mac(message), state, kept });
    }

    /// Forgets a neighbour.
    pub(super) fn remove(&mut self, message: &NeighbourMessage) {
        if let Some(key) = key(message) {
            self.0.remove(&key);
        }
    }

    /// How a neighbour stands now.
    pub(super) fn standing(&self, index: u32, address: IpAddr) -> Standing {
        let Some(entry) = self.0.get(&(index, address)) else { return Standing::Unknown };
        match (entry.state, entry.mac) {
            (
                NeighbourState::Reachable
                | NeighbourState::Stale
                | NeighbourState::Delay
                | NeighbourState::Probe
                | NeighbourState::Permanent
                | NeighbourState::Noarp,
                Some(mac),
            ) => Standing::Known(mac),
            (NeighbourState::Failed, _) => Standing::Silent,
            _ => Standing::Unknown,
        }
    }

    /// Whether it is on us to find out where a neighbour is of which nothing good is known.
    pub(super) fn wants_asking(&self, index: u32, address: IpAddr) -> bool {
        self.0.get(&(index, address)).is_none_or(|entry| !entry.kept)
    }

    /// Whether it is on us to find out that the neighbour is still there. An entry that is being verified
    /// already must be let alone: to begin anew would put off the end for ever.
    pub(super) fn wants_verifying(&self, index: u32, address: IpAddr) -> bool {
        self.0.get(&(index, address)).is_some_and(|entry| {
            !entry.kept && matches!(entry.state, NeighbourState::Reachable | NeighbourState::Stale)
        })
    }
}

/// By which port each bridge reaches whom.
#[derive(Clone, Debug, Default)]
pub(super) struct Ports(BTreeMap<(u32, Mac), u32>);

impl Ports {
    /// Takes over what a bridge has learnt.
    pub(super) fn set(&mut self, message: &NeighbourMessage) {
        if let Some((bridge, mac)) = learnt(message) {
            self.0.insert((bridge, mac), message.header.ifindex);
        }
    }

    /// Forgets what a bridge has forgotten.
    pub(super) fn remove(&mut self, message: &NeighbourMessage) {
        let Some(key) = learnt(message) else { return };
        // An address that moved to another port may be announced there before it leaves this one.
        if self.0.get(&key) == Some(&message.header.ifindex) {
            self.0.remove(&key);
        }
    }

    /// The port by which a bridge reaches an address.
    pub(super) fn port(&self, bridge: u32, mac: Mac) -> Option<u32> {
        self.0.get(&(bridge, mac)).copied()
    }
}

fn key(message: &NeighbourMessage) -> Option<(u32, IpAddr)> {
    // Addresses that this host answers for are listed among the neighbours by old kernels.
    if message.header.flags.contains(NeighbourFlags::Proxy) {
        return None;
    }
    let address = message.attributes.iter().find_map(|attribute| match attribute {
        NeighbourAttribute::Destination(NeighbourAddress::Inet(address)) => Some(IpAddr::V4(*address)),
        NeighbourAttribute::Destination(NeighbourAddress::Inet6(address)) => Some(IpAddr::V6(*address)),
        _ => None,
    })?;
    Some((message.header.ifindex, address))
}

fn mac(message: &NeighbourMessage) -> Option<Mac> {
    let octets = message.attributes.iter().find_map(|attribute| match attribute {
        NeighbourAttribute::LinkLayerAddress(bytes) => <[u8; 6]>::try_from(bytes.as_slice()).ok(),
        _ => None,
    })?;
    Some(octets.into())
}

/// Bridge and address of an entry that says by which port an untagged frame leaves.
fn learnt(message: &NeighbourMessage) -> Option<(u32, Mac)> {
    // To a bridge, "permanent" is an address of its own; with VLANs the port may want a tag that we do not add.
    let tagged = message.attributes.iter().any(|attribute| matches!(attribute, NeighbourAttribute::Vlan(_)));
    if message.header.state == NeighbourState::Permanent || tagged {
        return None;
    }
    let bridge = message.attributes.iter().find_map(|attribute| match attribute {
        NeighbourAttribute::Controller(index) => Some(*index),
        _ => None,
    })?;
    Some((bridge, mac(message)?))
}

/// Whether the message is of a bridge's ports rather than of neighbours.
pub(super) fn is_of_bridge(message: &NeighbourMessage) -> bool {
    message.header.family == AddressFamily::Bridge
}
