//! `baton drain`: hold a backend out, once its connections have ended.

use std::process::ExitCode;

use anyhow::Result;
use clap::Args;

use super::operate::{WaitArgs, Wish, print};
use super::out::say;
use crate::names::{BackendName, ServiceName};
use crate::recovery::report::Outcome;

/// Takes a backend out for maintenance: no new connections, and no restart when those that it has have ended.
///
/// It is held out until `baton ready`, whoever restarts the controller meanwhile: neither started nor stopped,
/// whatever its command does. There is no deadline; `baton cut` ends the drain. With --wait the exit code is 0
/// only if it is held out and no connection was lost, and 3 if that takes longer than --timeout.
#[derive(Debug, Args)]
pub(super) struct DrainArgs {
    /// The service.
    #[arg(value_name = "SERVICE")]
    name: ServiceName,
    /// The backend.
    backend: BackendName,
    #[command(flatten)]
    wait: WaitArgs,
    /// Only say what would be done, or why nothing would be.
    #[arg(long, conflicts_with = "wait")]
    dry_run: bool,
}

impl DrainArgs {
    pub(super) fn run(self) -> Result<ExitCode> {
        let wish = Wish {
            service: &self.name,
            verb: "drain",
            backend: Some(&self.backend),
            wait: self.wait.wait.then_some(self.wait.timeout),
            dry_run: self.dry_run,
            in_window: false,
        };
        let Some(done) = wish.ask()? else { return Ok(ExitCode::SUCCESS) };
        let (name, backend) = (&self.name, &self.backend);
        match &done.report {
            _ if self.wait.json => say!("{}", serde_json::to_string_pretty(&done.report)?),
            Some(report) => print(report),
            None if self.wait.wait => say!("backend {backend} of {name} is held out"),
            None => {
                say!("begun; `baton wait {name} --backend {backend} --for state=maintenance` waits for it")
            }
        }
        // Without a cycle there was nothing to drain.
        let held_out =
            done.report.is_none_or(|report| report.outcome == Outcome::HeldOut && report.is_clean());
        Ok(if held_out { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }
}
