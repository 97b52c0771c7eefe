//! Configurations of other balancers, as a `baton.toml` and a note for each thing that has no equivalent.
//!
//! What always holds: what is printed passes `baton config check`, and no directive of a virtual server is
//! lost in silence. Names of hosts are noted, not resolved; those of ports are looked up in /etc/services.

mod dns;
mod draft;
mod keepalived;
mod ldirectord;
mod words;
mod write;

use serde::Serialize;
use thiserror::Error;

pub use self::keepalived::keepalived;
pub use self::ldirectord::ldirectord;
use crate::config::is_interface;

/// Something of the old configuration that the new one cannot say, or says otherwise.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Note {
    /// Its line in the old file, from 1 on; 0 if it is about the whole file.
    pub line: usize,
    /// What stands there.
    pub directive: String,
    /// What became of it, and what to do.
    pub message: String,
}

/// A configuration of another balancer, read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Imported {
    /// The services that came of it.
    pub services: usize,
    /// What has no equivalent, in the order of lines.
    pub notes: Vec<Note>,
    /// The text of a `baton.toml`, with the notes as comments.
    pub config: String,
}

/// Why a file cannot be read at all.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{file}:{line}: {message}")]
pub struct ImportError {
    /// The file, as it was named.
    pub file: String,
    /// The line, from 1 on.
    pub line: usize,
    /// What is wrong there, and what would be right.
    pub message: String,
}

/// Notes, collected while a file is read.
#[derive(Debug, Default)]
struct Notes(Vec<Note>);

impl Notes {
    fn add(&mut self, line: usize, directive: impl Into<String>, message: impl Into<String>) {
        let printable = |text: String| text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
        let note = Note { line, directive: printable(directive.into()), message: printable(message.into()) };
        // What is said for each of several services that share a line is said once.
        if !self.0.contains(&note) {
            self.0.push(note);
        }
    }
}

/// The interfaces of a file that names none: nothing else is as likely.
const USUAL_INTERFACE: &str = "eth0";

/// Puts together what was read.
fn finish(
    source: &str,
    drafts: Vec<draft::Draft>,
    interfaces: &[String],
    found: &[String],
    mut notes: Notes,
) -> Imported {
    let interfaces = match (interfaces, found) {
        ([], []) => {
            let message = "name the interfaces that carry packets for VIPs and from backends";
            notes.add(0, "interfaces", format!("`{USUAL_INTERFACE}` is a guess: {message}"));
            vec![USUAL_INTERFACE.to_owned()]
        }
        ([], found) => found.to_vec(),
        (given, _) => {
            debug_assert!(given.iter().all(|interface| is_interface(interface)), "{given:?}");
            given.to_vec()
        }
    };
    let services = draft::settle(drafts, &mut notes);
    if !services.is_empty() {
        let message = "Baton drains them and says when; give each a driver that restarts it";
        notes.add(0, "driver", format!("every backend is `manual`: {message}"));
    }
    notes.0.sort_by_key(|note| note.line);
    let config = write::config(source, &interfaces, &services, &notes.0);
    Imported { services: services.len(), notes: notes.0, config }
}
