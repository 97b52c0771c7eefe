//! What came of a scenario, as the JSON document and the table that the demo ends with.

use std::collections::BTreeMap;

use comfy_table::{Attribute, Cell, CellAlignment, Color, ContentArrangement, Table, presets};
use serde::Serialize;
use serde_json::Value;

use super::Scenario;
use super::load::Summary;

/// Outcomes of a drain report that end with a fresh backend.
const COMPLETED: &str = "completed";
const COMPLETED_WITH_CUTS: &str = "completed_with_cuts";

/// What came of one scenario.
#[derive(Debug, Serialize)]
pub(super) struct Outcome {
    name: Scenario,
    /// Requests whose time came.
    requests: u64,
    /// Not answered as expected, or executed twice, or answered without having been executed.
    failed: u64,
    /// The same by cause.
    by_cause: BTreeMap<String, u64>,
    /// Longest time without any success.
    longest_gap_ms: f64,
    /// Median latency of the successful, from the intended time.
    p50_ms: f64,
    /// 99th percentile of the same.
    p99_ms: f64,
    /// Rejuvenations, or restarts by the plain supervisor.
    rejuvenations: u64,
    /// The drain report of each rejuvenation.
    reports: Vec<Value>,
}

/// The whole document.
#[derive(Serialize)]
pub(super) struct Document<'a> {
    /// In the order in which they ran.
    pub(super) scenarios: &'a [Outcome],
}

impl Outcome {
    /// Joins what the load saw with what was done to the service.
    pub(super) fn new(name: Scenario, summary: Summary, rejuvenations: u64, reports: Vec<Value>) -> Self {
        let Summary { requests, mut failed, mut by_cause, longest_gap_ms, corrected, doubled, lost } =
            summary;
        for (cause, count) in [("execution_doubled", doubled), ("execution_lost", lost)] {
            let count = count.unwrap_or(0);
            if count > 0 {
                failed += count;
                by_cause.insert(cause.to_owned(), count);
            }
        }
        let (p50_ms, p99_ms) = (corrected.p50_ms, corrected.p99_ms);
        Self { name, requests, failed, by_cause, longest_gap_ms, p50_ms, p99_ms, rejuvenations, reports }
    }

    /// Joins what the load saw under Baton with the drain reports; those that tell of a cycle that was given
    /// up are shown, but not counted.
    pub(super) fn under_baton(summary: Summary, reports: Vec<Value>) -> Self {
        let ended = reports.iter().filter(|report| report["outcome"] == COMPLETED || has_cuts(report));
        let rejuvenations = ended.count() as u64;
        Self::new(Scenario::Baton, summary, rejuvenations, reports)
    }

    /// Whether this is Baton's scenario and it lost something: a request, or a connection that carried none.
    pub(super) fn breaks_the_promise(&self) -> bool {
        self.name == Scenario::Baton && (self.failed > 0 || self.reports.iter().any(has_cuts))
    }

    /// Whether this is Baton's scenario and it had nothing to do, so that it proves nothing.
    pub(super) fn proves_nothing(&self) -> bool {
        self.name == Scenario::Baton && self.rejuvenations == 0
    }

    fn causes(&self) -> String {
        let causes: Vec<_> = self.by_cause.iter().map(|(cause, count)| format!("{cause} {count}")).collect();
        if causes.is_empty() { "-".to_owned() } else { causes.join("\n") }
    }
}

/// Whether a drain report tells of connections that were cut.
fn has_cuts(report: &Value) -> bool {
    report["outcome"] == COMPLETED_WITH_CUTS
}

/// The table of all scenarios.
pub(super) fn table(outcomes: &[Outcome]) -> Table {
    let mut table = Table::new();
    table.load_preset(presets::UTF8_FULL_CONDENSED).set_content_arrangement(ContentArrangement::Disabled);
    table.set_header([
        "scenario",
        "requests",
        "failed",
        "by cause",
        "longest\ngap ms",
        "p50 ms",
        "p99 ms",
        "restarts or\nrejuvenations",
    ]);
    for outcome in outcomes {
        let number = |text: String| Cell::new(text).set_alignment(CellAlignment::Right);
        let failed_color = if outcome.failed == 0 { Color::Green } else { Color::Red };
        table.add_row([
            Cell::new(outcome.name).add_attribute(Attribute::Bold),
            number(outcome.requests.to_string()),
            number(outcome.failed.to_string()).fg(failed_color),
            Cell::new(outcome.causes()),
            number(format!("{:.0}", outcome.longest_gap_ms)),
            number(format!("{:.1}", outcome.p50_ms)),
            number(format!("{:.1}", outcome.p99_ms)),
            number(outcome.rejuvenations.to_string()),
        ]);
    }
    table
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn summary(failed: u64, lost: u64) -> Summary {
        let text = format!(
            r#"{{"requests":100,"failed":{failed},"by_cause":{{}},"longest_gap_ms":5.0,
                 "corrected":{{"p50_ms":1.0,"p99_ms":2.0}},"doubled":0,"lost":{lost}}}"#
        );
        serde_json::from_str(&text).unwrap()
    }

    #[test]
    fn a_lost_execution_counts_as_a_failure() {
        let outcome = Outcome::new(Scenario::Baton, summary(0, 2), 3, Vec::new());
        assert!(outcome.breaks_the_promise());
        assert_eq!(outcome.by_cause, BTreeMap::from([("execution_lost".to_owned(), 2)]));
    }

    #[test]
    fn a_cut_connection_breaks_the_promise_and_a_cycle_given_up_does_not_count() {
        let reports =
            |outcomes: &[&str]| outcomes.iter().map(|outcome| json!({ "outcome": outcome })).collect();
        let calm = Outcome::under_baton(summary(0, 0), reports(&["completed", "undone", "completed"]));
        assert_eq!((calm.rejuvenations, calm.reports.len(), calm.breaks_the_promise()), (2, 3, false));
        let cut = Outcome::under_baton(summary(0, 0), reports(&["completed", "completed_with_cuts"]));
        assert_eq!((cut.rejuvenations, cut.breaks_the_promise()), (2, true));
    }

    #[test]
    fn only_baton_promises_anything() {
        assert!(!Outcome::new(Scenario::Restart, summary(7, 0), 1, Vec::new()).breaks_the_promise());
        assert!(!Outcome::new(Scenario::Baton, summary(0, 0), 1, Vec::new()).breaks_the_promise());
        assert!(Outcome::new(Scenario::Baton, summary(0, 0), 0, Vec::new()).proves_nothing());
    }

    #[test]
    fn the_document_has_the_keys_that_scripts_rely_on() {
        let outcomes = [Outcome::new(Scenario::Alone, summary(1, 0), 0, Vec::new())];
        let document = serde_json::to_value(Document { scenarios: &outcomes }).unwrap();
        let scenario = document["scenarios"][0].as_object().unwrap();
        let keys: Vec<_> = scenario.keys().map(String::as_str).collect();
        let mut expected = [
            "name",
            "requests",
            "failed",
            "by_cause",
            "longest_gap_ms",
            "p50_ms",
            "p99_ms",
            "rejuvenations",
            "reports",
        ];
        expected.sort_unstable();
        assert_eq!(keys, expected);
        assert_eq!(scenario["name"], "alone");
    }
}
