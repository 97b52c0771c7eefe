//! Writes a run as CSV: every request, or one row a second.

use std::collections::{BTreeMap, BTreeSet};
use std::io;

use super::engine::Report;
use super::latency::{histogram, millis};
use super::record::{Outcome, Record};

/// Writes one row for every request, in the order of the schedule. Times are microseconds since the start of the
/// run; what does not exist is empty.
pub fn write_requests_csv(report: &Report, to: impl io::Write) -> io::Result<()> {
    let mut csv = csv::Writer::from_writer(to);
    csv.write_record([
        "id",
        "kind",
        "intended_us",
        "start_us",
        "connected_us",
        "first_byte_us",
        "end_us",
        "outcome",
        "status",
        "backend",
        "body_bytes",
        "connection",
        "local_port",
    ])?;
    for record in &report.records {
        let kind = report.plan.kinds.get(usize::from(record.kind));
        csv.write_record([
            format!("{}-{}", report.plan.run, record.number).as_str(),
            kind.map_or("", |kind| kind.name.as_str()),
            &record.intended_us.to_string(),
            &record.start_us.to_string(),
            &text(record.connected_us),
            &text(record.first_byte_us),
            &record.end_us.to_string(),
            &record.outcome.cause(),
            &text(record.status),
            record.backend.as_deref().unwrap_or_default(),
            &record.body_bytes.to_string(),
            &text(record.connection),
            &text(record.local_port),
        ])?;
    }
    csv.flush()
}

/// Writes one row for every second of the run. Requests are intended and started in the second of that time and
/// `ok` or `failed` in the second of their end; latencies are the corrected ones of those that ended well in it.
/// `causes` reads `refused:3;http_503:1`; a column `backend_NAME` counts what each backend answered.
pub fn write_seconds_csv(report: &Report, to: impl io::Write) -> io::Result<()> {
    let names: BTreeSet<&str> =
        report.records.iter().filter_map(|record| record.backend.as_deref()).collect();
    let mut csv = csv::Writer::from_writer(to);
    let fixed = ["second", "intended", "started", "ok", "failed", "p50_ms", "p99_ms", "max_ms", "causes"];
    let columns = names.iter().map(|name| format!("backend_{name}"));
    csv.write_record(fixed.iter().map(ToString::to_string).chain(columns))?;
    let mut ended = by_second(&report.records, |record| record.end_us);
    let intended = by_second(&report.records, |record| record.intended_us);
    let started = by_second(&report.records, |record| record.start_us);
    for second in 0..ended.len().max(intended.len()).max(started.len()) {
        let count = |seconds: &[Vec<&Record>]| seconds.get(second).map_or(0, Vec::len).to_string();
        let over = ended.get_mut(second).map(std::mem::take).unwrap_or_default();
        let mut row = vec![second.to_string(), count(&intended), count(&started)];
        row.extend(outcomes_of(&over));
        let answered_by = |name: &&str| over.iter().filter(|r| r.backend.as_deref() == Some(*name)).count();
        row.extend(names.iter().map(|name| answered_by(name).to_string()));
        csv.write_record(row)?;
    }
    csv.flush()
}

/// The columns from `ok` to `causes` for the requests that ended in one second.
fn outcomes_of(over: &[&Record]) -> [String; 6] {
    let mut latencies = histogram();
    let mut causes = BTreeMap::<_, u64>::new();
    for record in over {
        if record.outcome == Outcome::Ok {
            latencies.saturating_record(record.corrected_us());
        } else {
            *causes.entry(record.outcome.cause()).or_default() += 1;
        }
    }
    let at = |quantile| format!("{:.3}", millis(latencies.value_at_quantile(quantile)));
    let failed = over.iter().filter(|record| record.outcome.is_failure()).count();
    let causes: Vec<_> = causes.iter().map(|(cause, count)| format!("{cause}:{count}")).collect();
    [latencies.len().to_string(), failed.to_string(), at(0.5), at(0.99), at(1.0), causes.join(";")]
}

/// Sorts records into the seconds of a time of theirs.
fn by_second(records: &[Record], time_us: impl Fn(&Record) -> u64) -> Vec<Vec<&Record>> {
    let mut seconds: Vec<Vec<&Record>> = Vec::new();
    for record in records {
        let second = (time_us(record) / 1_000_000) as usize;
        if seconds.len() <= second {
            seconds.resize_with(second + 1, Vec::new);
        }
        seconds[second].push(record);
    }
    seconds
}

fn text<T: ToString>(value: Option<T>) -> String {
    value.map(|value| value.to_string()).unwrap_or_default()
}
