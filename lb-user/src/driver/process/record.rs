//! The files by which controller and shim know of each other, each written whole or not at all.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use crate::documents;
use crate::names::{BackendName, ServiceName};
use crate::recovery::Instance;

/// What to run; written by the controller.
pub(super) const LAUNCH: &str = "launch.json";
/// What runs; written by the shim.
const RUNNING: &str = "running.json";
/// How it ended; written by the shim.
const ENDED: &str = "ended.json";
/// Held by a shim for as long as it or any descendant of the command lives.
const LOCK: &str = "shim.lock";
/// How long a new shim waits for the one before it, which may be about to end.
const LOCK_DEADLINE: Duration = Duration::from_secs(2);

/// What to run, and where.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Launch {
    /// The service.
    pub service: ServiceName,
    /// The backend.
    pub backend: BackendName,
    /// The file that names its network namespace.
    pub netns: PathBuf,
    /// Program and arguments.
    pub command: Vec<String>,
    /// Working directory.
    pub directory: PathBuf,
    /// Environment; `BATON_SERVICE` and `BATON_BACKEND` are added.
    pub environment: Vec<(String, String)>,
    /// Stands over `/etc/resolv.conf` for the command, where the host's names a server that it cannot reach.
    pub resolv_conf: Option<PathBuf>,
    /// `cgroup.procs` of the cgroup to join.
    pub cgroup_procs: Option<PathBuf>,
}

/// A life of the command.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Running {
    /// The command's first process.
    pub instance: Instance,
    /// Its parent.
    pub shim: Instance,
    /// When it was started, in milliseconds since 1970.
    pub started_unix_ms: u64,
}

/// The end of a life.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ended {
    /// The life.
    pub instance: Instance,
    /// How it ended, for people.
    pub status: String,
    /// When, in milliseconds since 1970.
    pub ended_unix_ms: u64,
}

pub(super) fn launch(dir: &Path) -> io::Result<Launch> {
    documents::read(&dir.join(LAUNCH))
}

pub(super) fn running(dir: &Path) -> Option<Running> {
    documents::read(&dir.join(RUNNING)).ok()
}

pub(super) fn ended(dir: &Path) -> Option<Ended> {
    documents::read(&dir.join(ENDED)).ok()
}

pub(super) fn note_running(dir: &Path, running: &Running) -> io::Result<()> {
    documents::write(&dir.join(RUNNING), running)
}

pub(super) fn note_ended(dir: &Path, ended: &Ended) -> io::Result<()> {
    documents::write(&dir.join(ENDED), ended)
}

/// Makes the caller the one shim of the backend, until the file is dropped: whatever controllers do or die
/// of, no backend has two lives at once.
pub(super) fn lock(dir: &Path) -> io::Result<fs::File> {
    let file = fs::File::create(dir.join(LOCK))?;
    let deadline = Instant::now() + LOCK_DEADLINE;
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(file),
            Err(fs::TryLockError::WouldBlock) if Instant::now() < deadline => {
                thread::sleep(Duration::from_millis(10));
            }
            Err(error) => return Err(error.into()),
        }
    }
}

/// Removes what an earlier life left, so that nothing old is taken for new.
pub(super) fn forget(dir: &Path) -> io::Result<()> {
    for name in [RUNNING, ENDED] {
        match fs::remove_file(dir.join(name)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    Ok(())
}
