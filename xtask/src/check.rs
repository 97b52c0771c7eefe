//! `cargo xtask check`: everything that can be judged without root and without a kernel feature, and one step
//! that root has in addition.
//!
//! The cheap steps come first; the first failure ends it.

use std::process::{Command, ExitCode};

use anyhow::{Result, bail};
use clap::{Args, ValueEnum};

use crate::cargo::{cargo, cargo_ebpf};
use crate::run::{capture, run as run_command};
use crate::setup::{self, Scope};
use crate::steps::step;
use crate::{budget, build, man, privilege, tidy, workspace};

/// Everything for the host, which is everything but the eBPF crate.
const HOST: [&str; 3] = ["--workspace", "--exclude", "lb-ebpf"];

/// Warnings are errors here, so that they are never merged.
const DENY_WARNINGS: [&str; 2] = ["-D", "warnings"];

/// Checks format, tidiness, lints, docs, eBPF panics and unit tests.
///
/// The cheap steps come first, and the first failure ends it. Needs no root.
#[derive(Debug, Args)]
pub(crate) struct CheckArgs {
    /// Only these steps, in this order.
    #[arg(value_enum, value_name = "STEP")]
    steps: Vec<Step>,
    /// First repair what rustfmt and clippy can repair.
    #[arg(long)]
    fix: bool,
    /// First make what the XDP programs cost the kernel's verifier now their budget. Needs root.
    #[arg(long)]
    update_budget: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Step {
    /// Format, by rustfmt.
    Fmt,
    /// What no other tool judges: sizes, module docs, banned words, paths, unsafe, clocks, links.
    Tidy,
    /// Lints of the host crates.
    Clippy,
    /// Lints of the eBPF crate, for its own target.
    ClippyEbpf,
    /// The API docs build without a warning.
    Docs,
    /// No XDP program can reach a panic.
    PanicGate,
    /// Unit and property tests of the host crates.
    UnitTests,
    /// What the XDP programs cost the kernel's verifier. Needs root; without, it is skipped unless named.
    Budget,
    /// The manual pages render without a warning.
    Man,
}

pub(crate) fn run(args: &CheckArgs) -> Result<ExitCode> {
    setup::ensure(Scope::Build)?;
    if args.fix {
        fix()?;
    }
    if args.update_budget {
        step("update-budget", budget::RENEW, budget::renew)?;
    }
    let chosen = if args.steps.is_empty() { Step::value_variants() } else { &args.steps };
    for each in chosen {
        each.run(!args.steps.is_empty())?;
    }
    Ok(ExitCode::SUCCESS)
}

/// All steps, for tasks that start with a check.
pub(crate) fn all() -> Result<()> {
    Step::value_variants().iter().try_for_each(|each| each.run(false))
}

impl Step {
    /// `named`: somebody asked for this very step.
    fn run(self, named: bool) -> Result<()> {
        let name = self.to_possible_value().map_or_else(String::new, |value| value.get_name().to_owned());
        step(&name, &format!("cargo xtask check {name}"), || match self {
            Self::Fmt => run_command(&mut cargo(&["fmt", "--all", "--check"])),
            Self::Tidy => tidy::check(workspace()),
            Self::Clippy => clippy(&[]),
            Self::ClippyEbpf => clippy_ebpf(&[]),
            Self::Docs => docs(),
            Self::PanicGate => panic_gate(),
            Self::Budget => programs_cost(named),
            Self::Man => man::check(),
            Self::UnitTests => run_command(cargo(&["test"]).args(HOST).args(["--lib", "--bins"])),
        })
    }
}

fn fix() -> Result<()> {
    const FIX: [&str; 3] = ["--fix", "--allow-dirty", "--allow-staged"];
    step("fix", "cargo xtask check --fix", || {
        clippy(&FIX)?;
        clippy_ebpf(&FIX)?;
        run_command(&mut cargo(&["fmt", "--all"]))
    })
}

fn clippy(words: &[&str]) -> Result<()> {
    run_command(cargo(&["clippy"]).args(HOST).arg("--all-targets").args(words).arg("--").args(DENY_WARNINGS))
}

/// All builds of the programs: log lines and the bench are compiled only on request.
fn clippy_ebpf(words: &[&str]) -> Result<()> {
    let features: [&[&str]; 3] = [&[], &["--features", "debug-log"], &["--features", "bench"]];
    features.into_iter().try_for_each(|features| {
        run_command(&mut cargo_ebpf(&[&["clippy"], words, features].concat(), &DENY_WARNINGS))
    })
}

/// Private items too: a developer reads them. So public docs may link to them as well.
fn docs() -> Result<()> {
    let mut doc = cargo(&["doc"]);
    doc.args(HOST).args(["--no-deps", "--document-private-items"]);
    run_command(doc.env("RUSTDOCFLAGS", "-D warnings -A rustdoc::private_intra_doc_links"))
}

/// A panic that a program can reach links and is refused only when it is loaded, so its symbols are looked
/// for here.
fn panic_gate() -> Result<()> {
    let object = build::baton(&[])?.ebpf_object()?;
    let symbols = capture(Command::new("readelf").args(["--symbols", "--wide"]).arg(&object))?;
    let panics: Vec<&str> = panic_symbols(&symbols).collect();
    if !panics.is_empty() {
        bail!(
            "{} can panic ({}): index with `get`, divide with `checked_div`, and mask",
            object.display(),
            panics.join(", ")
        );
    }
    Ok(())
}

/// Only root can load the programs, and everything else here runs without: nobody is asked to become root who
/// has not named this step.
fn programs_cost(named: bool) -> Result<()> {
    if !named && !privilege::is_root() {
        println!("skipped, because only root can load the programs; `cargo xtask test` does it");
        return Ok(());
    }
    setup::ensure(Scope::Kernel)?;
    budget::check()
}

/// Both manglings of Rust name the module `core::panicking` like this.
fn panic_symbols(symbols: &str) -> impl Iterator<Item = &str> {
    symbols
        .lines()
        .filter(|line| line.contains("core9panicking"))
        .filter_map(|line| line.split_whitespace().last())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_is_found_among_symbols() {
        let symbols = "
    11: 0000000000000000  7736 FUNC    GLOBAL DEFAULT    3 baton
    12: 0000000000000110    88 FUNC    LOCAL  DEFAULT    2 _ZN4core9panicking18panic_bounds_check17hE
    13: 0000000000000110    88 FUNC    LOCAL  DEFAULT    2 _RNvNtCsaB_4core9panicking9panic_fmt";
        let expected = ["_ZN4core9panicking18panic_bounds_check17hE", "_RNvNtCsaB_4core9panicking9panic_fmt"];
        assert_eq!(panic_symbols(symbols).collect::<Vec<_>>(), expected);
    }
}
