//! The load: `baton load` as a child, its progress and its summary.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde::Deserialize;

use super::child::Guarded;
use super::interrupt::Interrupt;
use super::remove_if_there;

/// Longest time of one request; longer than the slowest kind, so that only a stalled service reaches it.
const TIMEOUT: Duration = Duration::from_secs(5);
/// What the load may take beyond sending: its last answers, audit and output.
const SLACK: Duration = Duration::from_secs(30);
/// Connections open at one time: a stalled service lets all of the timeout pile up.
const CONNECTIONS_A_RATE: u64 = 8;
/// The same in every scenario, so that each gets the same requests at the same times.
const SEED: &str = "1";
const STOP_GRACE: Duration = Duration::from_secs(2);
const POLL: Duration = Duration::from_millis(100);

/// What is to be sent.
pub(super) struct LoadPlan<'a> {
    /// The `baton` binary.
    pub(super) baton: &'a Path,
    /// Address and port.
    pub(super) target: String,
    /// Requests a second.
    pub(super) rate: u32,
    /// How long.
    pub(super) seconds: u64,
    /// The mix.
    pub(super) requests: Vec<String>,
    /// The service's log of executed requests.
    pub(super) executions: &'a Path,
    /// Where the summary goes.
    pub(super) summary: PathBuf,
    /// Where the load's own table goes.
    pub(super) log: File,
}

/// How the load stands; told about once a second.
#[derive(Clone, Debug, Default, Deserialize)]
pub(super) struct Tick {
    /// Seconds since the start.
    pub(super) t_s: f64,
    /// Requests whose time has come.
    pub(super) sent: u64,
    /// Failed so far.
    pub(super) failed: u64,
    /// 99th percentile of the latencies since the last tick, in milliseconds.
    pub(super) p99_ms: f64,
    /// Requests that each backend answered since the last tick.
    #[serde(default)]
    pub(super) backends: BTreeMap<String, u64>,
}

/// What came of it: the part of the summary that the demo shows.
#[derive(Debug, Deserialize)]
pub(super) struct Summary {
    /// Requests whose time came.
    pub(super) requests: u64,
    /// Not answered as expected.
    pub(super) failed: u64,
    /// Failures by cause.
    pub(super) by_cause: BTreeMap<String, u64>,
    /// Longest time without any success.
    pub(super) longest_gap_ms: f64,
    /// Latencies from the intended times.
    pub(super) corrected: Latency,
    /// Executed more than once.
    pub(super) doubled: Option<u64>,
    /// Answered but never executed.
    pub(super) lost: Option<u64>,
}

/// Figures of a latency distribution.
#[derive(Debug, Deserialize)]
pub(super) struct Latency {
    /// Median in milliseconds.
    pub(super) p50_ms: f64,
    /// 99th percentile in milliseconds.
    pub(super) p99_ms: f64,
}

/// A line that the load writes while it runs.
#[derive(Deserialize)]
#[serde(untagged)]
enum Line {
    Tick(Tick),
    Notice { notice: String },
}

impl LoadPlan<'_> {
    /// Sends everything, telling `observe` how it goes, and returns what came of it.
    pub(super) fn run(&self, interrupt: &Interrupt, mut observe: impl FnMut(&Tick)) -> Result<Summary> {
        let mut load = Guarded::spawn(&mut self.command()?, STOP_GRACE)?;
        let lines = lines_of(&mut load)?;
        let limit = Duration::from_secs(self.seconds) + TIMEOUT + SLACK;
        let start = Instant::now();
        let mut said = String::new();
        let mut last = Tick::default();
        loop {
            interrupt.check()?;
            if start.elapsed() > limit {
                bail!("the load did not end within {} s", limit.as_secs());
            }
            match lines.recv_timeout(POLL) {
                Ok(line) => match serde_json::from_str(&line) {
                    Ok(Line::Tick(tick)) => last = tick,
                    Ok(Line::Notice { notice }) => eprintln!("{notice}"),
                    Err(_) => said = line,
                },
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => break,
            }
            observe(&last);
        }
        // Its status is 1 if requests failed, which is what the demo shows; a missing summary is an error.
        let status = load.wait(SLACK)?;
        let text = fs::read_to_string(&self.summary)
            .with_context(|| format!("the load left no summary ({status:?}): {said}"))?;
        serde_json::from_str(&text).with_context(|| format!("read {}", self.summary.display()))
    }

    fn command(&self) -> Result<Command> {
        // An old summary must not be taken for this one's.
        remove_if_there(&self.summary)?;
        let mut command = Command::new(self.baton);
        command
            .arg("load")
            .arg(format!("--url=http://{}", self.target))
            .arg(format!("--rate={}", self.rate))
            .arg(format!("--duration={}s", self.seconds))
            .arg(format!("--timeout={}s", TIMEOUT.as_secs()))
            .arg(format!(
                "--max-connections={}",
                (u64::from(self.rate) * CONNECTIONS_A_RATE).clamp(1000, 60_000)
            ))
            .args(["--arrivals=poisson", "--seed", SEED, "--progress-json"])
            .args(self.requests.iter().flat_map(|spec| ["--request", spec]))
            .arg("--executed")
            .arg(self.executions)
            .arg("--json")
            .arg(&self.summary)
            .stdin(Stdio::null())
            .stdout(self.log.try_clone().context("share a log")?)
            .stderr(Stdio::piped());
        Ok(command)
    }
}

/// The lines of a child's standard error; ends when the child does.
fn lines_of(child: &mut Guarded) -> Result<Receiver<String>> {
    let stderr = child.take_stderr().context("the load's standard error is no pipe")?;
    let (sender, lines) = channel();
    std::thread::spawn(move || {
        let readable = BufReader::new(stderr).lines().map_while(Result::ok);
        // Nobody listens any more once the demo was interrupted.
        readable.for_each(|line| drop(sender.send(line)));
    });
    Ok(lines)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_and_notices_are_told_apart() {
        let tick = r#"{"t_s":1.0,"sent":500,"ok":490,"failed":10,"outstanding":0,"p50_ms":1.5,"p99_ms":9.0,"backends":{"a":490}}"#;
        assert!(matches!(serde_json::from_str(tick), Ok(Line::Tick(Tick { sent: 500, failed: 10, .. }))));
        assert!(matches!(serde_json::from_str(r#"{"notice":"late"}"#), Ok(Line::Notice { .. })));
        assert!(serde_json::from_str::<Line>("error: no").is_err());
    }

    #[test]
    fn a_summary_is_read_whatever_else_it_says() {
        let text = r#"{"run":"x","requests":10,"ok":8,"failed":2,"by_cause":{"refused":2},"longest_gap_ms":12.5,
                       "corrected":{"p50_ms":1.0,"p90_ms":2.0,"p99_ms":3.0},"doubled":0,"lost":null}"#;
        let summary: Summary = serde_json::from_str(text).unwrap();
        assert_eq!((summary.requests, summary.failed, summary.lost), (10, 2, None));
    }
}
