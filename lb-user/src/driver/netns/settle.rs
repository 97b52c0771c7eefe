//! Compares each interface, address, route, neighbour, setting and offload of a service's network with what
//! is wanted, and puts right what differs.
//!
//! Creating and adopting both end here, so an adopted network is exactly what a fresh one is. What always
//! holds: nothing that is right is touched, and no link is ever taken down, so traffic goes on meanwhile.

use super::outcome::StepError;
use super::rooms::{Room, Rooms, find};
use super::topology::{End, Topology};
use super::wanted::{Site, Wanted, wanted};
use crate::net::netlink::Link;
use crate::net::netns::run_in;
use crate::net::{offload, sysctl};

/// Puts right whatever differs, and tells it in words.
///
/// # Errors
/// Also if an interface is missing or another than was recorded: that cannot be put right under traffic.
pub(super) async fn settle(rooms: &Rooms, topology: &Topology) -> Result<Vec<String>, StepError> {
    let mut repaired = Vec::new();
    for wanted in wanted(topology) {
        let room = rooms.at(wanted.site);
        let place = name_of(wanted.site, topology);
        let mut changes = settle_links(room, &wanted).await?;
        changes.extend(settle_addressing(room, &wanted).await?);
        repaired.extend(changes.into_iter().map(|change| format!("{place}: {change}")));
    }
    Ok(repaired)
}

/// Settings come before a link is switched on: a router's advertisement must not win the race.
async fn settle_links(room: &Room, wanted: &Wanted<'_>) -> Result<Vec<String>, StepError> {
    let links = room.netlink.links().await?;
    for end in &wanted.ends {
        check(find(&links, &end.ifname)?, end)?;
    }
    let mut changes = run_in(&room.netns, || settle_kernel(wanted))??;
    for index in &wanted.up {
        if links.iter().any(|link| link.index == *index && !link.up) {
            room.netlink.set_up(*index).await?;
            changes.push(format!("interface {index} switched on"));
        }
    }
    Ok(changes)
}

async fn settle_addressing(room: &Room, wanted: &Wanted<'_>) -> Result<Vec<String>, StepError> {
    let mut changes = Vec::new();
    let addresses = room.netlink.addresses().await?;
    for address in wanted.addresses.iter().filter(|address| !addresses.contains(address)) {
        room.netlink.add_address(address.index, address.net).await?;
        changes.push(format!("address {} added", address.net));
    }
    let neighbours = room.netlink.neighbours().await?;
    for neighbour in wanted.neighbours.iter().filter(|neighbour| !neighbours.contains(neighbour)) {
        room.netlink.set_neighbour(neighbour.index, neighbour.address, neighbour.mac).await?;
        changes.push(format!("neighbour {} set", neighbour.address));
    }
    let routes = room.netlink.routes().await?;
    for route in wanted.routes.iter().filter(|route| !routes.contains(route)) {
        room.netlink.add_route(*route, true).await?;
        changes.push(format!("route {route} added"));
    }
    Ok(changes)
}

/// Runs inside the namespace.
fn settle_kernel(wanted: &Wanted<'_>) -> Result<Vec<String>, StepError> {
    let mut changes = Vec::new();
    for (key, value) in &wanted.ipv4 {
        if sysctl::read(key)? != *value {
            sysctl::write(key, value)?;
            changes.push(format!("{key} set to {value}"));
        }
    }
    for (key, value) in &wanted.ipv6 {
        if sysctl::read_if_present(key)?.is_some_and(|now| now != *value) {
            sysctl::write(key, value)?;
            changes.push(format!("{key} set to {value}"));
        }
    }
    for end in &wanted.ends {
        if offload::tx_checksum_is_on(&end.ifname)? {
            offload::disable_tx_checksum(&end.ifname)?;
            changes.push(format!("tx checksums of {} left to the sender", end.ifname));
        }
    }
    Ok(changes)
}

fn check(link: &Link, end: &End) -> Result<(), StepError> {
    let fault = if link.index != end.ifindex {
        "has been replaced by another of its name"
    } else if link.mac != Some(end.mac) {
        "has another Ethernet address than it was given"
    } else {
        return Ok(());
    };
    Err(StepError::Interface { ifname: end.ifname.clone(), fault })
}

fn name_of(site: Site, topology: &Topology) -> String {
    match site {
        Site::Host => "host".to_owned(),
        Site::Balancer => "balancer".to_owned(),
        Site::Backend(number) => {
            topology.backends.get(number).map_or_else(String::new, |site| format!("backend {}", site.name))
        }
    }
}
