//! `cargo xtask build`: the `baton` binary with the XDP programs inside, by the one build path there is.

use std::process::ExitCode;

use anyhow::Result;
use clap::Args;

use crate::cargo::{self, Built};
use crate::setup::{self, Scope};

/// Builds the `baton` binary.
///
/// The XDP programs are compiled on the way and embedded in it.
#[derive(Debug, Args)]
pub(crate) struct BuildArgs {
    /// Build with optimisations.
    #[arg(long)]
    release: bool,
}

pub(crate) fn run(args: &BuildArgs) -> Result<ExitCode> {
    setup::ensure(Scope::Build)?;
    let built = baton(if args.release { &["--release"] } else { &[] })?;
    println!("built {}", built.executable("baton")?.display());
    println!("with  {}", built.ebpf_object()?.display());
    Ok(ExitCode::SUCCESS)
}

/// Builds `baton`; `words` are further arguments of `cargo build`.
pub(crate) fn baton(words: &[&str]) -> Result<Built> {
    cargo::build(&[&["--package", "lb-user"], words].concat())
}
