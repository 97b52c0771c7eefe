//! What a plane is to be like.

use lb_common::Forwarding;
use lb_common::endpoint::TCP;

/// What IP the machines speak.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

/// What the machines are plugged into.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layout {
    /// Each has a cable to the balancer, which is their router.
    Routed,
    /// All are plugged into one switch: the balancer sends everything out of the interface that it came in by.
    Switched,
    /// The same, and the switch sends the balancer everything with the tag of this VLAN. The balancer's stack does
    /// not know it, so only what the data plane sends arrives anywhere.
    Tagged(u16),
}

/// What a plane is to be like; the default is TCP over IPv4, two backends and one client, routed.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// The IP that all speak.
    pub family: Family,
    /// The service's protocol, [`TCP`] or [`lb_common::endpoint::UDP`].
    pub protocol: u8,
    /// How many clients, up to 9.
    pub clients: usize,
    /// How many backends, up to 9.
    pub backends: usize,
    /// How they are connected.
    pub layout: Layout,
    /// How packets get to the backends.
    pub forwarding: Forwarding,
    /// Whether packets to the backends carry a source of the balancer's own; then backends know no other way than
    /// to the balancer itself.
    pub snat: bool,
    /// Bits of [`lb_common::tables::service_flags`].
    pub flags: u8,
    /// Longest packet that passes between clients and balancer, in bytes; only the data plane knows of it.
    pub client_mtu: u16,
    /// Longest packet that passes between backends and balancer, in bytes; only the data plane knows of it.
    pub backend_mtu: u16,
    /// Puts each client behind a router that passes no longer packet to it, in bytes; for [`Layout::Routed`].
    pub client_router_mtu: Option<u16>,
    /// Puts each backend behind such a router.
    pub backend_router_mtu: Option<u16>,
    /// Whether the data plane is told where replies go; otherwise it leaves that to the stack.
    pub uplink: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            family: Family::V4,
            protocol: TCP,
            clients: 1,
            backends: 2,
            layout: Layout::Routed,
            forwarding: Forwarding::Nat,
            snat: false,
            flags: 0,
            client_mtu: 1500,
            backend_mtu: 1500,
            client_router_mtu: None,
            backend_router_mtu: None,
            uplink: true,
        }
    }
}
