//! What the operators' verbs have in common: how they ask, how long they wait, what they say.
//!
//! What always holds: `--wait`, `--timeout`, `--json` and `--dry-run` mean the same for each of them, and with
//! `--json` standard output is one [`Outcome`], whatever came of it.

use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Result, anyhow};
use clap::Args;
use serde::Serialize;

use super::out::say;
use super::{TimedOut, runtime};
use crate::api::client::{self, ClientError};
use crate::api::status::{Cut, Done};
use crate::clock::Now;
use crate::names::{BackendName, ServiceName};
use crate::recovery::Instance;
use crate::recovery::report::Report;

/// A controller that is not told to wait answers at once.
const AT_ONCE: Duration = Duration::from_secs(10);
/// How long is waited where nothing is said.
const PATIENCE: &str = "10m";

/// How an operator wants something done.
#[derive(Debug, Args)]
pub(super) struct OperateArgs {
    /// Wait for the end.
    #[arg(long)]
    pub(super) wait: bool,
    /// How long to wait; the exit code is 3 if that is not enough, and what was begun goes on.
    #[arg(long, value_name = "TIME", default_value = PATIENCE, requires = "wait", value_parser = humantime::parse_duration)]
    pub(super) timeout: Duration,
    /// Print one JSON document, also if it is refused: `result`, `message`, and what there is of `plan`, `waits`,
    /// `report` and `cut`.
    #[arg(long)]
    pub(super) json: bool,
    /// Only say what would be done at this moment, or why nothing would be.
    #[arg(long, conflicts_with = "wait")]
    pub(super) dry_run: bool,
}

/// A wish, as the control socket takes it.
pub(super) struct Wish<'a> {
    pub(super) service: &'a ServiceName,
    /// The last word of its path.
    pub(super) verb: &'static str,
    pub(super) backend: Option<&'a BackendName>,
    /// Whether it waits for a window.
    pub(super) in_window: bool,
    pub(super) how: &'a OperateArgs,
}

/// What has come of a wish that was not refused.
#[derive(Debug)]
pub(super) struct End {
    pub(super) result: Outcome,
    /// In one sentence.
    pub(super) message: String,
    pub(super) done: Done,
}

/// How a wish ended; each has its exit code.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Outcome {
    /// It is done, as it was wanted.
    Done,
    /// It has begun.
    Begun,
    /// It is wanted, and begins when it may.
    Waits,
    /// It would be done like that.
    Planned,
    /// It ended otherwise than it was wanted.
    Failed,
    /// Nothing was done.
    Refused,
    /// It was not over in time, and goes on.
    TimedOut,
}

/// What `--json` prints.
#[derive(Serialize)]
struct Document<'a> {
    service: &'a ServiceName,
    verb: &'a str,
    backend: Option<&'a BackendName>,
    result: Outcome,
    message: &'a str,
    plan: &'a [String],
    waits: Option<&'a str>,
    report: Option<&'a Report>,
    cut: Option<&'a Cut>,
}

impl End {
    pub(super) fn new(result: Outcome, message: impl Into<String>, done: Done) -> Self {
        Self { result, message: message.into(), done }
    }

    fn planned(done: Done) -> Self {
        let message = match done.plan.len() {
            0 => "nothing would change".to_owned(),
            _ => done.plan.iter().map(|step| format!("would: {step}")).collect::<Vec<_>>().join("\n"),
        };
        Self::new(Outcome::Planned, message, done)
    }
}

impl Wish<'_> {
    /// Asks the controller and says what has come of it, which is `end` of its answer.
    pub(super) fn carry_out(&self, end: impl FnOnce(Done, Now) -> Result<End>) -> Result<ExitCode> {
        let start = Now::read();
        let rehearsed = self.how.dry_run;
        let ended =
            self.post().and_then(|done| if rehearsed { Ok(End::planned(done)) } else { end(done, start) });
        tell(&ended, self.service, self.verb, self.backend, self.how.json)?;
        let end = ended?;
        Ok(if end.result == Outcome::Failed { ExitCode::FAILURE } else { ExitCode::SUCCESS })
    }

    fn post(&self) -> Result<Done> {
        let socket = super::socket_of(self.service)?;
        self.post_to(&socket)
    }

    fn post_to(&self, socket: &Path) -> Result<Done> {
        // A name needs no escapes.
        let backend = self.backend.map_or_else(String::new, |backend| format!("&backend={backend}"));
        let OperateArgs { wait, timeout, dry_run, .. } = *self.how;
        let in_window = self.in_window;
        let path = format!("/v1/{}?wait={wait}&dry_run={dry_run}&in_window={in_window}{backend}", self.verb);
        let limit = if wait { timeout } else { AT_ONCE };
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

/// Says what has come of a verb. Why nothing has is left to whoever ends the command, but for the document.
pub(super) fn tell(
    ended: &Result<End>,
    service: &ServiceName,
    verb: &str,
    backend: Option<&BackendName>,
    json: bool,
) -> Result<()> {
    if !json {
        match ended {
            Ok(End { done: Done { report: Some(report), .. }, .. }) => print(report),
            Ok(end) => say!("{}", end.message),
            Err(_) => {}
        }
        return Ok(());
    }
    let nothing = Done::default();
    let (result, message, done) = match ended {
        Ok(end) => (end.result, end.message.clone(), &end.done),
        Err(error) if error.is::<TimedOut>() => (Outcome::TimedOut, format!("{error:#}"), &nothing),
        Err(error) => (Outcome::Refused, format!("{error:#}"), &nothing),
    };
    let document = Document {
        service,
        verb,
        backend,
        result,
        message: &message,
        plan: &done.plan,
        waits: done.waits.as_deref(),
        report: done.report.as_deref(),
        cut: done.cut.as_ref(),
    };
    say!("{}", serde_json::to_string_pretty(&document)?);
    Ok(())
}

/// A report in one sentence.
pub(super) fn in_short(report: &Report) -> String {
    format!("rejuvenation {} of {} {}", report.cycle, report.service, report.outcome)
}

/// A report, for people.
fn print(report: &Report) {
    let seconds = |ms: u64| ms as f64 / 1000.0;
    say!("{}", in_short(report));
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
    // A life without a process that is known has the steps' own proofs.
    let known = |life: Option<Instance>| life.filter(|life| life.is_known());
    if let (Some(before), Some(after)) = (known(report.proof.before), known(report.proof.after)) {
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
