//! What is known of each next hop, in words that people and the data plane can use.

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;

use lb_common::NextHop;
use thiserror::Error;

use crate::net::mac::Mac;

/// A next hop that frames can be sent to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Resolved {
    /// Interface and Ethernet addresses.
    pub hop: NextHop,
    /// Largest packet, in bytes, that fits the interface and the route.
    pub mtu: u32,
}

impl fmt::Display for Resolved {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let NextHop { ifindex, destination, .. } = self.hop;
        write!(f, "{} by interface {ifindex}, MTU {}", Mac::from(destination), self.mtu)
    }
}

/// Why frames cannot be sent to a next hop.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum Unresolved {
    /// The kernel has not been asked yet.
    #[error("the way there is not known yet")]
    NotRead,
    /// The kernel could not be asked for some time.
    #[error("routes and neighbours cannot be read")]
    Unreadable,
    /// No route leads there.
    #[error("there is no route")]
    NoRoute,
    /// A route says that packets there are refused.
    #[error("the route is {0}")]
    Refused(&'static str),
    /// It is here.
    #[error("it is an address of this machine")]
    OwnAddress,
    /// The interface is gone.
    #[error("interface {0} is gone")]
    NoInterface(u32),
    /// The interface is switched off.
    #[error("interface `{0}` is down")]
    Down(String),
    /// Nothing is at the other end of the interface.
    #[error("interface `{0}` has no carrier")]
    NoCarrier(String),
    /// The interface has no Ethernet address.
    #[error("interface `{0}` carries no Ethernet frames")]
    NoEthernet(String),
    /// XDP cannot send over this kind of interface.
    #[error("XDP cannot send over `{interface}`, an interface of kind {kind}")]
    NoRedirect {
        /// Name of the interface.
        interface: String,
        /// Its kind.
        kind: String,
    },
    /// The neighbour is being asked for.
    #[error("neighbour {neighbour} on `{interface}` is being asked for")]
    Asked {
        /// The router, or the address itself.
        neighbour: IpAddr,
        /// Name of the interface.
        interface: String,
    },
    /// The neighbour does not answer.
    #[error("neighbour {neighbour} on `{interface}` does not answer")]
    Silent {
        /// The router, or the address itself.
        neighbour: IpAddr,
        /// Name of the interface.
        interface: String,
    },
    /// A bridge has no port for the neighbour's Ethernet address.
    #[error("bridge `{bridge}` does not tell by which port it reaches neighbour {neighbour}")]
    NoPort {
        /// Name of the bridge.
        bridge: String,
        /// The router, or the address itself.
        neighbour: IpAddr,
    },
}

impl Unresolved {
    /// Whether it will be over in a moment if all is well.
    fn is_passing(&self) -> bool {
        matches!(self, Self::NotRead | Self::Asked { .. })
    }
}

/// The next hop to each watched address.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Hops(BTreeMap<IpAddr, Result<Resolved, Unresolved>>);

impl Hops {
    /// The same for all addresses.
    pub(super) fn none(targets: impl IntoIterator<Item = IpAddr>, why: &Unresolved) -> Self {
        targets.into_iter().map(|target| (target, Err(why.clone()))).collect()
    }

    /// Where frames to `target` go, or why they cannot be sent.
    pub fn get(&self, target: IpAddr) -> Result<Resolved, Unresolved> {
        self.0.get(&target).cloned().unwrap_or(Err(Unresolved::NotRead))
    }

    /// Where frames to `target` go, as the data plane has it: unresolved means that the stack forwards.
    pub fn next_hop(&self, target: IpAddr) -> NextHop {
        self.get(target).map_or_else(|_| NextHop::default(), |resolved| resolved.hop)
    }

    /// Whether frames can be sent to all addresses.
    pub fn all_resolved(&self) -> bool {
        self.0.values().all(Result::is_ok)
    }

    /// The addresses that frames cannot be sent to, and why.
    pub fn unresolved(&self) -> impl Iterator<Item = (IpAddr, &Unresolved)> {
        self.0.iter().filter_map(|(target, hop)| Some((*target, hop.as_ref().err()?)))
    }

    /// What is worth telling of the difference to an earlier state, in the order of the addresses.
    pub fn changes_since(&self, earlier: &Self) -> Vec<HopChange> {
        let changed = |(target, to): (&IpAddr, &Result<Resolved, Unresolved>)| {
            let change = HopChange { target: *target, from: earlier.get(*target), to: to.clone() };
            change.is_news().then_some(change)
        };
        self.0.iter().filter_map(changed).collect()
    }
}

impl FromIterator<(IpAddr, Result<Resolved, Unresolved>)> for Hops {
    fn from_iter<I: IntoIterator<Item = (IpAddr, Result<Resolved, Unresolved>)>>(hops: I) -> Self {
        Self(hops.into_iter().collect())
    }
}

/// A next hop that is another than before. Shown, it says what it is now; the address goes before.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HopChange {
    /// The watched address.
    pub target: IpAddr,
    /// How it was.
    pub from: Result<Resolved, Unresolved>,
    /// How it is.
    pub to: Result<Resolved, Unresolved>,
}

impl HopChange {
    /// Whether packets now take the slower way through the stack.
    pub fn is_loss(&self) -> bool {
        self.to.is_err()
    }

    fn is_news(&self) -> bool {
        match (&self.from, &self.to) {
            (Err(_), Err(why)) if why.is_passing() => false,
            (from, to) => from != to,
        }
    }
}

impl fmt::Display for HopChange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.from, &self.to) {
            (_, Err(why)) => write!(f, "{why}: packets go through the stack meanwhile"),
            (Err(_), Ok(now)) => write!(f, "next hop found: {now}"),
            (Ok(before), Ok(now)) => write!(f, "next hop changed: {now}, was {before}"),
        }
    }
}
