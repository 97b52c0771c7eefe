//! Measures packets for `cargo xtask bench packet`, and Baton's programs for `cargo xtask check budget`.
//!
//! Needs root. What it has found goes to its output as JSON, how it gets on to its errors.

use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result};
use baton::dataplane::{Dataplane, unload};
use baton_tests::packet_bench::{Plan, by_names, measure};
use clap::{Parser, Subcommand};
use indicatif::{ProgressBar, ProgressStyle};
use nix::sched::{CpuSet, sched_setaffinity};
use nix::unistd::Pid;
use serde_json::json;

/// Flows of a table that nobody uses.
const LEAST_FLOWS: u32 = 1 << 10;

/// Measures Baton's packet path
#[derive(Parser)]
struct Cli {
    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand)]
enum What {
    /// Nanoseconds a packet
    Packets {
        /// The programs of the bench
        #[arg(long, value_name = "OBJECT")]
        object: PathBuf,
        /// How often each case is measured
        #[arg(long, default_value_t = 21, value_parser = clap::value_parser!(u32).range(1..=1000))]
        rounds: u32,
        /// Only these cases
        #[arg(long, value_delimiter = ',')]
        cases: Vec<String>,
    },
    /// What Baton's programs cost the verifier
    Programs,
}

fn main() -> Result<()> {
    match Cli::parse().what {
        What::Packets { object, rounds, cases } => {
            packets(&object, &Plan { cases: by_names(&cases)?, rounds })
        }
        What::Programs => programs(),
    }
}

fn packets(object: &PathBuf, plan: &Plan) -> Result<()> {
    stay_on_one_cpu()?;
    let object = fs::read(object).with_context(|| format!("cannot read {}", object.display()))?;
    let bar = ProgressBar::new(0);
    // The template is a constant; the plain bar would do as well.
    if let Ok(style) = ProgressStyle::with_template("{bar:30.cyan/dim} {pos:>3}/{len}  {wide_msg}") {
        bar.set_style(style);
    }
    let report = measure(&object, plan, &mut |done, steps, next| {
        bar.set_length(steps);
        bar.set_position(done);
        bar.set_message(next.to_owned());
    });
    bar.finish_and_clear();
    println!("{}", serde_json::to_string(&report?)?);
    Ok(())
}

/// So that no cache is left behind in the middle of a measurement.
fn stay_on_one_cpu() -> Result<()> {
    let this = nix::sched::sched_getcpu().context("cannot find out which CPU this is")?;
    let mut cpus = CpuSet::new();
    cpus.set(this)?;
    sched_setaffinity(Pid::from_raw(0), &cpus).context("cannot stay on one CPU")
}

fn programs() -> Result<()> {
    let pins = PathBuf::from(format!("/sys/fs/bpf/baton-bench-{}", std::process::id()));
    let facts = Dataplane::open(&pins, LEAST_FLOWS).map(|dataplane| dataplane.programs());
    unload(&pins).with_context(|| format!("cannot remove {}", pins.display()))?;
    println!("{}", json!({ "programs": facts?? }));
    Ok(())
}
