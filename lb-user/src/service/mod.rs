//! A service from start to end: the shell round the [coordinator](crate::recovery).
//!
//! What always holds: nothing that keeps the service serving belongs to this process. It may be killed at
//! any moment; the next one opens the same directories and takes everything up.

mod error;
mod first_start;
mod history;
mod layout;
mod names;
mod operate;
mod parts;
mod runtime;
mod spec;
mod status;
mod steering;
mod tasks;

use std::fs;
use std::io;

use crate::api::server;
use crate::dataplane;
use crate::driver::netns;
use crate::driver::process::Cgroup;
use crate::names::ServiceName;
use crate::paths::{Roots, ServicePaths};
use lb_common::LAYOUT_VERSION;
use nix::fcntl::{Flock, FlockArg};

pub use error::UpError;
pub use layout::ensure_layout;
pub use names::{BackendNames, backend_names};
pub use spec::{ServiceSpec, load as load_spec};

use runtime::Runtime;

/// Runs a service until it is told to end, and then takes it down; adopts what an earlier controller left.
pub async fn up(roots: &Roots, mut spec: ServiceSpec) -> Result<(), UpError> {
    let paths = roots.service(&spec.name);
    let _lock = lock(&paths, &spec.name)?;
    ensure_layout(&paths, &spec.name)?;
    let left = spec::load(&paths)?;
    let adopting = left.is_some();
    if let Some(left) = left {
        left.ensure_same(&spec)?;
        spec.resolv_conf = left.resolv_conf;
    }
    let name = spec.name.clone();
    match run(roots, &paths, spec, adopting).await {
        // A fresh start that failed leaves nothing behind; what was adopted goes on serving.
        Err(error) if adopting && !matches!(error, UpError::Ended) => Err(error),
        result => {
            let removed = remove(roots, &name).await;
            match result {
                Ok(()) | Err(UpError::Ended) => removed.map(|_| ()),
                Err(error) => Err(error),
            }
        }
    }
}

async fn run(roots: &Roots, paths: &ServicePaths, spec: ServiceSpec, adopting: bool) -> Result<(), UpError> {
    let (commands, receiver) = tokio::sync::mpsc::channel(16);
    let mut runtime = Runtime::prepare(roots, paths, spec, adopting, receiver).await?;
    server::serve(&paths.socket(), commands).map_err(UpError::files(&paths.socket()))?;
    let result = runtime.run().await;
    // A start that is under way must not outrun the removal that may follow.
    runtime.settle().await;
    result
}

/// What [`remove`] found and took away, for people.
pub type Removed = Vec<String>;

/// Ends the processes of a service and removes all that it left; what is not there is no error.
pub async fn remove(roots: &Roots, name: &ServiceName) -> Result<Removed, UpError> {
    let paths = roots.service(name);
    let mut removed = Vec::new();
    for backend in netns::backend_names() {
        let driver = parts::bare_driver(&paths, name, &backend);
        if let Some(instance) = driver.alive() {
            removed.push(format!("process {} of {backend}", instance.pid));
        }
        driver.stop(spec::STOP_GRACE).await?;
    }
    Cgroup::remove_all(name, &netns::backend_names()).map_err(UpError::files(&paths.run_dir()))?;
    for (_, pins) in paths.pinned() {
        dataplane::unload(&pins).map_err(UpError::files(&pins))?;
        removed.push(format!("pins {}", pins.display()));
    }
    // Of a start that did not get far there may be an empty directory.
    let pins = paths.pins(LAYOUT_VERSION);
    dataplane::unload(&pins).map_err(UpError::files(&pins))?;
    removed.extend(netns::remove(roots, name).await?.what);
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
    Ok(removed)
}

/// Whether a controller of the service runs.
pub fn is_running(paths: &ServicePaths) -> bool {
    let file = fs::File::open(paths.lock());
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
        .filter(|name| roots.service(name).spec().exists())
        .collect();
    names.sort();
    Ok(names)
}

fn lock(paths: &ServicePaths, name: &ServiceName) -> Result<Flock<fs::File>, UpError> {
    fs::create_dir_all(paths.run_dir()).map_err(UpError::files(&paths.run_dir()))?;
    let file = fs::File::create(paths.lock()).map_err(UpError::files(&paths.lock()))?;
    Flock::lock(file, FlockArg::LockExclusiveNonblock).map_err(|_| UpError::Running(name.clone()))
}
