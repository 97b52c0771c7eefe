//! Values of the small tables that packets of a service read: services, backends, settings, counters.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::affinity::Prefixes;
use crate::bucket::HashKeys;
use crate::endpoint::{Address, Endpoint};
use crate::plain_data;
use crate::snat::PortRange;
use crate::steer::ServiceId;

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
    /// Longest IP packet that passes there, in bytes; 0 if that is not known.
    pub mtu: u16,
    /// VLAN that the frame is to carry; 0 leaves its tags as they came.
    pub vlan: u16,
}

const _: () = assert!(size_of::<NextHop>() == 20);

impl NextHop {
    /// Whether frames can be sent there.
    #[inline(always)]
    pub const fn is_resolved(&self) -> bool {
        self.ifindex != 0
    }

    /// Longest IP packet that passes there, in bytes.
    #[inline(always)]
    pub const fn passes_bytes(&self) -> u32 {
        if self.mtu == 0 { u32::MAX } else { self.mtu as u32 }
    }
}

/// A service as packets need it that are not pinned yet, or that come from its backends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Service {
    /// The VIP, its port and protocol.
    pub vip: Endpoint,
    /// Where replies to clients go.
    pub uplink: NextHop,
    /// Ports that take the place of the clients' in packets to the backends (`snat`).
    pub snat: PortRange,
    /// Bits of [`service_flags`].
    pub flags: u32,
    /// How long a client stays with its backend after its last new flow, in [`crate::Ticks`]; 0 if it does not.
    pub affinity_ticks: u32,
    /// Which clients count as one to that.
    pub affinity: Prefixes,
}

const _: () = assert!(size_of::<Service>() == 76);

/// What a service wants that is not the rule.
pub mod service_flags {
    /// A conversation of datagrams follows a handover at once (`udp_drain = "move"`).
    pub const MOVE_DATAGRAMS: u8 = 1;
    /// Flows are tracked only while a backend drains (`tracking = "drain-only"`).
    pub const DRAIN_ONLY: u8 = 2;
    /// A client does not stay with a backend that drains (`at_drain = "break"`).
    pub const BREAK_AFFINITY: u8 = 4;
    /// Open flows are counted as they come and go: a policy or a limit asks for them.
    pub const COUNT_OPEN: u8 = 8;
    /// Packets to the backends carry a source of the balancer's own; set with the ports.
    pub const SNAT: u8 = 16;
    /// Clients stay with their backends; set with the time.
    pub const AFFINITY: u8 = 32;
}

impl Service {
    /// A service with the rule for everything.
    pub const fn new(vip: Endpoint, uplink: NextHop) -> Self {
        Self {
            vip,
            uplink,
            snat: PortRange { first: 0, count: 0, group: 0 },
            flags: 0,
            affinity_ticks: 0,
            affinity: Prefixes::HOSTS,
        }
    }

    /// The same service with ports for its clients' packets to the backends.
    #[must_use]
    pub const fn with_snat(mut self, ports: PortRange) -> Self {
        self.snat = ports;
        self.with_flags(service_flags::SNAT)
    }

    /// The same service whose clients stay with their backends for this long after their last new flow, up to
    /// 39 hours.
    #[must_use]
    pub const fn with_affinity(mut self, ms: u64, clients: Prefixes) -> Self {
        self.affinity_ticks = crate::Ticks::span_of_ms(ms);
        self.affinity = clients;
        self.with_flags(service_flags::AFFINITY)
    }

    /// The same service with these [`service_flags`] too.
    #[must_use]
    pub const fn with_flags(mut self, flags: u8) -> Self {
        self.flags |= flags as u32;
        self
    }

    /// Whether one of these [`service_flags`] is set.
    #[inline(always)]
    pub const fn has(&self, flags: u8) -> bool {
        self.flags & flags as u32 != 0
    }
}

/// What becomes of packets that are pinned to a backend.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BackendState {
    /// Nobody is there: its flows are treated as flows without an entry.
    Absent,
    /// It gets its flows.
    Present,
    /// It is dead or its flows are cut: each of them is answered with a reset.
    Refused,
}

/// How packets get to a backend.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Forwarding {
    /// The destination is rewritten, and the source of the replies.
    #[default]
    Nat,
    /// Only the frame's hardware addresses are; the backend answers the client by itself.
    Dsr,
    /// The packet is put into another one; the backend answers the client by itself.
    Ipip,
}

/// A backend as packets to it need it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Backend {
    /// Where it listens.
    pub endpoint: Endpoint,
    /// Where packets to it go.
    pub hop: NextHop,
    /// The balancer's own address towards it: replies to the balancer's checks are left alone.
    pub local: Address,
    state: u8,
    forwarding: u8,
    service: u16,
    reserved: u32,
}

const _: () = assert!(size_of::<Backend>() == 64);

impl Backend {
    /// A backend that gets its flows.
    pub const fn new(endpoint: Endpoint, hop: NextHop, local: Address) -> Self {
        Self { endpoint, hop, local, state: 0, forwarding: 0, service: 0, reserved: 0 }
            .with_state(BackendState::Present)
    }

    /// The same backend in this state.
    #[must_use]
    pub const fn with_state(mut self, state: BackendState) -> Self {
        self.state = state as u8;
        self
    }

    /// The same backend as one of this service.
    #[must_use]
    pub const fn of(mut self, service: ServiceId) -> Self {
        self.service = service;
        self
    }

    /// Which 64-bit word of a backend tells [`Backend::service_in`].
    pub const SERVICE_WORD: usize = 7;

    /// The service that a backend is of, from the word that tells it; `None` if nobody is there.
    pub const fn service_in(word: u64) -> Option<ServiceId> {
        if word as u8 == BackendState::Absent as u8 { None } else { Some((word >> 16) as ServiceId) }
    }

    /// The same backend reached in this way.
    #[must_use]
    pub const fn with_forwarding(mut self, forwarding: Forwarding) -> Self {
        self.forwarding = forwarding as u8;
        self
    }

    /// What becomes of packets that are pinned to it.
    #[inline(always)]
    pub const fn state(&self) -> BackendState {
        match self.state {
            1 => BackendState::Present,
            2 => BackendState::Refused,
            _ => BackendState::Absent,
        }
    }

    /// Longest IP packet of a client that reaches it in one piece, in bytes.
    #[inline(always)]
    pub const fn passes_bytes(&self) -> u32 {
        let overhead = match self.forwarding() {
            Forwarding::Ipip if self.local.is_v4() => 20,
            Forwarding::Ipip => 40,
            Forwarding::Nat | Forwarding::Dsr => 0,
        };
        self.hop.passes_bytes() - overhead
    }

    /// Whether it gets its flows.
    #[inline(always)]
    pub const fn is_present(&self) -> bool {
        matches!(self.state(), BackendState::Present)
    }

    /// How packets get there.
    #[inline(always)]
    pub const fn forwarding(&self) -> Forwarding {
        match self.forwarding {
            1 => Forwarding::Dsr,
            2 => Forwarding::Ipip,
            _ => Forwarding::Nat,
        }
    }
}

/// What one load of the program is made for; kept with the tables, because they mean nothing without it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Settings {
    /// Multipliers of all hashes.
    pub keys: HashKeys,
    /// Buckets of the flow table, less one.
    pub bucket_mask: u32,
    /// Places of each CPU's log of tuples, less one.
    pub log_mask: u32,
    /// Groups of ports that there are for services with `snat`.
    pub snat_groups: u32,
    reserved: u32,
}

impl Settings {
    /// Settings for tables of these sizes.
    pub const fn new(keys: HashKeys, bucket_mask: u32, log_mask: u32, snat_groups: u32) -> Self {
        Self { keys, bucket_mask, log_mask, snat_groups, reserved: 0 }
    }
}

macro_rules! backend_counters {
    ($($name:ident: $doc:literal,)+) => {
        /// What the packet path counts for each backend, on each CPU.
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
        #[repr(C)]
        pub struct BackendCounters {
            $(#[doc = $doc] pub $name: u64,)+
        }

        impl BackendCounters {
            /// Adds the counters of another CPU.
            #[must_use]
            pub fn plus(self, other: &Self) -> Self {
                Self { $($name: self.$name + other.$name,)+ }
            }

            /// Each counter with its stable name and what it means, for metrics and people.
            pub fn named(&self) -> impl Iterator<Item = (&'static str, u64, &'static str)> {
                [$((stringify!($name), self.$name, $doc.trim_ascii()),)+].into_iter()
            }
        }
    };
}

backend_counters! {
    packets_in: "Packets sent to the backend.",
    bytes_in: "IP bytes sent to the backend.",
    packets_out: "Packets that came from the backend for a client.",
    bytes_out: "IP bytes that came from the backend for a client.",
    flows_new: "Flows pinned to the backend at their first packet; not those pinned before it, for a warm-up.",
    flows_taken_up: "Flows pinned to the backend in their middle.",
    syn_retransmits: "SYNs seen again for a flow that has begun and not yet closed.",
    resets_in: "Resets that clients sent.",
    resets_out: "Resets that the backend sent.",
    turns: "Requests that the backend has begun to answer.",
}

plain_data!(NextHop, Service, Backend, Settings, BackendCounters);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_of_a_backend_tells_its_service() {
        let endpoint = Endpoint::tcp("10.77.128.6:80".parse().unwrap());
        let backend = Backend::new(endpoint, NextHop::default(), Address::default()).of(33);
        let words: [u64; 8] = zerocopy::transmute!(backend);
        assert_eq!(Backend::service_in(words[Backend::SERVICE_WORD]), Some(33));
        let words: [u64; 8] = zerocopy::transmute!(backend.with_state(BackendState::Absent));
        assert_eq!(Backend::service_in(words[Backend::SERVICE_WORD]), None);
    }

    #[test]
    fn a_backend_tells_its_state_and_way() {
        let endpoint = Endpoint::tcp("10.77.128.6:80".parse().unwrap());
        let backend = Backend::new(endpoint, NextHop::default(), Address::default());
        assert_eq!((backend.state(), backend.forwarding()), (BackendState::Present, Forwarding::Nat));
        for state in [BackendState::Absent, BackendState::Present, BackendState::Refused] {
            assert_eq!(backend.with_state(state).state(), state);
        }
        for way in [Forwarding::Nat, Forwarding::Dsr, Forwarding::Ipip] {
            assert_eq!(backend.with_forwarding(way).forwarding(), way);
        }
    }

    #[test]
    fn counters_add_up_by_name() {
        let one = BackendCounters { packets_in: 1, turns: 2, ..BackendCounters::default() };
        let sum = one.plus(&one);
        assert_eq!(sum.named().map(|(_, count, _)| count).sum::<u64>(), 6);
        assert_eq!(sum.named().next().map(|(name, count, _)| (name, count)), Some(("packets_in", 2)));
    }
}
