//! Backends that are processes of this host, each in a network namespace of its own.
//!
//! The controller may die at any time, so it owns nothing that a backend needs: each life of a command has a
//! small [`shim`] as its parent, which keeps its output, reaps it and records its end.

mod cgroup;
pub mod diagnosis;
mod log;
mod record;
pub mod shim;
mod tail;
mod tree;

use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use nix::sys::signal::{Signal, kill, killpg};
use nix::unistd::Pid;
use thiserror::Error;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::Command;
use tokio::time::{Instant, sleep, timeout};

pub use cgroup::{Cgroup, CgroupError};
pub(crate) use record::write as write_document;
pub use record::{Ended, Launch, Running};
pub use tail::Tail;

use crate::recovery::Instance;

/// A shim says within this whether the command runs.
const START_DEADLINE: Duration = Duration::from_secs(10);
/// Killed processes are gone within this, unless the kernel itself is stuck.
const KILL_DEADLINE: Duration = Duration::from_secs(5);
/// How often the end of a process is looked for while it is being stopped.
const POLL: Duration = Duration::from_millis(10);

/// Why a command could not be started.
#[derive(Debug, Error)]
pub enum StartError {
    /// The previous life still runs.
    #[error("{0} is still running as process {1}")]
    StillRunning(String, u32),
    /// Its files cannot be written.
    #[error("cannot write {path}: {source}")]
    Files {
        /// What could not be written.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The shim says why.
    #[error("{0}")]
    Refused(String),
    /// The shim said nothing in time.
    #[error("the command was not started within {} s", START_DEADLINE.as_secs())]
    TimedOut,
}

/// Why a backend could not be stopped.
#[derive(Debug, Error)]
#[error("processes {0:?} do not end even when killed: they hang in the kernel, see `cat /proc/PID/stack`")]
pub struct StopError(Vec<u32>);

/// One backend's processes.
#[derive(Clone, Debug)]
pub struct ProcessDriver {
    dir: PathBuf,
    launch: Launch,
    cgroup: Option<Cgroup>,
}

impl ProcessDriver {
    /// The backend whose files are in `dir` and whose command `launch` describes.
    pub fn new(dir: PathBuf, launch: Launch, cgroup: Option<Cgroup>) -> Self {
        Self { dir, launch, cgroup }
    }

    /// Starts a new life of the command.
    pub async fn start(&self) -> Result<Instance, StartError> {
        if let Some(instance) = self.alive() {
            return Err(StartError::StillRunning(self.launch.backend.to_string(), instance.pid));
        }
        let failed = |path: &Path| {
            let path = path.to_owned();
            move |source| StartError::Files { path, source }
        };
        fs::create_dir_all(&self.dir).map_err(failed(&self.dir))?;
        record::forget(&self.dir).map_err(failed(&self.dir))?;
        record::write(&self.dir.join(record::LAUNCH), &self.launch).map_err(failed(&self.dir))?;
        timeout(START_DEADLINE, self.run_shim()).await.unwrap_or(Err(StartError::TimedOut))
    }

    /// Runs the shim and waits for its first line, which says how the start went.
    async fn run_shim(&self) -> Result<Instance, StartError> {
        let executable = Path::new("/proc/self/exe");
        let mut shim = Command::new(executable)
            .arg("shim")
            .arg(&self.dir)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .kill_on_drop(false)
            .spawn()
            .map_err(|source| StartError::Files { path: executable.to_owned(), source })?;
        let refused = |why: &str| StartError::Refused(why.to_owned());
        let output = shim.stdout.take().ok_or_else(|| refused("the shim has no output"))?;
        // The runtime reaps the shim when it ends; until then it is on its own.
        tokio::spawn(async move { shim.wait().await });
        let mut line = String::new();
        let read = BufReader::new(output).read_line(&mut line).await;
        match (read, line.trim_end().split_once(' ')) {
            (Ok(_), Some(("error", why))) => Err(refused(why)),
            (Ok(_), Some(("started", _))) => self
                .alive()
                .or_else(|| record::running(&self.dir).map(|running| running.instance))
                .ok_or_else(|| refused("the command ended at once")),
            _ => Err(refused("the shim broke off before the command was started")),
        }
    }

    /// The life that runs at this moment.
    pub fn alive(&self) -> Option<Instance> {
        let running = record::running(&self.dir)?;
        tree::is_alive(running.instance).then_some(running.instance)
    }

    /// What is recorded of the life that runs.
    pub fn running(&self) -> Option<Running> {
        record::running(&self.dir).filter(|running| tree::is_alive(running.instance))
    }

    /// Every process of the life that runs.
    pub fn processes(&self) -> Vec<u32> {
        let shim = record::running(&self.dir).map(|running| running.shim);
        let mut pids = self.cgroup.as_ref().map(Cgroup::processes).unwrap_or_default();
        if let Some(shim) = shim.filter(|shim| tree::is_alive(*shim)) {
            pids.extend(tree::descendants(shim.pid));
        }
        pids.sort_unstable();
        pids.dedup();
        pids
    }

    /// Waits until `instance` has ended and tells how.
    pub async fn ended(&self, instance: Instance) -> String {
        wait_for_end(instance).await;
        // The shim records the end right after it has reaped the command.
        let deadline = Instant::now() + KILL_DEADLINE;
        loop {
            if let Some(ended) = record::ended(&self.dir).filter(|ended| ended.instance == instance) {
                return ended.status;
            }
            if Instant::now() > deadline {
                return "ended, and its shim did not say how".to_owned();
            }
            sleep(POLL).await;
        }
    }

    /// Ends every process of the backend: politely, and after `grace` by force. Nothing running is no error.
    pub async fn stop(&self, grace: Duration) -> Result<(), StopError> {
        if let Some(instance) = self.alive() {
            let group = Pid::from_raw(instance.pid.cast_signed());
            // It may end at this very moment; what is left is looked at below.
            let _ = killpg(group, Signal::SIGTERM);
            let deadline = Instant::now() + grace;
            while tree::is_alive(instance) && Instant::now() < deadline {
                sleep(POLL).await;
            }
        }
        let deadline = Instant::now() + KILL_DEADLINE;
        loop {
            let left = self.processes();
            let shim = record::running(&self.dir).map(|running| running.shim);
            let shim_lives = shim.is_some_and(tree::is_alive);
            if left.is_empty() && !shim_lives {
                return Ok(());
            }
            if Instant::now() > deadline {
                return Err(StopError(left));
            }
            for pid in &left {
                let _ = kill(Pid::from_raw(pid.cast_signed()), Signal::SIGKILL);
            }
            sleep(POLL).await;
        }
    }

    /// The backend's log, from its end on.
    pub fn tail(&self) -> Tail {
        Tail::from_end(self.dir.join(log::FILE))
    }

    /// The last lines of the backend's log, oldest first.
    pub fn last_lines(&self, count: usize) -> Vec<String> {
        tail::last_lines(&self.dir.join(log::FILE), count)
    }
}

/// Waits on a thread: `pidfd` readiness needs no polling, and no process is reaped by accident.
async fn wait_for_end(instance: Instance) {
    let Some(descriptor) = tree::open(instance) else { return };
    let waiter = tokio::task::spawn_blocking(move || block_until_end(&descriptor));
    // A panic of the waiter is the end of waiting, too.
    let _ = waiter.await;
}

fn block_until_end(descriptor: &OwnedFd) {
    use std::os::fd::AsFd;

    use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
    let mut descriptors = [PollFd::new(descriptor.as_fd(), PollFlags::POLLIN)];
    // Interrupted calls are repeated; any other error would not get better.
    while poll(&mut descriptors, PollTimeout::NONE) == Err(nix::errno::Errno::EINTR) {}
}
