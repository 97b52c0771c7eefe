//! Gathers the records of a run, and what an observer is told while it goes on.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use hdrhistogram::Histogram;
use serde::Serialize;
use tokio::sync::Notify;

use super::latency::{histogram, millis};
use super::record::{Outcome, Record};

/// Names of backends beyond this many are a server's mistake; they are told as `other` in [`Tick::backends`].
const MAX_BACKENDS: usize = 16;

/// How a run stands; told about once a second.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Tick {
    /// Seconds since the start of the run.
    pub t_s: f64,
    /// Requests whose time has come so far.
    pub sent: u64,
    /// Answered as expected so far.
    pub ok: u64,
    /// Failed so far.
    pub failed: u64,
    /// Neither yet.
    pub outstanding: u64,
    /// Median of the corrected latencies of those that succeeded since the last tick, in milliseconds.
    pub p50_ms: f64,
    /// 99th percentile of the same.
    pub p99_ms: f64,
    /// Requests that each backend answered since the last tick; none for answers without a backend's name.
    pub backends: BTreeMap<String, u64>,
}

/// Where every request ends.
pub(super) struct Collector {
    state: Mutex<State>,
    /// Told of every record.
    pub(super) news: Notify,
}

struct State {
    records: Vec<Record>,
    ok: u64,
    failed: u64,
    /// Since the last tick.
    latencies: Histogram<u64>,
    backends: BTreeMap<Arc<str>, u64>,
}

impl Collector {
    /// Makes room for so many records.
    pub(super) fn new(requests: usize) -> Self {
        let records = Vec::with_capacity(requests);
        let state = State { records, ok: 0, failed: 0, latencies: histogram(), backends: BTreeMap::new() };
        Self { state: Mutex::new(state), news: Notify::new() }
    }

    /// Takes the record of a request that is over.
    pub(super) fn push(&self, record: Record) {
        let mut state = self.lock();
        state.failed += u64::from(record.outcome.is_failure());
        if record.outcome == Outcome::Ok {
            state.ok += 1;
            state.latencies.saturating_record(record.corrected_us());
        }
        if let Some(backend) = &record.backend {
            state.count_backend(backend);
        }
        state.records.push(record);
        drop(state);
        self.news.notify_one();
    }

    /// Requests that are over.
    pub(super) fn len(&self) -> usize {
        self.lock().records.len()
    }

    /// How the run stands, and what came since the last call.
    pub(super) fn tick(&self, now_us: u64, sent: usize) -> Tick {
        let mut state = self.lock();
        let at = |quantile| millis(state.latencies.value_at_quantile(quantile));
        let (p50_ms, p99_ms) = (at(0.5), at(0.99));
        state.latencies.reset();
        let backends = std::mem::take(&mut state.backends);
        Tick {
            t_s: (now_us / 1000) as f64 / 1000.0,
            sent: sent as u64,
            ok: state.ok,
            failed: state.failed,
            outstanding: (sent - state.records.len()) as u64,
            p50_ms,
            p99_ms,
            backends: backends.into_iter().map(|(name, count)| (name.to_string(), count)).collect(),
        }
    }

    /// All records in the order of the schedule; leaves none behind.
    pub(super) fn take_records(&self) -> Vec<Record> {
        let mut records = std::mem::take(&mut self.lock().records);
        records.sort_unstable_by_key(|record| record.number);
        records
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Every change is complete before anything can panic.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn count_backend(&mut self, backend: &Arc<str>) {
        let is_room = self.backends.len() < MAX_BACKENDS || self.backends.contains_key(backend);
        let name = if is_room { Arc::clone(backend) } else { Arc::from("other") };
        *self.backends.entry(name).or_default() += 1;
    }
}
