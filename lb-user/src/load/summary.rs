//! The figures of a run, computed from its records and nothing else.

use std::collections::BTreeMap;

use serde::Serialize;

use super::connections::ConnectionCounts;
use super::latency::{Latencies, Latency, millis};
use super::plan::Plan;
use super::record::{Outcome, Record};
use crate::clock::Now;

/// What stands for the backend of requests whose response named none, or that got no response.
const UNKNOWN_BACKEND: &str = "unknown";

/// The figures of a run.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Summary {
    /// The run's name in every request id.
    pub run: String,
    /// Where the load went.
    pub target: String,
    /// When the run started, in milliseconds since 1970-01-01 UTC.
    pub started_unix_ms: u64,
    /// From the start of the run to its last outcome.
    pub elapsed_ms: f64,
    /// Whether the run was stopped before all of its requests were sent.
    pub stopped_early: bool,
    /// Requests whose time came: `ok` + `failed` + `abandoned`.
    pub requests: u64,
    /// Answered as expected.
    pub ok: u64,
    /// Not answered as expected, whatever the cause.
    pub failed: u64,
    /// Given up because the run was stopped at once.
    pub abandoned: u64,
    /// Failures by the names of their causes.
    pub by_cause: BTreeMap<String, u64>,
    /// Figures of each kind of request.
    pub by_kind: BTreeMap<String, KindSummary>,
    /// Figures of each backend; `unknown` stands for requests without one.
    pub by_backend: BTreeMap<String, BackendSummary>,
    /// Length of the longest gap.
    pub longest_gap_ms: f64,
    /// Start of the longest gap, since the start of the run.
    pub longest_gap_at_ms: f64,
    /// Latencies of successful requests from their intended times.
    pub corrected: Latency,
    /// The same from their actual starts.
    pub uncorrected: Latency,
    /// How late this side was at worst in starting a request; part of the corrected latencies.
    pub max_late_ms: f64,
    /// Requests a second that were planned.
    pub rate_planned: f64,
    /// Requests a second that were started, over the time in which they were intended.
    pub rate_achieved: f64,
    /// What became of connections.
    pub connections: ConnectionCounts,
    /// Executed more than once, by the execution logs; `None` without logs.
    pub doubled: Option<u64>,
    /// Answered as expected but never executed, by the execution logs; `None` without logs.
    pub lost: Option<u64>,
    /// Failed although executed, by the execution logs; `None` without logs.
    pub executed_but_failed: Option<u64>,
}

/// The figures of one kind of request.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct KindSummary {
    /// Requests whose time came.
    pub requests: u64,
    /// Answered as expected.
    pub ok: u64,
    /// Not answered as expected.
    pub failed: u64,
    /// Failures by the names of their causes.
    pub by_cause: BTreeMap<String, u64>,
    /// Latencies of successful requests from their intended times.
    pub corrected: Latency,
    /// The same from their actual starts.
    pub uncorrected: Latency,
}

/// The figures of one backend.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct BackendSummary {
    /// Requests that it answered, at least in part.
    pub requests: u64,
    /// Answered as expected.
    pub ok: u64,
    /// Not answered as expected.
    pub failed: u64,
}

/// A time in which nothing succeeded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Gap {
    /// When it began, in microseconds since the start of the run.
    pub at_us: u64,
    /// How long it lasted, in microseconds.
    pub length_us: u64,
}

impl Summary {
    /// Whether it is certain that nothing was lost: every request was answered as expected, and no execution is
    /// missing or doubled as far as logs tell.
    pub fn is_clean(&self) -> bool {
        self.abandoned == 0 && !self.is_anything_lost()
    }

    /// Whether a request failed, or was lost or doubled as far as logs tell.
    pub fn is_anything_lost(&self) -> bool {
        self.failed > 0 || self.lost.unwrap_or(0) > 0 || self.doubled.unwrap_or(0) > 0
    }
}

/// Computes the figures of a run from its records, which are in the order of the schedule.
pub(super) fn summarise(
    plan: &Plan,
    records: &[Record],
    connections: ConnectionCounts,
    (started, stopped_early): (Now, bool),
) -> (Summary, Latencies) {
    let mut all = Tally::new();
    let mut kinds: Vec<Tally> = plan.kinds.iter().map(|_| Tally::new()).collect();
    let mut by_backend = BTreeMap::<_, BackendSummary>::new();
    for record in records {
        all.add(record);
        if let Some(kind) = kinds.get_mut(usize::from(record.kind)) {
            kind.add(record);
        }
        let backend = record.backend.as_deref().unwrap_or(UNKNOWN_BACKEND);
        if !by_backend.contains_key(backend) {
            by_backend.insert(backend.to_owned(), BackendSummary::default());
        }
        if let Some(figures) = by_backend.get_mut(backend) {
            figures.requests += 1;
            figures.ok += u64::from(record.outcome == Outcome::Ok);
            figures.failed += u64::from(record.outcome.is_failure());
        }
    }
    let gap = longest_gap(records);
    let late_us = records.iter().map(|record| record.start_us.saturating_sub(record.intended_us));
    let summary = Summary {
        run: plan.run.clone(),
        target: plan.target.to_string(),
        started_unix_ms: started.unix_ms,
        elapsed_ms: millis(records.iter().map(|record| record.end_us).max().unwrap_or(0)),
        stopped_early,
        requests: all.requests,
        ok: all.ok,
        failed: all.failed,
        abandoned: all.requests - all.ok - all.failed,
        by_kind: plan
            .kinds
            .iter()
            .map(|kind| kind.name.clone())
            .zip(kinds.iter().map(Tally::of_kind))
            .collect(),
        by_backend,
        longest_gap_ms: millis(gap.length_us),
        longest_gap_at_ms: millis(gap.at_us),
        corrected: Latency::of(&all.latencies.corrected),
        uncorrected: Latency::of(&all.latencies.uncorrected),
        max_late_ms: millis(late_us.max().unwrap_or(0)),
        rate_planned: plan.rate,
        rate_achieved: rate_achieved(plan, records, stopped_early),
        connections,
        by_cause: all.by_cause,
        doubled: None,
        lost: None,
        executed_but_failed: None,
    };
    (summary, all.latencies)
}

/// The longest time between one successful completion and the next. The start of the run counts as one; so does
/// its end, which is the last intended time or the last failure, whichever is later: slow answers that trickle
/// in when nothing more is sent are no gap.
pub(super) fn longest_gap(records: &[Record]) -> Gap {
    let succeeded = |record: &&Record| record.outcome == Outcome::Ok;
    let failures = records.iter().filter(|record| !succeeded(record)).map(|record| record.end_us);
    let over = records.iter().map(|record| record.intended_us).chain(failures).max();
    let Some(over_us) = over else { return Gap::default() };
    let successes = records.iter().filter(succeeded).map(|record| record.end_us);
    let mut moments: Vec<u64> = successes.filter(|end_us| *end_us < over_us).collect();
    moments.extend([0, over_us]);
    moments.sort_unstable();
    let gaps = moments.windows(2).map(|pair| Gap { at_us: pair[0], length_us: pair[1] - pair[0] });
    // The first of equals, so that the answer does not depend on how they are compared.
    gaps.reduce(|longest, gap| if gap.length_us > longest.length_us { gap } else { longest })
        .unwrap_or_default()
}

/// Requests started a second: over the planned time, or, if starting the last of them took longer than planned
/// or the run was stopped, over the time that it took.
fn rate_achieved(plan: &Plan, records: &[Record], stopped_early: bool) -> f64 {
    let last_start_us = records.iter().map(|record| record.start_us).max().unwrap_or(0);
    let planned_us = plan.duration.as_micros() as u64;
    let time_us = if stopped_early { last_start_us } else { last_start_us.max(planned_us) };
    records.len() as f64 * 1e6 / time_us.max(1) as f64
}

/// Counts and latencies of some requests.
struct Tally {
    requests: u64,
    ok: u64,
    failed: u64,
    by_cause: BTreeMap<String, u64>,
    latencies: Latencies,
}

impl Tally {
    fn new() -> Self {
        Self { requests: 0, ok: 0, failed: 0, by_cause: BTreeMap::new(), latencies: Latencies::new() }
    }

    fn add(&mut self, record: &Record) {
        self.requests += 1;
        if record.outcome == Outcome::Ok {
            self.ok += 1;
            self.latencies.add(record);
        } else if record.outcome.is_failure() {
            self.failed += 1;
            *self.by_cause.entry(record.outcome.cause().into_owned()).or_default() += 1;
        }
    }

    fn of_kind(&self) -> KindSummary {
        KindSummary {
            requests: self.requests,
            ok: self.ok,
            failed: self.failed,
            by_cause: self.by_cause.clone(),
            corrected: Latency::of(&self.latencies.corrected),
            uncorrected: Latency::of(&self.latencies.uncorrected),
        }
    }
}
