//! Tests that are as long as their environment tells them to be, and leave figures of what they found.

use std::fs;
use std::path::Path;
use std::process::{Command, ExitCode};

use anyhow::{Context, Result, ensure};

use crate::run;

/// Runs a command of cargo whose one test is `test`, and which leaves its figures in the file that the variable
/// names; prints them and keeps them in `json`. The exit code is 1 if the test failed.
pub(crate) fn run(
    command: &mut Command,
    test: &str,
    variable: &str,
    json: Option<&Path>,
) -> Result<ExitCode> {
    let directory = tempfile::tempdir().context("cannot make a directory for the figures")?;
    let figures = directory.path().join("figures.json");
    let tested = run::run(command.env(variable, &figures));
    // Without figures it is not what the test is about that failed.
    let Ok(text) = fs::read_to_string(&figures) else {
        tested?;
        ensure!(figures.exists(), "no test is called {test} any more");
        return Ok(ExitCode::FAILURE);
    };
    if let Some(path) = json {
        fs::write(path, &text).with_context(|| format!("cannot write {}", path.display()))?;
    }
    println!("{}", text.trim_end());
    Ok(if tested.is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
