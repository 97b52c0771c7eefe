//! Next hops: resolved from the kernel's routes and neighbours over netlink, and kept fresh.
//!
//! Packets that XDP sends never pass through the stack, so the kernel does not learn from them that a
//! neighbour is alive: entries that have gone stale are asked for again here. A neighbour that does not
//! answer leaves its hop unresolved, and then the stack forwards, resolves, or reports it unreachable;
//! nothing is blackholed.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::os::fd::AsFd;
use std::path::Path;
use std::thread;
use std::time::Duration;

use futures::channel::mpsc::UnboundedReceiver;
use futures::{StreamExt, TryStreamExt};
use lb_common::NextHop;
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::link::LinkAttribute;
use netlink_packet_route::neighbour::{
    NeighbourAddress, NeighbourAttribute, NeighbourFlags, NeighbourMessage, NeighbourState,
};
use netlink_packet_route::route::{RouteAddress, RouteAttribute};
use nix::sched::{CloneFlags, setns};
use rtnetlink::packet_core::NetlinkMessage;
use rtnetlink::sys::SocketAddr as NetlinkAddress;
use rtnetlink::{Handle, MulticastGroup, RouteMessageBuilder, new_multicast_connection};
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until, timeout};

/// Entries that are not known to be fresh are asked for at least this often.
const REFRESH: Duration = Duration::from_secs(3);
/// Events that come together are handled together.
const SETTLE: Duration = Duration::from_millis(20);
/// No answer of the kernel takes this long.
const DEADLINE: Duration = Duration::from_secs(2);

/// The next hop to each watched address.
pub type Hops = BTreeMap<Ipv4Addr, NextHop>;

/// Watches the next hops to `targets`, as seen from a network namespace, until the receiver is dropped.
pub fn watch(netns: &Path, targets: Vec<Ipv4Addr>) -> io::Result<watch::Receiver<Hops>> {
    let (handle, events) = connect(netns)?;
    let (sender, receiver) = watch::channel(Hops::new());
    tokio::spawn(async move {
        let mut watcher = Watcher { handle, events, targets };
        tokio::select! {
            () = watcher.run(&sender) => {}
            () = sender.closed() => {}
        }
    });
    Ok(receiver)
}

type Events = UnboundedReceiver<(NetlinkMessage<RouteNetlinkMessage>, NetlinkAddress)>;

/// Opens a netlink socket inside the namespace; the socket stays there, whoever uses it.
fn connect(netns: &Path) -> io::Result<(Handle, Events)> {
    let file = File::open(netns)?;
    let runtime = tokio::runtime::Handle::current();
    let groups = [MulticastGroup::Link, MulticastGroup::Neigh, MulticastGroup::Ipv4Route];
    thread::scope(|scope| {
        let opened = scope.spawn(|| {
            let _context = runtime.enter();
            setns(file.as_fd(), CloneFlags::CLONE_NEWNET)?;
            let (connection, handle, events) = new_multicast_connection(&groups)?;
            runtime.spawn(connection);
            Ok((handle, events))
        });
        opened.join().unwrap_or_else(|_| Err(io::Error::other("the netlink thread panicked")))
    })
}

struct Watcher {
    handle: Handle,
    events: Events,
    targets: Vec<Ipv4Addr>,
}

impl Watcher {
    async fn run(&mut self, sender: &watch::Sender<Hops>) {
        loop {
            match timeout(DEADLINE, self.resolve_all()).await {
                Ok(Ok(hops)) => {
                    sender.send_if_modified(|known| {
                        let changed = *known != hops;
                        *known = hops;
                        changed
                    });
                }
                Ok(Err(error)) => tracing::warn!(%error, "next hops could not be read"),
                Err(_) => tracing::warn!("the kernel did not answer about next hops in time"),
            }
            if !self.wait_for_change().await {
                return;
            }
        }
    }

    /// Returns after a change, or when it is time to look anyway; false when there is nothing to wait for.
    async fn wait_for_change(&mut self) -> bool {
        let deadline = Instant::now() + REFRESH;
        tokio::select! {
            event = self.events.next() => {
                if event.is_none() {
                    tracing::warn!("the kernel closed the netlink socket: next hops are no longer followed");
                    return false;
                }
                tokio::time::sleep(SETTLE).await;
                while self.events.try_recv().is_ok() {}
                true
            }
            () = sleep_until(deadline) => true,
        }
    }

    async fn resolve_all(&self) -> Result<Hops, rtnetlink::Error> {
        let neighbours: Vec<NeighbourMessage> =
            self.handle.neighbours().get().execute().try_collect().await?;
        let mut hops = Hops::new();
        for target in &self.targets {
            let hop = match self.route_to(*target).await? {
                Some((ifindex, via)) => self.hop_by(ifindex, via, &neighbours).await?,
                None => NextHop::default(),
            };
            hops.insert(*target, hop);
        }
        Ok(hops)
    }

    /// Interface and next router (or the target itself) of the route to `target`.
    async fn route_to(&self, target: Ipv4Addr) -> Result<Option<(u32, Ipv4Addr)>, rtnetlink::Error> {
        let request = RouteMessageBuilder::<Ipv4Addr>::new().destination_prefix(target, 32).build();
        let routes = self.handle.route().get(request).execute();
        let routes: Vec<_> = match routes.try_collect().await {
            Ok(routes) => routes,
            // "Network unreachable" is an answer: there is no route now.
            Err(rtnetlink::Error::NetlinkError(_)) => return Ok(None),
            Err(error) => return Err(error),
        };
        Ok(routes.first().and_then(|route| {
            let mut interface = None;
            let mut via = target;
            for attribute in &route.attributes {
                match attribute {
                    RouteAttribute::Oif(index) => interface = Some(*index),
                    RouteAttribute::Gateway(RouteAddress::Inet(gateway)) => via = *gateway,
                    _ => {}
                }
            }
            interface.map(|index| (index, via))
        }))
    }

    async fn hop_by(
        &self,
        ifindex: u32,
        via: Ipv4Addr,
        neighbours: &[NeighbourMessage],
    ) -> Result<NextHop, rtnetlink::Error> {
        let known = find_neighbour(neighbours, ifindex, via);
        if known.is_none_or(|neighbour| !neighbour.fresh) {
            self.ask_for(ifindex, via).await?;
        }
        let Some(destination) = known.map(|neighbour| neighbour.address) else {
            return Ok(NextHop::default());
        };
        Ok(match self.hardware_address(ifindex).await? {
            Some(source) => NextHop { ifindex, destination, source },
            None => NextHop::default(),
        })
    }

    /// Has the stack ask for the neighbour; the answer comes as an event.
    async fn ask_for(&self, ifindex: u32, neighbour: Ipv4Addr) -> Result<(), rtnetlink::Error> {
        let request = self
            .handle
            .neighbours()
            .add(ifindex, IpAddr::V4(neighbour))
            .state(NeighbourState::None)
            .flags(NeighbourFlags::Use)
            .replace();
        match request.execute().await {
            // The interface is down or gone; its event brings us back here.
            Err(rtnetlink::Error::NetlinkError(_)) => Ok(()),
            other => other,
        }
    }

    async fn hardware_address(&self, ifindex: u32) -> Result<Option<[u8; 6]>, rtnetlink::Error> {
        let links: Vec<_> = match self.handle.link().get().match_index(ifindex).execute().try_collect().await
        {
            Ok(links) => links,
            Err(rtnetlink::Error::NetlinkError(_)) => return Ok(None),
            Err(error) => return Err(error),
        };
        Ok(links.first().and_then(|link| {
            link.attributes.iter().find_map(|attribute| match attribute {
                LinkAttribute::Address(bytes) => bytes.as_slice().try_into().ok(),
                _ => None,
            })
        }))
    }
}

#[derive(Clone, Copy)]
struct Neighbour {
    address: [u8; 6],
    /// Confirmed lately, or not in need of it.
    fresh: bool,
}

/// The usable entry of a neighbour: one that failed, or is still being asked for, is none.
fn find_neighbour(neighbours: &[NeighbourMessage], ifindex: u32, ip: Ipv4Addr) -> Option<Neighbour> {
    let wanted = NeighbourAttribute::Destination(NeighbourAddress::Inet(ip));
    let message =
        neighbours.iter().find(|n| n.header.ifindex == ifindex && n.attributes.contains(&wanted))?;
    let fresh = match message.header.state {
        NeighbourState::Reachable | NeighbourState::Permanent | NeighbourState::Noarp => true,
        NeighbourState::Stale | NeighbourState::Delay | NeighbourState::Probe => false,
        _ => return None,
    };
    message.attributes.iter().find_map(|attribute| match attribute {
        NeighbourAttribute::LinkLayerAddress(bytes) => {
            Some(Neighbour { address: bytes.as_slice().try_into().ok()?, fresh })
        }
        _ => None,
    })
}
