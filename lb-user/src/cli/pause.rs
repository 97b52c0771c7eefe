//! `baton pause` and `baton resume`: whether rules may ask for rejuvenations.

use std::process::ExitCode;

use anyhow::Result;
use clap::Args;

use super::operate::Wish;
use super::out::say;
use crate::names::ServiceName;

/// Stops automatic rejuvenations, until `baton resume`.
///
/// A backend that dies is still replaced, and `baton rejuvenate` still works. The pause outlives the
/// controller.
#[derive(Debug, Args)]
pub(super) struct PauseArgs {
    /// The service.
    #[arg(value_name = "SERVICE")]
    name: ServiceName,
}

/// Leaves rejuvenations to the rules again.
#[derive(Debug, Args)]
pub(super) struct ResumeArgs {
    /// The service.
    #[arg(value_name = "SERVICE")]
    name: ServiceName,
}

impl PauseArgs {
    pub(super) fn run(self) -> Result<ExitCode> {
        ask(&self.name, "pause")?;
        say!("service {}: no automatic rejuvenation until `baton resume {}`", self.name, self.name);
        Ok(ExitCode::SUCCESS)
    }
}

impl ResumeArgs {
    pub(super) fn run(self) -> Result<ExitCode> {
        ask(&self.name, "resume")?;
        say!("service {}: rejuvenations are left to the rules again", self.name);
        Ok(ExitCode::SUCCESS)
    }
}

fn ask(service: &ServiceName, verb: &'static str) -> Result<()> {
    Wish { service, verb, backend: None, wait: None, dry_run: false, in_window: false }.ask().map(drop)
}
