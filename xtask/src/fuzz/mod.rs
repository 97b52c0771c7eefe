//! `cargo xtask fuzz`: searches for inputs that nobody has thought of.

mod packet;

use std::process::ExitCode;

use anyhow::Result;
use clap::{Args, Subcommand};

/// Options of `cargo xtask fuzz`.
#[derive(Args, Debug)]
pub(crate) struct FuzzArgs {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    Packet(packet::PacketArgs),
}

pub(crate) fn run(args: &FuzzArgs) -> Result<ExitCode> {
    match &args.what {
        What::Packet(args) => packet::run(args),
    }
}
