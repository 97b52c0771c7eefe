//! `cargo xtask bench trust`: whether Baton may be left alone, by rejuvenations in a row with faults among them.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use clap::Args;

use crate::cargo::{self, cargo};
use crate::setup::{self, Scope};
use crate::{privilege, trial};

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
    let mut test = cargo(&["test", "--package", "baton-tests", "--test", SUITE]);
    privilege::run_tests_as_root(&mut test, "load XDP programs and make network namespaces")?;
    test.args(["--", "--ignored", "--exact", TRIAL, "--nocapture"]);
    test.env("BATON_TRUST_ROUNDS", args.rounds.to_string());
    test.env("BATON_TRUST_BACKENDS", args.backends.to_string());
    trial::run(&mut test, TRIAL, "BATON_TRUST_FIGURES", args.json.as_deref())
}
