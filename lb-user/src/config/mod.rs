//! `baton.toml`: text to a typed, validated [`Config`], with every finding at once and its place in the file.
//!
//! A file is parsed as TOML, read by the table of keys (`keys`), and put together (`build`). All that is known
//! about a key stands in that table, once; the example, the JSON Schema and the reference are made from it.
//! Nothing here looks at the machine: a file is right or wrong everywhere alike.

mod build;
mod compare;
mod describe;
mod example;
mod finding;
mod keys;
mod manual;
mod read;
mod reference;
mod render;
mod schema;
mod types;
mod units;
mod value;
mod weekly;

use std::path::Path;
use std::string::FromUtf8Error;

use toml::de::DeTable;

pub use self::compare::{Change, Effect, Subject, What, changes};
pub(crate) use self::describe::show_duration;
pub use self::example::example;
use self::finding::Findings;
pub use self::finding::{Finding, Place, Severity};
pub use self::manual::manual;
pub use self::reference::reference;
pub use self::render::render;
pub use self::schema::schema;
pub use self::types::*;
pub(crate) use self::value::is_interface;

/// A configuration that can be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Loaded {
    /// What the file says.
    pub config: Config,
    /// What is probably not meant like that, in the order of the file.
    pub warnings: Vec<Finding>,
}

impl Config {
    /// Reads a file. What is wrong with it, all of it, comes in the order of the file, warnings included.
    pub fn load(path: &Path) -> Result<Loaded, Vec<Finding>> {
        let file = path.display().to_string();
        match std::fs::read(path).map(String::from_utf8) {
            Ok(Ok(text)) => Self::parse(&text, &file),
            Ok(Err(error)) => Err(no_text(&error, &file)),
            Err(error) => Err(vec![Finding {
                severity: Severity::Error,
                file,
                place: None,
                message: format!("cannot be read: {error}"),
                suggestion: None,
                help: "name a file that can be read; `baton config example` prints one".to_owned(),
            }]),
        }
    }

    /// Reads `text`; findings name it `file_name`.
    pub fn parse(text: &str, file_name: &str) -> Result<Loaded, Vec<Finding>> {
        let mut findings = Findings::new(file_name, text);
        let (document, errors) = DeTable::parse_recoverable(text);
        for error in &errors {
            let span = error.span().unwrap_or(text.len()..text.len());
            findings.error(&span, format!("no TOML: {}", error.message()), "");
        }
        if !errors.is_empty() {
            // What the parser made of the rest is a guess, and so would be findings about it.
            return Err(findings.sorted());
        }
        let fields = read::read(&keys::ROOT, document.get_ref(), 0..0, None, &mut findings);
        let config = build::config(&fields, &mut findings);
        let found = findings.sorted();
        match config {
            Some(config) if !found.iter().any(Finding::is_error) => Ok(Loaded { config, warnings: found }),
            _ => Err(found),
        }
    }
}

/// What is to be said of a file that is no text, at its first byte that is none.
fn no_text(error: &FromUtf8Error, file: &str) -> Vec<Finding> {
    let at = error.utf8_error().valid_up_to();
    let text = String::from_utf8_lossy(error.as_bytes());
    let mut findings = Findings::new(file, &text);
    let message = format!("the byte 0x{:02x} is no UTF-8", error.as_bytes()[at]);
    let help = "save the file as UTF-8, or write this character as `\\u` and its four digits";
    findings.error(&(at..at + char::REPLACEMENT_CHARACTER.len_utf8()), message, help);
    findings.sorted()
}

#[cfg(test)]
mod tests;
