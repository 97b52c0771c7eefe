//! Backends that run elsewhere or under somebody else: an operator's own commands restart them, or systemd, or
//! nobody does.
//!
//! What always holds:
//! - A backend that is found running is taken as it is. A command that starts it is run only after Baton has
//!   stopped it, or has seen it end, and nobody has started it again by hand.
//! - A command that takes too long is killed, and has failed.
//! - A command that outlives its controller is waited for by the next one, and not run a second time.
//! - Which life runs is on disk, so that the next controller does not take an old life for a new one.

mod by_hand;
mod error;
mod machine;
mod order;
mod record;
mod unit;

use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::time::{Instant as Deadline, sleep};

use super::lives;
use crate::clock::Now;
use crate::names::{BackendName, ServiceName};
use crate::program::{Failure, Job, Leaves, Subject};
use crate::recovery::{Instance, Step};

pub use error::CommandError;
pub use machine::Higher;
use record::Life;
use unit::{by_force, systemctl};

/// Lines of a failed command's output that its error repeats.
const ERROR_LINES: usize = 3;
/// How often a process is looked for that a command has started or stopped.
const POLL: Duration = Duration::from_millis(20);

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
    /// What is done if that does not help.
    pub higher: Higher,
    /// File that holds its process id.
    pub pid_file: Option<PathBuf>,
    /// How long a command may take.
    pub timeout: Duration,
}

impl CommandDriver {
    /// Begins a life: finds the one that runs, or has it started.
    pub async fn start(&self) -> Result<Instance, CommandError> {
        let left = self.left_order().await?;
        let _noted = left.as_ref().map(|_| self.noted());
        let last = self.life();
        let found = match last.as_ref().filter(|life| life.stopped) {
            Some(ended) => self.started_by_hand(ended),
            None => self.find_running(last.as_ref()).await?,
        };
        if let Some(instance) = found {
            return self.begin(instance).await;
        }
        let old = last.as_ref().map(|life| life.instance);
        if let Some(step) = last.as_ref().filter(|life| life.returns).and_then(|_| self.higher.returning()) {
            if let Some(order) = left.filter(|order| order.step.is_some_and(Step::is_of_machine)) {
                let before = last.as_ref().and_then(|life| life.boot.as_deref());
                self.await_other_boot(&order.command, before).await?;
            }
            let instance = self.await_process(step, old).await?;
            return self.begin(instance).await;
        }
        let is_unit = matches!(self.actions, Actions::Systemd { .. });
        if let Some(order) = left.filter(|order| order.step.is_none() && !is_unit) {
            // It has been run, and is not run again: what came of it is taken as it is.
            let instance = self.await_process(&order.command, old).await?;
            return self.begin(instance).await;
        }
        let command = match &self.actions {
            // Whether somebody has restarted it meanwhile, nobody knows.
            Actions::Manual => return self.begin(old.unwrap_or_else(unknown_process)).await,
            Actions::Restart(command) | Actions::StopStart { start: command, .. } => command.clone(),
            Actions::Systemd { unit } => {
                let instance = self.start_unit(unit, old).await?;
                return self.begin(instance).await;
            }
        };
        let _noted = self.order(None, &command).await?;
        let instance = self.await_process(&command, old).await?;
        self.begin(instance).await
    }

    /// Ends the life that runs, by this step. Nothing is run for a graceful restart of a backend whose one
    /// command restarts it: its start does.
    pub async fn end(&self, step: Step) -> Result<(), CommandError> {
        let left = self.left_order().await?;
        let last = self.life();
        let commands = match (step, &self.actions) {
            (Step::Reboot | Step::Recreate, _) => return self.end_machine(step, last).await,
            (Step::Graceful, Actions::Manual | Actions::Restart(_)) => Vec::new(),
            (Step::Graceful, Actions::StopStart { stop, .. }) => vec![stop.clone()],
            // If it has ended, systemd may be about to bring up the next life: that one is not to be stopped.
            (Step::Graceful, Actions::Systemd { .. }) if self.alive().is_none() => Vec::new(),
            (Step::Graceful, Actions::Systemd { unit }) => vec![systemctl(&["stop", unit])],
            (Step::Restart, Actions::Systemd { unit }) => by_force(unit),
            (Step::Restart, _) => vec![self.higher.kill.clone().ok_or(CommandError::NoStep(step))?],
        };
        let known = last.as_ref().map(|life| life.instance).filter(|instance| instance.is_known());
        if let Some(order) = left.filter(|order| order.has_ended(step, &commands, last.as_ref())) {
            // The start that was ordered is taken up by the start that follows.
            let Some(_) = order.step else { return Ok(()) };
            let _noted = self.noted();
            self.note_end(last, false);
            return Ok(());
        }
        let mut noted = Vec::new();
        for (left, command) in (0..commands.len()).rev().zip(&commands) {
            match self.order(Some(step), command).await {
                // Many commands fail if there is nothing to stop: what was wanted of them is so. Of several, the
                // last one decides.
                Err(error @ CommandError::Failed { .. })
                    if left > 0
                        || known.is_some_and(|life| !lives::is_alive(life))
                        || self.unit_is_down().await =>
                {
                    tracing::debug!(backend = %self.backend, %error, "what was to be stopped has ended");
                }
                ended => noted.push(ended?),
            }
        }
        if let (Some(command), Some(life)) = (commands.last(), last.as_ref()) {
            self.await_end(command, life.instance).await?;
        }
        self.note_end(last, false);
        Ok(())
    }

    fn note_end(&self, last: Option<Life>, returns: bool) {
        let instance = last.as_ref().map_or_else(unknown_process, |life| life.instance);
        let (boot, ended_ms) = (last.and_then(|life| life.boot), Some(Now::read().boot_ms));
        self.keep(&Life { instance, stopped: true, ended_ms, returns, boot });
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
        match &self.actions {
            Actions::Systemd { unit } => format!("ended; `journalctl --unit={unit}` says how"),
            _ => "ended; whoever started it knows how".to_owned(),
        }
    }

    /// The known process and everything below it.
    pub fn processes(&self) -> Vec<u32> {
        let root = self.alive().filter(|instance| instance.is_known());
        let below = |root: Instance| lives::descendants(root.pid).into_iter().map(|member| member.life.pid);
        root.into_iter().flat_map(|root| std::iter::once(root.pid).chain(below(root))).collect()
    }

    /// Whether Baton can have it restarted.
    pub fn restarts(&self) -> bool {
        self.actions != Actions::Manual
    }

    /// The life that runs without our doing; without any way to know, that of the last time, or a first one.
    async fn find_running(&self, last: Option<&Life>) -> Result<Option<Instance>, CommandError> {
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
            return Ok(by_hand::named_by(path));
        }
        let Actions::Systemd { unit } = &self.actions else { return Ok(None) };
        Ok(self.life_of(&self.settled_unit(unit).await?))
    }

    /// The life of a unit that has no main process.
    fn unit_life(&self) -> Instance {
        let kept = self.life().filter(|life| !life.stopped && !life.instance.is_known());
        kept.map_or_else(unknown_process, |life| life.instance)
    }

    /// The process that `command` has started, another one than `old`; for systemd, see [`Self::start_unit`].
    async fn await_process(
        &self,
        command: &[String],
        old: Option<Instance>,
    ) -> Result<Instance, CommandError> {
        let Some(pid_file) = &self.pid_file else { return Ok(unknown_process()) };
        let deadline = Deadline::now() + self.timeout;
        loop {
            if let Some(found) = self.process().await?.filter(|found| Some(*found) != old) {
                return Ok(found);
            }
            if Deadline::now() > deadline {
                let source_of_pid = pid_file.display().to_string();
                return Err(CommandError::NoProcess { command: command.join(" "), source_of_pid });
            }
            sleep(POLL).await;
        }
    }

    /// Waits for the end of a life, if its process is known.
    async fn await_end(&self, command: &[String], life: Instance) -> Result<(), CommandError> {
        let deadline = Deadline::now() + self.timeout;
        while life.is_known() && lives::is_alive(life) {
            if Deadline::now() > deadline {
                return Err(CommandError::StillRunning { command: command.join(" "), pid: life.pid });
            }
            sleep(POLL).await;
        }
        Ok(())
    }

    /// Runs a command to its end. Its output goes to a file, which a daemon that it leaves may keep open.
    async fn run(&self, command: &[String], started: impl FnOnce(u32)) -> Result<(), CommandError> {
        let path = self.output();
        let subject = self.subject();
        let job = Job { leaves: Leaves::Daemons(&path), ..self.job(command, &subject) };
        let ended = job.run_telling(started).await.map_err(|failure| self.no_status(command, failure))?;
        if ended.status.success() {
            return Ok(());
        }
        Err(CommandError::Failed {
            command: command.join(" "),
            status: ended.status,
            output: quoted(&self.last_lines(ERROR_LINES)),
        })
    }

    fn job<'a>(&self, command: &'a [String], subject: &'a Subject) -> Job<'a> {
        Job {
            command,
            subject,
            variables: &[],
            input: &[],
            leaves: Leaves::Nothing,
            netns: None,
            limit: self.timeout,
        }
    }

    fn subject(&self) -> Subject {
        Subject {
            service: Some(self.service.clone()),
            backend: Some(self.backend.clone()),
            address: self.address,
        }
    }

    fn no_status(&self, command: &[String], failure: Failure) -> CommandError {
        match failure {
            Failure::NotRun(source) => {
                CommandError::NotRun { program: command.first().cloned().unwrap_or_default(), source }
            }
            Failure::TimedOut => CommandError::TimedOut { command: command.join(" "), limit: self.timeout },
        }
    }

    async fn begin(&self, instance: Instance) -> Result<Instance, CommandError> {
        let boot = match &self.higher.boot_id {
            Some(command) => self.boot(command).await.ok(),
            None => None,
        };
        self.keep(&Life { instance, stopped: false, ended_ms: None, returns: false, boot });
        Ok(instance)
    }
}

/// The last lines of a failed command, as they follow its status.
fn quoted(lines: &[String]) -> String {
    if lines.is_empty() { String::new() } else { format!(": {}", lines.join(" / ")) }
}

/// A new life of which no process is known: it is told from others by when it began.
fn unknown_process() -> Instance {
    Instance { pid: 0, start_ticks: Now::read().boot_ms }
}

fn failed(path: &Path) -> impl FnOnce(io::Error) -> CommandError {
    let path = path.to_owned();
    move |source| CommandError::Files { path, source }
}

#[cfg(test)]
mod takeover_tests;
#[cfg(test)]
mod tests;
