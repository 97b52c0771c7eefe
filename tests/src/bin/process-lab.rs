//! A shim, and a controller that may be killed, for the tests of the process driver.
//!
//! `process-lab start DIR LAUNCH` starts the command that the file LAUNCH describes, prints its instance as
//! JSON, and waits to be killed; `process-lab shim DIR` is what it starts it by.

use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use baton::driver::process::{Launch, ProcessDriver, shim};

fn main() -> Result<ExitCode> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match arguments[..] {
        ["shim", dir] => Ok(shim::main(Path::new(dir))),
        ["start", dir, launch] => start(Path::new(dir), Path::new(launch)),
        _ => bail!("usage: process-lab shim DIR | process-lab start DIR LAUNCH"),
    }
}

#[tokio::main(flavor = "current_thread")]
async fn start(dir: &Path, launch: &Path) -> Result<ExitCode> {
    let launch: Launch = serde_json::from_slice(&std::fs::read(launch).context("cannot read LAUNCH")?)?;
    let instance = ProcessDriver::new(dir.to_owned(), launch, None).start().await?;
    println!("{}", serde_json::to_string(&instance)?);
    tokio::time::sleep(Duration::from_mins(1)).await;
    Ok(ExitCode::SUCCESS)
}
