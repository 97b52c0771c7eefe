//! The higher steps: by force, or with the machine that the backend runs on.

use std::time::Duration;

use tokio::time::{Instant as Deadline, sleep};

use super::{Actions, CommandDriver, CommandError, Life, quoted};
use crate::program::{self, Job};
use crate::recovery::{Evidence, Rung, Step};

/// How often a machine that starts again is asked which boot of it runs.
const BOOT_POLL: Duration = Duration::from_millis(500);
/// It answers within this, or is asked again.
const BOOT_LIMIT: Duration = Duration::from_secs(5);

/// Commands for what is done when a graceful restart does not help.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Higher {
    /// Ends the backend by force, and returns when it has ended; its start follows.
    pub kill: Option<Vec<String>>,
    /// Starts its machine again, which brings the backend up by itself.
    pub reboot: Option<Vec<String>>,
    /// Makes its machine anew, which brings the backend up by itself.
    pub recreate: Option<Vec<String>>,
    /// Prints which boot of the machine runs: a changed one proves a reboot.
    pub boot_id: Option<Vec<String>>,
}

impl Higher {
    fn machine(&self, step: Step) -> Option<&Vec<String>> {
        match step {
            Step::Reboot => self.reboot.as_ref(),
            Step::Recreate => self.recreate.as_ref(),
            Step::Graceful | Step::Restart => None,
        }
    }

    /// A command that brings up the machine with the backend; there is one if there ever was a step of the
    /// machine, unless the configuration has changed since.
    pub(super) fn returning(&self) -> Option<&[String]> {
        self.reboot.as_deref().or(self.recreate.as_deref())
    }
}

impl CommandDriver {
    /// The steps that there are, in order, and what the success of each rests upon.
    pub fn ladder(&self) -> Vec<Rung> {
        if !self.restarts() {
            return Vec::new();
        }
        let evidence = if self.tells_process() { Evidence::Process } else { Evidence::Commands };
        let of_machine = match (self.tells_process(), self.higher.boot_id.is_some()) {
            (_, true) => Evidence::Boot,
            (true, false) => Evidence::Process,
            (false, false) => Evidence::Commands,
        };
        let by_force = self.higher.kill.is_some() || matches!(self.actions, Actions::Systemd { .. });
        let steps = [
            (Step::Graceful, true, evidence),
            (Step::Restart, by_force, evidence),
            (Step::Reboot, self.higher.reboot.is_some(), of_machine),
            (Step::Recreate, self.higher.recreate.is_some(), of_machine),
        ];
        let there = steps.into_iter().filter(|(_, is_there, _)| *is_there);
        there.map(|(step, _, evidence)| Rung { step, evidence }).collect()
    }

    /// Ends a life with its machine. It is noted at once that the next life comes by itself: whoever takes over
    /// half-way must wait for it and not start anything.
    pub(super) async fn end_machine(&self, step: Step, last: Option<Life>) -> Result<(), CommandError> {
        let command = self.higher.machine(step).ok_or(CommandError::NoStep(step))?;
        let before = match (&self.higher.boot_id, last.as_ref().and_then(|life| life.boot.clone())) {
            (Some(_), Some(known)) => Some(known),
            (Some(boot_id), None) => self.boot(boot_id).await.ok(),
            (None, _) => None,
        };
        self.note_end(last.clone(), true);
        let _noted = self.order(Some(step), command).await?;
        if let Some(boot_id) = &self.higher.boot_id {
            self.await_boot(command, boot_id, before.as_deref()).await?;
        }
        match last {
            Some(life) => self.await_end(command, life.instance).await,
            None => Ok(()),
        }
    }

    /// Waits until another boot of the machine runs than `before`, if anybody can tell.
    pub(super) async fn await_other_boot(
        &self,
        command: &[String],
        before: Option<&str>,
    ) -> Result<(), CommandError> {
        match (&self.higher.boot_id, before) {
            (Some(boot_id), Some(_)) => self.await_boot(command, boot_id, before).await,
            _ => Ok(()),
        }
    }

    /// Waits until another boot of the machine runs than `before`.
    async fn await_boot(
        &self,
        command: &[String],
        boot_id: &[String],
        before: Option<&str>,
    ) -> Result<(), CommandError> {
        let deadline = Deadline::now() + self.timeout;
        loop {
            let now = self.boot(boot_id).await;
            if let Ok(id) = &now
                && before != Some(id)
            {
                tracing::info!(backend = %self.backend, ?before, now = %id, "another boot of the machine runs");
                return Ok(());
            }
            if Deadline::now() > deadline {
                let command = command.join(" ");
                return Err(match now {
                    Ok(id) => CommandError::SameBoot { command, id },
                    Err(why) => CommandError::NoBoot { command, why },
                });
            }
            sleep(BOOT_POLL).await;
        }
    }

    /// Which boot of the machine runs, as the command prints it; or why nobody knows.
    pub(super) async fn boot(&self, command: &[String]) -> Result<String, String> {
        let subject = self.subject();
        let job = Job { limit: BOOT_LIMIT.min(self.timeout), ..self.job(command, &subject) };
        let ended = job.run().await.map_err(|failure| self.no_status(command, failure).to_string())?;
        let said = program::last_words(&ended.output);
        match said.first() {
            Some(id) if ended.status.success() => Ok(id.clone()),
            _ => Err(format!("{}{}", ended.in_words(), quoted(&said))),
        }
    }
}
