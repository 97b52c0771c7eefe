//! `baton pause` and `baton resume`: whether rules may ask for rejuvenations.

use std::process::ExitCode;

use anyhow::Result;
use clap::Args;

use super::operate::{End, OperateArgs, Outcome, Wish};
use crate::names::ServiceName;

/// Stops automatic rejuvenations, until `baton resume`.
///
/// A backend that dies is still replaced, and `baton rejuvenate` still works. The pause outlives the
/// controller. It is done at once, also with --wait; a rejuvenation that is under way goes on.
#[derive(Debug, Args)]
pub(super) struct PauseArgs {
    /// The service.
    #[arg(value_name = "SERVICE")]
    name: ServiceName,
    #[command(flatten)]
    how: OperateArgs,
}

/// Leaves rejuvenations to the rules again.
///
/// It is done at once, also with --wait.
#[derive(Debug, Args)]
pub(super) struct ResumeArgs {
    /// The service.
    #[arg(value_name = "SERVICE")]
    name: ServiceName,
    #[command(flatten)]
    how: OperateArgs,
}

impl PauseArgs {
    pub(super) fn run(self) -> Result<ExitCode> {
        let name = &self.name;
        let message = format!("service {name}: no automatic rejuvenation until `baton resume {name}`");
        at_once(name, "pause", &self.how, message)
    }
}

impl ResumeArgs {
    pub(super) fn run(self) -> Result<ExitCode> {
        let message = format!("service {}: rejuvenations are left to the rules again", self.name);
        at_once(&self.name, "resume", &self.how, message)
    }
}

/// What is done as soon as it is answered.
pub(super) fn at_once(
    service: &ServiceName,
    verb: &'static str,
    how: &OperateArgs,
    message: String,
) -> Result<ExitCode> {
    let wish = Wish { service, verb, backend: None, in_window: false, how };
    wish.carry_out(|done, _| Ok(End::new(Outcome::Done, message, done)))
}
