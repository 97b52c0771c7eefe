//! `cargo xtask bench`: what Baton costs and how soon it finds what is wrong, measured on this machine.
//!
//! What always holds: whatever is measured is built by the user who asked, in release mode if the compiler's work
//! shows in the figures; only the measuring itself runs as root.

mod figures;
mod limits;
mod packet;
mod table;
mod trust;
mod watchdog;

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
    Watchdog(watchdog::WatchdogArgs),
    Trust(trust::TrustArgs),
}

pub(crate) fn run(args: &BenchArgs) -> Result<ExitCode> {
    match &args.what {
        What::Packet(args) => packet::run(args),
        What::Watchdog(args) => watchdog::run(args),
        What::Trust(args) => trust::run(args),
    }
}
