//! Backends that run elsewhere or under somebody else: an operator's own commands restart them, or systemd, or
//! nobody does.
//!
//! What always holds:
//! - A backend that is found running is taken as it is. A command that starts it is run only after Baton has
//!   stopped it, or has seen it end.
//! - Commands are argument vectors, which no shell sees. One that takes too long is killed with its whole
//!   process group.
//! - Which life runs is on disk, so that the next controller does not take an old life for a new one.

use std::fs::{self, File};
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use serde::{Deserialize, Serialize};
use thiserror::Error;
use tokio::process::Command;
use tokio::time::{Instant as Deadline, sleep, timeout};

use super::lives;
use crate::clock::Now;
use crate::documents;
use crate::names::{BackendName, ServiceName};
use crate::recovery::Instance;

/// The life that runs or was the last one.
const LIFE: &str = "life.json";
/// What the last command printed.
const OUTPUT: &str = "command.log";
/// So much of the end of what a command printed is looked at.
const OUTPUT_BYTES: usize = 16 << 10;
/// Lines of a failed command's output that its error repeats.
const ERROR_LINES: usize = 3;
/// How often a process is looked for that a command has started or stopped.
const POLL: Duration = Duration::from_millis(20);
/// What asks systemd.
const SYSTEMCTL: &str = "systemctl";

/// Who restarts a backend, and how.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Actions {
    /// Somebody else, whenever they like.
    Manual,
    /// One command that ends the backend and starts it again.
    Restart(Vec<String>),
    /// Two commands.
    StopStart {
        /// Ends it, and returns when it has ended.
        stop: Vec<String>,
        /// Starts it, and returns when it runs.
        start: Vec<String>,
    },
    /// systemd, on this machine.
    Systemd {
        /// The unit's name.
        unit: String,
    },
}

/// Why a backend could not be started or stopped.
#[derive(Debug, Error)]
pub enum CommandError {
    /// The program cannot be run.
    #[error("cannot run `{program}`: {source}")]
    NotRun {
        /// The program.
        program: String,
        /// What the system said.
        source: io::Error,
    },
    /// It failed.
    #[error("`{command}` failed ({status}){output}")]
    Failed {
        /// Program and arguments.
        command: String,
        /// How it ended.
        status: ExitStatus,
        /// Its last lines, with what goes before them.
        output: String,
    },
    /// It did not end.
    #[error("`{command}` did not end within {} and was killed; `timeout` of the driver says how long it may take", humantime::format_duration(*.limit))]
    TimedOut {
        /// Program and arguments.
        command: String,
        /// How long it had.
        limit: Duration,
    },
    /// It ended, and no process runs.
    #[error("`{command}` succeeded, but {source_of_pid} names no process that runs")]
    NoProcess {
        /// Program and arguments.
        command: String,
        /// Where a process id was looked for.
        source_of_pid: String,
    },
    /// It ended, and the process still runs.
    #[error("`{command}` succeeded, but process {pid} still runs")]
    StillRunning {
        /// Program and arguments.
        command: String,
        /// The process.
        pid: u32,
    },
    /// Baton's own files.
    #[error("cannot use {path}: {source}")]
    Files {
        /// The file or directory.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

/// What is kept of a life.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
struct Life {
    instance: Instance,
    /// Baton has ended it, so the next start has to run a command.
    stopped: bool,
}

/// One backend that others start and stop.
#[derive(Clone, Debug)]
pub struct CommandDriver {
    /// Where its files are.
    pub dir: PathBuf,
    /// The service; commands find it in `BATON_SERVICE`.
    pub service: ServiceName,
    /// The backend; commands find it in `BATON_BACKEND`.
    pub backend: BackendName,
    /// Where it listens; commands find it in `BATON_ADDRESS` and `BATON_PORT`.
    pub address: SocketAddr,
    /// Who restarts it.
    pub actions: Actions,
    /// File that holds its process id.
    pub pid_file: Option<PathBuf>,
    /// How long a command may take.
    pub timeout: Duration,
}

impl CommandDriver {
    /// Begins a life: finds the one that runs, or has it started.
    pub async fn start(&self) -> Result<Instance, CommandError> {
        let last = self.life();
        if last.is_none_or(|life| !life.stopped)
            && let Some(instance) = self.find_running(last).await?
        {
            return self.begin(instance);
        }
        let command = match &self.actions {
            // Whether somebody has restarted it meanwhile, nobody knows.
            Actions::Manual => return self.begin(last.map_or_else(unknown_process, |life| life.instance)),
            Actions::Restart(command) | Actions::StopStart { start: command, .. } => command.clone(),
            Actions::Systemd { unit } => systemctl(&["start", unit]),
        };
        self.run(&command).await?;
        let old = last.map(|life| life.instance);
        let instance = self.await_process(&command, old).await?;
        self.begin(instance)
    }

    /// Ends the life that runs. Nothing is run for a backend whose one command restarts it: its start does.
    pub async fn stop(&self) -> Result<(), CommandError> {
        let life = self.life();
        let command = match &self.actions {
            Actions::Manual | Actions::Restart(_) => None,
            Actions::StopStart { stop, .. } => Some(stop.clone()),
            Actions::Systemd { unit } => Some(systemctl(&["stop", unit])),
        };
        if let Some(command) = command {
            let known = life.map(|life| life.instance).filter(|instance| instance.is_known());
            match self.run(&command).await {
                // Many commands fail if there is nothing to stop: what was wanted of them is so.
                Err(error @ CommandError::Failed { .. }) if known.is_some_and(|l| !lives::is_alive(l)) => {
                    tracing::debug!(backend = %self.backend, %error, "what was to be stopped has ended");
                }
                ended => ended?,
            }
            if let Some(instance) = known {
                self.await_end(&command, instance).await?;
            }
        }
        let instance = life.map_or_else(unknown_process, |life| life.instance);
        self.keep(Life { instance, stopped: true })
    }

    /// The life that runs; one without a known process runs until it is stopped.
    pub fn alive(&self) -> Option<Instance> {
        let life = self.life().filter(|life| !life.stopped)?;
        (!life.instance.is_known() || lives::is_alive(life.instance)).then_some(life.instance)
    }

    /// Waits for the end of a life; without a known process for ever.
    pub async fn ended(&self, instance: Instance) -> String {
        if !instance.is_known() {
            return std::future::pending().await;
        }
        lives::wait_for_end(instance).await;
        "ended; whoever started it knows how".to_owned()
    }

    /// The known process and everything below it.
    pub fn processes(&self) -> Vec<u32> {
        let root = self.alive().filter(|instance| instance.is_known());
        let below = |root: Instance| lives::descendants(root.pid).into_iter().map(|member| member.life.pid);
        root.into_iter().flat_map(|root| std::iter::once(root.pid).chain(below(root))).collect()
    }

    /// The last lines that a command printed.
    pub fn last_lines(&self, count: usize) -> Vec<String> {
        let bytes = fs::read(self.dir.join(OUTPUT)).unwrap_or_default();
        let text = String::from_utf8_lossy(&bytes[bytes.len().saturating_sub(OUTPUT_BYTES)..]).into_owned();
        let lines: Vec<_> = text.lines().map(str::to_owned).collect();
        lines[lines.len().saturating_sub(count)..].to_vec()
    }

    /// Whether Baton can have it restarted.
    pub fn restarts(&self) -> bool {
        self.actions != Actions::Manual
    }

    /// The life that runs without our doing; without any way to know, that of the last time, or a first one.
    async fn find_running(&self, last: Option<Life>) -> Result<Option<Instance>, CommandError> {
        if self.tells_process() {
            return self.process().await;
        }
        Ok(Some(last.map_or_else(unknown_process, |life| life.instance)))
    }

    fn tells_process(&self) -> bool {
        self.pid_file.is_some() || matches!(self.actions, Actions::Systemd { .. })
    }

    /// The process that runs, as the file or systemd tells it.
    async fn process(&self) -> Result<Option<Instance>, CommandError> {
        if let Some(path) = &self.pid_file {
            let pid = fs::read_to_string(path).ok().and_then(|text| text.trim().parse().ok());
            return Ok(pid.and_then(lives::find).map(|member| member.life));
        }
        let Actions::Systemd { unit } = &self.actions else { return Ok(None) };
        self.run(&systemctl(&["show", "--property=ActiveState", "--property=MainPID", unit])).await?;
        Ok(match unit_state(&self.last_lines(2)) {
            Unit::Process(pid) => lives::find(pid).map(|member| member.life),
            Unit::Active => Some(self.unit_life()),
            Unit::Inactive => None,
        })
    }

    /// The life of a unit that has no main process.
    fn unit_life(&self) -> Instance {
        let kept = self.life().filter(|life| !life.stopped && !life.instance.is_known());
        kept.map_or_else(unknown_process, |life| life.instance)
    }

    /// The process that `command` has started, another one than `old`.
    async fn await_process(
        &self,
        command: &[String],
        old: Option<Instance>,
    ) -> Result<Instance, CommandError> {
        if !self.tells_process() {
            return Ok(unknown_process());
        }
        let deadline = Deadline::now() + self.timeout;
        loop {
            if let Some(found) = self.process().await?.filter(|found| Some(*found) != old) {
                return Ok(found);
            }
            if Deadline::now() > deadline {
                let source_of_pid = match &self.pid_file {
                    Some(path) => path.display().to_string(),
                    None => "systemd".to_owned(),
                };
                return Err(CommandError::NoProcess { command: command.join(" "), source_of_pid });
            }
            sleep(POLL).await;
        }
    }

    async fn await_end(&self, command: &[String], life: Instance) -> Result<(), CommandError> {
        let deadline = Deadline::now() + self.timeout;
        while lives::is_alive(life) {
            if Deadline::now() > deadline {
                return Err(CommandError::StillRunning { command: command.join(" "), pid: life.pid });
            }
            sleep(POLL).await;
        }
        Ok(())
    }

    /// Runs a command to its end. Its output goes to a file, which a daemon that it leaves may keep open.
    async fn run(&self, command: &[String]) -> Result<(), CommandError> {
        let path = self.dir.join(OUTPUT);
        let output = fs::create_dir_all(&self.dir).and_then(|()| File::create(&path));
        let output = output.map_err(failed(&path))?;
        let errors = output.try_clone().map_err(failed(&path))?;
        let (program, arguments) =
            command.split_first().map_or(("", command), |(p, rest)| (p.as_str(), rest));
        let mut child = Command::new(program)
            .args(arguments)
            .env("BATON_SERVICE", self.service.as_str())
            .env("BATON_BACKEND", self.backend.as_str())
            .env("BATON_ADDRESS", self.address.ip().to_string())
            .env("BATON_PORT", self.address.port().to_string())
            .stdin(Stdio::null())
            .stdout(output)
            .stderr(errors)
            .process_group(0)
            .kill_on_drop(true)
            .spawn()
            .map_err(|source| CommandError::NotRun { program: program.to_owned(), source })?;
        let group = child.id().map(|pid| Pid::from_raw(pid.cast_signed()));
        let Ok(ended) = timeout(self.timeout, child.wait()).await else {
            // It has not been waited for yet, so the number is still its own.
            let _ = group.map(|group| killpg(group, Signal::SIGKILL));
            let _ = child.wait().await;
            return Err(CommandError::TimedOut { command: command.join(" "), limit: self.timeout });
        };
        let status = ended.map_err(|source| CommandError::NotRun { program: program.to_owned(), source })?;
        if status.success() {
            return Ok(());
        }
        let lines = self.last_lines(ERROR_LINES);
        let output = if lines.is_empty() { String::new() } else { format!(": {}", lines.join(" / ")) };
        Err(CommandError::Failed { command: command.join(" "), status, output })
    }

    fn life(&self) -> Option<Life> {
        documents::read(&self.dir.join(LIFE)).ok()
    }

    fn begin(&self, instance: Instance) -> Result<Instance, CommandError> {
        self.keep(Life { instance, stopped: false })?;
        Ok(instance)
    }

    fn keep(&self, life: Life) -> Result<(), CommandError> {
        let path = self.dir.join(LIFE);
        let written = fs::create_dir_all(&self.dir).and_then(|()| documents::write(&path, &life));
        written.map_err(failed(&path))
    }
}

/// What systemd says of a unit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Unit {
    /// Its main process runs.
    Process(u32),
    /// It is active without a main process.
    Active,
    /// It is not active.
    Inactive,
}

/// Reads the properties `ActiveState` and `MainPID`, as `systemctl show` prints them.
fn unit_state(lines: &[String]) -> Unit {
    let value = |key: &str| lines.iter().find_map(|line| line.strip_prefix(key)?.strip_prefix('='));
    let pid = value("MainPID").and_then(|pid| pid.parse().ok()).filter(|pid| *pid != 0);
    match (pid, value("ActiveState")) {
        (Some(pid), _) => Unit::Process(pid),
        (None, Some("active" | "reloading")) => Unit::Active,
        (None, _) => Unit::Inactive,
    }
}

/// A new life of which no process is known: it is told from others by when it began.
fn unknown_process() -> Instance {
    Instance { pid: 0, start_ticks: Now::read().boot_ms }
}

fn systemctl(arguments: &[&str]) -> Vec<String> {
    std::iter::once(SYSTEMCTL).chain(arguments.iter().copied()).map(str::to_owned).collect()
}

fn failed(path: &Path) -> impl FnOnce(io::Error) -> CommandError {
    let path = path.to_owned();
    move |source| CommandError::Files { path, source }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use tempfile::TempDir;

    use super::*;

    /// A daemon that a script starts and another one stops, with its pid in a file.
    struct Daemon {
        files: TempDir,
    }

    impl Daemon {
        fn new() -> Self {
            Self { files: tempfile::tempdir().unwrap() }
        }

        fn path(&self, name: &str) -> PathBuf {
            self.files.path().join(name)
        }

        fn script(&self, name: &str, text: &str) -> Vec<String> {
            let path = self.path(name);
            fs::write(&path, format!("#!/bin/sh\n{text}\n")).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
            vec![path.display().to_string()]
        }

        fn start_and_stop(&self) -> Actions {
            let pid = self.path("pid").display().to_string();
            Actions::StopStart {
                start: self.script("start", &format!("sleep 60 >/dev/null 2>&1 & echo $! > {pid}")),
                stop: self.script("stop", &format!("kill $(cat {pid})")),
            }
        }

        fn driver(&self, actions: Actions, pid_file: bool) -> CommandDriver {
            CommandDriver {
                dir: self.path("run"),
                service: "shop".parse().unwrap(),
                backend: "a".parse().unwrap(),
                address: "10.1.2.3:80".parse().unwrap(),
                actions,
                pid_file: pid_file.then(|| self.path("pid")),
                timeout: Duration::from_secs(5),
            }
        }
    }

    impl Drop for Daemon {
        fn drop(&mut self) {
            let pid = fs::read_to_string(self.path("pid")).ok().and_then(|text| text.trim().parse().ok());
            if let Some(life) = pid.and_then(lives::find) {
                lives::signal(life.life, rustix::process::Signal::KILL);
            }
        }
    }

    #[test]
    fn a_unit_is_known_by_its_main_process_or_by_its_state() {
        let state = |text: &str| unit_state(&text.lines().map(str::to_owned).collect::<Vec<_>>());
        assert_eq!(state("MainPID=812\nActiveState=active"), Unit::Process(812));
        assert_eq!(state("MainPID=0\nActiveState=active"), Unit::Active);
        for text in ["MainPID=0\nActiveState=failed", "MainPID=0\nActiveState=inactive", "", "MainPID=x"] {
            assert_eq!(state(text), Unit::Inactive, "{text}");
        }
    }

    #[tokio::test]
    async fn a_backend_is_started_stopped_and_started_again_each_time_as_another_life() {
        let daemon = Daemon::new();
        let driver = daemon.driver(daemon.start_and_stop(), true);
        let first = driver.start().await.unwrap();
        assert_eq!((driver.alive(), driver.processes()), (Some(first), vec![first.pid]));
        driver.stop().await.unwrap();
        assert_eq!((driver.alive(), driver.processes()), (None, vec![]));
        assert!(!lives::is_alive(first));
        let second = driver.start().await.unwrap();
        assert!(second != first && driver.alive() == Some(second));
    }

    #[tokio::test]
    async fn a_backend_that_runs_is_taken_as_it_is_by_every_controller() {
        let daemon = Daemon::new();
        let actions = daemon.start_and_stop();
        let first = daemon.driver(actions.clone(), true).start().await.unwrap();
        let next = daemon.driver(actions.clone(), true);
        assert_eq!((next.alive(), next.start().await.unwrap()), (Some(first), first));
        // Without a file that tells, what was seen once is taken to run until it is stopped.
        let blind = CommandDriver { dir: daemon.path("blind"), ..daemon.driver(actions, false) };
        let life = blind.start().await.unwrap();
        assert!(!life.is_known() && blind.start().await.unwrap() == life);
        assert_eq!(daemon.driver(Actions::Manual, false).alive(), Some(first), "the same files");
    }

    #[tokio::test]
    async fn one_command_that_restarts_is_run_at_the_start_after_a_stop_only() {
        let daemon = Daemon::new();
        let ran = daemon.path("ran").display().to_string();
        let command = daemon.script(
            "restart",
            &format!("echo $BATON_SERVICE/$BATON_BACKEND $BATON_ADDRESS:$BATON_PORT >> {ran}"),
        );
        let driver = daemon.driver(Actions::Restart(command), false);
        let first = driver.start().await.unwrap();
        driver.stop().await.unwrap();
        assert!(!daemon.path("ran").exists() && driver.alive().is_none());
        sleep(Duration::from_millis(2)).await;
        assert_ne!(driver.start().await.unwrap(), first);
        assert_eq!(fs::read_to_string(&ran).unwrap(), "shop/a 10.1.2.3:80\n");
    }

    #[tokio::test]
    async fn a_command_that_fails_hangs_or_is_not_there_is_told_with_what_it_said() {
        let daemon = Daemon::new();
        let stop = |text: &str| Actions::StopStart { stop: daemon.script("stop", text), start: vec![] };
        let fails =
            daemon.driver(stop("echo no such unit; exit 5"), false).stop().await.unwrap_err().to_string();
        assert!(fails.contains("exit status: 5") && fails.ends_with(": no such unit"), "{fails}");
        let hangs =
            CommandDriver { timeout: Duration::from_millis(100), ..daemon.driver(stop("sleep 60"), false) };
        let hangs = hangs.stop().await.unwrap_err().to_string();
        assert!(hangs.contains("did not end within 100ms and was killed"), "{hangs}");
        let missing = Actions::StopStart { stop: vec!["/no/such".to_owned()], start: vec![] };
        let missing = daemon.driver(missing, false).stop().await.unwrap_err().to_string();
        assert!(missing.starts_with("cannot run `/no/such`"), "{missing}");
        let nobody = daemon.script("nobody", "true");
        let nobody = Actions::StopStart { stop: nobody.clone(), start: nobody };
        let driver = CommandDriver { timeout: Duration::from_millis(100), ..daemon.driver(nobody, true) };
        let error = driver.start().await.unwrap_err().to_string();
        assert!(error.contains("names no process that runs"), "{error}");
    }
}
