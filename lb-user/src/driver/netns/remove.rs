//! Removes all that a service has of the network: whole, half-made, or with its state files lost.
//!
//! Everything is found by the service's name: the alias of its link, the names of its namespaces and of its
//! nftables table. The link goes late, because the VIP may be known from the routes through it alone.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;
use std::path::Path;

use super::forwarding;
use super::outcome::{RemoveError, Removed, StepError};
use super::resolv;
use super::rooms::Room;
use super::state::{self, HostLock};
use super::survey::survey;
use super::topology::{backend_names, namespace_files, table};
use crate::names::ServiceName;
use crate::net::mac::Mac;
use crate::net::netns::{self, NetnsError, NetnsHandle};
use crate::net::nft::{self, NftError};
use crate::paths::Roots;

/// Removes the network of a service; fine if there is none, or only a part of one.
///
/// Processes that still run in its namespaces are not ended, but lose every interface.
pub async fn remove(roots: &Roots, name: &ServiceName) -> Result<Removed, RemoveError> {
    let locked = HostLock::take(roots).await;
    let _lock = locked.map_err(|error| RemoveError {
        name: name.clone(),
        problems: vec![error.into()],
        removed: Removed::default(),
    })?;
    remove_unlocked(roots, name).await
}

/// Removes the network of a service while the caller holds the lock.
pub(super) async fn remove_unlocked(roots: &Roots, name: &ServiceName) -> Result<Removed, RemoveError> {
    let mut tally = Tally::default();
    match Room::host() {
        Ok(host) => {
            tally.note(remove_proxies(roots, name, &host).await);
            tally.note(remove_table(name).await);
            tally.note(restore_forwarding(roots, name));
            tally.note(remove_host_links(roots, name, &host).await);
        }
        Err(error) => tally.note(Err(error)),
    }
    let mut backends = backend_names();
    if let Ok(Some(recorded)) = state::load(roots, name) {
        backends.extend(recorded.backends.into_iter().map(|site| site.name));
    }
    backends.sort();
    backends.dedup();
    for file in namespace_files(roots, name, &backends) {
        tally.note(remove_namespace(&file).await);
    }
    tally.note(remove_files(roots, name));
    let Tally { removed, problems } = tally;
    if problems.is_empty() { Ok(removed) } else { Err(RemoveError { name: name.clone(), problems, removed }) }
}

/// What was removed so far, and what could not be.
#[derive(Default)]
struct Tally {
    removed: Removed,
    problems: Vec<StepError>,
}

impl Tally {
    fn note(&mut self, step: Result<Vec<String>, StepError>) {
        match step {
            Ok(what) => self.removed.what.extend(what),
            Err(error) => self.problems.push(error),
        }
    }
}

async fn remove_proxies(roots: &Roots, name: &ServiceName, host: &Room) -> Result<Vec<String>, StepError> {
    let view = survey(roots, &host.netlink).await?;
    // The record tells the VIP, and so do the routes when the record is lost.
    let vips: BTreeSet<Ipv4Addr> =
        view.services.iter().filter(|s| s.name == *name).filter_map(|s| s.vip).collect();
    let mut removed = Vec::new();
    for proxy in host.netlink.proxies().await? {
        if vips.contains(&proxy.address) && host.netlink.delete_proxy(proxy).await? {
            removed.push(format!("proxied neighbour {}", proxy.address));
        }
    }
    Ok(removed)
}

async fn remove_table(name: &ServiceName) -> Result<Vec<String>, StepError> {
    let table = table(name);
    match nft::delete_table(&table).await {
        Ok(true) => Ok(vec![format!("nftables table {table}")]),
        // Without `nft` no table can have been made.
        Ok(false) | Err(NftError::NotInstalled) => Ok(Vec::new()),
        Err(error) => Err(error.into()),
    }
}

fn restore_forwarding(roots: &Roots, name: &ServiceName) -> Result<Vec<String>, StepError> {
    let restored = forwarding::release(roots, name)?;
    Ok(restored.into_iter().map(|ifname| format!("forwarding on {ifname}")).collect())
}

async fn remove_host_links(roots: &Roots, name: &ServiceName, host: &Room) -> Result<Vec<String>, StepError> {
    let view = survey(roots, &host.netlink).await?;
    let mut removed = Vec::new();
    for link in view.links.iter().filter(|link| link.service.as_ref() == Some(name)) {
        if host.netlink.delete_link(link.index).await? {
            removed.push(format!("link {}", link.name));
        }
    }
    Ok(removed)
}

async fn remove_namespace(file: &Path) -> Result<Vec<String>, StepError> {
    let mut removed = Vec::new();
    match NetnsHandle::open(file) {
        // Removed one by one: a namespace with a process in it outlives its name, and keeps its links.
        Ok(netns) => removed.extend(remove_inner_links(Room::enter(netns)?).await?),
        Err(NetnsError::Missing(_) | NetnsError::NotANamespace(_)) => {}
        Err(error) => return Err(error.into()),
    }
    if netns::delete(file)? {
        removed.push(format!("namespace {}", file.display()));
    }
    Ok(removed)
}

async fn remove_inner_links(room: Room) -> Result<Vec<String>, StepError> {
    let mut removed = Vec::new();
    for link in room.netlink.links().await? {
        // Others there are the kernel's own and cannot be removed.
        let ours = link.mac.is_some_and(Mac::is_ours);
        if ours && room.netlink.delete_link(link.index).await? {
            removed.push(format!("link {} in {}", link.name, room.netns.path().display()));
        }
    }
    Ok(removed)
}

fn remove_files(roots: &Roots, name: &ServiceName) -> Result<Vec<String>, StepError> {
    let mut removed = Vec::new();
    if resolv::forget(roots, name)? {
        removed.push("name service of the commands".to_owned());
    }
    if state::forget(roots, name)? {
        removed.push("record of the network".to_owned());
    }
    Ok(removed)
}
