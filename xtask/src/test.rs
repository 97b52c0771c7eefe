//! `cargo xtask test`: the check, the packet tables, the lab, and a look at what they left behind.
//!
//! Packet tables and lab need root: cargo compiles them as the caller and starts them through `sudo`.

use std::fs;
use std::process::ExitCode;

use anyhow::{Context, Result, ensure};
use clap::Args;

use crate::cargo::{self, cargo};
use crate::setup::{self, Scope};
use crate::steps::step;
use crate::{budget, check, leftovers, privilege, run, workspace};

/// Lab tests at the same time: each carries traffic and judges how long it takes.
const LAB_THREADS: &str = "2";

/// Runs the check, the packet tables and the lab.
///
/// At the end it sees that they left nothing behind. Packet tables and lab need root.
#[derive(Debug, Args)]
pub(crate) struct TestArgs {
    /// Only kernel tests whose name contains this.
    filter: Option<String>,
    /// Only this test program.
    #[arg(long, value_name = "NAME")]
    suite: Option<String>,
    /// Skip the check.
    #[arg(long)]
    no_check: bool,
}

pub(crate) fn run(args: &TestArgs) -> Result<ExitCode> {
    setup::ensure(Scope::Kernel)?;
    if !args.no_check {
        check::all()?;
        if !privilege::is_root() {
            step("budget", "cargo xtask check budget", budget::check)?;
        }
    }
    step("build", "cargo xtask build", || {
        cargo::build(&["--package", "lb-user", "--package", "baton-tests", "--bins"])
    })?;
    let before = leftovers::things()?;
    // One suite's failure must not hide another's, nor what they left behind.
    let mut failures = Vec::new();
    for suite in suites(args.suite.as_deref())? {
        failures.extend(run_suite(&suite, args.filter.as_deref()).err());
    }
    let clean = step("leftovers", "cargo xtask leftovers", || leftovers::none_since(&before));
    failures.extend(clean.err());
    for failure in &failures {
        eprintln!("error: {failure:#}");
    }
    Ok(if failures.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// The names of the test programs, or the one called `only`: packet tables first, then the lab by name.
fn suites(only: Option<&str>) -> Result<Vec<String>> {
    let directory = workspace().join("tests/tests");
    let mut suites = Vec::new();
    for entry in fs::read_dir(&directory).with_context(|| format!("cannot list {}", directory.display()))? {
        let file = entry?.file_name().to_string_lossy().into_owned();
        suites.extend(file.strip_suffix(".rs").map(str::to_owned));
    }
    suites.sort_by_key(|suite| (!is_packet_table(suite), suite.clone()));
    if let Some(only) = only {
        ensure!(
            suites.iter().any(|suite| suite == only),
            "no suite `{only}`; there are {}",
            suites.join(", ")
        );
        suites.retain(|suite| suite == only);
    }
    Ok(suites)
}

/// Packet tables run programs on single packets and touch nothing else, so they may all run at once.
fn is_packet_table(suite: &str) -> bool {
    suite.starts_with("packets")
}

fn run_suite(suite: &str, filter: Option<&str>) -> Result<()> {
    let alone = format!("cargo xtask test --no-check --suite {suite} {}", filter.unwrap_or_default());
    step(suite, alone.trim_end(), || {
        let mut test = cargo(&["test", "--package", "baton-tests", "--test", suite]);
        privilege::run_tests_as_root(&mut test, "load XDP programs and make network namespaces")?;
        test.args(filter).arg("--");
        if !is_packet_table(suite) {
            test.args(["--test-threads", LAB_THREADS]);
        }
        run::run(&mut test)
    })
}
