//! `cargo xtask`: builds, checks, tests and demonstrates Baton, on a machine that has nothing but rustup.
//!
//! One file a task. What always holds: every task first sets up what it needs (`setup`), compiles as the
//! user who called it, and asks `sudo` only for the steps that need root, saying why.

#![forbid(unsafe_code)]

mod bench;
mod budget;
mod build;
mod build_and_load;
mod cargo;
mod check;
mod demo;
mod fuzz;
mod leftovers;
mod man;
mod privilege;
mod run;
mod setup;
mod simulate;
mod steps;
mod test;
mod tidy;
mod trial;

use std::path::Path;
use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};

use setup::Scope;

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
    /// Puts a service that ages under load: left alone, restarted by a supervisor, under Baton.
    ///
    /// The same requests each time, none of them retried, and one table at the end. Exits with 1 if a
    /// request was lost under Baton. Needs root.
    Demo(demo::DemoArgs),
    /// Measures what Baton costs, held against the limits, and how soon it finds what is wrong.
    Bench(bench::BenchArgs),
    Simulate(simulate::SimulateArgs),
    /// Searches for inputs on which the program does something else than it should.
    Fuzz(fuzz::FuzzArgs),
    Leftovers(leftovers::LeftoversArgs),
    Man(man::ManArgs),
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
        Task::Demo(args) => demonstrate(args),
        Task::Bench(args) => bench::run(args),
        Task::Simulate(args) => simulate::run(args),
        Task::Fuzz(args) => fuzz::run(args),
        Task::Leftovers(args) => leftovers::run(args),
        Task::Man(args) => man::run(args),
    }
}

fn demonstrate(args: &demo::DemoArgs) -> Result<ExitCode> {
    setup::ensure(Scope::Demo)?;
    let paths = demo::DemoPaths { workspace: workspace().to_owned(), target: cargo::target_dir() };
    demo::run(args, &paths, |argument| {
        match privilege::rerun_as_root(argument, "make network namespaces and load XDP programs")? {}
    })
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
