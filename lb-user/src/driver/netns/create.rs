//! Makes and adopts the network of a service.

use super::firewall;
use super::forwarding;
use super::outcome::{AdoptError, CreateError, Ready, StepError, Warning};
use super::place::{PlaceError, place, proxied_on};
use super::remove::remove_unlocked;
use super::rooms::{Room, Rooms, inherit_settings, make_pairs};
use super::settle::settle;
use super::state::{self, HostLock};
use super::survey::{has_namespaces, survey};
use super::topology::{Placement, Spec, Topology, alias, table};
use crate::names::ServiceName;
use crate::net::netlink::Proxy;
use crate::net::nft;
use crate::paths::Roots;

/// Makes the network of a service on the host, which is the calling thread's network namespace.
///
/// Atomic in effect: if a step fails, everything made so far is removed, and the error names the step. A
/// future that is dropped half-way, or a process that is killed, leaves what [`super::remove()`] removes.
pub async fn create(roots: &Roots, spec: &Spec) -> Result<Ready, CreateError> {
    let _lock = HostLock::take(roots).await.map_err(step("take the host's lock"))?;
    let host = Room::host().map_err(step("open the host's network"))?;
    let view = survey(roots, &host.netlink).await.map_err(step("look at the host's network"))?;
    if has_namespaces(roots, spec) {
        return Err(PlaceError::NameTaken(spec.name.clone()).into());
    }
    let place = place(&view, spec)?;
    match build(roots, spec, &place, host).await {
        Ok(ready) => Ok(ready),
        Err(first) => match remove_unlocked(roots, &spec.name).await {
            Ok(_) => Err(first),
            Err(leftovers) => Err(CreateError::NotUndone { first: Box::new(first), leftovers }),
        },
    }
}

/// Takes over the network that an earlier controller made: verifies all of it, and puts right what can be put
/// right without disturbing traffic. May be called at any time, and as often as wanted.
pub async fn adopt(roots: &Roots, name: &ServiceName) -> Result<Ready, AdoptError> {
    let broken = |source| AdoptError::Broken { name: name.clone(), source };
    let _lock = HostLock::take(roots).await.map_err(|error| broken(error.into()))?;
    let loaded = state::load(roots, name).map_err(|error| broken(error.into()))?;
    let topology = loaded.ok_or_else(|| AdoptError::Unknown(name.clone()))?;
    verify(roots, topology).await.map_err(broken)
}

async fn build(roots: &Roots, spec: &Spec, place: &Placement, host: Room) -> Result<Ready, CreateError> {
    let mut topology = Topology::laid_out(roots, spec, place);
    let rooms = Rooms::create(host, &topology).map_err(step("make the network namespaces"))?;
    inherit_settings(&rooms).map_err(step("give the namespaces the host's settings"))?;
    make_pairs(&rooms, &mut topology, place.mtu).await.map_err(step("make the veth pairs"))?;
    settle(&rooms, &topology).await.map_err(step("set up the interfaces"))?;
    open_host(roots, &rooms.host, &topology).await.map_err(step("let packets cross the host"))?;
    state::store(roots, &topology).map_err(step("record the network"))?;
    let warnings = warnings().await.map_err(step("read the host's firewall"))?;
    Ok(Ready { topology, repaired: Vec::new(), warnings })
}

async fn verify(roots: &Roots, topology: Topology) -> Result<Ready, StepError> {
    let rooms = Rooms::open(Room::host()?, &topology)?;
    let mut repaired = settle(&rooms, &topology).await?;
    repaired.extend(open_host(roots, &rooms.host, &topology).await?);
    Ok(Ready { topology, repaired, warnings: warnings().await? })
}

/// Lets packets of the service cross the host: marks, forwarding, firewall, answers to the LAN.
///
/// Returns what had to be changed, in words.
async fn open_host(roots: &Roots, host: &Room, topology: &Topology) -> Result<Vec<String>, StepError> {
    let mut changes = Vec::new();
    let view = survey(roots, &host.netlink).await?;
    let link = &topology.uplink.near;
    let mark = alias(&topology.name);
    if !view.links.iter().any(|l| l.index == link.ifindex && l.service.as_ref() == Some(&topology.name)) {
        host.netlink.set_alias(link.ifindex, &mark).await?;
        changes.push(format!("host: alias of {} set", link.ifname));
    }
    let outer: Vec<_> = view
        .links
        .iter()
        .filter(|link| !link.loopback && link.service.is_none() && !link.addresses.is_empty())
        .collect();
    let names: Vec<String> = outer.iter().map(|link| link.name.clone()).collect();
    let guarded = forwarding::acquire(roots, &topology.name, &names)?;
    let guarded: Vec<u32> =
        outer.iter().filter(|link| guarded.contains(&link.name)).map(|link| link.index).collect();
    if !nft::has_table(&table(&topology.name)).await? {
        changes.push(format!("host: nftables table {} made", table(&topology.name)));
    }
    // Replaced even if it is there: comparing rule by rule would cost more than one transaction does.
    nft::apply("the service's nftables table", &firewall::script(topology, &guarded)).await?;
    let proxies = host.netlink.proxies().await?;
    for link in proxied_on(&view, topology.vip) {
        let proxy = Proxy { index: link.index, address: topology.vip };
        if !proxies.contains(&proxy) {
            host.netlink.add_proxy(proxy).await?;
            changes.push(format!("host: {} answered for on {}", topology.vip, link.name));
        }
    }
    Ok(changes)
}

async fn warnings() -> Result<Vec<Warning>, StepError> {
    Ok(firewall::forward_warning().await?.into_iter().collect())
}

fn step<E: Into<StepError>>(step: &'static str) -> impl FnOnce(E) -> CreateError {
    move |source| CreateError::Step { step, source: source.into() }
}
