//! Next hops: resolved from the kernel's links, routes and neighbours over netlink, and kept fresh.
//!
//! Packets that XDP sends never pass through the stack, so the kernel does not learn from them that a
//! neighbour is alive: it is made to ask here, every few seconds. Whatever spoils the way to an address (a
//! link that goes down, a route that goes away, a neighbour that does not answer) leaves its hop unresolved at
//! once, and then the stack forwards, resolves, or reports it unreachable. Nothing is blackholed.
//!
//! `table` decides and is pure; `follow` holds the sockets and the timers.

mod follow;
mod links;
mod neighbours;
mod state;
mod table;
mod ways;

#[cfg(test)]
mod tests;

use std::net::IpAddr;
use std::path::Path;

use tokio::sync::watch;

pub use state::{HopChange, Hops, Resolved, Unresolved};

use super::netns::{NetnsError, NetnsHandle};

/// Watches the next hops to `targets`, as seen from a network namespace, until the receiver is dropped. Call
/// it on a tokio runtime.
///
/// A target is an address that routes lead to: an IPv6 link-local one names no interface, and stays
/// unresolved. Of several ways of equal cost one is used. [`Hops::changes_since`] says what is new.
pub fn watch(netns: &Path, targets: Vec<IpAddr>) -> Result<watch::Receiver<Hops>, NetnsError> {
    let netns = NetnsHandle::open(netns)?;
    let (sender, receiver) = watch::channel(Hops::none(targets.iter().copied(), &Unresolved::NotRead));
    tokio::spawn(async move {
        tokio::select! {
            never = follow::follow(netns, targets, &sender) => match never {},
            () = sender.closed() => {}
        }
    });
    Ok(receiver)
}
