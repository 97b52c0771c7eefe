//! A service from start to end: the shell round the [coordinator](crate::recovery).
//!
//! What always holds: nothing that keeps the service serving belongs to this process. It may be killed at
//! any moment; the next one opens the same directories and takes everything up.

mod budget;
mod change;
mod definition;
mod error;
mod first_start;
mod fleet;
mod flows;
mod history;
mod hooks;
mod ids;
mod journaling;
mod layout;
mod lives;
mod operate;
mod parts;
mod plane;
mod registration;
mod runtime;
mod status;
mod tasks;
mod warm_up;
mod watch;

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::Path;

use lb_common::LAYOUT_VERSION;
use nix::fcntl::{Flock, FlockArg};
use tokio::sync::mpsc;

use crate::api::server;
use crate::config;
use crate::dataplane;
use crate::driver::netns;
use crate::driver::process::Cgroup;
use crate::names::{PlaneName, ServiceName};
use crate::paths::{Roots, ServicePaths};

pub use definition::{OwnNetwork, is_embedded};
pub use error::UpError;
pub use fleet::{Fleet, FleetEnd, FleetError, FleetOptions, unload};
pub use layout::ensure_layout;
pub use registration::{BackendNames, RegisteredBackend, Registration, load as load_registration};

use change::{Change, Settings};
use definition::STOP_GRACE;
use parts::{Owned, open_own};
use runtime::{Heard, Runtime, Start};

/// Runs a service in a network of its own until it is told to end, and then takes it down; adopts what an
/// earlier controller left.
pub async fn up(
    roots: &Roots,
    service: config::Service,
    network: OwnNetwork,
    end: impl Future<Output = ()>,
) -> Result<(), UpError> {
    let paths = roots.service(&service.name);
    let _lock = lock(&paths, &service.name)?;
    let name = service.name.clone();
    let adopting = registration::load(&paths)?.is_some();
    let result = async {
        let mut runtime = open_embedded(roots, service, &network, Start::MustComeUp).await?;
        let result = runtime.run(end).await;
        // A start that is under way must not outrun the removal that may follow.
        runtime.settle().await;
        result
    };
    match result.await {
        // A fresh start that failed leaves nothing behind; what was adopted goes on serving.
        Err(error) if adopting => Err(error),
        result => {
            let removed = remove(roots, &name).await;
            result.and(removed.map(|_| ()))
        }
    }
}

/// Makes or adopts a service with a network of its own, and begins to listen for commands.
async fn open_embedded(
    roots: &Roots,
    service: config::Service,
    network: &OwnNetwork,
    start: Start,
) -> Result<Runtime, UpError> {
    let (parts, start) = embedded_parts(roots, &service, network, None, start).await?;
    let (runtime, _) = begin(&roots.service(&service.name), Settings::of(service, None)?, parts, &start)?;
    Ok(runtime)
}

/// Makes or adopts the parts of a service with a network of its own, and says which of both it was.
async fn embedded_parts(
    roots: &Roots,
    service: &config::Service,
    network: &OwnNetwork,
    run_by: Option<PlaneName>,
    start: Start,
) -> Result<(parts::Parts, Start), UpError> {
    let paths = roots.service(&service.name);
    ensure_layout(&paths.pinned(), &service.name)?;
    let left = registration::load(&paths)?;
    let owned = Owned { service, network, left };
    let mut registration = Registration { run_by, ..owned.registration() };
    let mut start = start;
    if let Some(left) = &owned.left {
        left.ensure_same(&registration, start == Start::MustComeUp)?;
        start = Start::Adopted { known: left.backends.keys().cloned().collect() };
    }
    let parts = open_own(roots, &owned, &mut registration).await?;
    registration::store(&paths, &registration)?;
    Ok((parts, start))
}

/// Takes up a service whose parts are there, and begins to listen for commands, and for what it is to become.
fn begin(
    paths: &ServicePaths,
    settings: Settings,
    parts: parts::Parts,
    start: &Start,
) -> Result<(Runtime, mpsc::Sender<Box<Change>>), UpError> {
    let (asked, commands) = mpsc::channel(16);
    let (wanted, changes) = mpsc::channel(1);
    let mut runtime = Runtime::prepare(paths, settings, parts, start, Heard { commands, changes })?;
    let served = server::serve(&paths.socket(), asked).map_err(UpError::files(&paths.socket()))?;
    runtime.keep(served);
    Ok((runtime, wanted))
}

/// What [`remove`] found and took away, for people.
pub type Removed = Vec<String>;

/// Ends the processes of a service and removes all that it left; what is not there is no error.
pub async fn remove(roots: &Roots, name: &ServiceName) -> Result<Removed, UpError> {
    let paths = roots.service(name);
    let mut removed = Vec::new();
    let mut backends: BTreeSet<_> = netns::backend_names().into_iter().collect();
    // Of a service whose record is damaged the usual backends are known.
    if let Ok(Some(registration)) = registration::load(&paths) {
        backends.extend(registration.backends.into_keys());
    }
    let backends: Vec<_> = backends.into_iter().collect();
    for backend in &backends {
        let driver = parts::bare_driver(&paths, name, backend);
        if let Some(instance) = driver.alive() {
            removed.push(format!("process {} of {backend}", instance.pid));
        }
        driver.stop(STOP_GRACE).await?;
    }
    Cgroup::remove_all(name, &backends).map_err(UpError::files(&paths.run_dir()))?;
    for (_, pins) in paths.pinned() {
        dataplane::unload(&pins).map_err(UpError::files(&pins))?;
        removed.push(format!("pins {}", pins.display()));
    }
    // Of a start that did not get far there may be an empty directory.
    let pins = paths.pins(LAYOUT_VERSION);
    dataplane::unload(&pins).map_err(UpError::files(&pins))?;
    removed.extend(netns::remove(roots, name).await?.what);
    forget(&paths)?;
    Ok(removed)
}

/// Removes the files of a service, except its reports.
fn forget(paths: &ServicePaths) -> Result<(), UpError> {
    for path in [paths.journal(), paths.run_dir()] {
        let result = if path.is_dir() { fs::remove_dir_all(&path) } else { fs::remove_file(&path) };
        match result {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(UpError::files(&path)(error)),
        }
    }
    // Reports stay; an empty directory need not.
    let _ = fs::remove_dir(paths.state_dir());
    Ok(())
}

/// Whether a controller of the service runs.
pub fn is_running(paths: &ServicePaths) -> bool {
    is_locked(&paths.lock())
}

/// Whether a process holds a lock.
fn is_locked(path: &Path) -> bool {
    let file = fs::File::open(path);
    file.is_ok_and(|file| Flock::lock(file, FlockArg::LockSharedNonblock).is_err())
}

/// The services that have left something in the run directory, in order.
pub fn list(roots: &Roots) -> io::Result<Vec<ServiceName>> {
    let entries = match fs::read_dir(roots.services()) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries?,
    };
    let mut names: Vec<ServiceName> = entries
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .filter(|name| roots.service(name).registration().exists())
        .collect();
    names.sort();
    Ok(names)
}

/// Makes this process the one controller of a service, until the lock is dropped.
fn lock(paths: &ServicePaths, name: &ServiceName) -> Result<Flock<fs::File>, UpError> {
    try_lock(&paths.run_dir(), &paths.lock())?.ok_or_else(|| UpError::Running(name.clone()))
}

/// Locks a file, making its directory; `None` if another process holds the lock.
fn try_lock(directory: &Path, path: &Path) -> Result<Option<Flock<fs::File>>, UpError> {
    fs::create_dir_all(directory).map_err(UpError::files(directory))?;
    let file = fs::File::create(path).map_err(UpError::files(path))?;
    Ok(Flock::lock(file, FlockArg::LockExclusiveNonblock).ok())
}
