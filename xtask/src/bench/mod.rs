//! `cargo xtask bench`: what Baton costs, measured on this machine and held against the project's limits.
//!
//! What always holds: whatever is measured is built in release mode by the user who asked; only the measuring
//! itself runs as root.

mod figures;
mod limits;
mod packet;
mod table;
mod trust;

use std::process::ExitCode;

use anyhow::Result;
use clap::{Args, Subcommand};

/// Options of `cargo xtask bench`.
#[derive(Args, Debug)]
pub(crate) struct BenchArgs {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    Packet(packet::PacketArgs),
    Trust(trust::TrustArgs),
}

pub(crate) fn run(args: &BenchArgs) -> Result<ExitCode> {
    match &args.what {
        What::Packet(args) => packet::run(args),
        What::Trust(args) => trust::run(args),
    }
}
