//! `baton config`: what is wrong with a configuration file, and how one is written.

use std::io::{self, IsTerminal};
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use clap::{Args, Subcommand};
use serde::Serialize;

use super::out::{self, complain, say};
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
            What::Check(args) => return args.run(),
            What::Example => out::document(example().as_bytes()),
            What::Schema => say!("{}", serde_json::to_string_pretty(&schema())?),
        }
        Ok(ExitCode::SUCCESS)
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
            say!("{}", serde_json::to_string_pretty(&outcome)?);
        } else {
            if !outcome.findings.is_empty() {
                complain!("{}\n", render(&outcome.findings, io::stderr().is_terminal()));
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
        say!("{file}: right, {}, {}", count(outcome.services, "service"), count(warnings, "warning"));
    } else {
        say!("{file}: {}, {}", count(errors, "error"), count(warnings, "warning"));
    }
}
