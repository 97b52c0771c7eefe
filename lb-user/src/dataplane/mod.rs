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
mod counters;
mod explain;
mod flows;
mod layout;
mod listeners;
mod log_lines;
mod mapping;
mod object;
mod pinner;
mod pool;
mod programs;
mod run;
mod settings;
mod table;
mod view;

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use aya::maps::{Array, Map, MapData, MapError};
use aya::{Ebpf, EbpfError};
use lb_common::endpoint::{Address, UDP};
use lb_common::listeners::PORT_WORDS;
use lb_common::steer::NO_BACKEND;
use lb_common::tables::service_flags;
use lb_common::{
    BACKENDS_MAX, Backend, BackendId, BackendState, Endpoint, Forwarding, Listener, NextHop, SERVICES_MAX,
    Service, ServiceId, Settings, Steer,
};
use thiserror::Error;

pub use attach::{AttachError, AttachPoint, Attached, Mode, XdpProgram};
pub use counters::ReasonCount;
pub use explain::{Answer, ExplainError, Explainer};
pub use flows::{FlowRecord, FlowTimeouts};
pub use pinner::FlowPinner;
pub use pool::PoolError;
pub use programs::ProgramFacts;
pub use run::{Outcome, RunError, XdpAction};
pub use settings::{Sizes, default_flows, flows_in_table};
pub use view::{Clients, FlowView};

use listeners::Listeners;
pub use log_lines::LogLines;
use mapping::Words;
use object::Traces;
use table::{FlowTable, Mappings};

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
    /// There is no data plane.
    #[error("no data plane of this version of Baton is pinned in {0}")]
    NothingPinned(PathBuf),
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
    /// An array could not be mapped into memory.
    #[error("cannot map {name} into memory: {source}")]
    Mapping {
        /// The map's name.
        name: &'static str,
        /// What the kernel said.
        source: io::Error,
    },
    /// A table cannot be written.
    #[error(transparent)]
    Table(#[from] TableError),
    /// The kernel gives no random numbers.
    #[error("no random numbers for the flow table's hash: {0}")]
    Random(#[source] io::Error),
}

/// A change to a table that could not be made.
#[derive(Debug, Error)]
pub enum TableError {
    /// The kernel refused it.
    #[error("map {name}: {source}")]
    Refused {
        /// The map's name.
        name: &'static str,
        /// What aya said.
        source: MapError,
    },
    /// There are too many endpoints.
    #[error("no room for {0}: the table of VIPs and backends is full")]
    NoRoom(std::net::SocketAddr),
}

/// Programs and maps of one pin directory.
pub struct Dataplane {
    ebpf: Ebpf,
    steering: Words,
    listeners: Listeners,
    backends: Words,
    open_flows: Words,
    table: FlowTable,
    pins: PathBuf,
    adopted: bool,
}

impl Dataplane {
    /// Opens the data plane that is pinned in `pins`, or makes a new one there with tables of these sizes
    /// (flows alone are enough); adopted tables keep theirs.
    pub fn open(pins: &Path, sizes: impl Into<Sizes>) -> Result<Self, OpenError> {
        fs::create_dir_all(pins)
            .map_err(|source| OpenError::PinDirectory { path: pins.to_owned(), source })?;
        let kept = layout::verify_pins(pins)?;
        let adopted = kept.is_some();
        let settings = match kept {
            Some(settings) => settings,
            None => settings::draw(sizes.into()).map_err(OpenError::Random)?,
        };
        let mut ebpf = object::load(pins, &settings, Traces::Left)?;
        for program in XdpProgram::ALL {
            attach::load(&mut ebpf, program).map_err(|error| OpenError::Load(error.into()))?;
        }
        let [buckets, tuples, log, heads, snat] = FlowTable::words(&settings, settings::cpus());
        let mappings = Mappings {
            buckets: map_words(&ebpf, "BUCKETS", buckets)?,
            tuples: map_words(&ebpf, "TUPLES", tuples)?,
            log: map_words(&ebpf, "TUPLE_LOG", log)?,
            heads: map_words(&ebpf, "TUPLE_LOG_HEADS", heads)?,
            snat: map_words(&ebpf, "SNAT_SLOTS", snat)?,
        };
        let mut dataplane = Self {
            steering: map_words(&ebpf, "STEERING", SERVICES_MAX as usize)?,
            backends: map_words(&ebpf, "BACKENDS", flows::BACKEND_WORDS)?,
            open_flows: map_words(&ebpf, "OPEN_FLOWS", BACKENDS_MAX as usize)?,
            listeners: Listeners::new(
                map_words(&ebpf, "LISTENERS", Listeners::WORDS)?,
                map_words(&ebpf, "PORTS", PORT_WORDS as usize)?,
                settings.keys,
            ),
            table: FlowTable::new(mappings, settings, settings::cpus()),
            ebpf,
            pins: pins.to_owned(),
            adopted,
        };
        if !adopted {
            // Last: tables without settings are unfinished, and the next controller makes them anew.
            let mut kept = dataplane.array::<Settings>("TABLE_SETTINGS")?;
            kept.set(0, settings, 0).map_err(refused("TABLE_SETTINGS"))?;
        }
        Ok(dataplane)
    }

    /// Whether the maps were there already, with the flows of an earlier controller.
    pub fn adopted(&self) -> bool {
        self.adopted
    }

    /// Makes `service` known: its packets are steered from now on, and refused while no backend is active.
    pub fn set_service(&mut self, id: ServiceId, service: &Service) -> Result<(), TableError> {
        self.array::<Service>("SERVICES")?.set(u32::from(id), service, 0).map_err(refused("SERVICES"))?;
        let known: Vec<_> = self.listeners.iter().filter(|(_, l)| l.service == id && !l.is_vip()).collect();
        for (endpoint, known) in known {
            self.publish(&endpoint, listener(id, service, known.backend))?;
        }
        self.publish(&service.vip, listener(id, service, NO_BACKEND))
    }

    /// Makes `backend` known as one of `service`, or changes it; steering decides what it gets.
    pub fn set_backend(
        &mut self,
        service: ServiceId,
        id: BackendId,
        backend: &Backend,
    ) -> Result<(), TableError> {
        let backend = backend.of(service);
        self.array::<Backend>("BACKENDS")?.set(u32::from(id), backend, 0).map_err(refused("BACKENDS"))?;
        if !matches!(backend.forwarding(), Forwarding::Nat) {
            // Its replies do not pass here.
            self.listeners.withdraw(service, id);
            return Ok(());
        }
        let of =
            self.array::<Service>("SERVICES")?.get(&u32::from(service), 0).map_err(refused("SERVICES"))?;
        self.publish(&backend.endpoint, listener(service, &of, id))
    }

    fn publish(&self, endpoint: &Endpoint, listener: Listener) -> Result<(), TableError> {
        if self.listeners.publish(endpoint, listener) {
            Ok(())
        } else {
            Err(TableError::NoRoom(endpoint.socket()))
        }
    }

    /// Lets a service get no new flows; those it has go on.
    pub fn close(&self, service: ServiceId) {
        let epoch = self.steering(service).epoch.wrapping_add(1);
        self.steer(service, Steer { active: NO_BACKEND, draining: NO_BACKEND, epoch });
    }

    /// Makes a service unknown: its packets are none of ours from now on.
    pub fn remove_service(&mut self, id: ServiceId) {
        self.listeners.withdraw(id, NO_BACKEND);
        self.steer(id, Steer::default());
    }

    /// Makes a backend unknown: packets that are pinned to it are treated as those of flows without an entry.
    pub fn remove_backend(&mut self, service: ServiceId, id: BackendId) -> Result<(), TableError> {
        self.listeners.withdraw(service, id);
        self.set_backend_state(id, BackendState::Absent)
    }

    /// Detaches what is attached by the link that is pinned under this name; no such link is no error.
    pub fn detach(&mut self, link: &str) -> io::Result<()> {
        match fs::remove_file(self.pins.join(link)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    /// The names under which links are pinned that begin with `prefix`.
    pub fn links(&self, prefix: &str) -> io::Result<Vec<String>> {
        let entries = fs::read_dir(&self.pins)?.collect::<io::Result<Vec<_>>>()?;
        let names = entries.into_iter().filter_map(|entry| entry.file_name().into_string().ok());
        Ok(names.filter(|name| name.starts_with(prefix)).collect())
    }

    /// Groups of ports that the tables have for services with `snat`.
    pub fn snat_groups(&self) -> u32 {
        self.table.settings().snat_groups
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

    /// Changes where packets to a backend go, and our own address on the way there.
    pub fn set_backend_way(&mut self, id: BackendId, hop: NextHop, local: Address) -> Result<(), TableError> {
        let mut backends = self.array::<Backend>("BACKENDS")?;
        let mut backend = backends.get(&u32::from(id), 0).map_err(refused("BACKENDS"))?;
        (backend.hop, backend.local) = (hop, local);
        backends.set(u32::from(id), backend, 0).map_err(refused("BACKENDS"))
    }

    /// Changes what becomes of the packets that are pinned to a backend.
    pub fn set_backend_state(&mut self, id: BackendId, state: BackendState) -> Result<(), TableError> {
        let mut backends = self.array::<Backend>("BACKENDS")?;
        let backend = backends.get(&u32::from(id), 0).map_err(refused("BACKENDS"))?;
        backends.set(u32::from(id), backend.with_state(state), 0).map_err(refused("BACKENDS"))
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
}

/// What the packet path is to know at once about an endpoint of a service.
fn listener(id: ServiceId, service: &Service, backend: BackendId) -> Listener {
    let mut flags = service.flags as u8;
    if service.vip.protocol() != UDP {
        flags &= !service_flags::MOVE_DATAGRAMS;
    }
    Listener { service: id, backend, flags }
}

fn map_words(ebpf: &Ebpf, name: &'static str, count: usize) -> Result<Words, OpenError> {
    let Some(Map::Array(array)) = ebpf.map(name) else {
        return Err(OpenError::Map { name, source: missing(name) });
    };
    Words::map(array.fd(), count).map_err(|source| OpenError::Mapping { name, source })
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
    move |source| TableError::Refused { name, source }
}

fn absent(name: &'static str) -> TableError {
    TableError::Refused { name, source: missing(name) }
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
