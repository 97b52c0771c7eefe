//! The data plane that services with backends elsewhere share: attached to the host's own interfaces.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, UdpSocket};
use std::sync::Arc;

use lb_common::{BackendId, LAYOUT_VERSION, ServiceId};

use super::super::UpError;
use super::super::ids::{Ids, LeftOver, ServiceIds};
use super::super::layout::foreign;
use super::super::parts::Place;
use super::super::plane::Plane;
use super::FleetError;
use crate::clock::Now;
use crate::config::{self, DataPlane, Replies};
use crate::dataplane::{self, AttachPoint, Attached, Dataplane, Mode, Sizes, XdpProgram};
use crate::documents;
use crate::names::ServiceName;
use crate::net::netns::NetnsHandle;
use crate::paths::PlanePaths;

/// Services with `snat_ports` that a data plane has room for beyond those that it is made with.
const SPARE_SNAT_SERVICES: u32 = 4;
/// Links of interfaces are pinned under this and the interface's name.
const LINK: &str = "link-";
/// Nobody's addresses (RFC 5737, RFC 3849): the way to them is the default route.
const ANYBODY_V4: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1));
const ANYBODY_V6: IpAddr = IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0xffff, 0xffff, 0, 0, 0, 1));

/// The data plane, its interfaces and its ids.
pub(super) struct SharedPlane {
    pub(super) plane: Plane,
    paths: PlanePaths,
    mode: Mode,
    replies: Replies,
    netns: Arc<NetnsHandle>,
    ids: Ids,
    /// The ids are others by now than the file says.
    unkept: bool,
}

impl SharedPlane {
    /// Opens what is pinned or makes it anew, and attaches it to the interfaces of the configuration.
    pub(super) fn open(paths: &PlanePaths, config: &config::Config) -> Result<Self, FleetError> {
        let settings = &config.data_plane;
        if let Some((layout, pins)) = foreign(&paths.pinned()) {
            return Err(FleetError::ForeignLayout { layout, pins });
        }
        let pins = paths.pins(LAYOUT_VERSION);
        let flows = settings.flow_table.unwrap_or_else(dataplane::default_flows);
        let snat = config.services.iter().filter(|service| service.snat_ports.is_some()).count() as u32;
        let sizes = Sizes { flows, snat_services: snat + SPARE_SNAT_SERVICES };
        let dataplane = Dataplane::open(&pins, sizes).map_err(UpError::from)?;
        let kept = dataplane.made_for();
        if settings.flow_table.is_some() && kept != dataplane::flows_in_table(flows) {
            tracing::warn!(
                "the flow table stays as it is, made for {kept} flows and not for {flows}: a table is made once, and \
                 this one holds flows; `baton unload`, which ends its connections, and a new start make it anew"
            );
        }
        let ids = match documents::read(&paths.ids()) {
            Ok(ids) => ids,
            Err(error) if error.kind() == io::ErrorKind::NotFound && !dataplane.adopted() => Ids::default(),
            Err(source) => return Err(FleetError::Ids { path: paths.ids(), source }),
        };
        let netns = Arc::new(NetnsHandle::own().map_err(UpError::from)?);
        let plane = Plane::new(dataplane, settings.timeouts.clone());
        let shared = Self {
            plane,
            paths: paths.clone(),
            mode: settings.xdp,
            replies: settings.replies,
            netns,
            ids,
            unkept: false,
        };
        if let Err(error) = shared.attach(settings) {
            if !shared.plane.tables().adopted() {
                // What was made just now serves nobody yet.
                drop(shared);
                dataplane::unload(&pins).map_err(UpError::files(&pins))?;
            }
            return Err(error);
        }
        Ok(shared)
    }

    /// Attaches the program to the interfaces that are configured, and takes it from others; to none of them if
    /// it cannot be attached to all.
    pub(super) fn attach(&self, settings: &DataPlane) -> Result<(), FleetError> {
        let mut tables = self.plane.tables();
        let wanted: BTreeSet<String> = settings.interfaces.iter().map(|name| link_of(name)).collect();
        let mut new = Vec::new();
        for interface in &settings.interfaces {
            let point = AttachPoint { netns: None, interface: interface.clone(), program: XdpProgram::Steer };
            match tables.attach(&point, &link_of(interface), self.mode) {
                Ok(Attached::New) => new.push(interface),
                Ok(Attached::Replaced) => {}
                Err(error) => {
                    for interface in new {
                        let taken_back = tables.detach(&link_of(interface));
                        taken_back.map_err(UpError::files(&self.paths.pins(LAYOUT_VERSION)))?;
                    }
                    return Err(UpError::from(error).into());
                }
            }
        }
        for interface in new {
            tracing::info!(%interface, "steers packets");
        }
        let pins = self.paths.pins(LAYOUT_VERSION);
        for link in tables.links(LINK).map_err(UpError::files(&pins))? {
            if !wanted.contains(&link) {
                tables.detach(&link).map_err(UpError::files(&pins))?;
                tracing::info!(%link, "steers no longer");
            }
        }
        Ok(())
    }

    /// The place of a service, with the ids that it has or gets.
    pub(super) fn place(&mut self, service: &config::Service) -> Result<Place, FleetError> {
        let groups = self.plane.tables().snat_groups();
        let had = self.ids.of(&service.name).map(|ids| ids.all().collect::<BTreeSet<_>>());
        let (was_kept, ids) = (!self.unkept, self.ids.assign(service, groups)?);
        let is_known = had.is_some_and(|had| ids.all().all(|id| had.contains(&id)));
        match self.keep_ids() {
            // All that it stands on is written down; that it stands on less can wait.
            Err(error) if was_kept && is_known => tracing::error!(service = %service.name, "{error}"),
            kept => kept?,
        }
        if !is_own(service.vip.ip()) {
            tracing::warn!(
                service = %service.name,
                "{} is no address of this machine: it reaches clients that have a route to it, answers no ping and no \
                 machine that looks for it on its own link; `ip address add {} dev lo` makes it one",
                service.vip.ip(),
                service.vip.ip()
            );
        }
        Ok(Place {
            plane: self.plane.clone(),
            mode: self.mode,
            id: ids.id,
            backends: ids.backends(),
            snat_group: ids.snat_group.unwrap_or(0),
            uplink: match self.replies {
                Replies::Stack => None,
                Replies::Gateway if service.vip.is_ipv4() => Some(ANYBODY_V4),
                Replies::Gateway => Some(ANYBODY_V6),
            },
            netns: Arc::clone(&self.netns),
        })
    }

    /// Takes back the ids of a service that stands as the configuration has it: a change that could not be brought
    /// about, and is not wanted any longer, may have left them.
    pub(super) fn keep_place(&mut self, service: &config::Service) -> Result<(), FleetError> {
        let groups = self.plane.tables().snat_groups();
        let before = self.ids.of(&service.name).cloned();
        // All of it is taken back, so nothing is wanting.
        self.unkept |= before != Some(self.ids.assign(service, groups)?);
        Ok(())
    }

    /// Every service that is, or was, in this data plane.
    pub(super) fn services(&self) -> impl Iterator<Item = ServiceName> {
        self.ids.services().cloned()
    }

    /// Whether a service is, or was, in this data plane.
    pub(super) fn knows(&self, service: &ServiceName) -> bool {
        self.ids.of(service).is_some()
    }

    /// Lets a service get no new flows; those it has go on.
    pub(super) fn close(&self, service: &ServiceName) {
        if let Some(ids) = self.ids.of(service) {
            self.plane.tables().close(ids.id);
        }
    }

    /// Open flows of a service.
    pub(super) fn open_flows(&self, service: &ServiceName, now: Now) -> u64 {
        let counts = self.plane.counts(now);
        let backends = self.ids.of(service).into_iter().flat_map(ServiceIds::all);
        backends.map(|id| counts[usize::from(id)].open.total()).sum()
    }

    /// Makes a service unknown and forgets its ids.
    pub(super) fn remove(&mut self, service: &ServiceName) -> Result<(), FleetError> {
        let Some(ids) = self.ids.of(service).cloned() else { return Ok(()) };
        self.plane.tables().remove_service(ids.id);
        for backend in ids.all() {
            self.forget(ids.id, backend)?;
        }
        self.ids.release(service);
        self.keep_ids()
    }

    /// Gives back the ids of backends that have left these services and have no flows any longer.
    pub(super) fn release_backends(
        &mut self,
        settled: &BTreeSet<ServiceName>,
        now: Now,
    ) -> Result<(), FleetError> {
        if self.unkept {
            self.keep_ids()?;
        }
        let left = self.ids.left_over(|service| settled.contains(service));
        if left.is_empty() {
            return Ok(());
        }
        let counts = self.plane.counts(now);
        // Nobody is sent there any longer but by a lease, which each new flow would renew.
        for left in left.iter().filter(|left| counts[usize::from(left.backend_id)].leases > 0) {
            self.plane.forget_leases(left.backend_id);
        }
        let is_empty = |id: BackendId| counts[usize::from(id)].open.total() == 0;
        let empty: Vec<LeftOver> = left.into_iter().filter(|left| is_empty(left.backend_id)).collect();
        if empty.is_empty() {
            return Ok(());
        }
        for left in empty {
            self.forget(left.service_id, left.backend_id)?;
            self.ids.release_backend(&left);
            tracing::info!(service = %left.service, backend = %left.backend, "its last flow has ended");
        }
        self.keep_ids()
    }

    /// Makes a backend unknown, whose id may be another one's from now on.
    fn forget(&self, service: ServiceId, backend: BackendId) -> Result<(), FleetError> {
        self.plane.tables().remove_backend(service, backend).map_err(UpError::from)?;
        self.plane.forget_backend(backend);
        self.plane.forget_leases(backend);
        Ok(())
    }

    fn keep_ids(&mut self) -> Result<(), FleetError> {
        let path = self.paths.ids();
        let written =
            fs::create_dir_all(self.paths.run_dir()).and_then(|()| documents::write(&path, &self.ids));
        self.unkept = written.is_err();
        Ok(written.map_err(UpError::files(&path))?)
    }
}

/// The name that the link of an interface is pinned under; names in bpffs hold no dots.
fn link_of(interface: &str) -> String {
    format!("{LINK}{}", interface.replace('.', "%"))
}

/// Whether it is an address of this machine.
fn is_own(address: IpAddr) -> bool {
    UdpSocket::bind((address, 0)).is_ok()
}
