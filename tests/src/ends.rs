//! The ends of a service on the bench, in both families.

use std::net::{IpAddr, SocketAddr};

use lb_common::{Backend, Endpoint, Forwarding, Service};

use crate::bench::{A, Bench, HOP_A, SERVICE, UPLINK};

/// A service, its backend, the balancer's address towards it, and a client.
#[derive(Clone, Copy, Debug)]
pub struct Ends {
    /// Where clients reach the service.
    pub vip: SocketAddr,
    /// Where its backend listens.
    pub backend: SocketAddr,
    /// The balancer's own address towards the backend.
    pub local: IpAddr,
    /// A client.
    pub client: SocketAddr,
}

impl Ends {
    /// Over IPv4.
    ///
    /// # Panics
    ///
    /// Never: the addresses are legal.
    pub fn v4() -> Self {
        Self::of("10.77.0.9:80", "10.77.128.6:8080", "10.77.128.5", "192.0.2.7:40001")
    }

    /// Over IPv6.
    ///
    /// # Panics
    ///
    /// Never: the addresses are legal.
    pub fn v6() -> Self {
        Self::of("[fd77::9]:80", "[fd77:0:0:1::6]:8080", "fd77:0:0:1::5", "[2001:db8::7]:40001")
    }

    fn of(vip: &str, backend: &str, local: &str, client: &str) -> Self {
        let socket = |text: &str| text.parse().expect("a legal address");
        let local = local.parse().expect("a legal address");
        Self { vip: socket(vip), backend: socket(backend), local, client: socket(client) }
    }

    /// A data plane on the bench that serves them over TCP or UDP, with one backend.
    ///
    /// # Panics
    ///
    /// As [`Bench::new`].
    pub fn bench(&self, protocol: u8, service: impl Fn(Service) -> Service, way: Forwarding) -> Bench {
        let mut bench = Bench::with_snat();
        let vip = Endpoint::new(self.vip, protocol);
        bench.dataplane.set_service(SERVICE, &service(Service::new(vip, UPLINK))).expect("a service");
        let endpoint = Endpoint::new(self.backend, protocol);
        let backend = Backend::new(endpoint, HOP_A, self.local.into()).with_forwarding(way);
        bench.dataplane.set_backend(SERVICE, A, &backend).expect("a backend");
        bench
    }
}
