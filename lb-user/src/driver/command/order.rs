//! The command that is being run for a backend, written down before it is run.
//!
//! What always holds: a command that outlives its controller is not run a second time beside itself. Whoever takes
//! over waits for it, as long as a command may take, and only then looks at what it came to. It is not killed
//! before: it may be half-way through starting a machine again.
//!
//! Whether a command was run whose process is not in the note, nobody knows: its controller died in the moment
//! between the two. Then a witness decides, and without one its time is waited out before it is run again.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use rustix::process::Signal;
use serde::{Deserialize, Serialize};
use tokio::time::{Instant as Deadline, sleep, timeout};

use super::{CommandDriver, CommandError, Life, POLL, failed, lives};
use crate::clock::Now;
use crate::documents;
use crate::recovery::{Instance, Step};

/// The command that is being run, or was when its controller died.
const ORDER: &str = "order.json";

/// A command that was ordered.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Order {
    /// Program and arguments.
    pub(super) command: Vec<String>,
    /// What it ends, and how; `None` means that it starts the next life.
    pub(super) step: Option<Step>,
    /// The life that ran, or had run, when it was ordered.
    pub(super) before: Option<Instance>,
    /// Its first process, once it runs.
    pub(super) process: Option<Instance>,
    /// When, in milliseconds of the boot clock.
    pub(super) ordered_ms: u64,
}

impl Order {
    /// Whether what `step` has to end has been ended by this order: the last of `commands`, or the start that
    /// follows them all.
    pub(super) fn has_ended(&self, step: Step, commands: &[Vec<String>], last: Option<&Life>) -> bool {
        let is_dead = last.is_some_and(|life| !life.instance.is_known() || !lives::is_alive(life.instance));
        match self.step {
            None => last.is_none_or(|life| life.stopped),
            Some(ordered) => ordered == step && commands.last() == Some(&self.command) && is_dead,
        }
    }
}

/// A note of an order. It goes when it is dropped, and stays if its controller is killed.
#[derive(Debug)]
pub(super) struct Noted(Option<PathBuf>);

impl Noted {
    fn stay(mut self) {
        self.0 = None;
    }
}

impl Drop for Noted {
    fn drop(&mut self) {
        // One that cannot be removed is told by the life that it is about.
        let _ = self.0.take().map(fs::remove_file);
    }
}

impl CommandDriver {
    /// Runs a command to its end under a note that has to be kept until what it came to is written down.
    pub(super) async fn order(&self, step: Option<Step>, command: &[String]) -> Result<Noted, CommandError> {
        let order = Order {
            command: command.to_vec(),
            step,
            before: self.life().map(|life| life.instance),
            process: None,
            ordered_ms: Now::read().boot_ms,
        };
        let noted = self.noted();
        self.note(&order);
        self.run(command, |pid| self.note(&Order { process: lives::instance(pid), ..order })).await?;
        Ok(noted)
    }

    /// A backend that is to be brought back does not have to wait until there is room for a note.
    pub(super) fn note(&self, order: &Order) {
        let path = self.dir.join(ORDER);
        let written = fs::create_dir_all(&self.dir).and_then(|()| documents::write(&path, order));
        if let Err(error) = written.map_err(failed(&path)) {
            tracing::warn!(
                backend = %self.backend,
                "{error}: a controller that takes over now would not know of `{}`", order.command.join(" ")
            );
        }
    }

    /// The order that an earlier controller left, once its command has ended; `None` if there is none, or if it
    /// was never run as far as anybody can know. An error if its time was over and it was killed.
    pub(super) async fn left_order(&self) -> Result<Option<Order>, CommandError> {
        let Ok(order) = documents::read::<Order>(&self.dir.join(ORDER)) else { return Ok(None) };
        // Only the note of a command that has ended stays: what it came to is not written down yet.
        let noted = self.noted();
        if order.before != self.life().map(|life| life.instance) {
            return Ok(None);
        }
        let spent = Duration::from_millis(Now::read().boot_ms.saturating_sub(order.ordered_ms));
        let left = self.timeout.saturating_sub(spent);
        if let Some(process) = order.process {
            self.wait_for_order(&order, process, left).await?;
        } else if !self.comes_about(&order, left).await {
            return Ok(None);
        }
        noted.stay();
        Ok(Some(order))
    }

    /// Waits until the command of an order has ended; kills it when its time is over, which is an error.
    async fn wait_for_order(
        &self,
        order: &Order,
        process: Instance,
        limit: Duration,
    ) -> Result<(), CommandError> {
        // One that has ended was in time, also when nobody looked until its time was over.
        if !lives::is_alive(process) {
            return Ok(());
        }
        let (command, pid) = (order.command.join(" "), process.pid);
        tracing::info!(backend = %self.backend, pid, "an earlier controller has ordered `{command}`: it is waited for");
        if timeout(limit, lives::wait_for_end(process)).await.is_err() {
            kill(process);
            return Err(CommandError::TimedOut { command, limit: self.timeout });
        }
        Ok(())
    }

    /// Waits until a witness shows that a command has done what it was to do; false if none does in time.
    async fn comes_about(&self, order: &Order, limit: Duration) -> bool {
        let deadline = Deadline::now() + limit;
        loop {
            let is_done = match order.step {
                None => self.process().await.ok().flatten().is_some_and(|found| Some(found) != order.before),
                Some(_) => order.before.is_some_and(|life| life.is_known() && !lives::is_alive(life)),
            };
            if is_done || Deadline::now() > deadline {
                return is_done;
            }
            sleep(POLL).await;
        }
    }

    /// The note of an order that is under way or was left.
    pub(super) fn noted(&self) -> Noted {
        Noted(Some(self.dir.join(ORDER)))
    }
}

/// Kills a command whose time is over, with what is left of its process group.
fn kill(leader: Instance) {
    let below = lives::descendants(leader.pid);
    for member in below.into_iter().filter(|member| member.group == leader.pid) {
        lives::signal(member.life, Signal::KILL);
    }
    lives::signal(leader, Signal::KILL);
}
