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
use thiserror::Error;

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
    /// The controller did not say what came of it, and it may have been done or begun.
    Unknown,
    /// It was not over in time, and goes on.
    TimedOut,
}

/// Nobody knows what came of a wish that the controller may have taken.
#[derive(Debug, Error)]
#[error(
    "{0}; what has begun goes on, also under the next controller: see `baton status` before you repeat it"
)]
struct Unclear(String);

/// What `--json` prints.
#[derive(Serialize)]
struct Document<'a> {
    service: &'a ServiceName,
    verb: &'a str,
    backend: Option<&'a BackendName>,
    result: Outcome,
    message: String,
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
        let mut so_far = Done::default();
        let ended = self.post().and_then(|done| {
            so_far.clone_from(&done);
            if self.how.dry_run { Ok(End::planned(done)) } else { end(done, start).map_err(taken) }
        });
        tell(&ended, &so_far, self.service, self.verb, self.backend, self.how.json)?;
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
            ClientError::TimedOut | ClientError::Broken(_) if !dry_run => {
                anyhow!(Unclear(format!("service {}: {error}", self.service)))
            }
            error => super::not_done(self.service, error),
        })
    }
}

/// Why the end of what the controller has taken is not known.
fn taken(error: anyhow::Error) -> anyhow::Error {
    if error.is::<TimedOut>() { error } else { anyhow!(Unclear(format!("{error:#}"))) }
}

/// Says what has come of a verb, which had come as far as `so_far` if it did not end as it should. Why not is left
/// to whoever ends the command, but for the document.
pub(super) fn tell(
    ended: &Result<End>,
    so_far: &Done,
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
    say!("{}", serde_json::to_string_pretty(&document(ended, so_far, service, verb, backend))?);
    Ok(())
}

fn document<'a>(
    ended: &'a Result<End>,
    so_far: &'a Done,
    service: &'a ServiceName,
    verb: &'a str,
    backend: Option<&'a BackendName>,
) -> Document<'a> {
    let (result, message, done) = match ended {
        Ok(end) => (end.result, end.message.clone(), &end.done),
        Err(error) => (outcome_of(error), format!("{error:#}"), so_far),
    };
    let (plan, waits) = (&done.plan[..], done.waits.as_deref());
    let (report, cut) = (done.report.as_deref(), done.cut.as_ref());
    Document { service, verb, backend, result, message, plan, waits, report, cut }
}

fn outcome_of(error: &anyhow::Error) -> Outcome {
    if error.is::<TimedOut>() {
        Outcome::TimedOut
    } else if error.is::<Unclear>() {
        Outcome::Unknown
    } else {
        Outcome::Refused
    }
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

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::os::unix::net::UnixListener;
    use std::thread;

    use super::*;

    const NOW: OperateArgs =
        OperateArgs { wait: false, timeout: Duration::from_secs(10), json: true, dry_run: false };

    /// What comes of a wish that a controller answers like this before it breaks off.
    fn outcome(how: &OperateArgs, answer: &'static str) -> (Outcome, String) {
        let directory = tempfile::tempdir().unwrap();
        let socket = directory.path().join("control");
        let listener = UnixListener::bind(&socket).unwrap();
        let served = thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let _ = stream.read(&mut [0; 1024]).unwrap();
            stream.write_all(answer.as_bytes()).unwrap();
        });
        let service = "shop".parse().unwrap();
        let wish = Wish { service: &service, verb: "rejuvenate", backend: None, in_window: false, how };
        let error = wish.post_to(&socket).unwrap_err();
        served.join().unwrap();
        (outcome_of(&error), error.to_string())
    }

    #[test]
    fn what_may_have_begun_is_not_told_as_refused() {
        let ended = "HTTP/1.1 502 Bad Gateway\r\ncontent-length: 0\r\n\r\n";
        let ends = "HTTP/1.1 503 Service Unavailable\r\ncontent-length: 0\r\n\r\n";
        let refused = "HTTP/1.1 409 Conflict\r\ncontent-length: 2\r\n\r\nno";
        let (wait, rehearsal) = (OperateArgs { wait: true, ..NOW }, OperateArgs { dry_run: true, ..NOW });
        for (how, answer, expected) in [
            (&NOW, "", Outcome::Unknown),
            (&wait, "", Outcome::Unknown),
            (&wait, ended, Outcome::Unknown),
            (&wait, ends, Outcome::Refused),
            (&wait, refused, Outcome::Refused),
            (&rehearsal, "", Outcome::Refused),
        ] {
            let (result, message) = outcome(how, answer);
            assert_eq!(result, expected, "{answer}: {message}");
            assert_eq!(message.contains("`baton status`"), result == Outcome::Unknown, "{message}");
        }
    }

    #[test]
    fn what_was_done_before_the_wait_for_its_end_stands_in_the_document() {
        let cut = Cut { backend: "a".parse().unwrap(), flows: 3, then: "which is restarted now".to_owned() };
        let so_far = Done { cut: Some(cut), ..Done::default() };
        let service = "shop".parse().unwrap();
        for (error, expected) in [
            (anyhow!(TimedOut("not so after 1s".to_owned())), Outcome::TimedOut),
            (anyhow!("service shop is gone"), Outcome::Unknown),
        ] {
            let ended = Err(taken(error));
            let document = document(&ended, &so_far, &service, "cut", None);
            assert_eq!((document.result, document.cut), (expected, so_far.cut.as_ref()));
        }
    }
}
