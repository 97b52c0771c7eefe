//! `cargo xtask simulate`: days full of faults for the coordinator, under a virtual clock.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use clap::Args;

use crate::cargo::cargo;
use crate::trial;

/// The test that simulates what its environment tells it to.
const SEARCH: &str = "recovery::tests::simulation::no_seed_of_the_environment_breaks_an_invariant";
/// Seeds below this are simulated by every run of the unit tests.
const FIRST_SEED: u64 = 2_000;

/// Simulates the coordinator: each seed is a day of a service whose backends, journal and controller fail.
///
/// After every step its invariants are checked, and at the end of the day the service must have recovered. A
/// day that breaks one prints its seed. The last line is {"seeds":N,"steps":N,"violations":N}; the exit code
/// is 1 if a seed fails.
#[derive(Debug, Args)]
pub(crate) struct SimulateArgs {
    /// How many days, beyond those of the unit tests.
    #[arg(long, value_name = "N", default_value_t = 10_000, value_parser = clap::value_parser!(u64).range(1..))]
    seeds: u64,
    /// Replay this day, and print all that is heard and ordered in it.
    #[arg(long, value_name = "S", conflicts_with = "seeds")]
    seed: Option<u64>,
    /// Write the last line to this file, too.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

pub(crate) fn run(args: &SimulateArgs) -> Result<ExitCode> {
    let seeds = match args.seed {
        Some(seed) => seed.to_string(),
        None => format!("{FIRST_SEED}..{}", FIRST_SEED + args.seeds),
    };
    let mut search = cargo(&["test", "--package", "lb-user", "--lib", "--", "--ignored", "--exact", SEARCH]);
    search.arg("--nocapture").env("BATON_SEED", seeds);
    // What breaks is said in one line; where it was noticed is always the checker.
    search.env("RUST_BACKTRACE", "0");
    trial::run(&mut search, SEARCH, "BATON_SIMULATION_FIGURES", args.json.as_deref())
}
