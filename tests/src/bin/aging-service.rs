//! A web service that leaks memory, slows down and dies, for tests and the demo; see `baton_tests::aging`.
//!
//! Exits with 0 when it is told to end, with 3 when its memory is exhausted.

use std::process::ExitCode;

use anyhow::{Context, Result};
use baton_tests::aging::{End, Options, serve};
use clap::Parser;
use tokio::net::TcpListener;

/// What a process that dies of exhausted memory exits with.
const OUT_OF_MEMORY: u8 = 3;

/// A web service that leaks memory, slows down and dies
#[derive(Parser)]
struct Cli {
    #[command(flatten)]
    options: Options,
}

fn main() -> Result<ExitCode> {
    let options = Cli::parse().options;
    std::thread::sleep(options.startup_delay);
    // One thread only: whatever the collector does, everything waits for it.
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().context("start tokio")?;
    let end = runtime.block_on(async {
        let listener = TcpListener::bind(options.listen)
            .await
            .with_context(|| format!("listen on {}; is another service there?", options.listen))?;
        serve(listener, &options).await
    })?;
    Ok(match end {
        End::Told => ExitCode::SUCCESS,
        End::OutOfMemory => {
            eprintln!("out of memory: aborting");
            ExitCode::from(OUT_OF_MEMORY)
        }
    })
}
