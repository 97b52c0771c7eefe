//! A service whose backends have addresses of their own, in a data plane that it shares with others.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use lb_common::{BackendId, ServiceId};

use super::super::UpError;
use super::super::definition::{number_of, spread_by};
use super::super::plane::Plane;
use super::{BackendParts, Parts};
use crate::config::{self, CommandDriver as Commands, Restart};
use crate::dataplane::Mode;
use crate::driver::Driver;
use crate::driver::command::{Actions, CommandDriver, Higher};
use crate::names::{BackendName, ServiceName};
use crate::net::hops::{self, Hops};
use crate::net::netns::NetnsHandle;
use crate::paths::ServicePaths;

/// What a service has of a data plane that it shares.
#[derive(Clone)]
pub(in crate::service) struct Place {
    /// The data plane.
    pub(in crate::service) plane: Plane,
    /// How its programs run.
    pub(in crate::service) mode: Mode,
    /// The service's id.
    pub(in crate::service) id: ServiceId,
    /// Its backends' ids.
    pub(in crate::service) backends: BTreeMap<BackendName, BackendId>,
    /// Its group of ports for `snat`.
    pub(in crate::service) snat_group: u32,
    /// An address that replies to clients are sent towards; `None` leaves each of them to the stack.
    pub(in crate::service) uplink: Option<IpAddr>,
    /// The namespace of the data plane's interfaces.
    pub(in crate::service) netns: Arc<NetnsHandle>,
}

/// Makes the service known to the data plane.
pub(in crate::service) async fn open(
    paths: &ServicePaths,
    service: &config::Service,
    place: Place,
) -> Result<Parts, UpError> {
    let backends: BTreeMap<_, _> = service
        .backends
        .iter()
        .map(|backend| (backend.name.clone(), parts_of(paths, &service.name, backend, &place)))
        .collect();
    let targets = backends.values().map(|parts| parts.address.ip()).chain(place.uplink).collect();
    let mut parts = Parts {
        plane: place.plane,
        id: place.id,
        hops: hops::watch(place.netns.path(), targets)?,
        client_way: None,
        origin: place.netns,
        backends,
        applied: Hops::default(),
        uplink: place.uplink,
        mode: place.mode,
        forwarding: service.forwarding,
        protocol: number_of(service.protocol),
        snat_group: place.snat_group,
        spread: spread_by(service),
    };
    parts.wait_for_hops().await;
    parts.fill_tables(service)?;
    Ok(parts)
}

fn parts_of(
    paths: &ServicePaths,
    service: &ServiceName,
    backend: &config::Backend,
    place: &Place,
) -> BackendParts {
    let (actions, pid_file, timeout) = match &backend.driver {
        config::Driver::Command(Commands { restart, pid_file, timeout, higher: _ }) => {
            let actions = match restart.clone() {
                Restart::StopStart { stop, start } => Actions::StopStart { stop, start },
                Restart::Once(command) => Actions::Restart(command),
            };
            (actions, pid_file.clone(), *timeout)
        }
        config::Driver::Systemd { unit, timeout } => {
            (Actions::Systemd { unit: unit.clone() }, None, *timeout)
        }
        // Nothing is run. A service of processes has a data plane of its own.
        config::Driver::Manual | config::Driver::Process(_) => (Actions::Manual, None, Duration::ZERO),
    };
    let driver = CommandDriver {
        dir: paths.backend_dir(&backend.name),
        service: service.clone(),
        backend: backend.name.clone(),
        address: backend.address,
        actions,
        higher: match &backend.driver {
            config::Driver::Command(commands) => commands.higher.clone(),
            _ => Higher::default(),
        },
        pid_file,
        timeout,
    };
    BackendParts {
        id: place.backends.get(&backend.name).copied().unwrap_or_default(),
        address: backend.address,
        weight: backend.weight,
        max_flows: backend.max_flows.unwrap_or(0),
        driver: Driver::Command(driver),
    }
}
