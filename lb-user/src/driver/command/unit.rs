//! What is asked of systemd, and what it says.

use tokio::time::{Instant as Deadline, sleep};

use super::{Actions, CommandDriver, CommandError, POLL, lives, quoted};
use crate::program::{Job, last_words};
use crate::recovery::Instance;

/// What asks systemd.
const SYSTEMCTL: &str = "systemctl";
/// What is asked of a unit: where it stands, its main process, and how that went last.
const PROPERTIES: &str = "--property=ActiveState,MainPID,Result";

/// A command of systemd's.
pub(super) fn systemctl(arguments: &[&str]) -> Vec<String> {
    std::iter::once(SYSTEMCTL).chain(arguments.iter().copied()).map(str::to_owned).collect()
}

/// What ends a unit by force. Ordered first, the stop keeps systemd from starting the unit again by itself between
/// the death and the last command, which waits for the end.
pub(super) fn by_force(unit: &str) -> Vec<Vec<String>> {
    let commands: [&[&str]; 3] =
        [&["stop", "--no-block", unit], &["kill", "--signal=KILL", unit], &["stop", unit]];
    commands.into_iter().map(systemctl).collect()
}

/// What systemd says of a unit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Unit {
    /// It has this main process.
    Process(u32),
    /// It is active without a main process.
    Active,
    /// It is on its way up or down.
    Changing,
    /// It is not active, and nobody is about to change that.
    Down {
        /// Whether it is so because something went wrong.
        failed: bool,
        /// What went wrong, in a word of systemd's; `success` if nothing did.
        result: String,
    },
}

impl Unit {
    /// Reads the properties as `systemctl show` prints them, in whatever order.
    fn read(printed: &[u8]) -> Self {
        let printed = String::from_utf8_lossy(printed);
        let value = |key: &str| printed.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix('='));
        let pid = value("MainPID").and_then(|pid| pid.parse().ok()).filter(|pid| *pid != 0);
        match (pid, value("ActiveState").unwrap_or_default()) {
            (Some(pid), _) => Self::Process(pid),
            (None, "active" | "reloading") => Self::Active,
            (None, state @ ("inactive" | "failed")) => Self::Down {
                failed: state == "failed",
                result: value("Result").unwrap_or_default().to_owned(),
            },
            (None, _) => Self::Changing,
        }
    }
}

impl CommandDriver {
    /// Asks systemd for a unit.
    async fn unit(&self, unit: &str) -> Result<Unit, CommandError> {
        let command = systemctl(&["show", PROPERTIES, unit]);
        let subject = self.subject();
        let ended = Job { ..self.job(&command, &subject) }.run().await;
        let ended = ended.map_err(|failure| self.no_status(&command, failure))?;
        if !ended.status.success() {
            let (command, output) = (command.join(" "), quoted(&last_words(&ended.output)));
            return Err(CommandError::Failed { command, status: ended.status, output });
        }
        Ok(Unit::read(&ended.output))
    }

    /// Whether systemd says that nothing of the unit runs, be it because there is no such unit.
    pub(super) async fn unit_is_down(&self) -> bool {
        let Actions::Systemd { unit } = &self.actions else { return false };
        matches!(self.unit(unit).await, Ok(Unit::Down { .. }))
    }

    /// Asks systemd for a unit until it knows what everybody can see: a main process that has ended is told for a
    /// moment longer, and who asks for a start meanwhile gets none.
    pub(super) async fn settled_unit(&self, unit: &str) -> Result<Unit, CommandError> {
        let deadline = Deadline::now() + self.timeout;
        loop {
            match self.unit(unit).await? {
                Unit::Process(pid) if lives::find(pid).is_none() && Deadline::now() < deadline => {}
                settled => return Ok(settled),
            }
            sleep(POLL).await;
        }
    }

    /// The life that such a unit leads, if it leads one.
    pub(super) fn life_of(&self, unit: &Unit) -> Option<Instance> {
        match unit {
            Unit::Process(pid) => lives::find(*pid).map(|member| member.life),
            Unit::Active => Some(self.unit_life()),
            Unit::Changing | Unit::Down { .. } => None,
        }
    }

    /// Starts a unit and waits for a life of it that is another one than `old`.
    pub(super) async fn start_unit(
        &self,
        unit: &str,
        old: Option<Instance>,
    ) -> Result<Instance, CommandError> {
        if let Unit::Down { failed: true, .. } = self.settled_unit(unit).await? {
            // How soon it is tried again is Baton's decision, which waits longer each time: what systemd has
            // counted must not refuse it.
            if let Err(error) = self.run(&systemctl(&["reset-failed", unit]), |_| ()).await {
                tracing::debug!(backend = %self.backend, %error, "the failure of a unit is not forgotten");
            }
        }
        let command = systemctl(&["start", unit]);
        let _noted = self.order(None, &command).await?;
        let deadline = Deadline::now() + self.timeout;
        loop {
            let seen = self.settled_unit(unit).await?;
            if let Some(found) = self.life_of(&seen).filter(|found| Some(*found) != old) {
                return Ok(found);
            }
            let command = command.join(" ");
            match seen {
                // Systemd does not wait to see whether a simple service stays up.
                Unit::Down { result, .. } => return Err(CommandError::UnitDown { command, result }),
                _ if Deadline::now() > deadline => {
                    return Err(CommandError::NoProcess { command, source_of_pid: "systemd".to_owned() });
                }
                _ => sleep(POLL).await,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_unit_is_known_by_its_main_process_or_by_its_state() {
        let down = |failed, result: &str| Unit::Down { failed, result: result.to_owned() };
        for (printed, unit) in [
            ("MainPID=812\nResult=success\nActiveState=active\n", Unit::Process(812)),
            ("a warning\nActiveState=deactivating\nMainPID=812\n", Unit::Process(812)),
            ("MainPID=0\nActiveState=active\n", Unit::Active),
            ("MainPID=0\nActiveState=reloading\n", Unit::Active),
            ("MainPID=0\nResult=exit-code\nActiveState=activating\n", Unit::Changing),
            ("MainPID=0\nActiveState=deactivating\n", Unit::Changing),
            ("ActiveState=failed\nMainPID=0\nResult=signal\n", down(true, "signal")),
            ("MainPID=0\nResult=success\nActiveState=inactive\n", down(false, "success")),
            // Nothing is concluded from what says nothing.
            ("", Unit::Changing),
            ("MainPID=x", Unit::Changing),
        ] {
            assert_eq!(Unit::read(printed.as_bytes()), unit, "{printed}");
        }
    }
}
