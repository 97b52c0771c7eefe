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

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use thiserror::Error;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::Command;
use tokio::time::{Instant, sleep, timeout};

pub use cgroup::{Cgroup, CgroupError};
pub use record::{Ended, Launch, Running};
pub use tail::Tail;

use super::lives;
use crate::documents;
use crate::recovery::Instance;

/// A shim says within this whether the command runs.
const START_DEADLINE: Duration = Duration::from_secs(10);
/// Killed processes are gone within this, unless the kernel itself is stuck.
const KILL_DEADLINE: Duration = Duration::from_secs(5);
/// A shim without descendants ends within this; one that does not is stuck and of no use any more.
const SHIM_DEADLINE: Duration = Duration::from_secs(2);
/// A shim records the end of its command within this.
const RECORD_DEADLINE: Duration = Duration::from_secs(5);
/// How often the end of a process is looked for while it is being stopped.
const POLL: Duration = Duration::from_millis(10);

/// Why a command could not be started.
#[derive(Debug, Error)]
pub enum StartError {
    /// The previous life still runs.
    #[error("backend {0} is still running as process {1}: stop it first")]
    StillRunning(String, u32),
    /// What an earlier life left does not go away.
    #[error(transparent)]
    Left(#[from] StopError),
    /// Its memory cannot be bounded.
    #[error(transparent)]
    Cgroup(#[from] CgroupError),
    /// Its files cannot be written, or the shim's program cannot be run.
    #[error("cannot use {path}: {source}")]
    Files {
        /// What could not be used.
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
pub enum StopError {
    /// The kernel does not let them go.
    #[error("processes {0:?} do not end even when killed: they hang in the kernel, see /proc/PID/stack")]
    Hangs(Vec<u32>),
    /// It was asked politely.
    #[error("process {_0} did not end within {} of SIGTERM", humantime::format_duration(*_1))]
    Stays(u32, Duration),
}

/// One backend's processes.
#[derive(Clone, Debug)]
pub struct ProcessDriver {
    dir: PathBuf,
    launch: Launch,
    cgroup: Option<Cgroup>,
    shim: PathBuf,
}

impl ProcessDriver {
    /// The backend whose files are in `dir` and whose command `launch` describes.
    pub fn new(dir: PathBuf, launch: Launch, cgroup: Option<Cgroup>) -> Self {
        Self { dir, launch, cgroup, shim: "/proc/self/exe".into() }
    }

    /// Runs shims by another program than this one; its subcommand `shim DIR` must call [`shim::main`].
    #[must_use]
    pub fn with_shim(self, shim: PathBuf) -> Self {
        Self { shim, ..self }
    }

    /// Starts a new life of the command, once nothing is left of the one before.
    pub async fn start(&self) -> Result<Instance, StartError> {
        if let Some(instance) = self.alive() {
            return Err(StartError::StillRunning(self.launch.backend.to_string(), instance.pid));
        }
        let failed = |path: &Path| {
            let path = path.to_owned();
            move |source| StartError::Files { path, source }
        };
        self.kill_all().await?;
        if let Some(cgroup) = &self.cgroup {
            cgroup.prepare()?;
        }
        fs::create_dir_all(&self.dir).map_err(failed(&self.dir))?;
        documents::write(&self.dir.join(record::LAUNCH), &self.launch).map_err(failed(&self.dir))?;
        timeout(START_DEADLINE, self.run_shim()).await.unwrap_or(Err(StartError::TimedOut))
    }

    /// Runs the shim and waits for its first line, which says how the start went.
    async fn run_shim(&self) -> Result<Instance, StartError> {
        // It begins a session of its own, which it could not do as the leader of a process group.
        let mut shim = Command::new(&self.shim)
            .arg0("baton")
            .arg("shim")
            .arg(&self.dir)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .kill_on_drop(false)
            .spawn()
            .map_err(|source| StartError::Files { path: self.shim.clone(), source })?;
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
        lives::is_alive(running.instance).then_some(running.instance)
    }

    /// What is recorded of the life that runs.
    pub fn running(&self) -> Option<Running> {
        record::running(&self.dir).filter(|running| lives::is_alive(running.instance))
    }

    /// Every process of the life that runs, and what it has left behind; the shim is not among them.
    pub fn processes(&self) -> Vec<u32> {
        self.lives().into_iter().map(|life| life.pid).collect()
    }

    fn lives(&self) -> Vec<Instance> {
        let running = record::running(&self.dir);
        let shim = running.as_ref().map(|running| running.shim);
        let mut lives: Vec<Instance> = self
            .cgroup
            .iter()
            .flat_map(Cgroup::processes)
            .filter_map(lives::find)
            .map(|member| member.life)
            .filter(|life| Some(*life) != shim)
            .collect();
        for root in running.iter().flat_map(|running| [running.shim, running.instance]) {
            if lives::is_alive(root) {
                lives.extend(lives::descendants(root.pid).into_iter().map(|member| member.life));
                lives.extend(Some(root).filter(|root| Some(*root) != shim));
            }
        }
        lives.sort_unstable_by_key(|life| life.pid);
        lives.dedup();
        lives
    }

    /// The shim, if it lives.
    fn shim(&self) -> Option<Instance> {
        record::running(&self.dir).map(|running| running.shim).filter(|shim| lives::is_alive(*shim))
    }

    /// Waits until `instance` has ended and tells how.
    pub async fn ended(&self, instance: Instance) -> String {
        lives::wait_for_end(instance).await;
        let recorded = || record::ended(&self.dir).filter(|ended| ended.instance == instance);
        let deadline = Instant::now() + RECORD_DEADLINE;
        loop {
            // In this order: a shim that is gone by now has recorded all that it ever will.
            let shim_lives = self.shim().is_some();
            if let Some(ended) = recorded() {
                return ended.status;
            }
            if !shim_lives || Instant::now() > deadline {
                return "ended, and its shim did not say how".to_owned();
            }
            sleep(POLL).await;
        }
    }

    /// Ends every process of the backend: politely, and after `grace` by force. When it returns `Ok` nothing is
    /// left, the shim included. Nothing running is no error.
    pub async fn stop(&self, grace: Duration) -> Result<(), StopError> {
        if let Some(instance) = self.alive() {
            // It may end at this very moment; what is left is looked at below.
            let _ = killpg(Pid::from_raw(instance.pid.cast_signed()), Signal::SIGTERM);
            let deadline = Instant::now() + grace;
            while !self.is_gone() && Instant::now() < deadline {
                sleep(POLL).await;
            }
        }
        self.kill_all().await
    }

    /// Ends the backend politely, and what its command leaves behind by force; a command that lives on after
    /// `grace` is left alone.
    pub async fn stop_politely(&self, grace: Duration) -> Result<(), StopError> {
        if let Some(instance) = self.alive() {
            // It may end at this very moment; what is left is looked at below.
            let _ = killpg(Pid::from_raw(instance.pid.cast_signed()), Signal::SIGTERM);
            let deadline = Instant::now() + grace;
            while !self.is_gone() && Instant::now() < deadline {
                sleep(POLL).await;
            }
            if lives::is_alive(instance) {
                return Err(StopError::Stays(instance.pid, grace));
            }
        }
        self.kill_all().await
    }

    fn is_gone(&self) -> bool {
        self.shim().is_none() && self.lives().is_empty()
    }

    async fn kill_all(&self) -> Result<(), StopError> {
        let begun = Instant::now();
        // Without its shim a life has lost its orphans; its namespace still knows them.
        let running = record::running(&self.dir);
        let orphaned = running.is_some_and(|running| !lives::is_alive(running.shim))
            && record::ended(&self.dir).is_none();
        loop {
            let mut left = self.lives();
            if orphaned {
                left.extend(lives::inhabitants(&self.launch.netns).into_iter().map(|member| member.life));
            }
            let shim = self.shim();
            if left.is_empty() && shim.is_none() {
                return Ok(());
            }
            if begun.elapsed() > KILL_DEADLINE {
                return Err(StopError::Hangs(left.into_iter().chain(shim).map(|life| life.pid).collect()));
            }
            if let Some(cgroup) = self.cgroup.as_ref().filter(|_| !left.is_empty()) {
                cgroup.kill_all();
            }
            if left.is_empty() && begun.elapsed() > SHIM_DEADLINE {
                left.extend(shim);
            }
            for life in left {
                lives::signal(life, rustix::process::Signal::KILL);
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
