//! The data plane by itself among real machines: clients, a balancer and backends, each in a network namespace
//! of its own, with real packets on the cables between them and no controller.
//!
//! ```text
//!   routed                                          switched (one arm)
//!   client 0 --- c0 balancer b0 --- backend 0         client 0 ---+        +--- backend 0
//!   client 1 --- c1          b1 --- backend 1         client 1 ---+ switch +--- backend 1
//!                                                                 |
//!                                                              balancer
//! ```
//!
//! What always holds:
//! - Every namespace is anonymous, so whatever happens to the test's process takes them along; only the pins have
//!   a name, and they go when the plane is dropped, or with the next test if its process was killed.
//! - Every sender finishes its checksums, because no network card would, so a wrong one loses its packet.
//! - No machine has a route to anywhere but the others.

#![expect(clippy::missing_panics_doc, reason = "a test fails by a panic, wherever in the plane")]

mod conversations;
mod decapsulate;
mod describe;
mod governed;
mod machine;
mod options;
mod requests;
mod router;
mod site;
mod wiring;

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::ops::{Deref, DerefMut};
use std::path::PathBuf;

use baton::dataplane::{AttachPoint, Dataplane, FlowRecord, FlowTimeouts, Mode, Sizes, XdpProgram, unload};
use baton::flow_counts::OpenFlows;
use lb_common::snat::PortRange;
use lb_common::{Backend, BackendId, Endpoint, NextHop, Service, ServiceId, Steer};

use crate::lab::eventually;
use crate::pins;

pub use conversations::{Conversations, ask};
pub use describe::backend_name;
pub use governed::Governed;
pub use machine::Machine;
pub use options::{Family, Layout, Options};
pub use requests::{Requests, assert_nothing_lost};
pub use site::Site;

/// The service of every plane.
pub const SERVICE: ServiceId = 3;
/// The port of backends; of the VIP too where the destination is not rewritten.
pub const BACKEND_PORT: u16 = 8080;
/// The port of the VIP where the destination is rewritten.
const VIP_PORT: u16 = 80;
/// Flows that the table is made for.
const FLOWS: u32 = 1 << 14;
/// Ports that a service with `snat` lends.
const SNAT_PORTS: PortRange = PortRange { first: 20_000, count: 10_000, group: 0 };

/// A data plane at work, and the machines round it.
pub struct Plane {
    /// The data plane.
    pub dataplane: Dataplane,
    site: Site,
    pins: PathBuf,
}

/// The id of the backend of this number.
pub fn id(backend: usize) -> BackendId {
    BackendId::try_from(backend + 1).expect("few backends")
}

impl Plane {
    /// Lays the cables and sets the data plane to work: new flows go to backend 0, where nothing listens yet.
    pub fn new(options: Options) -> Self {
        let pins = pins::fresh();
        let site = Site::new(options);
        let sizes = Sizes { flows: FLOWS, snat_services: u32::from(options.snat) };
        let dataplane = Dataplane::open(&pins, sizes).expect("a kernel that loads XDP programs");
        let mut plane = Self { dataplane, site, pins };
        plane.tell_all();
        plane.attach_all();
        plane
    }

    /// The handover: new flows go to backend `to` from now on, and the one that had them drains.
    pub fn handover(&self, to: usize) {
        let Steer { active, epoch, .. } = self.dataplane.steering(SERVICE);
        self.dataplane.steer(SERVICE, Steer { active: id(to), draining: active, epoch: epoch + 1 });
    }

    /// The end of a drain: nothing drains any longer.
    pub fn settle(&self) {
        let steer = self.dataplane.steering(SERVICE);
        self.dataplane.steer(SERVICE, Steer { draining: 0, ..steer });
    }

    /// Waits until `packets` more packets have gone to a backend or come from it.
    pub fn until_packets(&self, backend: usize, packets: u64) {
        self.until_more(&[backend], packets);
    }

    /// Waits until `packets` more packets have gone to backends or come from them.
    pub fn until_sent(&self, packets: u64) {
        self.until_more(&(0..self.options.backends).collect::<Vec<_>>(), packets);
    }

    fn until_more(&self, backends: &[usize], packets: u64) {
        let of = |backend: &usize| {
            let counters = self.dataplane.backend_counters(id(*backend)).expect("counters");
            counters.packets_in + counters.packets_out
        };
        let sent = || backends.iter().map(of).sum::<u64>();
        let enough = sent() + packets;
        eventually(&format!("{packets} packets pass for backends {backends:?}"), || sent() >= enough);
    }

    /// The open flows of a backend by the table.
    pub fn open_flows(&self, backend: usize) -> OpenFlows {
        self.dataplane.count_flows(&FlowTimeouts::default())[usize::from(id(backend))].open
    }

    /// Every flow of the table.
    pub fn flows(&mut self) -> Vec<FlowRecord> {
        self.dataplane.flows(&FlowTimeouts::default())
    }

    /// Packets by the reason for what became of them.
    pub fn reasons(&self) -> BTreeMap<&'static str, u64> {
        let counts = self.dataplane.reasons().expect("counters");
        counts.into_iter().map(|count| (count.reason, count.packets)).collect()
    }

    /// Lets no longer packet pass on the cable to a backend, and tells the data plane.
    pub fn narrow_backend(&mut self, backend: usize, mtu: u16) {
        let hop = self.wiring.narrow(&self.wiring.backends[backend], mtu);
        self.dataplane.set_backend_hop(id(backend), hop).expect("a hop");
    }

    /// Lets no longer packet pass on the cable to the first client, and tells the data plane.
    pub fn narrow_client(&mut self, mtu: u16) {
        let hop = self.wiring.narrow(&self.wiring.clients[0], mtu);
        self.dataplane.set_uplink(SERVICE, hop).expect("a hop");
    }

    fn tell_all(&mut self) {
        let Options { protocol, backends, client_mtu, backend_mtu, .. } = self.options;
        let uplink = if self.options.uplink {
            self.wiring.hop_to(&self.wiring.clients[0], client_mtu)
        } else {
            NextHop::default()
        };
        let mut service = Service::new(Endpoint::new(self.vip(), protocol), uplink);
        if self.options.snat {
            service = service.with_snat(SNAT_PORTS);
        }
        let service = service.with_flags(self.options.flags);
        self.dataplane.set_service(SERVICE, &service).expect("a service");
        for number in 0..backends {
            let machine = &self.wiring.backends[number];
            let endpoint = Endpoint::new((machine.address, BACKEND_PORT).into(), protocol);
            let local: IpAddr = machine.gateway;
            let backend = Backend::new(endpoint, self.wiring.hop_to(machine, backend_mtu), local.into())
                .with_forwarding(self.options.forwarding);
            self.dataplane.set_backend(SERVICE, id(number), &backend).expect("a backend");
        }
        self.dataplane.steer(SERVICE, Steer { active: id(0), draining: 0, epoch: 1 });
    }

    /// Steers on every interface of the balancer; whatever is at the other end lets everything pass.
    fn attach_all(&mut self) {
        for (number, cable) in self.wiring.cables().iter().enumerate() {
            for (netns, interface, program, link) in [
                (&cable.near_netns, &cable.near, XdpProgram::Steer, "near"),
                (&cable.far_netns, &cable.far, XdpProgram::Pass, "far"),
            ] {
                let point = AttachPoint { netns: Some(netns.clone()), interface: interface.clone(), program };
                let link = format!("link_{link}_{number}");
                self.dataplane.attach(&point, &link, Mode::Native).expect("native XDP on veth");
            }
        }
    }
}

impl Deref for Plane {
    type Target = Site;

    fn deref(&self) -> &Site {
        &self.site
    }
}

impl DerefMut for Plane {
    fn deref_mut(&mut self) -> &mut Site {
        &mut self.site
    }
}

impl Drop for Plane {
    fn drop(&mut self) {
        unload(&self.pins).expect("pins that can be removed");
        if std::thread::panicking() {
            eprintln!("the data plane counted {:?}", self.reasons());
        }
    }
}
