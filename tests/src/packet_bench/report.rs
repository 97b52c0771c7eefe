//! The figures as they are handed on: the JSON that `cargo xtask bench packet` reads and keeps.

use std::fs;

use baton::dataplane::ProgramFacts;
use serde::Serialize;

use super::stats::Summary;

/// All that one run of the bench has to say.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// Where it was measured.
    pub machine: Machine,
    /// How often each case was measured.
    pub rounds: u32,
    /// The figures, in the order of the cases.
    pub cases: Vec<Measured>,
    /// Cases that could not be measured.
    pub absent: Vec<Absent>,
    /// Baton's programs.
    pub programs: Vec<ProgramFacts>,
}

/// What a figure depends on besides the programs.
#[derive(Clone, Debug, Serialize)]
pub struct Machine {
    /// Release of the kernel.
    pub kernel: String,
    /// Name of the processor.
    pub processor: String,
    /// How many CPUs there are.
    pub cpus: usize,
}

/// The figures of one case.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Measured {
    /// Its name.
    pub name: &'static str,
    /// Flows that it visits.
    pub flows: u32,
    /// What they cost.
    #[serde(flatten)]
    pub figures: Figures,
}

/// Figures with their unit.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[serde(untagged)]
pub enum Figures {
    /// Nanoseconds a packet.
    Packet {
        /// In the quickest round.
        net_min_ns: f64,
        /// In the middle one.
        net_median_ns: f64,
    },
    /// Milliseconds a scan.
    Scan {
        /// The quickest one.
        net_min_ms: f64,
        /// The one in the middle.
        net_median_ms: f64,
    },
}

/// A case that was not measured.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Absent {
    /// Its name.
    pub name: &'static str,
    /// Why.
    pub why: String,
}

impl Machine {
    /// This one.
    pub fn this() -> Self {
        let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
        let processors = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let processor = processors.lines().find_map(|line| line.strip_prefix("model name"));
        Self {
            kernel: kernel.trim().to_owned(),
            processor: processor.map_or("", |name| name.trim_start_matches([':', ' ', '\t'])).to_owned(),
            cpus: processors.lines().filter(|line| line.starts_with("processor")).count(),
        }
    }
}

impl Figures {
    pub(super) fn packet(net: Summary) -> Self {
        Self::Packet { net_min_ns: tenth(net.minimum), net_median_ns: tenth(net.median) }
    }

    pub(super) fn scan(ms: Summary) -> Self {
        Self::Scan { net_min_ms: tenth(ms.minimum), net_median_ms: tenth(ms.median) }
    }
}

/// More digits would be noise.
fn tenth(figure: f64) -> f64 {
    (figure * 10.0).round() / 10.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_case_is_one_flat_object_with_the_unit_in_its_names() {
        let net = Summary { minimum: 181.04, median: 220.25 };
        let packet = Measured { name: "tcp4_est_1m", flows: 1 << 20, figures: Figures::packet(net) };
        assert_eq!(
            serde_json::to_string(&packet).unwrap(),
            r#"{"name":"tcp4_est_1m","flows":1048576,"net_min_ns":181.0,"net_median_ns":220.3}"#
        );
        let scan = Measured { name: "drain_scan_1m_ms", flows: 1 << 20, figures: Figures::scan(net) };
        assert_eq!(
            serde_json::to_string(&scan).unwrap(),
            r#"{"name":"drain_scan_1m_ms","flows":1048576,"net_min_ms":181.0,"net_median_ms":220.3}"#
        );
    }
}
