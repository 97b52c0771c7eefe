//! The services of the bench: one for each way a packet can take, each with one backend.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use lb_common::endpoint::{TCP, UDP};
use lb_common::tables::service_flags::DRAIN_ONLY;
use lb_common::{Backend, BackendId, Endpoint, Forwarding, NextHop, Service, ServiceId};

/// A service of the bench.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// TCP over IPv4, addresses rewritten.
    Tcp4,
    /// TCP over IPv6, addresses rewritten.
    Tcp6,
    /// UDP over IPv4, addresses rewritten.
    Udp4,
    /// As `Tcp4`, with flows tracked only in a drain.
    DrainOnly,
    /// TCP over IPv4, hardware addresses rewritten.
    Dsr,
    /// TCP over IPv4, in another IPv4 packet.
    Ipip,
}

/// One-arm: frames leave by the interface that they came in by, which is loopback when the kernel runs a
/// program by itself.
const HOP: NextHop = NextHop { ifindex: 1, destination: [0x0a; 6], source: [0x02; 6], mtu: 1500, vlan: 0 };

/// Gets the new flows of a case that opens some, so that these alone can be forgotten.
pub(super) const FRESH: BackendId = 9;

impl Kind {
    pub(super) const ALL: [Self; 6] =
        [Self::Tcp4, Self::Tcp6, Self::Udp4, Self::DrainOnly, Self::Dsr, Self::Ipip];

    /// Its id.
    pub(super) fn id(self) -> ServiceId {
        self as ServiceId + 1
    }

    /// The backend that its flows are pinned to.
    pub(super) fn backend(self) -> BackendId {
        self.id()
    }

    pub(super) fn protocol(self) -> u8 {
        if self == Self::Udp4 { UDP } else { TCP }
    }

    /// Whether the backend's answers pass through the program.
    pub(super) fn answers_pass(self) -> bool {
        !matches!(self, Self::Dsr | Self::Ipip)
    }

    pub(super) fn vip(self) -> SocketAddr {
        let host = self.id();
        let address: IpAddr = match self {
            Self::Tcp6 => Ipv6Addr::new(0xfd77, 0, 0, 0, 0, 0, 0, host).into(),
            _ => Ipv4Addr::new(10, 77, 0, host as u8).into(),
        };
        SocketAddr::new(address, 80)
    }

    /// Where one of its backends listens. Behind `dsr` that is the VIP's own port, at another address.
    pub(super) fn backend_address(self, id: BackendId) -> SocketAddr {
        let address: IpAddr = match self {
            Self::Tcp6 => Ipv6Addr::new(0xfd77, 0, 0, 0x80, 0, 0, 0, id).into(),
            _ => Ipv4Addr::new(10, 77, 128, id as u8).into(),
        };
        SocketAddr::new(address, if self.answers_pass() { 8080 } else { 80 })
    }

    pub(super) fn service(self) -> Service {
        let flags = if self == Self::DrainOnly { DRAIN_ONLY } else { 0 };
        Service::new(Endpoint::new(self.vip(), self.protocol()), HOP).with_flags(flags)
    }

    pub(super) fn backend_entry(self, id: BackendId) -> Backend {
        let endpoint = Endpoint::new(self.backend_address(id), self.protocol());
        let local: IpAddr = match self {
            Self::Tcp6 => Ipv6Addr::new(0xfd77, 0, 0, 0x80, 0, 0, 0, 0xffff).into(),
            _ => Ipv4Addr::new(10, 77, 128, 254).into(),
        };
        Backend::new(endpoint, HOP, local.into()).with_forwarding(match self {
            Self::Dsr => Forwarding::Dsr,
            Self::Ipip => Forwarding::Ipip,
            _ => Forwarding::Nat,
        })
    }
}
