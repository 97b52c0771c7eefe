//! How a backend's machine is made, started and restarted.

pub mod command;
mod lives;
pub mod netns;
pub mod process;

use std::time::Duration;

use command::CommandDriver;
use process::{ProcessDriver, Running, Tail};

use crate::recovery::{Evidence, Instance, Rung, Step};

/// A start and an end that have not answered for this long beyond what their commands may take never will: more
/// than all other time limits of a driver together.
const PATIENCE: Duration = Duration::from_mins(2);
/// So many times in a row a start or an end waits for as long as a command may take, at most.
const COMMANDS: u32 = 10;

/// What starts and stops one backend.
#[derive(Clone, Debug)]
pub enum Driver {
    /// Baton itself, as the parent of a process.
    Process(ProcessDriver),
    /// Somebody whom Baton tells to.
    Command(CommandDriver),
}

impl Driver {
    /// Starts a new life of the backend; the error is for people.
    pub async fn start(&self) -> Result<Instance, String> {
        match self {
            Self::Process(driver) => driver.start().await.map_err(|error| error.to_string()),
            Self::Command(driver) => driver.start().await.map_err(|error| error.to_string()),
        }
    }

    /// Ends the life of the backend by this step; a process that is asked politely has `grace` to end.
    pub async fn end(&self, step: Step, grace: Duration) -> Result<(), String> {
        match self {
            Self::Process(driver) => {
                let ended = match step {
                    Step::Graceful => driver.stop_politely(grace).await,
                    Step::Restart | Step::Reboot | Step::Recreate => driver.stop(Duration::ZERO).await,
                };
                ended.map_err(|error| error.to_string())
            }
            Self::Command(driver) => driver.end(step).await.map_err(|error| error.to_string()),
        }
    }

    /// A start or an end that takes longer will not be answered any more.
    pub fn patience(&self) -> Duration {
        match self {
            Self::Process(_) => PATIENCE,
            Self::Command(driver) => PATIENCE.saturating_add(driver.timeout.saturating_mul(COMMANDS)),
        }
    }

    /// The steps that there are for the backend, in order, and what the success of each rests upon.
    pub fn ladder(&self) -> Vec<Rung> {
        let rung = |step, evidence| Rung { step, evidence };
        match self {
            Self::Process(_) => {
                vec![rung(Step::Graceful, Evidence::Process), rung(Step::Restart, Evidence::Process)]
            }
            Self::Command(driver) => driver.ladder(),
        }
    }

    /// The life that runs at this moment, as far as anybody can know.
    pub fn alive(&self) -> Option<Instance> {
        match self {
            Self::Process(driver) => driver.alive(),
            Self::Command(driver) => driver.alive(),
        }
    }

    /// Waits until a life has ended by itself and tells how; for ever if nobody can know.
    pub async fn ended(&self, instance: Instance) -> String {
        match self {
            Self::Process(driver) => driver.ended(instance).await,
            Self::Command(driver) => driver.ended(instance).await,
        }
    }

    /// What is recorded of the life that runs, if its process is known.
    pub fn running(&self) -> Option<Running> {
        match self {
            Self::Process(driver) => driver.running(),
            Self::Command(_) => None,
        }
    }

    /// Every process of the life that runs, as far as they are known.
    pub fn processes(&self) -> Vec<u32> {
        match self {
            Self::Process(driver) => driver.processes(),
            Self::Command(driver) => driver.processes(),
        }
    }

    /// What the backend prints from now on, if Baton has it.
    pub fn tail(&self) -> Option<Tail> {
        match self {
            Self::Process(driver) => Some(driver.tail()),
            Self::Command(_) => None,
        }
    }

    /// The last lines that the backend, or the command that was to start it, has printed.
    pub fn last_lines(&self, count: usize) -> Vec<String> {
        match self {
            Self::Process(driver) => driver.last_lines(count),
            Self::Command(driver) => driver.last_lines(count),
        }
    }

    /// Keeps what the backend prints within bounds, where nobody else does.
    pub fn trim_output(&self) {
        if let Self::Command(driver) = self {
            driver.trim_output();
        }
    }

    /// Whether Baton can restart the backend at all.
    pub fn restarts(&self) -> bool {
        match self {
            Self::Process(_) => true,
            Self::Command(driver) => driver.restarts(),
        }
    }
}
