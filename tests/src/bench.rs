//! A data plane on the bench: loaded into the kernel, attached nowhere, with one service and two backends.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::path::{Path, PathBuf};

use baton::dataplane::{Dataplane, Outcome, Sizes, unload};
use lb_common::{Backend, BackendId, Endpoint, NextHop, Service, ServiceId, Steer};

use crate::pins;

/// Flows that the table is made for.
pub const FLOWS: u32 = 1 << 12;
/// The service under test.
pub const SERVICE: ServiceId = 3;
/// Its first backend.
pub const A: BackendId = 1;
/// Its second backend.
pub const B: BackendId = 2;
/// The VIP.
pub const VIP: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::new(10, 77, 0, 1), 80);
/// Where `A` listens.
pub const ADDRESS_A: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::new(10, 77, 128, 6), 8080);
/// Where `B` listens.
pub const ADDRESS_B: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::new(10, 77, 128, 10), 8080);
/// The address from which the balancer checks `A`.
pub const CHECKS_A_FROM: Ipv4Addr = Ipv4Addr::new(10, 77, 128, 5);
/// A client.
pub const CLIENT: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::new(192, 0, 2, 7), 40_001);
/// Where frames for `A` go.
pub const HOP_A: NextHop =
    NextHop { ifindex: 7, destination: [0xa; 6], source: [0x1; 6], mtu: 1500, vlan: 0 };
/// Where frames for `B` go.
pub const HOP_B: NextHop =
    NextHop { ifindex: 8, destination: [0xb; 6], source: [0x2; 6], mtu: 1500, vlan: 0 };
/// Where frames for clients go.
pub const UPLINK: NextHop =
    NextHop { ifindex: 9, destination: [0xc; 6], source: [0x3; 6], mtu: 1500, vlan: 0 };

/// The data plane; unloaded and unpinned when dropped.
pub struct Bench {
    /// The data plane under test.
    pub dataplane: Dataplane,
    pins: PathBuf,
}

impl Bench {
    /// Loads the programs with one service, whose flows go to `A`.
    ///
    /// # Panics
    ///
    /// Panics if the kernel refuses: these tests need root and bpffs.
    pub fn new() -> Self {
        Self::sized(FLOWS)
    }

    /// The same, with room for a service that lends ports.
    ///
    /// # Panics
    ///
    /// As [`Bench::new`].
    pub fn with_snat() -> Self {
        Self::sized(Sizes { flows: FLOWS, snat_services: 1 })
    }

    /// The same, with tables of these sizes.
    ///
    /// # Panics
    ///
    /// As [`Bench::new`].
    pub fn sized(sizes: impl Into<Sizes>) -> Self {
        let pins = pins::fresh();
        let mut dataplane = Dataplane::open(&pins, sizes).expect("a kernel that loads XDP programs");
        let vip = Endpoint::tcp(SocketAddr::V4(VIP));
        dataplane.set_service(SERVICE, &Service::new(vip, UPLINK)).expect("a service");
        for (id, address, hop, from) in
            [(A, ADDRESS_A, HOP_A, CHECKS_A_FROM), (B, ADDRESS_B, HOP_B, Ipv4Addr::new(10, 77, 128, 9))]
        {
            let endpoint = Endpoint::tcp(SocketAddr::V4(address));
            let backend = Backend::new(endpoint, hop, from.into());
            dataplane.set_backend(SERVICE, id, &backend).expect("a backend");
        }
        dataplane.steer(SERVICE, Steer { active: A, draining: 0, epoch: 1 });
        Self { dataplane, pins }
    }

    /// Runs a frame through the program: what it did, and the one reason that it counted.
    ///
    /// # Panics
    ///
    /// Panics if it counted no reason, or more than one.
    pub fn run(&mut self, frame: &[u8]) -> (&'static str, Outcome) {
        let before = self.reasons();
        let outcome = self.dataplane.run(frame).expect("a run");
        let counted: Vec<_> =
            self.reasons().into_iter().filter(|(reason, packets)| before[reason] != *packets).collect();
        let [(reason, packets)] = counted[..] else { panic!("counted {counted:?}") };
        assert_eq!(packets, before[reason] + 1);
        (reason, outcome)
    }

    /// Where its maps are pinned.
    pub fn pins(&self) -> &Path {
        &self.pins
    }

    fn reasons(&self) -> BTreeMap<&'static str, u64> {
        let counts = self.dataplane.reasons().expect("counters");
        counts.into_iter().map(|count| (count.reason, count.packets)).collect()
    }

    /// A second handle on the same tables, beside the first.
    ///
    /// # Panics
    ///
    /// Panics if they cannot be adopted.
    pub fn twin(&self) -> Dataplane {
        Dataplane::open(&self.pins, FLOWS).expect("pins that can be adopted")
    }

    /// Another handle on the same pins, as a restarted controller opens them.
    ///
    /// # Panics
    ///
    /// Panics if they cannot be adopted.
    pub fn reopen(&mut self) {
        self.dataplane = Dataplane::open(&self.pins, FLOWS).expect("pins that can be adopted");
        assert!(self.dataplane.adopted());
    }
}

impl Default for Bench {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        unload(&self.pins).expect("pins that can be removed");
    }
}
