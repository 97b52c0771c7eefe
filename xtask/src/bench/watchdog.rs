//! `cargo xtask bench watchdog`: builds the lab, runs it as root, shows and keeps how soon faults were found.

use std::fs;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::Args;
use comfy_table::{Attribute, Cell, CellAlignment, ContentArrangement, Table, presets};
use serde::Deserialize;
use serde_json::Value;

use crate::setup::{self, Scope};
use crate::{cargo, privilege, run as processes};

/// Milliseconds until the watchdog finds what is wrong with a backend, and until clients are served again.
///
/// Eight faults in the lab, each made several times under load with checks as they are for everybody, and a
/// healthy backend loaded to saturation, which is to be left alone. Needs root; a trial takes about 6 seconds.
#[derive(Args, Debug)]
pub(crate) struct WatchdogArgs {
    /// Write the figures to this file.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// How often each fault is made.
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=1000))]
    trials: u32,
    /// Only these faults: killed, stopped, silent, error, slow, closed, reset, cut.
    #[arg(long, value_name = "FAULT", value_delimiter = ',')]
    only: Vec<String>,
    /// How many seconds a healthy backend is loaded to saturation; 0 leaves it out.
    #[arg(long, value_name = "SECONDS", default_value_t = 120)]
    saturate: u64,
}

/// What the bench has found, as it says it in JSON.
#[derive(Debug, Deserialize)]
struct Figures {
    machine: Machine,
    trials: u32,
    faults: Vec<Fault>,
    false_ejections: Option<Quiet>,
}

#[derive(Debug, Deserialize)]
struct Machine {
    kernel: String,
    processor: String,
    cpus: usize,
}

#[derive(Debug, Deserialize)]
struct Fault {
    name: String,
    completed: u32,
    missed: Vec<String>,
    detect_ms: Option<Spread>,
    recover_ms: Option<Spread>,
    back_ms: Option<Spread>,
    failed_requests: Option<Spread>,
    late_requests: Option<Spread>,
}

#[derive(Clone, Copy, Debug, Deserialize)]
struct Spread {
    min: f64,
    median: f64,
    max: f64,
}

#[derive(Debug, Deserialize)]
struct Quiet {
    seconds: f64,
    ejections: u64,
    answered_per_second: f64,
    processor_percent: f64,
    p50_ms: f64,
    p99_ms: f64,
}

pub(super) fn run(args: &WatchdogArgs) -> Result<ExitCode> {
    setup::ensure(Scope::Kernel)?;
    // What is timed are checks and timers, which no optimiser makes any quicker.
    let built = cargo::build(&["--package", "lb-user", "--package", "baton-tests", "--bins"])?;
    let mut bench = privilege::as_root(
        built.executable("watchdog-bench")?,
        "make network namespaces and break services",
    )?;
    bench.arg("--trials").arg(args.trials.to_string()).arg("--saturate").arg(args.saturate.to_string());
    if !args.only.is_empty() {
        bench.arg("--only").arg(args.only.join(","));
    }
    println!("$ {}", processes::shown(&bench));
    let found = processes::capture(&mut bench)?;
    let document: Value = serde_json::from_str(&found).context("cannot read what the bench printed")?;
    let figures =
        Figures::deserialize(&document).context("the bench has printed something else than figures")?;
    if let Some(file) = &args.json {
        let text = serde_json::to_string_pretty(&document)? + "\n";
        fs::write(file, text).with_context(|| format!("cannot write {}", file.display()))?;
    }
    println!("{}", table(&figures));
    let is_sound = figures.faults.iter().all(|fault| fault.missed.is_empty())
        && figures.false_ejections.as_ref().is_none_or(|quiet| quiet.ejections == 0);
    Ok(if is_sound { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Every fault, and what became of a healthy backend.
fn table(figures: &Figures) -> String {
    let mut table = Table::new();
    table.load_preset(presets::UTF8_FULL_CONDENSED).set_content_arrangement(ContentArrangement::Disabled);
    table.set_header(["fault", "trials", "detected", "served again", "back", "failed", "late"]);
    for fault in &figures.faults {
        table.add_row([
            Cell::new(&fault.name).add_attribute(Attribute::Bold),
            number(format!("{}/{}", fault.completed, figures.trials)),
            number(seconds(fault.detect_ms)),
            number(seconds(fault.recover_ms)),
            number(seconds(fault.back_ms)),
            number(count(fault.failed_requests)),
            number(count(fault.late_requests)),
        ]);
    }
    let machine = &figures.machine;
    let head = format!(
        "seconds since the fault, least / median / most of {} trials; requests in a trial; Linux {}, {} CPUs, {}",
        figures.trials, machine.kernel, machine.cpus, machine.processor
    );
    let mut lines = vec![head, table.to_string()];
    for fault in &figures.faults {
        lines.extend(fault.missed.iter().map(|why| format!("{}: {why}", fault.name)));
    }
    lines.extend(figures.false_ejections.as_ref().map(quiet));
    lines.join("\n")
}

fn quiet(quiet: &Quiet) -> String {
    format!(
        "healthy and saturated for {:.0} s: {} ejections; {:.0} answers a second, {:.0} % of a processor, half of the \
         answers within {:.0} ms, 99 % within {:.0} ms",
        quiet.seconds,
        quiet.ejections,
        quiet.answered_per_second,
        quiet.processor_percent,
        quiet.p50_ms,
        quiet.p99_ms
    )
}

fn number(text: String) -> Cell {
    Cell::new(text).set_alignment(CellAlignment::Right)
}

fn seconds(spread: Option<Spread>) -> String {
    let shown = |spread: Spread| {
        let [min, median, max] = [spread.min, spread.median, spread.max].map(|ms| ms / 1_000.0);
        format!("{min:.2} / {median:.2} / {max:.2}")
    };
    spread.map_or_else(String::new, shown)
}

fn count(spread: Option<Spread>) -> String {
    spread.map_or_else(String::new, |spread| {
        format!("{:.0} / {:.0} / {:.0}", spread.min, spread.median, spread.max)
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn each_fault_has_its_line_and_what_was_missed_its_reason() {
        let spread = json!({ "min": 1000.0, "median": 2250.0, "max": 3000.0 });
        let document = json!({
            "machine": { "kernel": "6.18", "processor": "some", "cpus": 2 },
            "trials": 3,
            "faults": [{
                "name": "silent", "completed": 2, "missed": ["it was not detected"], "detect_ms": spread,
                "recover_ms": spread, "back_ms": null, "failed_requests": spread, "late_requests": null,
            }],
            "false_ejections": {
                "seconds": 120.0, "ejections": 0, "same_backend": true, "answered_per_second": 400.0,
                "processor_percent": 99.0, "p50_ms": 300.0, "p99_ms": 500.0,
            },
        });
        let table = table(&Figures::deserialize(&document).unwrap());
        assert!(table.contains("1.00 / 2.25 / 3.00") && table.contains("2/3"), "{table}");
        assert!(table.contains("silent: it was not detected"), "{table}");
        assert!(table.contains("healthy and saturated for 120 s: 0 ejections; 400 answers"), "{table}");
    }
}
