//! A cgroup for each backend: it bounds its memory and knows every process of it.
//!
//! The unified hierarchy is used if it controls memory; on hosts that still keep the memory controller in
//! version 1, that hierarchy is.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use procfs::process::Process;
use thiserror::Error;

use crate::names::{BackendName, ServiceName};

/// The group above those of all services.
const PARENT: &str = "baton";
/// The kernel needs a moment to let go of a group whose processes have just ended.
const REMOVE_DEADLINE: Duration = Duration::from_secs(2);

/// Why a cgroup could not be made.
#[derive(Debug, Error)]
pub enum CgroupError {
    /// No hierarchy controls memory.
    #[error(
        "no cgroup hierarchy with the memory controller is mounted, so --memory-max cannot be enforced: \
         boot with `systemd.unified_cgroup_hierarchy=1` or mount one, or leave --memory-max out"
    )]
    NoController,
    /// A file of the hierarchy refused.
    #[error("cannot write {path}: {source}")]
    Refused {
        /// The file.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
}

/// The version of a hierarchy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Version {
    V1,
    V2,
}

/// A backend's group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cgroup {
    root: PathBuf,
    path: PathBuf,
    version: Version,
    memory_max: u64,
}

impl Cgroup {
    /// The backend's group, whose memory is to be bounded to `memory_max` bytes. It is neither made nor touched: a
    /// life that runs in it keeps the bound that it was started with. An error if no hierarchy could enforce one.
    pub fn of(service: &ServiceName, backend: &BackendName, memory_max: u64) -> Result<Self, CgroupError> {
        let (root, version) = hierarchy().ok_or(CgroupError::NoController)?;
        let path = root.join(PARENT).join(format!("{service}-{backend}"));
        Ok(Self { root, path, version, memory_max })
    }

    /// Makes the group, or finds it, and bounds its memory: for a life that is about to begin.
    pub fn prepare(&self) -> Result<(), CgroupError> {
        let parent = self.root.join(PARENT);
        if self.version == Version::V2 {
            write(&self.root.join("cgroup.subtree_control"), "+memory")?;
        }
        make(&parent)?;
        if self.version == Version::V2 {
            write(&parent.join("cgroup.subtree_control"), "+memory")?;
        }
        make(&self.path)?;
        self.bound()
    }

    fn bound(&self) -> Result<(), CgroupError> {
        let bytes = self.memory_max.to_string();
        let (memory, swap, limit_of_swap) = match self.version {
            Version::V1 => ("memory.limit_in_bytes", "memory.memsw.limit_in_bytes", bytes.as_str()),
            Version::V2 => ("memory.max", "memory.swap.max", "0"),
        };
        // Kernels without swap accounting have no such file.
        let swap = Some(self.path.join(swap)).filter(|file| file.exists());
        if let Some(file) = swap.as_ref().filter(|_| self.version == Version::V1) {
            // It bounds the sum of both, so a group that is found must not be raised against its old bound.
            write(file, "-1")?;
        }
        write(&self.path.join(memory), &bytes)?;
        swap.map_or(Ok(()), |file| write(&file, limit_of_swap))
    }

    /// The file that a process joins the group by.
    pub fn procs(&self) -> PathBuf {
        self.path.join("cgroup.procs")
    }

    /// Every process of the group.
    pub fn processes(&self) -> Vec<u32> {
        let text = fs::read_to_string(self.procs()).unwrap_or_default();
        text.lines().filter_map(|line| line.parse().ok()).collect()
    }

    /// Kills every process of the group at once, where the kernel can (version 2, since 5.14).
    pub fn kill_all(&self) {
        let file = self.path.join("cgroup.kill");
        if file.exists() {
            // Who asks looks whether any is left.
            let _ = fs::write(file, "1");
        }
    }

    /// How often the kernel has killed a process of the group for want of memory.
    pub fn oom_kills(&self) -> u64 {
        oom_kills_beside(&self.procs())
    }

    /// Removes the groups of a service, whose processes must have ended; none is no error.
    pub fn remove_all(service: &ServiceName, backends: &[BackendName]) -> io::Result<()> {
        let Some((root, _)) = hierarchy() else { return Ok(()) };
        for backend in backends {
            remove(&root.join(PARENT).join(format!("{service}-{backend}")))?;
        }
        // The last service takes the common group away; while others use it, it stays.
        let _ = fs::remove_dir(root.join(PARENT));
        Ok(())
    }
}

/// Takes the calling process into the group whose `cgroup.procs` this is.
pub(super) fn join(procs: &Path) -> io::Result<()> {
    fs::write(procs, "0")
}

/// Takes the calling process out of the group whose `cgroup.procs` this is, to the root of the hierarchy.
pub(super) fn leave(procs: &Path) -> io::Result<()> {
    // `ROOT/baton/NAME-a/cgroup.procs`
    let root = procs.ancestors().nth(3).ok_or(io::ErrorKind::NotFound)?;
    fs::write(root.join("cgroup.procs"), "0")
}

/// [`Cgroup::oom_kills`] of the group whose `cgroup.procs` this is.
pub(super) fn oom_kills_beside(procs: &Path) -> u64 {
    // Version 2 and version 1, in this order; each has one of the files only.
    let text = ["memory.events", "memory.oom_control"]
        .into_iter()
        .find_map(|name| fs::read_to_string(procs.with_file_name(name)).ok())
        .unwrap_or_default();
    text.lines()
        .filter_map(|line| line.strip_prefix("oom_kill "))
        .find_map(|count| count.trim().parse().ok())
        .unwrap_or(0)
}

fn remove(path: &Path) -> io::Result<()> {
    let deadline = Instant::now() + REMOVE_DEADLINE;
    loop {
        match fs::remove_dir(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) if Instant::now() > deadline => return Err(error),
            Err(_) => thread::sleep(Duration::from_millis(20)),
            Ok(()) => return Ok(()),
        }
    }
}

fn make(path: &Path) -> Result<(), CgroupError> {
    match fs::create_dir(path) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
            Err(CgroupError::Refused { path: path.to_owned(), source: error })
        }
        _ => Ok(()),
    }
}

fn write(path: &Path, text: &str) -> Result<(), CgroupError> {
    fs::write(path, text).map_err(|source| CgroupError::Refused { path: path.to_owned(), source })
}

/// Where the hierarchy that controls memory is mounted.
fn hierarchy() -> Option<(PathBuf, Version)> {
    let mounts = Process::myself().ok()?.mountinfo().ok()?.0;
    let unified = mounts.iter().find(|mount| {
        mount.fs_type == "cgroup2"
            && fs::read_to_string(mount.mount_point.join("cgroup.controllers"))
                .is_ok_and(|controllers| controllers.split_whitespace().any(|name| name == "memory"))
    });
    let first = || {
        mounts.iter().find(|mount| mount.fs_type == "cgroup" && mount.super_options.contains_key("memory"))
    };
    unified
        .map(|mount| (mount.mount_point.clone(), Version::V2))
        .or_else(|| first().map(|mount| (mount.mount_point.clone(), Version::V1)))
}
