//! `cargo xtask bench packet`: builds the bench, runs it as root, shows and keeps what it found.

#[path = "../../../lb-ebpf/object.rs"]
mod object;

use std::env;
use std::fs;
use std::path::PathBuf;
use std::process::{Command, ExitCode};

use anyhow::{Context, Result};
use clap::Args;
use serde_json::Value;

use super::figures::Figures;
use super::limits::{self, Verdict};
use super::table;
use crate::setup::{self, Scope};
use crate::{cargo, privilege, run as processes, workspace};

/// Nanoseconds that a packet costs, against limits and floors.
///
/// The kernel runs the programs on frames of many flows (`BPF_PROG_TEST_RUN`), and what making the frames
/// costs is taken off. Needs root and takes about a minute. Keep the machine quiet meanwhile.
#[derive(Args, Debug)]
pub(crate) struct PacketArgs {
    /// Write the figures to this file.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// How often each case is measured.
    #[arg(long, default_value_t = 21, value_parser = clap::value_parser!(u32).range(1..=1000))]
    rounds: u32,
    /// Only these cases.
    #[arg(long, value_name = "NAME", value_delimiter = ',')]
    cases: Vec<String>,
    /// Exit with 1 if a limit is missed.
    #[arg(long)]
    enforce: bool,
}

pub(super) fn run(args: &PacketArgs) -> Result<ExitCode> {
    setup::ensure(Scope::Kernel)?;
    let mut bench = bench(args)?;
    println!("$ {}", processes::shown(&bench));
    let found = processes::capture(&mut bench)?;
    let document: Value = serde_json::from_str(&found).context("cannot read what the bench printed")?;
    let figures = Figures::read(&document)?;
    if let Some(file) = &args.json {
        let text = serde_json::to_string_pretty(&document)? + "\n";
        fs::write(file, text).with_context(|| format!("cannot write {}", file.display()))?;
    }
    let verdicts = limits::judge(&figures);
    println!("{}", table::figures(&figures));
    println!("{}", table::verdicts(&verdicts));
    println!("{}", table::programs(&figures));
    for absent in &figures.absent {
        println!("{} is not measured: {}", absent.name, absent.why);
    }
    let missed = verdicts.iter().any(Verdict::is_missed);
    Ok(if missed && args.enforce { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

/// Builds the programs and whoever measures them; the command that does it.
fn bench(args: &PacketArgs) -> Result<Command> {
    let target = cargo::target_dir().join("bench");
    let object = object::build("baton-bench", &["bench"], env::consts::ARCH, workspace(), &target)?;
    let mut bench = privilege::as_root(packet_bench()?, "load XDP programs and measure them")?;
    bench.arg("packets").arg("--object").arg(object).arg("--rounds").arg(args.rounds.to_string());
    if !args.cases.is_empty() {
        bench.arg("--cases").arg(args.cases.join(","));
    }
    Ok(bench)
}

/// Where the program is that measures.
pub(crate) fn packet_bench() -> Result<PathBuf> {
    let words = ["--release", "--package", "baton-tests", "--bin", "packet-bench"];
    cargo::build(&words)?.executable("packet-bench")
}
