//! Measures the watchdog for `cargo xtask bench watchdog`.
//!
//! Needs root. What it has found goes to its output as JSON, how it gets on to its errors.

use std::time::Duration;

use anyhow::{Result, ensure};
use baton_tests::packet_bench::Machine;
use baton_tests::watchdog_bench::{Fault, FaultFigures, Figures, Subject, saturate};
use clap::Parser;
use indicatif::{ProgressBar, ProgressStyle};

/// Measures Baton's watchdog
#[derive(Parser)]
struct Cli {
    /// How often each fault is made
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=1000))]
    trials: u32,
    /// Only these faults
    #[arg(long, value_enum, value_delimiter = ',')]
    only: Vec<Fault>,
    /// How long a healthy backend is loaded to saturation; 0 leaves it out
    #[arg(long, value_name = "SECONDS", default_value_t = 120)]
    saturate: u64,
}

fn main() -> Result<()> {
    let cli = Cli::parse();
    ensure!(nix::unistd::geteuid().is_root(), "the lab needs root");
    let faults = if cli.only.is_empty() { Fault::ALL.to_vec() } else { cli.only.clone() };
    let bar = ProgressBar::new(faults.len() as u64 * u64::from(cli.trials) + u64::from(cli.saturate > 0));
    // The template is a constant; the plain bar would do as well.
    if let Ok(style) = ProgressStyle::with_template("{bar:30.cyan/dim} {pos:>3}/{len}  {wide_msg}") {
        bar.set_style(style);
    }
    let faults = faults.into_iter().map(|fault| measure(fault, cli.trials, &bar)).collect();
    bar.set_message("a healthy backend under all the load that it can bear");
    let false_ejections = (cli.saturate > 0).then(|| saturate(Duration::from_secs(cli.saturate)));
    bar.finish_and_clear();
    let figures = Figures { machine: Machine::this(), trials: cli.trials, faults, false_ejections };
    println!("{}", serde_json::to_string(&figures)?);
    Ok(())
}

fn measure(fault: Fault, trials: u32, bar: &ProgressBar) -> FaultFigures {
    let mut subject = Subject::up();
    let mut results = Vec::new();
    for _ in 0..trials {
        bar.set_message(fault.name());
        let result = subject.suffer(fault);
        if result.is_err() {
            // Whatever is wrong with it is not to spoil the next one.
            subject = Subject::up();
        }
        results.push(result);
        bar.inc(1);
    }
    FaultFigures::of(fault, &results)
}
