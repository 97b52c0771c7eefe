//! The namespaces of a service, opened, and the veth pairs between them.

use std::path::Path;

use super::outcome::StepError;
use super::topology::{Pair, Topology, alias};
use super::wanted::Site;
use crate::net::netlink::{Link, Netlink, VethEnd};
use crate::net::netns::{self, NetnsError, NetnsHandle, run_in};
use crate::net::sysctl;

/// What an administrator tunes for services: a new namespace starts with the kernel's defaults instead.
const INHERITED: [&str; 10] = [
    "core/somaxconn",
    "ipv4/ip_local_port_range",
    "ipv4/ip_local_reserved_ports",
    "ipv4/ip_unprivileged_port_start",
    "ipv4/ping_group_range",
    "ipv4/tcp_fin_timeout",
    "ipv4/tcp_keepalive_intvl",
    "ipv4/tcp_keepalive_probes",
    "ipv4/tcp_keepalive_time",
    "ipv4/tcp_max_syn_backlog",
];

/// An open namespace and a connection to the kernel in it.
#[derive(Debug)]
pub(super) struct Room {
    pub(super) netns: NetnsHandle,
    pub(super) netlink: Netlink,
}

/// The host, the balancer's namespace and the backends'.
#[derive(Debug)]
pub(super) struct Rooms {
    pub(super) host: Room,
    pub(super) balancer: Room,
    pub(super) backends: Vec<Room>,
}

impl Room {
    pub(super) fn enter(netns: NetnsHandle) -> Result<Self, StepError> {
        let netlink = Netlink::open(&netns)?;
        Ok(Self { netns, netlink })
    }

    /// The host is whatever namespace the caller is in.
    pub(super) fn host() -> Result<Self, StepError> {
        Self::enter(NetnsHandle::own()?)
    }
}

impl Rooms {
    /// Makes the service's namespaces.
    pub(super) fn create(host: Room, topology: &Topology) -> Result<Self, StepError> {
        Self::with(host, topology, netns::create)
    }

    /// Opens the service's namespaces.
    pub(super) fn open(host: Room, topology: &Topology) -> Result<Self, StepError> {
        Self::with(host, topology, NetnsHandle::open)
    }

    fn with(
        host: Room,
        topology: &Topology,
        get: impl Fn(&Path) -> Result<NetnsHandle, NetnsError>,
    ) -> Result<Self, StepError> {
        let balancer = Room::enter(get(&topology.balancer_netns)?)?;
        let backends = topology.backends.iter().map(|site| Room::enter(get(&site.netns)?));
        Ok(Self { backends: backends.collect::<Result<_, _>>()?, host, balancer })
    }

    /// The room of a site; backends are numbered as in the topology that the rooms were opened for.
    pub(super) fn at(&self, site: Site) -> &Room {
        match site {
            Site::Host => &self.host,
            Site::Balancer => &self.balancer,
            Site::Backend(number) => &self.backends[number],
        }
    }
}

/// Gives the backends' namespaces what the host's administrator has tuned.
pub(super) fn inherit_settings(rooms: &Rooms) -> Result<(), StepError> {
    let tuned: Vec<(&str, String)> =
        INHERITED.iter().filter_map(|key| Some((*key, sysctl::read(key).ok()?))).collect();
    for room in &rooms.backends {
        run_in(&room.netns, || tuned.iter().try_for_each(|(key, value)| inherit(key, value)))??;
    }
    Ok(())
}

fn inherit(key: &str, value: &str) -> Result<(), sysctl::SysctlError> {
    // An empty list cannot be written, and is what a new namespace has.
    if value.is_empty() { Ok(()) } else { sysctl::write_if_present(key, value).map(drop) }
}

/// Makes the veth pairs and records their indexes.
pub(super) async fn make_pairs(rooms: &Rooms, topology: &mut Topology, mtu: u32) -> Result<(), StepError> {
    let uplink = &mut topology.uplink;
    make_pair(&rooms.host, &rooms.balancer, uplink, mtu).await?;
    rooms.host.netlink.set_alias(uplink.near.ifindex, &alias(&topology.name)).await?;
    for (site, room) in topology.backends.iter_mut().zip(&rooms.backends) {
        make_pair(&rooms.balancer, room, &mut site.pair, mtu).await?;
    }
    Ok(())
}

async fn make_pair(near: &Room, far: &Room, pair: &mut Pair, mtu: u32) -> Result<(), StepError> {
    let near_end = VethEnd { name: &pair.near.ifname, mac: pair.near.mac };
    let far_end = VethEnd { name: &pair.far.ifname, mac: pair.far.mac };
    near.netlink.add_veth(near_end, far_end, &far.netns, mtu).await?;
    pair.near.ifindex = find(&near.netlink.links().await?, &pair.near.ifname)?.index;
    pair.far.ifindex = find(&far.netlink.links().await?, &pair.far.ifname)?.index;
    Ok(())
}

/// The interface of this name.
pub(super) fn find<'l>(links: &'l [Link], ifname: &str) -> Result<&'l Link, StepError> {
    let missing = || StepError::Interface { ifname: ifname.to_owned(), fault: "is gone" };
    links.iter().find(|link| link.name == ifname).ok_or_else(missing)
}
