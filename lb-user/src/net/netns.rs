//! Named network namespaces, as iproute2 keeps them, and code that runs inside one.
//!
//! A namespace is a property of a thread. What always holds: no thread of the caller changes its namespace;
//! whatever has to happen elsewhere happens on a thread that is made for it and ends with it.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::thread;

use nix::errno::Errno;
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, setns, unshare};
use nix::sys::statfs::{NSFS_MAGIC, statfs};
use thiserror::Error;

/// The namespace of the thread that reads it; `/proc/self` would be that of the process's first thread.
const OWN: &str = "/proc/thread-self/ns/net";

/// Why an operation on a namespace failed.
#[derive(Debug, Error)]
pub enum NetnsError {
    /// The name is taken.
    #[error("network namespace {0} already exists; remove it with `ip netns delete` if nothing needs it")]
    Exists(PathBuf),
    /// There is no namespace of this name.
    #[error("network namespace {0} does not exist")]
    Missing(PathBuf),
    /// A file of this name exists, but it names no namespace, as after a crash half-way.
    #[error("{0} is not a network namespace; remove the file if nothing needs it")]
    NotANamespace(PathBuf),
    /// A step failed.
    #[error("{step} {path}: {source}")]
    Step {
        /// What was tried.
        step: &'static str,
        /// On what.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The code that ran inside the namespace panicked.
    #[error("a thread inside network namespace {0} panicked")]
    Panicked(PathBuf),
}

/// An open network namespace: stays usable even after its name is gone.
#[derive(Debug)]
pub struct NetnsHandle {
    file: File,
    path: PathBuf,
}

/// Which namespace it is, whatever it is called: equal for handles of the same namespace.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NetnsId {
    device: u64,
    inode: u64,
}

impl NetnsHandle {
    /// Opens the namespace that a file under `/run/netns` names.
    pub fn open(path: &Path) -> Result<Self, NetnsError> {
        let file = match File::open(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(NetnsError::Missing(path.to_owned()));
            }
            opened => opened.map_err(failed("open", path))?,
        };
        if is_namespace(path)? {
            Ok(Self { file, path: path.to_owned() })
        } else {
            Err(NetnsError::NotANamespace(path.to_owned()))
        }
    }

    /// The namespace of the calling thread.
    pub fn own() -> Result<Self, NetnsError> {
        let path = Path::new(OWN);
        let file = File::open(path).map_err(failed("open", path))?;
        Ok(Self { file, path: path.to_owned() })
    }

    /// A fresh namespace without a name; it ends when the handle and the last thread inside are gone.
    pub fn anonymous() -> Result<Self, NetnsError> {
        on_fresh_thread(Path::new(OWN), || {
            unshare(CloneFlags::CLONE_NEWNET).map_err(failed_with("unshare", Path::new(OWN)))?;
            Self::own()
        })?
    }

    /// Another handle on the same namespace.
    pub fn try_clone(&self) -> Result<Self, NetnsError> {
        let file = self.file.try_clone().map_err(failed("duplicate", &self.path))?;
        Ok(Self { file, path: self.path.clone() })
    }

    /// The file that the namespace was opened by.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The open namespace.
    pub fn file(&self) -> &File {
        &self.file
    }

    /// Which namespace this is.
    pub fn id(&self) -> Result<NetnsId, NetnsError> {
        let meta = self.file.metadata().map_err(failed("stat", &self.path))?;
        Ok(NetnsId { device: meta.dev(), inode: meta.ino() })
    }
}

/// Does `work` inside a namespace. Who is there already needs no right to enter, and no thread.
pub(crate) fn inside<T: Send>(netns: &NetnsHandle, work: impl FnOnce() -> T + Send) -> Result<T, NetnsError> {
    let is_here = NetnsHandle::own().and_then(|own| Ok(own.id()? == netns.id()?)).unwrap_or(false);
    if is_here { Ok(work()) } else { run_in(netns, work) }
}

/// Creates a named namespace as `ip netns add` does: a file bound to a namespace that a short-lived thread made.
pub fn create(path: &Path) -> Result<NetnsHandle, NetnsError> {
    if let Some(dir) = path.parent() {
        share_mounts_of(dir)?;
    }
    match OpenOptions::new().write(true).create_new(true).mode(0o444).open(path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            return Err(NetnsError::Exists(path.to_owned()));
        }
        opened => opened.map_err(failed("create", path))?,
    };
    let bound = on_fresh_thread(path, || {
        unshare(CloneFlags::CLONE_NEWNET).map_err(failed_with("unshare for", path))?;
        mount(Some(OWN), path, None::<&str>, MsFlags::MS_BIND, None::<&str>)
            .map_err(failed_with("bind a namespace to", path))
    });
    match bound.flatten() {
        Ok(()) => NetnsHandle::open(path),
        Err(error) => {
            // The file alone names nothing; what failed first is what the caller has to hear.
            let _ = fs::remove_file(path);
            Err(error)
        }
    }
}

/// Removes the name of a namespace; true if there was one. The namespace itself goes with its last user.
pub fn delete(path: &Path) -> Result<bool, NetnsError> {
    // More than one mount can lie on the file when a creation was repeated by hand.
    while path.exists() && is_namespace(path)? {
        umount2(path, MntFlags::MNT_DETACH).map_err(failed_with("unmount", path))?;
    }
    match fs::remove_file(path) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(failed("remove", path)(error)),
    }
}

/// The files in `dir` that name namespaces, in order.
pub fn list(dir: &Path) -> Result<Vec<PathBuf>, NetnsError> {
    let entries = match fs::read_dir(dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        read => read.map_err(failed("read", dir))?,
    };
    let mut paths = Vec::new();
    for entry in entries {
        let path = entry.map_err(failed("read", dir))?.path();
        if is_namespace(&path).unwrap_or(false) {
            paths.push(path);
        }
    }
    paths.sort();
    Ok(paths)
}

/// Runs `work` on a fresh thread inside the namespace and waits for it; deadlines are the work's own affair.
///
/// The outer error says that the namespace could not be entered.
pub fn run_in<T: Send>(netns: &NetnsHandle, work: impl FnOnce() -> T + Send) -> Result<T, NetnsError> {
    on_fresh_thread(&netns.path, || {
        setns(&netns.file, CloneFlags::CLONE_NEWNET).map_err(failed_with("enter", &netns.path))?;
        Ok(work())
    })?
}

fn on_fresh_thread<T: Send>(path: &Path, work: impl FnOnce() -> T + Send) -> Result<T, NetnsError> {
    thread::scope(|scope| {
        let spawned = thread::Builder::new().name("netns".to_owned()).spawn_scoped(scope, work);
        let worker = spawned.map_err(failed("start a thread for", path))?;
        worker.join().map_err(|_| NetnsError::Panicked(path.to_owned()))
    })
}

/// Makes `dir` a shared mount, so that names made later are seen in other mount namespaces too.
fn share_mounts_of(dir: &Path) -> Result<(), NetnsError> {
    DirBuilder::new().recursive(true).mode(0o755).create(dir).map_err(failed("create", dir))?;
    let share = || mount(None::<&str>, dir, None::<&str>, MsFlags::MS_SHARED | MsFlags::MS_REC, None::<&str>);
    match share() {
        // Not a mount point yet.
        Err(Errno::EINVAL) => {
            mount(Some(dir), dir, None::<&str>, MsFlags::MS_BIND | MsFlags::MS_REC, None::<&str>)
                .map_err(failed_with("bind to itself", dir))?;
            share().map_err(failed_with("share", dir))
        }
        shared => shared.map_err(failed_with("share", dir)),
    }
}

fn is_namespace(path: &Path) -> Result<bool, NetnsError> {
    Ok(statfs(path).map_err(failed_with("statfs", path))?.filesystem_type() == NSFS_MAGIC)
}

fn failed(step: &'static str, path: &Path) -> impl FnOnce(io::Error) -> NetnsError {
    let path = path.to_owned();
    move |source| NetnsError::Step { step, path, source }
}

fn failed_with(step: &'static str, path: &Path) -> impl FnOnce(Errno) -> NetnsError {
    let failed = failed(step, path);
    move |errno| failed(errno.into())
}
