//! `cargo xtask build-and-load`: the XDP program on an interface, without a service, to try and debug it.
//!
//! There is no default interface: attaching to the one that carries the machine's own traffic must be
//! somebody's decision.

use std::fs;
use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::{Args, ValueEnum};

use crate::build;
use crate::privilege;
use crate::run;
use crate::setup::{self, Scope};

/// Where the kernel lists its interfaces.
const INTERFACES: &str = "/sys/class/net";

/// Exit status of wrong usage.
const USAGE: u8 = 2;

/// Builds `baton` and attaches its XDP program to an interface.
///
/// Prints what is attached where. Ctrl-C detaches it, unless it is to stay with --pin. Needs root.
#[derive(Debug, Args)]
pub(crate) struct BuildAndLoadArgs {
    /// Interface to attach to; without it the candidates are listed.
    #[arg(long, value_name = "IF")]
    iface: Option<String>,
    /// Where the program runs: in the driver, or in the stack where the driver cannot.
    #[arg(long, value_enum, default_value = "native")]
    mode: Mode,
    /// Build the program with its log lines and print them.
    #[arg(long)]
    debug: bool,
    /// Stay attached after this command ends; `baton detach --iface IF` detaches.
    #[arg(long)]
    pin: bool,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Mode {
    Native,
    Generic,
}

impl Mode {
    const fn word(self) -> &'static str {
        match self {
            Self::Native => "native",
            Self::Generic => "generic",
        }
    }
}

pub(crate) fn run(args: &BuildAndLoadArgs) -> Result<ExitCode> {
    let Some(iface) = &args.iface else {
        eprintln!("error: say which interface with --iface; there is no default, because it may carry this");
        eprintln!("machine's own traffic. Candidates: {}", interfaces(Path::new(INTERFACES))?.join(", "));
        return Ok(ExitCode::from(USAGE));
    };
    setup::ensure(Scope::Kernel)?;
    let features: &[&str] = if args.debug { &["--features", "debug-log"] } else { &[] };
    let baton = build::baton(features)?.executable("baton")?;
    let mut attach = privilege::as_root(baton, "attach an XDP program")?;
    attach.args(["attach", "--iface", iface, "--mode", args.mode.word()]);
    attach.args(args.debug.then_some("--debug")).args(args.pin.then_some("--pin"));
    match run::exec(&mut attach)? {}
}

/// The names of this machine's interfaces, sorted, without loopback.
fn interfaces(directory: &Path) -> Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(directory).with_context(|| format!("cannot list {}", directory.display()))? {
        names.push(entry?.file_name().to_string_lossy().into_owned());
    }
    names.retain(|name| name != "lo");
    names.sort();
    Ok(names)
}
