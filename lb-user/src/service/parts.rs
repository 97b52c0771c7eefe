//! The parts of a service that outlive its controller, made or found: network, data plane, processes.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr, SocketAddrV4};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use lb_common::{Backend, BackendId, Endpoint, LAYOUT_VERSION, NextHop, Service, ServiceId};
use tokio::sync::watch;
use tokio::time::timeout;

use super::UpError;
use super::spec::ServiceSpec;
use super::steering::Balancing;
use crate::dataplane::{self, AttachPoint, Dataplane, Mode, XdpProgram};
use crate::driver::netns::{self, Topology};
use crate::driver::process::{Cgroup, Launch, ProcessDriver};
use crate::names::{BackendName, ServiceName};
use crate::net::hops::{self, Hops};
use crate::net::netns::NetnsHandle;
use crate::paths::{Roots, ServicePaths};

/// The one service of a data plane that belongs to one controller.
pub(super) const SERVICE: ServiceId = 0;
/// The next hops of a fresh network are known within this; later they are followed.
const HOPS_DEADLINE: Duration = Duration::from_secs(2);

/// One backend.
pub(super) struct BackendParts {
    pub(super) id: BackendId,
    pub(super) address: SocketAddrV4,
    pub(super) driver: ProcessDriver,
}

/// What outlives the controller.
pub(super) struct Parts {
    pub(super) dataplane: Dataplane,
    pub(super) balancer: Arc<NetnsHandle>,
    pub(super) backends: BTreeMap<BackendName, BackendParts>,
    pub(super) hops: watch::Receiver<Hops>,
    pub(super) balancing: Balancing,
    /// The next hops that are in the tables.
    applied: Hops,
    uplink: IpAddr,
    mode: Mode,
}

impl Parts {
    /// Makes what is not there and adopts what is.
    pub(super) async fn open(
        roots: &Roots,
        paths: &ServicePaths,
        spec: &mut ServiceSpec,
        adopting: bool,
    ) -> Result<Self, UpError> {
        let ready = if adopting {
            netns::adopt(roots, &spec.name).await?
        } else {
            netns::preflight(roots).await?;
            let wanted = netns::Spec { name: spec.name.clone(), vip: *spec.vip.ip(), pool: spec.pool };
            netns::create(roots, &wanted).await?
        };
        for warning in &ready.warnings {
            tracing::warn!("{warning}");
        }
        for repaired in &ready.repaired {
            tracing::info!("repaired: {repaired}");
        }
        let topology = ready.topology;
        if !adopting {
            let names = netns::resolv_conf_override(paths, spec.resolv_conf.as_deref())?;
            if let Some(warning) = names.warning {
                tracing::warn!("{warning}");
            }
            spec.resolv_conf = names.file;
        }
        let uplink = topology.uplink.near.address.into();
        let sites = topology.backends.iter();
        let targets = sites.map(|site| site.pair.far.address.into()).chain([uplink]).collect();
        let hops = hops::watch(&topology.balancer_netns, targets)?;
        let mut parts = Self {
            dataplane: open_dataplane(paths, spec)?,
            balancer: Arc::new(NetnsHandle::open(&topology.balancer_netns)?),
            backends: drivers(paths, spec, &topology)?,
            hops,
            balancing: Balancing::default(),
            applied: Hops::default(),
            uplink,
            mode: spec.mode,
        };
        parts.wait_for_hops().await;
        parts.fill_tables(spec, &topology)?;
        attach(&mut parts.dataplane, &topology, spec.mode)?;
        Ok(parts)
    }

    async fn wait_for_hops(&mut self) {
        // Without them packets take the way through the stack; nothing is lost by going on.
        if timeout(HOPS_DEADLINE, self.hops.wait_for(Hops::all_resolved)).await.is_err() {
            tracing::warn!(
                "the next hops are not all known yet: packets go through the stack until they are"
            );
        }
    }

    fn fill_tables(&mut self, spec: &ServiceSpec, topology: &Topology) -> Result<(), UpError> {
        let hops = self.hops.borrow().clone();
        for site in &topology.backends {
            let Some(parts) = self.backends.get(&site.name) else { continue };
            let endpoint = Endpoint::tcp(SocketAddr::V4(parts.address));
            let hop = self.next_hop(&hops, (*parts.address.ip()).into());
            let backend = Backend::new(endpoint, hop, site.pair.near.address.into());
            self.dataplane.set_backend(SERVICE, parts.id, &backend)?;
        }
        let vip = Endpoint::tcp(SocketAddr::V4(spec.vip));
        self.dataplane.set_service(SERVICE, &Service::new(vip, self.next_hop(&hops, self.uplink)))?;
        self.applied = hops;
        Ok(())
    }

    /// The next hop to an address, as the packet path is to know it.
    fn next_hop(&self, hops: &Hops, address: IpAddr) -> NextHop {
        let hop = hops.next_hop(address);
        match self.mode {
            Mode::Native => hop,
            // The stack hands over what it has put together of several packets and will take apart again, so
            // lengths mean nothing.
            Mode::Generic => NextHop { mtu: 0, ..hop },
        }
    }

    /// Brings the tables up to date with the next hops as they are now.
    pub(super) fn refresh_hops(&mut self) -> Result<(), UpError> {
        let hops = self.hops.borrow_and_update().clone();
        let backends: Vec<_> = self.backends.values().map(|parts| (parts.id, *parts.address.ip())).collect();
        for (id, address) in backends {
            self.dataplane.set_backend_hop(id, self.next_hop(&hops, address.into()))?;
        }
        self.dataplane.set_uplink(SERVICE, self.next_hop(&hops, self.uplink))?;
        for change in hops.changes_since(&self.applied) {
            let whom = self.describe(change.target);
            if change.is_loss() {
                tracing::warn!("{whom}: {change}");
            } else {
                tracing::info!("{whom}: {change}");
            }
        }
        self.applied = hops;
        Ok(())
    }

    /// An address of the network, in the words of an operator.
    fn describe(&self, address: IpAddr) -> String {
        let backend = self.backends.iter().find(|(_, parts)| parts.address.ip() == &address);
        backend.map_or_else(|| "uplink".to_owned(), |(name, _)| format!("backend {name}"))
    }
}

/// The data plane; a table that is there already keeps its size, and its flows.
fn open_dataplane(paths: &ServicePaths, spec: &ServiceSpec) -> Result<Dataplane, UpError> {
    let flows = spec.flow_table.unwrap_or_else(dataplane::default_flows);
    let dataplane = Dataplane::open(&paths.pins(LAYOUT_VERSION), flows)?;
    let kept = dataplane.made_for();
    if spec.flow_table.is_some() && kept != dataplane::flows_in_table(flows) {
        tracing::warn!(
            "the flow table of {name} stays as it is, made for {kept} flows and not for {flows}: a table is made \
             once, and this one holds flows; `baton down --name {name}`, which ends its connections, and the same \
             `baton up` make it anew",
            name = spec.name
        );
    }
    Ok(dataplane)
}

fn drivers(
    paths: &ServicePaths,
    spec: &ServiceSpec,
    topology: &Topology,
) -> Result<BTreeMap<BackendName, BackendParts>, UpError> {
    let mut backends = BTreeMap::new();
    for (site, id) in topology.backends.iter().zip(1..) {
        let mut launch = spec.launch(&site.name, site.netns.clone());
        let cgroup = match spec.memory_max {
            Some(bytes) => Some(Cgroup::create(&spec.name, &site.name, bytes)?),
            None => None,
        };
        launch.cgroup_procs = cgroup.as_ref().map(Cgroup::procs);
        let driver = ProcessDriver::new(paths.backend_dir(&site.name), launch, cgroup);
        let address = SocketAddrV4::new(site.pair.far.address, spec.port);
        backends.insert(site.name.clone(), BackendParts { id, address, driver });
    }
    Ok(backends)
}

/// A driver that can only end what runs: enough to remove a service whose settings are lost.
pub(super) fn bare_driver(
    paths: &ServicePaths,
    service: &ServiceName,
    backend: &BackendName,
) -> ProcessDriver {
    let launch = Launch {
        service: service.clone(),
        backend: backend.clone(),
        netns: paths.backend_netns(backend),
        command: Vec::new(),
        directory: PathBuf::from("/"),
        environment: Vec::new(),
        resolv_conf: None,
        cgroup_procs: None,
    };
    ProcessDriver::new(paths.backend_dir(backend), launch, None)
}

/// Steering on every interface of the balancer; on the far ends of its pairs a program that lets all pass,
/// without which native redirect into them drops silently.
fn attach(dataplane: &mut Dataplane, topology: &Topology, mode: Mode) -> Result<(), UpError> {
    let balancer = Some(topology.balancer_netns.clone());
    let point = |netns: Option<PathBuf>, interface: &str, program| AttachPoint {
        netns,
        interface: interface.to_owned(),
        program,
    };
    let uplink = &topology.uplink;
    let mut points = vec![];
    if mode == Mode::Native {
        points.push((point(None, &uplink.near.ifname, XdpProgram::Pass), "link-host".to_owned()));
        for site in &topology.backends {
            let far = point(Some(site.netns.clone()), &site.pair.far.ifname, XdpProgram::Pass);
            points.push((far, format!("link-{}-far", site.name)));
        }
    }
    for site in &topology.backends {
        let near = point(balancer.clone(), &site.pair.near.ifname, XdpProgram::Steer);
        points.push((near, format!("link-{}", site.name)));
    }
    points.push((point(balancer, &uplink.far.ifname, XdpProgram::Steer), "link-uplink".to_owned()));
    for (point, link) in points {
        dataplane.attach(&point, &link, mode)?;
    }
    Ok(())
}
