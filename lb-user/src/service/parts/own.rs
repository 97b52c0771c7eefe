//! A service whose backends Baton runs: three namespaces and a data plane that belong to it alone.

use std::collections::BTreeMap;
use std::env;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use lb_common::{BackendId, LAYOUT_VERSION, ServiceId};

use super::super::UpError;
use super::super::definition::{OwnNetwork, number_of, spread_by};
use super::super::plane::Plane;
use super::super::registration::Registration;
use super::super::warm_up::ClientWay;
use super::{BackendParts, Parts};
use crate::config::{self, Backend, Process};
use crate::dataplane::{self, AttachPoint, Dataplane, Mode, Sizes, XdpProgram};
use crate::driver::Driver;
use crate::driver::netns::{self, BackendSite, Topology};
use crate::driver::process::{Cgroup, Launch, ProcessDriver};
use crate::names::{BackendName, ServiceName};
use crate::net::hops::{self, Hops};
use crate::net::netns::NetnsHandle;
use crate::paths::{Roots, ServicePaths};

/// The id of a service in a data plane of its own.
const OWN_ID: ServiceId = 0;

/// A service and the network that it is to have for itself.
pub(in crate::service) struct Owned<'d> {
    pub(in crate::service) service: &'d config::Service,
    pub(in crate::service) network: &'d OwnNetwork,
    /// What an earlier controller has left.
    pub(in crate::service) left: Option<Registration>,
}

impl Owned<'_> {
    /// The ids of the backends: those that they have, or else in order of the file, from 1 on. Their flows know
    /// them by these, wherever they stand in the file.
    pub(in crate::service) fn ids(&self) -> BTreeMap<BackendName, BackendId> {
        let names = self.service.backends.iter().map(|backend| &backend.name);
        match &self.left {
            // A service in a network of its own keeps its set of backends.
            Some(left) => left.backends.iter().map(|(name, backend)| (name.clone(), backend.id)).collect(),
            None => names.cloned().zip(1..).collect(),
        }
    }

    /// What is to be written down of the service.
    pub(in crate::service) fn registration(&self) -> Registration {
        Registration::of(self.service, OWN_ID, &self.ids(), &self.network.timeouts)
    }
}

/// Makes what is not there and adopts what is.
pub(in crate::service) async fn open(
    roots: &Roots,
    owned: &Owned<'_>,
    registration: &mut Registration,
) -> Result<Parts, UpError> {
    let Owned { service, network, left } = owned;
    let paths = roots.service(&service.name);
    let ready = if left.is_some() {
        netns::adopt(roots, &service.name).await?
    } else {
        netns::preflight(roots).await?;
        let vip = match service.vip {
            SocketAddr::V4(vip) => *vip.ip(),
            SocketAddr::V6(vip) => return Err(UpError::Settings(ipv6_vip(vip.into()))),
        };
        let backends = service.backends.iter().map(|backend| backend.name.clone()).collect();
        let wanted = netns::Spec { name: service.name.clone(), vip, pool: network.pool, backends };
        netns::create(roots, &wanted).await?
    };
    for warning in &ready.warnings {
        tracing::warn!("{warning}");
    }
    for repaired in &ready.repaired {
        tracing::info!("repaired: {repaired}");
    }
    let topology = ready.topology;
    registration.resolv_conf = if let Some(left) = left {
        left.resolv_conf.clone()
    } else {
        let names = netns::resolv_conf_override(&paths, network.resolv_conf.as_deref())?;
        if let Some(warning) = names.warning {
            tracing::warn!("{warning}");
        }
        names.file
    };
    let uplink = topology.uplink.near.address.into();
    let sites = topology.backends.iter();
    let targets = sites.map(|site| site.pair.far.address.into()).chain([uplink]).collect();
    let dataplane = open_dataplane(&paths, service, network)?;
    let mut parts = Parts {
        plane: Plane::new(dataplane, network.timeouts.clone()),
        id: OWN_ID,
        origin: Arc::new(NetnsHandle::open(&topology.balancer_netns)?),
        backends: drivers(&paths, owned, registration, &topology)?,
        hops: hops::watch(&topology.balancer_netns, targets)?,
        client_way: ClientWay::of(service, &paths),
        applied: Hops::default(),
        uplink: Some(uplink),
        mode: network.mode,
        forwarding: service.forwarding,
        protocol: number_of(service.protocol),
        snat_group: 0,
        spread: spread_by(service),
    };
    for (name, registered) in &mut registration.backends {
        // Only now are the addresses of their namespaces known.
        registered.address = parts.backends.get(name).map_or(registered.address, |parts| parts.address);
    }
    parts.wait_for_hops().await;
    parts.fill_tables(service)?;
    attach(&mut parts.plane.tables(), &topology, network.mode)?;
    Ok(parts)
}

fn ipv6_vip(vip: SocketAddr) -> String {
    format!(
        "{vip}: a service whose backends Baton runs has an IPv4 VIP: its namespaces have IPv4 addresses only; \
         give it one, or backends with addresses of their own"
    )
}

/// The data plane; a table that is there already keeps its size, and its flows.
fn open_dataplane(
    paths: &ServicePaths,
    service: &config::Service,
    network: &OwnNetwork,
) -> Result<Dataplane, UpError> {
    let flows = network.flow_table.unwrap_or_else(dataplane::default_flows);
    let snat_services = u32::from(service.snat_ports.is_some());
    let dataplane = Dataplane::open(&paths.pins(LAYOUT_VERSION), Sizes { flows, snat_services })?;
    let kept = dataplane.made_for();
    if network.flow_table.is_some() && kept != dataplane::flows_in_table(flows) {
        tracing::warn!(
            "the flow table of {name} stays as it is, made for {kept} flows and not for {flows}: a table is made \
             once, and this one holds flows; `baton down --name {name}`, which ends its connections, and the same \
             `baton up` make it anew",
            name = service.name
        );
    }
    Ok(dataplane)
}

fn drivers(
    paths: &ServicePaths,
    owned: &Owned<'_>,
    registration: &Registration,
    topology: &Topology,
) -> Result<BTreeMap<BackendName, BackendParts>, UpError> {
    let ids = owned.ids();
    let mut backends = BTreeMap::new();
    for backend in &owned.service.backends {
        let config::Driver::Process(process) = &backend.driver else {
            return Err(UpError::Settings(format!(
                "service {}: backend {} has another driver than `process`: in one service Baton runs all backends \
                 or none",
                owned.service.name, backend.name
            )));
        };
        let Some(site) = topology.backends.iter().find(|site| site.name == backend.name) else {
            return Err(UpError::Settings(format!(
                "service {}: there is no namespace for backend {}: the service was left with other backends",
                owned.service.name, backend.name
            )));
        };
        let parts = BackendParts {
            id: ids.get(&backend.name).copied().unwrap_or_default(),
            address: (site.pair.far.address, backend.address.port()).into(),
            weight: backend.weight,
            max_flows: backend.max_flows.unwrap_or(0),
            driver: Driver::Process(driver(paths, &registration.name, backend, process, site, registration)?),
        };
        backends.insert(backend.name.clone(), parts);
    }
    Ok(backends)
}

fn driver(
    paths: &ServicePaths,
    service: &ServiceName,
    backend: &Backend,
    process: &Process,
    site: &BackendSite,
    registration: &Registration,
) -> Result<ProcessDriver, UpError> {
    let cgroup = match process.memory_max {
        Some(bytes) => Some(Cgroup::of(service, &site.name, bytes)?),
        None => None,
    };
    let launch = Launch {
        service: service.clone(),
        backend: backend.name.clone(),
        netns: site.netns.clone(),
        command: process.command.clone(),
        directory: process.directory.clone(),
        environment: environment(process),
        resolv_conf: registration.resolv_conf.clone(),
        cgroup_procs: cgroup.as_ref().map(Cgroup::procs),
    };
    Ok(ProcessDriver::new(paths.backend_dir(&site.name), launch, cgroup))
}

/// What the controller has of environment, and what the configuration adds. Variables that are no text cannot
/// be kept in the service's files; no program relies on them.
fn environment(process: &Process) -> Vec<(String, String)> {
    let own = env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)));
    let mut all: BTreeMap<String, String> = own.collect();
    all.extend(process.environment.clone());
    all.into_iter().collect()
}

/// A driver that can only end what runs: enough to remove a service whose settings are lost.
pub(in crate::service) fn bare_driver(
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
        points.push((point(None, &uplink.near.ifname, XdpProgram::Pass), "link_host".to_owned()));
        for site in &topology.backends {
            let far = point(Some(site.netns.clone()), &site.pair.far.ifname, XdpProgram::Pass);
            points.push((far, format!("link_far-{}", site.name)));
        }
    }
    for site in &topology.backends {
        let near = point(balancer.clone(), &site.pair.near.ifname, XdpProgram::Steer);
        points.push((near, format!("link-{}", site.name)));
    }
    points.push((point(balancer, &uplink.far.ifname, XdpProgram::Steer), "link_uplink".to_owned()));
    for (point, link) in points {
        dataplane.attach(&point, &link, mode)?;
    }
    Ok(())
}
