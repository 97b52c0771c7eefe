//! Values of the small tables that every packet of a service reads: services, backends, owners, counters.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::endpoint::{Address, Endpoint};
use crate::plain_data;
use crate::steer::{BackendId, ServiceId};

/// Where a frame goes next: resolved by user space over netlink and kept fresh, so that no packet asks the FIB.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct NextHop {
    /// Interface to send from; 0 while the next hop is not resolved, and then the stack forwards the packet.
    pub ifindex: u32,
    /// Hardware address of the neighbour.
    pub destination: [u8; 6],
    /// Hardware address of the interface.
    pub source: [u8; 6],
}

const _: () = assert!(size_of::<NextHop>() == 16);

impl NextHop {
    /// Whether frames can be sent there.
    #[inline(always)]
    pub const fn is_resolved(&self) -> bool {
        self.ifindex != 0
    }
}

/// A service as replies need it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Service {
    /// The VIP, its port and protocol.
    pub vip: Endpoint,
    /// Where replies to clients go.
    pub uplink: NextHop,
}

const _: () = assert!(size_of::<Service>() == 36);

/// A backend as packets to it need it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Backend {
    /// Where it listens.
    pub endpoint: Endpoint,
    /// Where packets to it go.
    pub hop: NextHop,
    /// The balancer's own address towards it: replies to the balancer's checks are left alone.
    pub checked_from: Address,
    /// 1 while packets may be sent there, else 0.
    pub present: u32,
}

const _: () = assert!(size_of::<Backend>() == 56);

/// Which backend of which service has an endpoint: how a reply is recognised.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Owner {
    /// The service that the backend serves.
    pub service: ServiceId,
    /// The backend.
    pub backend: BackendId,
}

/// What the packet path counts for each backend, on each CPU.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct BackendCounters {
    /// Packets sent to the backend.
    pub packets_in: u64,
    /// IP bytes sent to the backend.
    pub bytes_in: u64,
    /// Packets that came from the backend for a client.
    pub packets_out: u64,
    /// IP bytes that came from the backend for a client.
    pub bytes_out: u64,
    /// Flows pinned to the backend at their SYN.
    pub flows_new: u64,
    /// SYNs seen again for a flow that was already pinned and not yet established.
    pub syn_retransmits: u64,
    /// Resets that clients sent.
    pub resets_in: u64,
    /// Resets that the backend sent.
    pub resets_out: u64,
}

impl BackendCounters {
    /// Adds the counters of another CPU.
    #[must_use]
    pub fn plus(self, other: &Self) -> Self {
        Self {
            packets_in: self.packets_in + other.packets_in,
            bytes_in: self.bytes_in + other.bytes_in,
            packets_out: self.packets_out + other.packets_out,
            bytes_out: self.bytes_out + other.bytes_out,
            flows_new: self.flows_new + other.flows_new,
            syn_retransmits: self.syn_retransmits + other.syn_retransmits,
            resets_in: self.resets_in + other.resets_in,
            resets_out: self.resets_out + other.resets_out,
        }
    }
}

plain_data!(NextHop, Service, Backend, Owner, BackendCounters);
