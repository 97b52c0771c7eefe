//! `cargo xtask bench trust`: whether Baton may be left alone, by rejuvenations in a row with faults among them.

use std::fs;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result, ensure};
use clap::Args;

use crate::cargo::{self, cargo};
use crate::setup::{self, Scope};
use crate::{privilege, run};

/// The suite, and the test in it that is as long as its environment tells it.
const SUITE: &str = "lab_trust";
const TRIAL: &str = "as_many_rejuvenations_as_wanted_lose_nothing_but_what_was_on_the_killed";

/// Rejuvenates a service again and again under load, with a fault in every tenth round.
///
/// Nothing may be lost but what was on a backend that was killed, and the service may never be without a backend; else
/// the exit code is 1. Needs root.
#[derive(Args, Debug)]
pub(crate) struct TrustArgs {
    /// How many rejuvenations.
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=1_000))]
    rounds: u32,
    /// How many backends the service has.
    #[arg(long, value_name = "N", default_value_t = 2, value_parser = clap::value_parser!(u32).range(2..=9))]
    backends: u32,
    /// Write the figures to this file.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

pub(super) fn run(args: &TrustArgs) -> Result<ExitCode> {
    setup::ensure(Scope::Kernel)?;
    cargo::build(&["--package", "lb-user", "--package", "baton-tests", "--bins"])?;
    let directory = tempfile::tempdir().context("cannot make a directory for the figures")?;
    let figures = directory.path().join("figures.json");
    let mut trial = cargo(&["test", "--package", "baton-tests", "--test", SUITE]);
    privilege::run_tests_as_root(&mut trial, "load XDP programs and make network namespaces")?;
    trial.args(["--", "--ignored", "--exact", TRIAL, "--nocapture"]);
    trial
        .env("BATON_TRUST_ROUNDS", args.rounds.to_string())
        .env("BATON_TRUST_BACKENDS", args.backends.to_string())
        .env("BATON_TRUST_FIGURES", &figures);
    let tested = run::run(&mut trial);
    // Without figures it is not the promise that was broken.
    let Ok(text) = fs::read_to_string(&figures) else {
        tested?;
        ensure!(figures.exists(), "no test is called {TRIAL} any more");
        return Ok(ExitCode::FAILURE);
    };
    if let Some(path) = &args.json {
        fs::write(path, &text).with_context(|| format!("cannot write {}", path.display()))?;
    }
    print!("{text}");
    Ok(if tested.is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
