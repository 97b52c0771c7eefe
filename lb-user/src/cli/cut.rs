//! `baton cut`: end a drain now.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::Result;
use clap::Args;

use super::out::say;
use super::runtime;
use crate::api::client;
use crate::api::status::Cut;
use crate::names::ServiceName;

/// The controller answers at once.
const LIMIT: Duration = Duration::from_secs(10);

/// Ends the drain that is under way: cuts the connections that are still open on the old backend and goes on
/// with its restart.
///
/// Each of them is answered with a reset at its next packet, so its client learns at once. The drain report
/// names them. It is an error if nothing drains.
#[derive(Debug, Args)]
pub(super) struct CutArgs {
    /// The service.
    name: ServiceName,
    /// Print what was cut as JSON.
    #[arg(long)]
    json: bool,
}

impl CutArgs {
    pub(super) fn run(self) -> Result<ExitCode> {
        let socket = super::socket_of(&self.name)?;
        let asked = runtime()?.block_on(client::post::<Cut>(&socket, "/v1/cut", LIMIT));
        let cut = asked.map_err(|error| super::not_done(&self.name, error))?;
        if self.json {
            say!("{}", serde_json::to_string_pretty(&cut)?);
        } else {
            let connections = if cut.flows == 1 { "connection" } else { "connections" };
            say!("cut: {} {connections} on backend {}, which is restarted now", cut.flows, cut.backend);
        }
        Ok(ExitCode::SUCCESS)
    }
}
