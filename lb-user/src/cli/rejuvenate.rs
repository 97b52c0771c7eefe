//! `baton rejuvenate`: renew a backend now.

use std::process::ExitCode;

use anyhow::Result;
use clap::Args;

use super::operate::{End, OperateArgs, Outcome, Wish, in_short};
use crate::api::status::Done;
use crate::names::{BackendName, ServiceName};

/// Hands new connections to the standby, lets the old backend finish what it has, and restarts it.
///
/// In a pool the others take the new connections. With --wait the report is printed, and the exit code is 0 only if
/// every connection ended by itself and the old backend is back, and 3 if that takes longer than --timeout. If the
/// budget of the controller is used up, it begins when there is room; if there are hooks, when they consent, and a
/// veto of theirs ends it.
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
    how: OperateArgs,
}

impl RejuvenateArgs {
    pub(super) fn run(self) -> Result<ExitCode> {
        let wish = Wish {
            service: &self.name,
            verb: "rejuvenate",
            backend: self.backend.as_ref(),
            in_window: self.in_window,
            how: &self.how,
        };
        wish.carry_out(|done, _| Ok(end(done)))
    }
}

fn end(done: Done) -> End {
    if let Some(report) = &done.report {
        let result = if report.is_clean() { Outcome::Done } else { Outcome::Failed };
        return End::new(result, in_short(report), done);
    }
    match &done.waits {
        Some(waits) => {
            let message = format!("{waits}; `baton status` shows how far it is");
            End::new(Outcome::Waits, message, done)
        }
        None => End::new(Outcome::Begun, "begun; `baton events --follow` shows how it goes", done),
    }
}
