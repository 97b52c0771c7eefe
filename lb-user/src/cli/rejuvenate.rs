//! `baton rejuvenate`: renew a backend now.

use std::process::ExitCode;

use anyhow::Result;
use clap::Args;

use super::operate::{WaitArgs, Wish, print};
use super::out::say;
use crate::names::{BackendName, ServiceName};

/// Hands new connections to the standby, lets the old backend finish what it has, and restarts it.
///
/// In a pool the others take the new connections. With --wait the exit code is 0 only if every connection
/// ended by itself and the old backend is back, and 3 if that takes longer than --timeout. If the budget of the
/// controller is used up, it begins when there is room.
#[derive(Debug, Args)]
pub(super) struct RejuvenateArgs {
    /// The service.
    #[arg(value_name = "SERVICE")]
    name: ServiceName,
    /// The backend to renew [default: the active one; in a pool, the one that has run for the longest].
    #[arg(long, value_name = "NAME")]
    backend: Option<BackendName>,
    /// Not before a window of the service opens.
    #[arg(long)]
    in_window: bool,
    #[command(flatten)]
    wait: WaitArgs,
    /// Only say what would be done, or why nothing would be.
    #[arg(long, conflicts_with = "wait")]
    dry_run: bool,
}

impl RejuvenateArgs {
    pub(super) fn run(self) -> Result<ExitCode> {
        let wish = Wish {
            service: &self.name,
            verb: "rejuvenate",
            backend: self.backend.as_ref(),
            wait: self.wait.wait.then_some(self.wait.timeout),
            dry_run: self.dry_run,
            in_window: self.in_window,
        };
        let Some(done) = wish.ask()? else { return Ok(ExitCode::SUCCESS) };
        let Some(report) = done.report else {
            match done.waits {
                Some(waits) => say!("{waits}; it begins by itself, `baton status` shows how far it is"),
                None => say!("begun; `baton events --follow` shows how it goes"),
            }
            return Ok(ExitCode::SUCCESS);
        };
        if self.wait.json {
            say!("{}", serde_json::to_string_pretty(&report)?);
        } else {
            print(&report);
        }
        Ok(if report.is_clean() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }
}
