//! Runs a plan: sends every request at its time, whatever has become of the earlier ones.
//!
//! One loop waits for the next intended time; each request is a task of its own, so that no request can hold
//! up another. Works on any tokio runtime with IO and time enabled, a current-thread one included.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use hdrhistogram::Histogram;
use thiserror::Error;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until};

use super::attempt::{Attempts, Clock};
use super::collect::Tick;
use super::executed::Executions;
use super::limits::{LimitError, make_room};
use super::pacer::Pacer;
use super::plan::{Plan, PlanError};
use super::record::Record;
use super::schedule::{Arrival, schedule};
use super::stop::Stop;
use super::summary::{Summary, summarise};

const TICK: Duration = Duration::from_secs(1);
/// How soon a connection that the server closed while idle is closed on this side, so that it counts as ended.
const SWEEP: Duration = Duration::from_millis(100);
/// Every request has its deadline; one that is not over this long after it will never be.
const GRACE: Duration = Duration::from_secs(30);

/// Why a run could not be done. Failed requests are no such reason: they are what a run is to find.
#[derive(Debug, Error)]
pub enum RunError {
    /// The plan makes no sense.
    #[error(transparent)]
    Plan(#[from] PlanError),
    /// The connections that the plan allows are more than the process may have.
    #[error(transparent)]
    Limit(#[from] LimitError),
    /// The kernel's timer.
    #[error("cannot use a timer: {0}; see whether the process is out of file descriptors")]
    Timer(#[source] io::Error),
    /// The runtime.
    #[error("cannot start the asynchronous runtime: {0}; see whether the process is out of file descriptors")]
    Runtime(#[source] io::Error),
    /// Requests that neither ended nor met their deadline.
    #[error("{0} requests did not end although their time was over; this is a defect of the load generator")]
    Stuck(usize),
}

/// Is told how a run goes on. Every method has a default that does nothing, and `()` observes nothing.
///
/// Called from the loop that sends requests: what takes long here makes requests late.
pub trait Observer: Send {
    /// About once a second, and once at the end.
    fn tick(&mut self, tick: &Tick) {
        let _ = tick;
    }

    /// Something that a user should know.
    fn notice(&mut self, text: &str) {
        let _ = text;
    }
}

impl Observer for () {}

/// What came of a run.
#[derive(Clone, Debug)]
pub struct Report {
    /// What was to be done.
    pub plan: Plan,
    /// Every request whose time came, in the order of the schedule.
    pub records: Vec<Record>,
    /// The figures.
    pub summary: Summary,
    /// Latencies of successful requests from their intended times, in microseconds.
    pub corrected: Histogram<u64>,
    /// The same from their actual starts.
    pub uncorrected: Histogram<u64>,
}

impl Report {
    /// Adds to the summary what the servers' execution logs say.
    pub fn audit(&mut self, executions: &Executions) {
        self.summary.doubled = Some(executions.doubled.len() as u64);
        self.summary.lost = Some(executions.lost.len() as u64);
        self.summary.executed_but_failed = Some(executions.executed_but_failed.len() as u64);
    }
}

/// Runs a plan to its end.
pub async fn run(plan: &Plan, observer: &mut dyn Observer) -> Result<Report, RunError> {
    run_until(plan, observer, &Stop::new()).await
}

/// Runs a plan on a current-thread runtime of its own, as a thread inside a network namespace needs it.
///
/// Must not be called from within a runtime.
pub fn run_blocking(plan: &Plan, observer: &mut dyn Observer) -> Result<Report, RunError> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.map_err(RunError::Runtime)?.block_on(run(plan, observer))
}

/// Runs a plan until its end or until it is told to stop, whichever is first.
pub async fn run_until(plan: &Plan, observer: &mut dyn Observer, stop: &Stop) -> Result<Report, RunError> {
    plan.validate()?;
    if let Some((from, to)) = make_room(plan.max_connections)? {
        observer.notice(&format!("limit of open files raised from {from} to {to}"));
    }
    let arrivals = schedule(plan);
    let pacer = Pacer::new().map_err(RunError::Timer)?;
    let attempts = Arc::new(Attempts::new(plan, arrivals.len(), stop.clone()));
    let sent = send_all(&arrivals, &attempts, &pacer, observer).await?;
    attempts.connections.close().await;
    let elapsed_us = attempts.clock.now_us();
    observer.tick(&attempts.collector.tick(elapsed_us, sent));
    let records = attempts.collector.take_records();
    let stopped_early = sent < arrivals.len();
    let (summary, latencies) =
        summarise(plan, &records, attempts.connections.counts(), (attempts.clock.started(), stopped_early));
    let (corrected, uncorrected) = (latencies.corrected, latencies.uncorrected);
    Ok(Report { plan: plan.clone(), records, summary, corrected, uncorrected })
}

/// Sends every request at its time and waits for the outcomes; returns how many were sent.
async fn send_all(
    arrivals: &[Arrival],
    attempts: &Arc<Attempts>,
    pacer: &Pacer,
    observer: &mut dyn Observer,
) -> Result<usize, RunError> {
    let (clock, collector): (&Clock, _) = (&attempts.clock, &attempts.collector);
    let mut ticks = every(TICK);
    let mut sweeps = every(SWEEP);
    let (mut sent, mut end) = (0, arrivals.len());
    // Set when the last request has been sent.
    let mut give_up = None;
    loop {
        let now_us = clock.now_us();
        while let Some(arrival) = arrivals[..end].get(sent).filter(|arrival| arrival.at_us <= now_us) {
            tokio::spawn(Arc::clone(attempts).perform(sent as u64, *arrival));
            sent += 1;
        }
        if sent == end {
            if collector.len() == sent {
                return Ok(sent);
            }
            give_up.get_or_insert_with(|| Instant::now() + attempts.longest_timeout() + GRACE);
        }
        let wait_us = arrivals[..end].get(sent).map_or(0, |next| next.at_us.saturating_sub(now_us));
        tokio::select! {
            paced = pacer.sleep(Duration::from_micros(wait_us)), if sent < end => {
                paced.map_err(RunError::Timer)?;
            }
            () = attempts.stop.finishing(), if sent < end => end = sent,
            () = collector.news.notified(), if sent == end => {}
            () = sleep_until(give_up.unwrap_or_else(Instant::now)), if give_up.is_some() => {
                return Err(RunError::Stuck(sent - collector.len()));
            }
            _ = ticks.tick() => observer.tick(&collector.tick(clock.now_us(), sent)),
            _ = sweeps.tick() => attempts.sweep(),
        }
    }
}

/// A beat that starts one period from now and skips what it misses.
fn every(period: Duration) -> tokio::time::Interval {
    let mut beat = interval(period);
    beat.reset();
    beat.set_missed_tick_behavior(MissedTickBehavior::Skip);
    beat
}
