//! What the operators' verbs have in common: how they ask, how long they wait, what they say.

use std::path::Path;
use std::time::Duration;

use anyhow::{Result, anyhow};
use clap::Args;

use super::out::say;
use super::{TimedOut, runtime};
use crate::api::client::{self, ClientError};
use crate::api::status::Done;
use crate::names::{BackendName, ServiceName};
use crate::recovery::report::Report;

/// A controller that is not told to wait answers at once.
const AT_ONCE: Duration = Duration::from_secs(10);

/// Whether and how long to wait for the end.
#[derive(Debug, Args)]
pub(super) struct WaitArgs {
    /// Wait for the end and print the report.
    #[arg(long)]
    pub(super) wait: bool,
    /// How long to wait; the exit code is 3 if that is not enough, and what was begun goes on.
    #[arg(long, value_name = "TIME", default_value = "10m", value_parser = humantime::parse_duration)]
    pub(super) timeout: Duration,
    /// Print the report as JSON.
    #[arg(long, requires = "wait")]
    pub(super) json: bool,
}

/// A wish, as the control socket takes it.
pub(super) struct Wish<'a> {
    pub(super) service: &'a ServiceName,
    /// The last word of its path.
    pub(super) verb: &'static str,
    pub(super) backend: Option<&'a BackendName>,
    /// How long to wait for the end, if at all.
    pub(super) wait: Option<Duration>,
    pub(super) dry_run: bool,
    /// Whether it waits for a window.
    pub(super) in_window: bool,
}

impl Wish<'_> {
    /// Asks the controller. A rehearsal is printed here, and then there is nothing more to say: `None`.
    pub(super) fn ask(&self) -> Result<Option<Done>> {
        let socket = super::socket_of(self.service)?;
        let done = self.post(&socket)?;
        if !self.dry_run {
            return Ok(Some(done));
        }
        if done.plan.is_empty() {
            say!("nothing would change");
        }
        for step in &done.plan {
            say!("would: {step}");
        }
        Ok(None)
    }

    fn post(&self, socket: &Path) -> Result<Done> {
        // A name needs no escapes.
        let backend = self.backend.map_or_else(String::new, |backend| format!("&backend={backend}"));
        let (wait, dry_run) = (self.wait.is_some(), self.dry_run);
        let in_window = self.in_window;
        let path = format!("/v1/{}?wait={wait}&dry_run={dry_run}&in_window={in_window}{backend}", self.verb);
        let limit = self.wait.unwrap_or(AT_ONCE);
        let asked = runtime()?.block_on(client::post::<Done>(socket, &path, limit));
        asked.map_err(|error| match error {
            ClientError::TimedOut if wait => anyhow!(TimedOut(format!(
                "service {}: not over after {}; it goes on, `baton status` shows how far it is",
                self.service,
                humantime::format_duration(limit)
            ))),
            error => super::not_done(self.service, error),
        })
    }
}

/// A report, for people.
pub(super) fn print(report: &Report) {
    let seconds = |ms: u64| ms as f64 / 1000.0;
    say!("rejuvenation {} of {} {}", report.cycle, report.service, report.outcome);
    say!("  reason    {}", report.reason);
    let to = report.to.as_ref().map_or_else(|| "the others".to_owned(), ToString::to_string);
    say!("  handover  {} -> {to}", report.from);
    say!(
        "  flows     {} at the handover ({} awaiting a response), {} ended by themselves, {} cut",
        report.flows_at_handover.total(),
        report.flows_at_handover.awaiting_response,
        report.flows_finished,
        report.cut.len()
    );
    for flow in &report.cut {
        let client =
            flow.client.map_or_else(|| "a client whose address is lost".to_owned(), |c| c.to_string());
        say!("    cut {client} ({}, idle {:.1} s)", flow.state, seconds(flow.idle_ms));
    }
    say!(
        "  time      drained in {:.1} s, {:.1} s in all",
        seconds(report.drain_ms),
        seconds(report.duration_ms)
    );
    if let (Some(before), Some(after)) = (report.proof.before, report.proof.after) {
        say!("  proof     process {} is gone, process {} runs", before.pid, after.pid);
    }
    if let Some(warm_up) = &report.warm_up {
        say!("  warm-up   {warm_up}");
    }
    for trouble in &report.troubles {
        say!("  trouble   {trouble}");
    }
    if let Some(detail) = &report.detail {
        say!("  detail    {detail}");
    }
}
