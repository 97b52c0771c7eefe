//! `cargo xtask setup`: installs what is missing, says so, and does nothing the second time.
//!
//! Every other task calls [`ensure()`] first with the scope it needs, so a fresh machine needs nothing else.
//! Looking costs a fraction of a second: files are looked up, two small programs are run.

mod bpffs;
mod install;
mod needs;

use std::process::ExitCode;

use anyhow::{Result, ensure};
use clap::Args;

use needs::Need;

/// Installs what is missing.
///
/// Rust components, bpf-linker and Debian packages. It says what it does, and does nothing the second time.
/// Every other task starts with as much of this as it needs.
#[derive(Debug, Args)]
pub(crate) struct SetupArgs {
    /// Only report; exit status 1 if something is missing.
    #[arg(long)]
    check: bool,
}

/// How much must be there; each scope contains the ones before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Scope {
    /// To build and to check.
    Build,
    /// To load programs and to make namespaces.
    Kernel,
    /// To run real services in the demo.
    Demo,
}

pub(crate) fn run(args: &SetupArgs) -> Result<ExitCode> {
    if args.check {
        return report();
    }
    ensure(Scope::Demo)?;
    println!("setup: everything is there");
    Ok(ExitCode::SUCCESS)
}

/// Installs what `scope` needs and is missing; silent if nothing is.
pub(crate) fn ensure(scope: Scope) -> Result<()> {
    let missing = missing(scope)?;
    if !missing.is_empty() {
        install::install(&missing)?;
        still_missing(scope)?;
    }
    if scope >= Scope::Kernel {
        bpffs::ensure_mounted()?;
    }
    Ok(())
}

/// An installer may succeed and yet not bring what was wanted, or not to where it is found.
fn still_missing(scope: Scope) -> Result<()> {
    let names: Vec<_> = missing(scope)?.iter().map(|need| need.name).collect();
    ensure!(
        names.is_empty(),
        "installed, but still not found: {}; is its directory in PATH?",
        names.join(", ")
    );
    Ok(())
}

fn missing(scope: Scope) -> Result<Vec<Need>> {
    let sysroot = needs::sysroot()?;
    Ok(needs::NEEDS.into_iter().filter(|need| need.scope <= scope && !need.is_met(&sysroot)).collect())
}

fn report() -> Result<ExitCode> {
    let sysroot = needs::sysroot()?;
    let mut complete = true;
    for need in needs::NEEDS {
        let met = need.is_met(&sysroot);
        complete &= met;
        println!("{:7} {:12} {}", if met { "ok" } else { "missing" }, need.name, need.purpose);
    }
    let mounted = bpffs::is_mounted();
    complete &= mounted;
    println!("{:7} {:12} to pin maps and programs", if mounted { "ok" } else { "missing" }, "bpffs");
    Ok(if complete { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
