//! `baton config`: what is wrong with a configuration file, and how one is written.

use std::io::{self, IsTerminal, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::{Args, Subcommand};
use serde::Serialize;

use crate::config::{Config, Finding, example, render, schema};

/// Checks configuration files, and shows how they are written.
#[derive(Debug, Args)]
pub(super) struct ConfigArgs {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    Check(CheckArgs),
    /// Prints a file with every key, what it does, what it takes and its default.
    Example,
    /// Prints the JSON Schema of a file, of draft 2020-12.
    Schema,
}

/// Checks a file: all that is wrong with it, each with its place and what would be right.
///
/// Nothing is started or changed, and the machine is not looked at. Exit code 0 if the file can be used,
/// warnings or not; 1 if it cannot.
#[derive(Debug, Args)]
struct CheckArgs {
    /// The file.
    file: PathBuf,
    /// Print the findings as JSON.
    #[arg(long)]
    json: bool,
}

/// The outcome of a check as JSON.
#[derive(Serialize)]
struct Outcome {
    usable: bool,
    services: usize,
    findings: Vec<Finding>,
}

impl ConfigArgs {
    pub(super) fn run(self) -> Result<ExitCode> {
        match self.what {
            What::Check(args) => args.run(),
            What::Example => print(&example()),
            What::Schema => print(&format!("{}\n", serde_json::to_string_pretty(&schema())?)),
        }
    }
}

impl CheckArgs {
    fn run(self) -> Result<ExitCode> {
        let outcome = match Config::load(&self.file) {
            Ok(loaded) => {
                Outcome { usable: true, services: loaded.config.services.len(), findings: loaded.warnings }
            }
            Err(findings) => Outcome { usable: false, services: 0, findings },
        };
        if self.json {
            print(&format!("{}\n", serde_json::to_string_pretty(&outcome)?))?;
        } else {
            if !outcome.findings.is_empty() {
                eprintln!("{}\n", render(&outcome.findings, io::stderr().is_terminal()));
            }
            say(&self.file.display().to_string(), &outcome);
        }
        Ok(if outcome.usable { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }
}

/// The sum of it, for people.
fn say(file: &str, outcome: &Outcome) {
    let errors = outcome.findings.iter().filter(|finding| finding.is_error()).count();
    let warnings = outcome.findings.len() - errors;
    let count = |number: usize, what: &str| match number {
        1 => format!("1 {what}"),
        number => format!("{number} {what}s"),
    };
    if outcome.usable {
        println!("{file}: right, {}, {}", count(outcome.services, "service"), count(warnings, "warning"));
    } else {
        println!("{file}: {}, {}", count(errors, "error"), count(warnings, "warning"));
    }
}

/// Prints a document; whoever reads it may stop early.
fn print(text: &str) -> Result<ExitCode> {
    match io::stdout().write_all(text.as_bytes()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(error).context("standard output cannot be written")
        }
        _ => Ok(ExitCode::SUCCESS),
    }
}
