//! `baton drain`: hold a backend out, once its connections have ended.

use std::process::ExitCode;

use anyhow::Result;
use clap::Args;

use super::operate::{End, OperateArgs, Outcome, Wish, in_short};
use crate::api::status::Done;
use crate::names::{BackendName, ServiceName};
use crate::recovery::report;

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
    how: OperateArgs,
}

impl DrainArgs {
    pub(super) fn run(self) -> Result<ExitCode> {
        hold_out(&self.name, &self.backend, &self.how)
    }
}

/// Holds a backend out.
pub(super) fn hold_out(name: &ServiceName, backend: &BackendName, how: &OperateArgs) -> Result<ExitCode> {
    let wish = Wish { service: name, verb: "drain", backend: Some(backend), in_window: false, how };
    wish.carry_out(|done, _| Ok(end(done, name, backend, how.wait)))
}

fn end(done: Done, name: &ServiceName, backend: &BackendName, waited: bool) -> End {
    if let Some(report) = &done.report {
        let held_out = report.outcome == report::Outcome::HeldOut && report.is_clean();
        return End::new(if held_out { Outcome::Done } else { Outcome::Failed }, in_short(report), done);
    }
    if waited {
        // Without a cycle there was nothing to drain.
        return End::new(Outcome::Done, format!("backend {backend} of {name} is held out"), done);
    }
    let message =
        format!("begun; `baton wait {name} --backend {backend} --for state=maintenance` waits for it");
    End::new(Outcome::Begun, message, done)
}
