//! `cargo xtask`: builds, checks, tests and demonstrates Baton, on a machine that has nothing but rustup.
//!
//! One file a task. What always holds: every task first sets up what it needs (`setup`), compiles as the
//! user who called it, and asks `sudo` only for the steps that need root, saying why.

#![forbid(unsafe_code)]

mod build;
mod build_and_load;
mod cargo;
mod check;
mod leftovers;
mod privilege;
mod run;
mod setup;
mod steps;
mod test;
mod tidy;

use std::path::Path;
use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};

/// Builds, checks, tests and demonstrates Baton.
#[derive(Debug, Parser)]
#[command(bin_name = "cargo xtask", arg_required_else_help = true)]
struct Cli {
    #[command(subcommand)]
    task: Task,
}

#[derive(Debug, Subcommand)]
enum Task {
    Setup(setup::SetupArgs),
    Build(build::BuildArgs),
    BuildAndLoad(build_and_load::BuildAndLoadArgs),
    Check(check::CheckArgs),
    Test(test::TestArgs),
    Leftovers(leftovers::LeftoversArgs),
}

/// The root of the workspace; every path that a task names hangs from it.
pub(crate) fn workspace() -> &'static Path {
    let xtask = Path::new(env!("CARGO_MANIFEST_DIR"));
    xtask.parent().unwrap_or(xtask)
}

fn dispatch(task: &Task) -> Result<ExitCode> {
    match task {
        Task::Setup(args) => setup::run(args),
        Task::Build(args) => build::run(args),
        Task::BuildAndLoad(args) => build_and_load::run(args),
        Task::Check(args) => check::run(args),
        Task::Test(args) => test::run(args),
        Task::Leftovers(args) => leftovers::run(args),
    }
}

fn main() -> ExitCode {
    dispatch(&Cli::parse().task).unwrap_or_else(|error| {
        eprintln!("error: {error:#}");
        ExitCode::FAILURE
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }
}
