//! `baton cut`: end a drain now.

use std::process::ExitCode;

use anyhow::{Result, anyhow};
use clap::Args;

use super::operate::{End, OperateArgs, Outcome, Wish};
use super::wait::{Awaited, is_in};
use crate::names::ServiceName;
use crate::recovery::State;

/// Ends the drain that is under way: cuts the connections that are still open on the old backend and goes on
/// with its restart.
///
/// Each of them is answered with a reset at its next packet, so its client learns at once. The drain report
/// names them. It is an error if nothing drains. With --wait it returns once the drain has ended: the backend is being
/// restarted, or held out.
#[derive(Debug, Args)]
pub(super) struct CutArgs {
    /// The service.
    #[arg(value_name = "SERVICE")]
    name: ServiceName,
    #[command(flatten)]
    how: OperateArgs,
}

impl CutArgs {
    pub(super) fn run(self) -> Result<ExitCode> {
        let (service, how) = (&self.name, &self.how);
        let wish = Wish { service, verb: "cut", backend: None, in_window: false, how };
        wish.carry_out(|done, start| {
            let cut =
                done.cut.as_ref().ok_or_else(|| anyhow!("service {service}: the answer names no drain"))?;
            let connections = if cut.flows == 1 { "connection" } else { "connections" };
            let message =
                format!("cut: {} {connections} on backend {}, {}", cut.flows, cut.backend, cut.then);
            if how.wait {
                let drains = [State::Draining, State::Drained];
                let awaited = Awaited { service, start, limit: how.timeout };
                awaited.until(|status| Ok(!is_in(status, &cut.backend, &drains)))?;
            }
            Ok(End::new(Outcome::Done, message, done))
        })
    }
}
