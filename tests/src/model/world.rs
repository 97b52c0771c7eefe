//! The services that the model and the program both serve: every mode, protocol and family, and what a service can
//! ask for besides.
//!
//! One world for all runs: what differs between runs is what happens in it ([`super::history`]).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use baton::dataplane::{Dataplane, TableError};
use lb_common::affinity::Prefixes;
use lb_common::snat::PortRange;
use lb_common::tables::service_flags;
use lb_common::{Backend, BackendId, Endpoint, Forwarding, NextHop, Service, ServiceId, Steer};

use super::parse::protocol::{TCP, UDP};

/// Interface that frames of a test run come in by: the loopback.
pub const INGRESS: u32 = 1;
/// Services that lend ports, each with a group of its own.
pub const SNAT_SERVICES: u32 = 4;
/// How long leases last: longer than any run.
const LEASE_MS: u64 = 3_600_000;

/// What a service is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Kind {
    /// TCP or UDP.
    pub protocol: u8,
    /// How packets get to its backends.
    pub way: Forwarding,
    /// Whether its backends are reached over the other family (`ipip` only).
    pub crosses: bool,
    /// Ports that it lends: how many over IPv4 and over IPv6.
    pub ports: Option<[u16; 2]>,
    /// Bits of [`service_flags`] besides those that follow from the rest.
    pub flags: u8,
    /// Bits of the client's address that make it one client, in both families.
    pub affinity: Option<(u32, u32)>,
    /// Whether its flows are spread over a pool.
    pub pooled: bool,
}

const PLAIN: Kind = Kind {
    protocol: TCP,
    way: Forwarding::Nat,
    crosses: false,
    ports: None,
    flags: 0,
    affinity: None,
    pooled: false,
};

/// All kinds; each is there once a family.
pub const KINDS: [Kind; 15] = [
    PLAIN,
    Kind { protocol: UDP, ..PLAIN },
    Kind { protocol: UDP, flags: service_flags::MOVE_DATAGRAMS, ..PLAIN },
    Kind { ports: Some([6, 2000]), ..PLAIN },
    Kind { protocol: UDP, ports: Some([2000; 2]), ..PLAIN },
    Kind { way: Forwarding::Dsr, ..PLAIN },
    Kind { way: Forwarding::Dsr, protocol: UDP, ..PLAIN },
    Kind { way: Forwarding::Ipip, ..PLAIN },
    Kind { way: Forwarding::Ipip, crosses: true, ..PLAIN },
    Kind { way: Forwarding::Ipip, protocol: UDP, ..PLAIN },
    Kind { flags: service_flags::DRAIN_ONLY, ..PLAIN },
    Kind { flags: service_flags::COUNT_OPEN, pooled: true, ..PLAIN },
    Kind { affinity: Some((32, 128)), ..PLAIN },
    Kind { affinity: Some((24, 64)), flags: service_flags::BREAK_AFFINITY, pooled: true, ..PLAIN },
    Kind { protocol: UDP, pooled: true, ..PLAIN },
];

/// A backend as it was set up; where its frames go changes ([`super::Model`]).
#[derive(Clone, Copy, Debug)]
pub struct Replica {
    /// Its id, the same to model and program.
    pub id: BackendId,
    /// Where it listens.
    pub address: SocketAddr,
    /// The balancer's own address towards it.
    pub local: IpAddr,
}

/// A service as it was set up.
#[derive(Clone, Debug)]
pub struct Site {
    /// Its id, and its place in [`World::sites`].
    pub id: ServiceId,
    /// What it is for.
    pub kind: Kind,
    /// Whether its clients use IPv6.
    pub v6: bool,
    /// Where clients reach it.
    pub vip: SocketAddr,
    /// Its backends, three or four.
    pub replicas: Vec<Replica>,
    /// The first port that it lends, and how many.
    pub ports: Option<(u16, u16)>,
}

impl Site {
    /// Its flags as the tables have them.
    pub fn has(&self, flag: u8) -> bool {
        self.kind.flags & flag != 0
    }

    /// Mode, protocol and family.
    pub fn way(&self) -> (&'static str, &'static str, u8) {
        let mode = match self.kind.way {
            Forwarding::Nat if self.ports.is_some() => "snat",
            Forwarding::Nat => "nat",
            Forwarding::Dsr => "dsr",
            Forwarding::Ipip => "ipip",
        };
        (mode, if self.kind.protocol == TCP { "tcp" } else { "udp" }, if self.v6 { 6 } else { 4 })
    }

    /// Whether it has so few ports to lend that they run out in a few histories.
    pub fn is_scarce(&self) -> bool {
        self.ports.is_some_and(|(_, count)| count < 100)
    }

    /// The path to a backend that nothing has happened to.
    pub fn hop(&self, replica: &Replica) -> NextHop {
        let tail = replica.id.to_be_bytes();
        let destination = [2, 0xb, 0, 0, tail[0], tail[1]];
        let source = [2, 0xa, 0, 0, tail[0], tail[1]];
        NextHop { ifindex: 100 + u32::from(replica.id), destination, source, mtu: 1500, vlan: 0 }
    }

    /// The path to its clients that nothing has happened to.
    pub fn uplink(&self) -> NextHop {
        let destination = [2, 0xc, 0, 0, 0, self.id as u8];
        NextHop { ifindex: 99, destination, source: [2, 0xa, 0, 0, 0, 9], mtu: 1500, vlan: 0 }
    }

    fn service(&self) -> Service {
        let mut service = Service::new(Endpoint::new(self.vip, self.kind.protocol), self.uplink());
        if let Some((first, count)) = self.ports {
            service =
                service.with_snat(PortRange { first, count, group: u32::from(self.id) % SNAT_SERVICES });
        }
        if let Some((v4, v6)) = self.kind.affinity {
            service = service.with_affinity(LEASE_MS, Prefixes::new(v4, v6).expect("legal prefixes"));
        }
        service.with_flags(self.kind.flags)
    }
}

/// Services and backends.
#[derive(Clone, Debug)]
pub struct World {
    /// Services by id.
    pub sites: Vec<Site>,
}

impl Default for World {
    fn default() -> Self {
        Self::new()
    }
}

impl World {
    /// All services.
    ///
    /// # Panics
    ///
    /// Never: there are ids for all of them.
    pub fn new() -> Self {
        let families = [false, true].into_iter();
        let kinds = families.flat_map(|v6| KINDS.into_iter().map(move |kind| (v6, kind)));
        let mut ids = 1..;
        let mut groups = 0..SNAT_SERVICES as ServiceId;
        let mut sites = Vec::new();
        // Services that lend ports have the ids whose remainders are their groups.
        let mut free: Vec<ServiceId> = (0..2 * KINDS.len() as ServiceId).rev().collect();
        for (v6, kind) in kinds {
            let id = match kind.ports {
                Some(_) => groups.next().expect("a group for each"),
                None => loop {
                    let id = free.pop().expect("an id for each");
                    if id >= SNAT_SERVICES as ServiceId {
                        break id;
                    }
                },
            };
            let count = if kind.pooled { 4 } else { 3 };
            let replicas = (0..count).map(|_| replica(id, ids.next().expect("ids"), v6 != kind.crosses));
            sites.push(Site {
                id,
                kind,
                v6,
                vip: vip(id, v6),
                replicas: replicas.collect(),
                ports: kind.ports.map(|counts| (20_000, counts[usize::from(v6)])),
            });
        }
        sites.sort_by_key(|site| site.id);
        Self { sites }
    }

    /// Makes the program know them.
    pub fn set_up(&self, dataplane: &mut Dataplane) -> Result<(), TableError> {
        for site in &self.sites {
            dataplane.set_service(site.id, &site.service())?;
            for replica in &site.replicas {
                let endpoint = Endpoint::new(replica.address, site.kind.protocol);
                let backend = Backend::new(endpoint, site.hop(replica), replica.local.into());
                dataplane.set_backend(site.id, replica.id, &backend.with_forwarding(site.kind.way))?;
            }
            dataplane.steer(site.id, Steer::default());
        }
        Ok(())
    }

    /// The service of this id.
    pub fn site(&self, id: ServiceId) -> &Site {
        &self.sites[usize::from(id)]
    }

    /// The backend of this id, with its service.
    pub fn replica(&self, id: BackendId) -> Option<(&Site, &Replica)> {
        let all = self.sites.iter().flat_map(|site| site.replicas.iter().map(move |replica| (site, replica)));
        all.into_iter().find(|(_, replica)| replica.id == id)
    }
}

/// Two services share an address.
fn vip(id: ServiceId, v6: bool) -> SocketAddr {
    let (place, port) = (id / 2, 80 + id % 2);
    let ip: IpAddr = if v6 {
        Ipv6Addr::new(0xfd77, 0, 0, 0, 0, 0, 1, place).into()
    } else {
        Ipv4Addr::new(10, 77, 1, place as u8).into()
    };
    SocketAddr::new(ip, port)
}

/// Backends of different services share addresses too.
fn replica(service: ServiceId, id: BackendId, v6: bool) -> Replica {
    let place = id % 8 + 1;
    let (address, local): (IpAddr, IpAddr) = if v6 {
        let host = |tail| Ipv6Addr::new(0xfd77, 0, 0, 1, 0, 0, 2, tail).into();
        (host(place), host(200))
    } else {
        let host = |tail| Ipv4Addr::new(10, 77, 128, tail).into();
        (host(place as u8), host(200))
    };
    Replica { id, address: SocketAddr::new(address, 8000 + service), local }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn no_two_services_and_no_two_backends_are_one() {
        let world = World::new();
        let mut endpoints = BTreeSet::new();
        let mut groups = BTreeSet::new();
        for (place, site) in world.sites.iter().enumerate() {
            assert_eq!(place, usize::from(site.id));
            assert!(endpoints.insert((site.vip, site.kind.protocol)));
            assert_eq!(site.vip.is_ipv6(), site.v6);
            if site.ports.is_some() {
                assert!(groups.insert(site.service().snat.group));
            }
            for replica in &site.replicas {
                assert!(endpoints.insert((replica.address, site.kind.protocol)), "{replica:?}");
                assert_eq!(world.replica(replica.id).map(|(of, _)| of.id), Some(site.id));
            }
        }
        assert_eq!((world.sites.len(), groups.len()), (2 * KINDS.len(), SNAT_SERVICES as usize));
    }
}
