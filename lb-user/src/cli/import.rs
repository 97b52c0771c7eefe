//! `baton import`: the configuration of another balancer as one of Baton.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use clap::{Args, ValueEnum};
use serde::Serialize;

use super::out::{self, complain, say};
use crate::config::is_interface;
use crate::import::{Imported, Note, keepalived, ldirectord};

/// Makes a `baton.toml` of another balancer's configuration, with a note for all that has no equivalent.
///
/// What is printed passes `baton config check`; notes stand in it as comments, with the line of the old file.
/// Exit code 0 with or without notes, 1 if the file cannot be read or no service comes of it.
#[derive(Debug, Args)]
pub(super) struct ImportArgs {
    /// Whose configuration it is.
    #[arg(value_enum)]
    from: From,
    /// The file.
    file: PathBuf,
    /// Write to this file, and print the notes [default: print the configuration].
    #[arg(long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Interface that carries packets for VIPs and from backends; may be given several times [default: those
    /// that the file names, or `eth0`].
    #[arg(long = "interface", value_name = "IF", value_parser = interface)]
    interfaces: Vec<String>,
    /// Print the notes as JSON, and the configuration with them unless it is written to a file.
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum From {
    /// `ldirectord.cf`.
    Ldirectord,
    /// `keepalived.conf`: its virtual servers.
    Keepalived,
}

/// The outcome as JSON.
#[derive(Serialize)]
struct Outcome<'i> {
    services: usize,
    notes: &'i [Note],
    #[serde(skip_serializing_if = "Option::is_none")]
    config: Option<&'i str>,
}

impl ImportArgs {
    pub(super) fn run(self) -> Result<ExitCode> {
        let name = self.file.display().to_string();
        let text = fs::read(&self.file).with_context(|| format!("{name} cannot be read"))?;
        // Comments in another encoding are no reason to read nothing.
        let text = String::from_utf8_lossy(&text);
        let import = match self.from {
            From::Ldirectord => ldirectord,
            From::Keepalived => keepalived,
        };
        let imported = import(&text, &name, &self.interfaces)?;
        if imported.services == 0 {
            return self.nothing(&name, &imported);
        }
        if let Some(path) = &self.output {
            write(path, &imported.config)?;
        }
        if self.json {
            let config = self.output.is_none().then_some(imported.config.as_str());
            let outcome = Outcome { services: imported.services, notes: &imported.notes, config };
            say!("{}", serde_json::to_string_pretty(&outcome)?);
        } else if let Some(path) = &self.output {
            for note in &imported.notes {
                say!("{}", shown(&name, note));
            }
            say!("{}: {}", path.display(), sum(&imported));
        } else {
            out::document(imported.config.as_bytes());
            complain!("{name}: {}", sum(&imported));
        }
        Ok(ExitCode::SUCCESS)
    }
}

impl ImportArgs {
    /// What no service came of was probably no such file.
    fn nothing(&self, name: &str, imported: &Imported) -> Result<ExitCode> {
        if self.json {
            let outcome = Outcome { services: 0, notes: &imported.notes, config: None };
            say!("{}", serde_json::to_string_pretty(&outcome)?);
        } else {
            for note in &imported.notes {
                complain!("{}", shown(name, note));
            }
        }
        bail!("{name}: no service comes of it, so nothing was written: is it the right file?");
    }
}

fn interface(name: &str) -> Result<String, &'static str> {
    if is_interface(name) { Ok(name.to_owned()) } else { Err("no interface can have this name") }
}

fn write(path: &Path, config: &str) -> Result<()> {
    fs::write(path, config).with_context(|| format!("{} cannot be written", path.display()))
}

fn shown(file: &str, note: &Note) -> String {
    match note.line {
        0 => format!("{file}: {}: {}", note.directive, note.message),
        line => format!("{file}:{line}: {}: {}", note.directive, note.message),
    }
}

fn sum(imported: &Imported) -> String {
    let count = |number: usize, what: &str| match number {
        1 => format!("1 {what}"),
        number => format!("{number} {what}s"),
    };
    format!("{}, {}", count(imported.services, "service"), count(imported.notes.len(), "note"))
}
