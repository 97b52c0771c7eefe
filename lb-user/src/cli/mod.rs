//! The command line: one file a subcommand, each thin over the library.
//!
//! Exit codes, for every subcommand: 0 done, 1 it failed or something was lost, 2 wrong use or settings.

mod attach;
mod detach;
mod load;

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use thiserror::Error;
use tracing_subscriber::EnvFilter;

/// Keeps services that age always available.
///
/// Baton runs two replicas of a service, hands new flows to the warm one before the other fails, waits
/// until every flow of the old one has ended by itself, and only then restarts it.
#[derive(Debug, Parser)]
#[command(name = "baton", version, max_term_width = 100, propagate_version = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Attach(attach::AttachArgs),
    Detach(detach::DetachArgs),
    Load(Box<load::LoadArgs>),
}

/// Settings that cannot work: ends with exit code 2, as wrong flags do.
#[derive(Debug, Error)]
#[error("{0}")]
pub(crate) struct UsageError(pub(crate) String);

/// Runs the command line of this process.
pub fn run() -> ExitCode {
    let cli = Cli::parse();
    init_log();
    let result = match cli.command {
        Command::Attach(args) => args.run(),
        Command::Detach(args) => args.run(),
        Command::Load(args) => args.run(),
    };
    result.unwrap_or_else(|error| {
        eprintln!("baton: {error:#}");
        if error.is::<UsageError>() { ExitCode::from(2) } else { ExitCode::FAILURE }
    })
}

/// Logs go to standard error; `RUST_LOG` chooses what (default: info of Baton, warnings of the rest).
fn init_log() {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("warn,baton=info"));
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_target(false).init();
}
