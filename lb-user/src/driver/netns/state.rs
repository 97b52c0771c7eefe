//! What the driver keeps in the run directory, and the lock under which the host's network is changed.
//!
//! Files are replaced whole, by rename, so that a crash leaves the old one or the new one.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};
use serde::Serialize;
use serde::de::DeserializeOwned;
use thiserror::Error;
use tokio::time::{sleep, timeout};

use super::topology::Topology;
use crate::atomic_file;
use crate::names::ServiceName;
use crate::paths::Roots;

/// Creating a network takes well below a second; whoever holds the lock for longer hangs.
const LOCK_DEADLINE: Duration = Duration::from_secs(30);

const LOCK_RETRY: Duration = Duration::from_millis(20);

/// Why the driver's own files could not be read or written.
#[derive(Debug, Error)]
pub enum StateError {
    /// The system refused.
    #[error("{action} {path}: {source}")]
    Io {
        /// What was tried.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The file is not what this version writes.
    #[error("{path} cannot be read ({source}); `baton down` with the service's name clears it away")]
    Format {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: serde_json::Error,
    },
    /// Another process changes the host's network and does not end.
    #[error("another baton has held {path} for {} s; find it with `fuser {path}`", LOCK_DEADLINE.as_secs())]
    Locked {
        /// The lock.
        path: PathBuf,
    },
}

/// The network of a service as its last controller left it.
pub fn load(roots: &Roots, name: &ServiceName) -> Result<Option<Topology>, StateError> {
    read_json(&topology_file(roots, name))
}

/// The networks of all services; a file that cannot be read counts as none.
pub(super) fn load_all(roots: &Roots) -> Result<Vec<Topology>, StateError> {
    let entries = match fs::read_dir(&roots.run) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        read => read.map_err(io_error("read", &roots.run))?,
    };
    let names = entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<ServiceName>().ok());
    let mut all: Vec<Topology> = names.filter_map(|name| load(roots, &name).ok().flatten()).collect();
    all.sort_by(|one, other| one.name.cmp(&other.name));
    Ok(all)
}

/// Records the network of a service.
pub(super) fn store(roots: &Roots, topology: &Topology) -> Result<(), StateError> {
    write_json(&topology_file(roots, &topology.name), topology)
}

/// Forgets the network of a service; true if it was recorded.
pub(super) fn forget(roots: &Roots, name: &ServiceName) -> Result<bool, StateError> {
    remove_file(&topology_file(roots, name))
}

fn topology_file(roots: &Roots, name: &ServiceName) -> PathBuf {
    roots.service(name).run_dir().join("topology.json")
}

/// Held while the host's network is changed: two services started at once must not take the same place.
#[derive(Debug)]
pub(super) struct HostLock(#[expect(dead_code, reason = "held for its destructor")] Flock<File>);

impl HostLock {
    /// Waits for the lock.
    pub(super) async fn take(roots: &Roots) -> Result<Self, StateError> {
        // The dot keeps it apart from the directory of any service.
        let path = roots.run.join("network.lock");
        fs::create_dir_all(&roots.run).map_err(io_error("create", &roots.run))?;
        let opened = OpenOptions::new().create(true).truncate(false).write(true).open(&path);
        let mut file = opened.map_err(io_error("open", &path))?;
        let locked = timeout(LOCK_DEADLINE, async {
            loop {
                file = match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
                    Ok(lock) => return Ok(Self(lock)),
                    Err((file, Errno::EWOULDBLOCK | Errno::EINTR)) => file,
                    Err((_, errno)) => return Err(io_error("lock", &path)(errno.into())),
                };
                sleep(LOCK_RETRY).await;
            }
        });
        locked.await.map_err(|_| StateError::Locked { path: path.clone() })?
    }
}

/// Reads a JSON document; `None` if there is no such file.
pub(super) fn read_json<T: DeserializeOwned>(path: &Path) -> Result<Option<T>, StateError> {
    let bytes = match fs::read(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        read => read.map_err(io_error("read", path))?,
    };
    let parsed = serde_json::from_slice(&bytes);
    parsed.map(Some).map_err(|source| StateError::Format { path: path.to_owned(), source })
}

/// Replaces a JSON document whole.
pub(super) fn write_json<T: Serialize>(path: &Path, value: &T) -> Result<(), StateError> {
    let bytes = serde_json::to_vec_pretty(value)
        .map_err(|source| StateError::Format { path: path.to_owned(), source })?;
    write_whole(path, &bytes)
}

/// Replaces a file whole, making its directory if it is missing.
pub(super) fn write_whole(path: &Path, bytes: &[u8]) -> Result<(), StateError> {
    if let Some(dir) = path.parent() {
        fs::create_dir_all(dir).map_err(io_error("create", dir))?;
    }
    atomic_file::replace(path, bytes, 0o666).map(drop).map_err(io_error("replace", path))
}

/// Removes a file; true if there was one.
pub(super) fn remove_file(path: &Path) -> Result<bool, StateError> {
    match fs::remove_file(path) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(io_error("remove", path)(error)),
    }
}

pub(super) fn io_error(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> StateError {
    let path = path.to_owned();
    move |source| StateError::Io { action, path, source }
}
