//! `baton ready`: take back a backend that is held out.

use std::process::ExitCode;

use anyhow::Result;
use clap::Args;

use super::operate::{End, OperateArgs, Outcome, Wish};
use super::wait::{Awaited, is_in};
use crate::names::{BackendName, ServiceName};
use crate::recovery::State;

/// Takes back a backend that `baton drain` holds out, or ends its drain.
///
/// It serves or waits again as soon as it passes its checks; if its command has ended meanwhile, it is started,
/// unless somebody has started it by hand: then it is taken as it is. With --wait the exit code is 0 only once it is active or standby again, and 3 if that takes longer than --timeout.
#[derive(Debug, Args)]
pub(super) struct ReadyArgs {
    /// The service.
    #[arg(value_name = "SERVICE")]
    name: ServiceName,
    /// The backend.
    backend: BackendName,
    #[command(flatten)]
    how: OperateArgs,
}

impl ReadyArgs {
    pub(super) fn run(self) -> Result<ExitCode> {
        take_back(&self.name, &self.backend, &self.how)
    }
}

/// Takes a backend back.
pub(super) fn take_back(name: &ServiceName, backend: &BackendName, how: &OperateArgs) -> Result<ExitCode> {
    let wish = Wish { service: name, verb: "ready", backend: Some(backend), in_window: false, how };
    wish.carry_out(|done, start| {
        if !how.wait {
            let message = format!("backend {backend} of {name} is no longer held out");
            return Ok(End::new(Outcome::Done, message, done));
        }
        let status = Awaited { service: name, start, limit: how.timeout }
            .until(|status| Ok(is_in(status, backend, &[State::Active, State::Standby])))?;
        let now = if is_in(&status, backend, &[State::Active]) { "active" } else { "standby" };
        Ok(End::new(Outcome::Done, format!("backend {backend} of {name} is {now}"), done))
    })
}
