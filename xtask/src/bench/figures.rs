//! What the bench has found, as it says it in JSON.

use std::collections::BTreeMap;

use anyhow::{Context, Result};
use serde::Deserialize;
use serde_json::Value;

/// The document.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Figures {
    /// Where it was measured.
    pub(super) machine: Machine,
    /// How often each case was measured.
    pub(super) rounds: u32,
    /// In the order in which they were measured.
    pub(super) cases: Vec<Case>,
    /// What could not be measured.
    pub(super) absent: Vec<Absent>,
    /// Baton's programs.
    pub(super) programs: Vec<Program>,
}

/// What figures depend on besides the programs.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct Machine {
    pub(super) kernel: String,
    pub(super) processor: String,
    pub(super) cpus: usize,
}

/// One case. The names of its two figures end in their unit.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct Case {
    pub(super) name: String,
    pub(super) flows: u32,
    #[serde(flatten)]
    figures: BTreeMap<String, f64>,
}

/// A case that could not be measured.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct Absent {
    pub(super) name: String,
    pub(super) why: String,
}

/// What the kernel says of a loaded program.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub(crate) struct Program {
    /// Its name.
    pub(crate) name: String,
    /// Instructions that the verifier walked through.
    pub(crate) verified_instructions: u32,
    /// Instructions that it has.
    pub(crate) instructions: u32,
    /// Bytes of machine code.
    pub(crate) jited_bytes: u32,
}

impl Figures {
    /// Reads the document.
    pub(super) fn read(document: &Value) -> Result<Self> {
        Self::deserialize(document).context("the bench has printed something else than its figures")
    }

    /// The smallest figure of a case, if it was measured.
    pub(super) fn minimum(&self, name: &str) -> Option<f64> {
        self.cases.iter().find(|case| case.name == name)?.minimum()
    }
}

impl Case {
    /// The unit of its figures.
    pub(super) fn unit(&self) -> &'static str {
        if self.figures.contains_key("net_min_ms") { "ms" } else { "ns" }
    }

    /// In the quickest round.
    pub(super) fn minimum(&self) -> Option<f64> {
        self.figures.get(&format!("net_min_{}", self.unit())).copied()
    }

    /// In the round in the middle.
    pub(super) fn median(&self) -> Option<f64> {
        self.figures.get(&format!("net_median_{}", self.unit())).copied()
    }
}

#[cfg(test)]
pub(super) mod tests {
    use serde_json::json;

    use super::*;

    /// Figures of these cases, each as median three quarters more than as minimum.
    pub(in crate::bench) fn figures(minima: &[(&str, f64)]) -> Figures {
        let case = |(name, minimum): &(&str, f64)| {
            let unit = name.rsplit('_').next().filter(|unit| *unit == "ms").unwrap_or("ns");
            json!({
                "name": name,
                "flows": 1,
                format!("net_min_{unit}"): minimum,
                format!("net_median_{unit}"): minimum * 1.75,
            })
        };
        let program =
            json!({ "name": "baton", "verified_instructions": 9, "instructions": 8, "jited_bytes": 7 });
        let document = json!({
            "machine": { "kernel": "6.18", "processor": "some", "cpus": 2 },
            "rounds": 21,
            "cases": minima.iter().map(case).collect::<Vec<_>>(),
            "absent": [{ "name": "dsr_est_1m", "why": "not yet" }],
            "programs": [program],
        });
        Figures::read(&document).unwrap()
    }

    #[test]
    fn figures_are_found_under_the_unit_that_they_have() {
        let figures = figures(&[("tcp4_est_1", 40.0), ("drain_scan_1m_ms", 12.0)]);
        let shown: Vec<_> = figures.cases.iter().map(|case| (case.unit(), case.median())).collect();
        assert_eq!(shown, [("ns", Some(70.0)), ("ms", Some(21.0))]);
        assert_eq!(figures.minimum("drain_scan_1m_ms"), Some(12.0));
        assert_eq!(figures.minimum("tcp6_est_1"), None);
        assert_eq!(figures.programs[0].verified_instructions, 9);
    }

    #[test]
    fn something_else_is_refused() {
        let error = Figures::read(&json!({ "cases": [] })).unwrap_err();
        assert!(format!("{error:#}").contains("missing field `machine`"), "{error:#}");
    }
}
