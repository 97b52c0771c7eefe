//! The data plane as the controller sees it: load, adopt, attach, steer, count.
//!
//! What always holds:
//! - Maps and links are pinned before anything relies on them, so a controller that is killed leaves the
//!   traffic running and the next one adopts it.
//! - Pinned maps are adopted only if every one has the layout that this build expects ([`layout`]).
//! - A handover is one aligned 64-bit store into a mapped array ([`Dataplane::steer`]).
//!
//! This is the only module of the user side that may be unsafe.

mod attach;
mod batch;
mod counters;
mod flows;
mod layout;
mod log_lines;
mod mapping;
mod object;
mod run;

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use aya::maps::{Array, HashMap, Map, MapData, MapError};
use aya::{Ebpf, EbpfError, EbpfLoader};
use lb_common::{Backend, BackendId, Endpoint, NextHop, Owner, Service, ServiceId, Steer};
use thiserror::Error;

pub use attach::{AttachError, AttachPoint, Attached, Mode, XdpProgram};
pub use counters::ReasonCount;
pub use flows::{FlowRecord, FlowTimeouts, clock_ticks};
pub use run::{Outcome, RunError, XdpAction};

pub use log_lines::LogLines;
use mapping::Words;

/// Why the data plane could not be opened.
#[derive(Debug, Error)]
pub enum OpenError {
    /// The kernel refuses BPF to this process.
    #[error("loading XDP programs needs CAP_BPF and CAP_NET_ADMIN: run as root")]
    NotPermitted,
    /// The directory for pins cannot be made.
    #[error("cannot make {path}: {source}; is bpffs mounted? `mount -t bpf bpf /sys/fs/bpf` mounts it")]
    PinDirectory {
        /// The directory.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// Pinned maps are of another build.
    #[error(
        "{path} was pinned by another version of Baton ({difference}): stop that service and remove it with `baton down`, then start it anew"
    )]
    Layout {
        /// The pinned map.
        path: PathBuf,
        /// What differs.
        difference: String,
    },
    /// The kernel refused the object.
    #[error(
        "the kernel refused the XDP program: {0}; Baton needs Linux 6.1 or later with BTF (CONFIG_DEBUG_INFO_BTF)"
    )]
    Load(#[source] EbpfError),
    /// A map is not there or not usable.
    #[error("map {name}: {source}")]
    Map {
        /// The map's name.
        name: &'static str,
        /// What aya said.
        source: MapError,
    },
    /// The steering array could not be mapped.
    #[error("cannot map the steering array: {0}")]
    Mapping(#[source] io::Error),
}

/// A change to a map that the kernel refused.
#[derive(Debug, Error)]
#[error("map {name}: {source}")]
pub struct TableError {
    name: &'static str,
    source: MapError,
}

/// Programs and maps of one pin directory.
pub struct Dataplane {
    ebpf: Ebpf,
    steering: Words,
    pins: PathBuf,
    adopted: bool,
}

impl Dataplane {
    /// Opens the data plane that is pinned in `pins`, or makes a new one there.
    pub fn open(pins: &Path) -> Result<Self, OpenError> {
        fs::create_dir_all(pins)
            .map_err(|source| OpenError::PinDirectory { path: pins.to_owned(), source })?;
        let adopted = layout::verify_pins(pins)?;
        let mut loader = EbpfLoader::new();
        for expected in layout::MAPS {
            loader.map_pin_path(expected.name, pins.join(expected.name));
        }
        let mut ebpf = loader.load(object::BYTES).map_err(open_error)?;
        for program in [XdpProgram::Steer, XdpProgram::Pass] {
            attach::load(&mut ebpf, program).map_err(|error| OpenError::Load(error.into()))?;
        }
        let Some(Map::Array(array)) = ebpf.map("STEERING") else {
            return Err(OpenError::Map { name: "STEERING", source: missing("STEERING") });
        };
        let steering =
            Words::map(array.fd(), lb_common::SERVICES_MAX as usize).map_err(OpenError::Mapping)?;
        Ok(Self { ebpf, steering, pins: pins.to_owned(), adopted })
    }

    /// Whether the maps were there already, with the flows of an earlier controller.
    pub fn adopted(&self) -> bool {
        self.adopted
    }

    /// Makes `service` known: its packets are steered from now on, and refused while no backend is active.
    pub fn set_service(&mut self, id: ServiceId, service: &Service) -> Result<(), TableError> {
        self.array::<Service>("SERVICES")?.set(u32::from(id), service, 0).map_err(refused("SERVICES"))?;
        self.hash::<Endpoint, u32>("SERVICE_IDS")?
            .insert(service.vip, u32::from(id), 0)
            .map_err(refused("SERVICE_IDS"))
    }

    /// Makes `backend` known as one of `service`, or changes it; steering decides what it gets.
    pub fn set_backend(
        &mut self,
        service: ServiceId,
        id: BackendId,
        backend: &Backend,
    ) -> Result<(), TableError> {
        self.array::<Backend>("BACKENDS")?.set(u32::from(id), backend, 0).map_err(refused("BACKENDS"))?;
        self.hash::<Endpoint, Owner>("OWNERS")?
            .insert(backend.endpoint, Owner { service, backend: id }, 0)
            .map_err(refused("OWNERS"))
    }

    /// Changes where replies of a service go.
    pub fn set_uplink(&mut self, id: ServiceId, uplink: NextHop) -> Result<(), TableError> {
        let mut services = self.array::<Service>("SERVICES")?;
        let mut service = services.get(&u32::from(id), 0).map_err(refused("SERVICES"))?;
        service.uplink = uplink;
        services.set(u32::from(id), service, 0).map_err(refused("SERVICES"))
    }

    /// Changes where packets to a backend go.
    pub fn set_backend_hop(&mut self, id: BackendId, hop: NextHop) -> Result<(), TableError> {
        let mut backends = self.array::<Backend>("BACKENDS")?;
        let mut backend = backends.get(&u32::from(id), 0).map_err(refused("BACKENDS"))?;
        backend.hop = hop;
        backends.set(u32::from(id), backend, 0).map_err(refused("BACKENDS"))
    }

    /// Where the flows of a service go at this moment.
    pub fn steering(&self, service: ServiceId) -> Steer {
        Steer::from_word(self.steering.load(usize::from(service)))
    }

    /// The handover: from this store on, new flows of `service` go where `steer` says.
    pub fn steer(&self, service: ServiceId, steer: Steer) {
        self.steering.store(usize::from(service), steer.to_word());
    }

    fn array<V: aya::Pod>(&mut self, name: &'static str) -> Result<Array<&mut MapData, V>, TableError> {
        self.ebpf.map_mut(name).ok_or(absent(name))?.try_into().map_err(refused(name))
    }

    fn hash<K: aya::Pod, V: aya::Pod>(
        &mut self,
        name: &'static str,
    ) -> Result<HashMap<&mut MapData, K, V>, TableError> {
        self.ebpf.map_mut(name).ok_or(absent(name))?.try_into().map_err(refused(name))
    }
}

/// Detaches and unloads all that is pinned in `pins`; nothing pinned is no error.
pub fn unload(pins: &Path) -> io::Result<()> {
    match fs::remove_dir_all(pins) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    // The directories above are shared by all services; whoever is last takes them away.
    for parent in pins.ancestors().skip(1).take_while(|path| path.starts_with("/sys/fs/bpf/baton")) {
        let _ = fs::remove_dir(parent);
    }
    Ok(())
}

fn refused(name: &'static str) -> impl FnOnce(MapError) -> TableError {
    move |source| TableError { name, source }
}

fn absent(name: &'static str) -> TableError {
    TableError { name, source: missing(name) }
}

fn missing(name: &str) -> MapError {
    MapError::InvalidName { name: name.to_owned() }
}

fn open_error(error: EbpfError) -> OpenError {
    let denied =
        std::iter::successors(Some(&error as &(dyn std::error::Error + 'static)), |error| error.source())
            .filter_map(|error| error.downcast_ref::<io::Error>())
            .any(|error| error.kind() == io::ErrorKind::PermissionDenied);
    if denied { OpenError::NotPermitted } else { OpenError::Load(error) }
}
