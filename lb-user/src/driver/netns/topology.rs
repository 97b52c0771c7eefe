//! The three namespaces of one service: what is wanted, what every end is called and which addresses it
//! bears. Pure: the same service at the same place is always laid out the same way.
//!
//! ```text
//!   host                       baton-NAME-lb                      baton-NAME-a
//!   bt0 10.77.128.1/30 ------- up 10.77.128.2/30
//!   VIP/32 via 10.77.128.2     lo VIP/32
//!                              a 10.77.128.5/30 ----------------- eth0 10.77.128.6/30
//!                              b 10.77.128.9/30 ----------------- eth0 10.77.128.10/30 (baton-NAME-b)
//! ```
//!
//! Architecture invariant: everything a service owns on the host can be found from its name alone (names of
//! namespaces, alias of the host's link, name of the nftables table), so that it can be removed even when
//! every state file is lost.

use std::net::Ipv4Addr;
use std::path::PathBuf;

use ipnet::Ipv4Net;
use serde::{Deserialize, Serialize};

use crate::names::{BackendName, ServiceName};
use crate::net::mac::Mac;
use crate::paths::Roots;

/// The pool that services take their addresses from unless told otherwise: the upper half of 10.77.0.0/16.
pub const DEFAULT_POOL: Ipv4Net = Ipv4Net::new_assert(Ipv4Addr::new(10, 77, 128, 0), 17);

/// Prefix length of what one service owns of the pool.
pub const SUBNET_PREFIX: u8 = 28;

/// Prefix length of the network on each veth pair.
pub const PAIR_PREFIX: u8 = 30;

/// The balancer's end of the pair to the host.
pub const UPLINK: &str = "up";

/// The interface that a backend's command sees.
pub const BACKEND_INTERFACE: &str = "eth0";

/// The backends of a service that does not name its own.
const BACKENDS: [&str; 2] = ["a", "b"];

/// Backends that the network of one service has room for: its /28 holds four pairs, one of them the uplink.
pub const BACKENDS_ROOM: usize = 3;

/// Names that no end of a backend's pair may have in the balancer's namespace.
const TAKEN: [&str; 2] = [UPLINK, "lo"];

/// Longest name of an interface, in bytes (`IFNAMSIZ` less the zero at its end).
const IFNAME_MAX: usize = 15;

/// What the alias of a host link begins with; the name of the service follows.
const ALIAS_PREFIX: &str = "baton ";

/// What the host's end of every service's pair begins with; a number follows.
pub(super) const HOST_LINK_PREFIX: &str = "bt";

/// What a service wants of the network.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Spec {
    /// The service.
    pub name: ServiceName,
    /// The address that clients use; neither of this host nor of another service.
    pub vip: Ipv4Addr,
    /// Where the service takes its own /28 from; at least a /28 itself.
    pub pool: Ipv4Net,
    /// Its backends, 1 to [`BACKENDS_ROOM`].
    pub backends: Vec<BackendName>,
}

/// One end of a veth pair.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct End {
    /// Name of the interface in its namespace.
    pub ifname: String,
    /// Index of the interface in its namespace.
    pub ifindex: u32,
    /// Ethernet address.
    pub mac: Mac,
    /// IPv4 address, in a network of [`PAIR_PREFIX`] that it shares with the other end only.
    pub address: Ipv4Addr,
}

/// A veth pair; `near` is the end that is closer to the clients.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pair {
    /// The end closer to the clients.
    pub near: End,
    /// The other end.
    pub far: End,
}

/// Where one backend lives.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BackendSite {
    /// The backend.
    pub name: BackendName,
    /// File that names its network namespace.
    pub netns: PathBuf,
    /// `near` is in the balancer's namespace, `far` is the backend's `eth0`.
    pub pair: Pair,
}

/// The network of one service as it exists; stored in its run directory, so that a later controller adopts it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Topology {
    /// The service.
    pub name: ServiceName,
    /// The address that clients use; an address of `lo` in the balancer's namespace.
    pub vip: Ipv4Addr,
    /// The /28 that the service owns.
    pub subnet: Ipv4Net,
    /// File that names the balancer's network namespace.
    pub balancer_netns: PathBuf,
    /// `near` is on the host, `far` is `up` in the balancer's namespace.
    pub uplink: Pair,
    /// The backends in the order of their blocks.
    pub backends: Vec<BackendSite>,
}

/// Where a service's network is to be: the result of [`super::place::place`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Placement {
    /// The /28 to take.
    pub subnet: Ipv4Net,
    /// Name of the host's end, `bt` and a number that no other link has.
    pub host_link: String,
    /// Largest packet on the pairs, in bytes.
    pub mtu: u32,
}

impl Topology {
    /// Lays a service out at a place. The interfaces do not exist yet, so their indexes are 0.
    pub(super) fn laid_out(roots: &Roots, spec: &Spec, place: &Placement) -> Self {
        let paths = roots.service(&spec.name);
        let base = u32::from(place.subnet.network());
        let pair = |block: u32, near: &str, far: &str| Pair {
            near: End::planned(near, base + 4 * block + 1),
            far: End::planned(far, base + 4 * block + 2),
        };
        let site = |(backend, block): (&BackendName, u32)| BackendSite {
            name: backend.clone(),
            netns: paths.backend_netns(backend),
            pair: pair(block, &near_name(backend, block), BACKEND_INTERFACE),
        };
        Self {
            name: spec.name.clone(),
            vip: spec.vip,
            subnet: place.subnet,
            balancer_netns: paths.balancer_netns(),
            uplink: pair(0, &place.host_link, UPLINK),
            backends: spec.backends.iter().zip(1..).map(site).collect(),
        }
    }

    /// The files that name the service's namespaces, the balancer's first.
    pub fn namespaces(&self) -> impl Iterator<Item = &PathBuf> {
        std::iter::once(&self.balancer_netns).chain(self.backends.iter().map(|site| &site.netns))
    }
}

impl End {
    fn planned(ifname: &str, address: u32) -> Self {
        let address = Ipv4Addr::from(address);
        Self { ifname: ifname.to_owned(), ifindex: 0, mac: Mac::local_for(address), address }
    }
}

/// The alias that marks a host link as this service's.
pub(super) fn alias(name: &ServiceName) -> String {
    format!("{ALIAS_PREFIX}{name}")
}

/// The service whose link bears this alias, if it is one of ours.
pub(super) fn service_of_alias(alias: &str) -> Option<ServiceName> {
    alias.strip_prefix(ALIAS_PREFIX)?.parse().ok()
}

/// The balancer's end of a backend's pair: the backend's name, where an interface can have it.
fn near_name(backend: &BackendName, block: u32) -> String {
    let name = backend.as_str();
    let fits = name.len() <= IFNAME_MAX && !TAKEN.contains(&name);
    if fits { name.to_owned() } else { format!("backend{block}") }
}

/// The backends of a service that does not name its own, in order.
pub fn backend_names() -> Vec<BackendName> {
    BACKENDS.iter().filter_map(|name| name.parse().ok()).collect()
}

/// The files that may name namespaces of a service with these backends, whether or not it exists.
pub(super) fn namespace_files(roots: &Roots, name: &ServiceName, backends: &[BackendName]) -> Vec<PathBuf> {
    let paths = roots.service(name);
    let backends = backends.iter().map(|backend| paths.backend_netns(backend));
    std::iter::once(paths.balancer_netns()).chain(backends).collect()
}

/// The name of the service's nftables table.
pub(super) fn table(name: &ServiceName) -> String {
    format!("baton-{name}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn laid_out() -> Topology {
        let spec = Spec {
            name: "web".parse().unwrap(),
            vip: Ipv4Addr::new(10, 77, 0, 1),
            pool: DEFAULT_POOL,
            backends: backend_names(),
        };
        let place =
            Placement { subnet: "10.77.128.16/28".parse().unwrap(), host_link: "bt1".into(), mtu: 1500 };
        Topology::laid_out(&Roots::default(), &spec, &place)
    }

    #[test]
    fn each_pair_has_a_thirtieth_of_its_own() {
        let topology = laid_out();
        let addresses: Vec<String> = std::iter::once(&topology.uplink)
            .chain(topology.backends.iter().map(|site| &site.pair))
            .flat_map(|pair| [pair.near.address.to_string(), pair.far.address.to_string()])
            .collect();
        let wanted =
            ["10.77.128.17", "10.77.128.18", "10.77.128.21", "10.77.128.22", "10.77.128.25", "10.77.128.26"];
        assert_eq!(addresses, wanted);
    }

    #[test]
    fn the_files_found_by_name_are_those_laid_out() {
        let topology = laid_out();
        let found = namespace_files(&Roots::default(), &topology.name, &backend_names());
        assert_eq!(topology.namespaces().cloned().collect::<Vec<_>>(), found);
    }

    #[test]
    fn interfaces_are_named_after_backends_where_that_can_be() {
        let name = |text: &str| near_name(&text.parse().unwrap(), 2);
        assert_eq!(["web", "up", "lo"].map(name), ["web", "backend2", "backend2"]);
        assert_eq!(name("a-name-of-sixteen"), "backend2");
    }

    #[test]
    fn an_alias_names_its_service() {
        let name: ServiceName = "web".parse().unwrap();
        assert_eq!(service_of_alias(&alias(&name)), Some(name));
        assert_eq!(service_of_alias("uplink to rack 3"), None);
        assert_eq!(service_of_alias("baton Not A Name"), None);
    }

    #[test]
    fn a_topology_survives_the_round_trip_through_its_file() {
        let topology = laid_out();
        let text = serde_json::to_string(&topology).unwrap();
        assert_eq!(serde_json::from_str::<Topology>(&text).unwrap(), topology);
    }
}
