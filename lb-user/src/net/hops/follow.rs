//! The shell: sockets and timers round the [table](super::table).
//!
//! What always holds: it ends only with its receivers. Whatever fails is begun anew, with a pause that grows;
//! what cannot be read for long counts as unresolved, because the stack forwards better than stale knowledge.

use std::convert::Infallible;
use std::net::IpAddr;
use std::time::Duration;

use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};
use rtnetlink::MulticastGroup;
use thiserror::Error;
use tokio::sync::watch;
use tokio::time::{Interval, MissedTickBehavior, interval, sleep};

use super::table::{Question, Table};
use super::ways::Way;
use super::{Hops, Unresolved};
use crate::net::netlink::{Events, Lost, Netlink, NetlinkError};
use crate::net::netns::NetnsHandle;

/// How often neighbours are looked after. The stack notices the silence of one after three unanswered
/// questions, a second apart: so one that vanishes without a sign is missed after five seconds at most.
const REFRESH: Duration = Duration::from_secs(2);
/// How often everything is read anew, for what the kernel does not announce: a path MTU that was learnt, a
/// change of a message that could not be decoded.
const REREAD: Duration = Duration::from_mins(1);
/// The pause after a failure; it doubles each time.
const PAUSE: Duration = Duration::from_millis(50);
/// The longest pause.
const PAUSE_MAX: Duration = Duration::from_secs(5);
/// So many failures in a row leave nothing resolved.
const FAILURES_MAX: u32 = 4;

/// What is announced. Routes by way of nexthop objects are announced as routes.
const GROUPS: [MulticastGroup; 8] = [
    MulticastGroup::Link,
    MulticastGroup::Neigh,
    MulticastGroup::Ipv4Route,
    MulticastGroup::Ipv6Route,
    MulticastGroup::Ipv4Ifaddr,
    MulticastGroup::Ipv6Ifaddr,
    MulticastGroup::Ipv4Rule,
    MulticastGroup::Ipv6Rule,
];

/// Why the kernel could not be followed any longer.
#[derive(Debug, Error)]
enum Failure {
    #[error(transparent)]
    Lost(#[from] Lost),
    #[error(transparent)]
    Netlink(#[from] NetlinkError),
}

/// Keeps `sender` up to date, for ever.
pub(super) async fn follow(
    netns: NetnsHandle,
    targets: Vec<IpAddr>,
    sender: &watch::Sender<Hops>,
) -> Infallible {
    let mut failures = 0;
    loop {
        let Err(error) = follow_once(&netns, &targets, sender, &mut failures).await;
        failures += 1;
        tracing::warn!(%error, failures, "next hops are read anew");
        if failures >= FAILURES_MAX {
            publish(sender, Hops::none(targets.iter().copied(), &Unresolved::Unreadable));
        }
        sleep(pause_after(failures)).await;
    }
}

fn pause_after(failures: u32) -> Duration {
    let factor = 1_u32.checked_shl(failures.saturating_sub(1)).unwrap_or(u32::MAX);
    PAUSE.saturating_mul(factor).min(PAUSE_MAX)
}

/// Reads everything and follows the changes until something fails; `failures` is set to 0 once all is read.
async fn follow_once(
    netns: &NetnsHandle,
    targets: &[IpAddr],
    sender: &watch::Sender<Hops>,
    failures: &mut u32,
) -> Result<Infallible, Failure> {
    // To listen before reading: what changes meanwhile is announced. An announcement that is older than what
    // was read does no harm, because those that came after it follow.
    let mut events = Events::open(netns, &GROUPS)?;
    let netlink = Netlink::open(netns)?;
    let mut table = read(&netlink, targets).await?;
    *failures = 0;
    let (mut refresh, mut reread) = (ticks(REFRESH), ticks(REREAD));
    loop {
        publish(sender, table.hops());
        if ask(&netlink, &mut table).await? {
            publish(sender, table.hops());
        }
        tokio::select! {
            change = events.next() => {
                table.apply(&change?);
                while let Some(change) = events.try_next()? {
                    table.apply(&change);
                }
            }
            _ = refresh.tick() => table.refresh(),
            _ = reread.tick() => table = read(&netlink, targets).await?,
        }
    }
}

fn ticks(period: Duration) -> Interval {
    let mut ticks = interval(period);
    // The first tick would come at once.
    ticks.reset();
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticks
}

fn publish(sender: &watch::Sender<Hops>, hops: Hops) {
    sender.send_if_modified(|known| {
        let changed = *known != hops;
        *known = hops;
        changed
    });
}

/// All that the kernel knows, ways included.
async fn read(netlink: &Netlink, targets: &[IpAddr]) -> Result<Table, NetlinkError> {
    let mut table = Table::new(targets);
    for link in netlink.link_messages().await? {
        table.apply(&RouteNetlinkMessage::NewLink(link));
    }
    for family in [AddressFamily::Unspec, AddressFamily::Bridge] {
        for neighbour in netlink.neighbour_messages(family).await? {
            table.apply(&RouteNetlinkMessage::NewNeighbour(neighbour));
        }
    }
    ask(netlink, &mut table).await?;
    Ok(table)
}

/// Asks what the table wants to know; true if a way was among it.
async fn ask(netlink: &Netlink, table: &mut Table) -> Result<bool, NetlinkError> {
    let mut ways = false;
    // The way to a neighbour leads to a question about the neighbour; what comes of that is announced.
    for _ in 0..2 {
        for question in table.questions() {
            match question {
                Question::Way(target) => {
                    table.set_way(target, way_to(netlink, target).await?);
                    ways = true;
                }
                Question::Ask { index, neighbour } => {
                    tolerate(netlink.ask_neighbour(index, neighbour).await)?;
                }
                Question::Verify { index, neighbour } => {
                    tolerate(netlink.verify_neighbour(index, neighbour).await)?;
                }
            }
        }
    }
    Ok(ways)
}

async fn way_to(netlink: &Netlink, target: IpAddr) -> Result<Way, NetlinkError> {
    match netlink.route_to(target).await {
        Ok(route) => Ok(Way::of(target, route.as_ref())),
        Err(error) => error.raw_os_error().and_then(Way::refused).ok_or(error),
    }
}

/// The interface may have gone down, or the neighbour away, since the table heard of them: that is announced.
fn tolerate(asked: Result<(), NetlinkError>) -> Result<(), NetlinkError> {
    match asked {
        Err(error) if error.raw_os_error().is_some() => {
            tracing::debug!(%error, "a neighbour could not be asked for");
            Ok(())
        }
        asked => asked,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pause_grows_up_to_its_limit() {
        assert_eq!(pause_after(1), PAUSE);
        assert_eq!(pause_after(2), PAUSE * 2);
        assert_eq!(pause_after(8), PAUSE_MAX);
        assert_eq!(pause_after(u32::MAX), PAUSE_MAX);
    }
}
