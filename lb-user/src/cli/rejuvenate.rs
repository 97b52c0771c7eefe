//! `baton rejuvenate`: renew the active backend now.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Result, anyhow};
use clap::Args;

use super::runtime;
use crate::api::client::{self, ClientError};
use crate::names::ServiceName;
use crate::recovery::report::Report;

/// Hands new connections to the standby, lets the old backend finish what it has, and restarts it.
///
/// With --wait the exit code is 0 only if every connection ended by itself and the old backend is back.
#[derive(Debug, Args)]
pub(super) struct RejuvenateArgs {
    /// The service.
    name: ServiceName,
    /// Wait for the end and print the drain report.
    #[arg(long)]
    wait: bool,
    /// How long to wait.
    #[arg(long, value_name = "TIME", default_value = "10m", value_parser = humantime::parse_duration)]
    timeout: Duration,
    /// Print the report as JSON.
    #[arg(long, requires = "wait")]
    json: bool,
}

impl RejuvenateArgs {
    pub(super) fn run(self) -> Result<ExitCode> {
        let socket = super::socket_of(&self.name)?;
        let path = if self.wait { "/v1/rejuvenate?wait=true" } else { "/v1/rejuvenate" };
        let asked = runtime()?.block_on(client::post::<Option<Report>>(&socket, path, self.timeout));
        let report = asked.map_err(|error| self.explain(error))?;
        let Some(report) = report else {
            println!("begun; `baton events --follow` shows how it goes");
            return Ok(ExitCode::SUCCESS);
        };
        if self.json {
            println!("{}", serde_json::to_string_pretty(&report)?);
        } else {
            print(&report);
        }
        Ok(if report.is_clean() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }

    fn explain(&self, error: ClientError) -> anyhow::Error {
        let name = &self.name;
        match error {
            ClientError::TimedOut => anyhow!(
                "service {name}: not over after {}; it goes on, `baton status` shows how far it is",
                humantime::format_duration(self.timeout)
            ),
            error => super::not_done(name, error),
        }
    }
}

fn print(report: &Report) {
    let seconds = |ms: u64| ms as f64 / 1000.0;
    println!("rejuvenation {} of {} {}", report.cycle, report.service, report.outcome);
    println!("  reason    {}", report.reason);
    let to = report.to.as_ref().map_or_else(|| "the others".to_owned(), ToString::to_string);
    println!("  handover  {} -> {to}", report.from);
    println!(
        "  flows     {} at the handover ({} awaiting a response), {} ended by themselves, {} cut",
        report.flows_at_handover.total(),
        report.flows_at_handover.awaiting_response,
        report.flows_finished,
        report.cut.len()
    );
    for flow in &report.cut {
        let client =
            flow.client.map_or_else(|| "a client whose address is lost".to_owned(), |c| c.to_string());
        println!("    cut {client} ({}, idle {:.1} s)", flow.state, seconds(flow.idle_ms));
    }
    println!(
        "  time      drained in {:.1} s, {:.1} s in all",
        seconds(report.drain_ms),
        seconds(report.duration_ms)
    );
    if let (Some(before), Some(after)) = (report.proof.before, report.proof.after) {
        println!("  proof     process {} is gone, process {} runs", before.pid, after.pid);
    }
    if let Some(detail) = &report.detail {
        println!("  detail    {detail}");
    }
}
