//! What is kept of a backend's lives, and what its commands print.
//!
//! What always holds: a disk that refuses keeps no backend from being started. What cannot be written down is known
//! to this process, whichever driver asks, and written as soon as there is room.

use std::collections::BTreeMap;
use std::fs::{self, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use serde::{Deserialize, Serialize};

use super::CommandDriver;
use crate::documents;
use crate::recovery::Instance;

/// The life that runs or was the last one.
const LIFE: &str = "life.json";
/// What the last command printed, and the daemon that it left goes on printing.
const OUTPUT: &str = "command.log";
/// It is cut when it has grown beyond this; as much of its end is set aside, with `.1` behind the name.
const OUTPUT_BYTES: u64 = 1 << 20;

/// What could not be written down yet, by its file. A service that is taken up again has other drivers.
static UNWRITTEN: Mutex<BTreeMap<PathBuf, Life>> = Mutex::new(BTreeMap::new());

/// What is kept of a life.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Life {
    pub(super) instance: Instance,
    /// Baton has ended it, so the next start has to run a command.
    pub(super) stopped: bool,
    /// When, in milliseconds of the boot clock.
    #[serde(default)]
    pub(super) ended_ms: Option<u64>,
    /// It was ended with its machine, which brings up the next one by itself.
    #[serde(default)]
    pub(super) returns: bool,
    /// The boot of the machine in which it began, as `boot_id` told it.
    #[serde(default)]
    pub(super) boot: Option<String>,
}

impl CommandDriver {
    pub(super) fn life(&self) -> Option<Life> {
        let path = self.dir.join(LIFE);
        let mut unwritten = UNWRITTEN.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(life) = unwritten.get(&path).cloned() else { return documents::read(&path).ok() };
        if write(&path, &life).is_ok() {
            tracing::info!(backend = %self.backend, path = %path.display(), "which life runs could be written down after all");
            unwritten.remove(&path);
        }
        Some(life)
    }

    pub(super) fn keep(&self, life: &Life) {
        let path = self.dir.join(LIFE);
        let mut unwritten = UNWRITTEN.lock().unwrap_or_else(PoisonError::into_inner);
        match write(&path, life) {
            Ok(()) => drop(unwritten.remove(&path)),
            Err(error) => {
                tracing::warn!(
                    backend = %self.backend,
                    "cannot write {}: {error}; it is tried again, and a controller that takes over before takes an \
                     old life for the one that runs", path.display()
                );
                unwritten.insert(path, life.clone());
            }
        }
    }

    /// The file that takes what commands print; nowhere, if there cannot be one.
    pub(super) fn output(&self) -> PathBuf {
        let path = self.dir.join(OUTPUT);
        let there = fs::create_dir_all(&self.dir)
            .and_then(|()| OpenOptions::new().create(true).append(true).open(&path));
        if there.is_ok() { path } else { "/dev/null".into() }
    }

    /// Cuts what a daemon has printed that a command has left. It appends, so it goes on at the new end; what it
    /// prints in this very moment is lost.
    pub fn trim_output(&self) {
        let path = self.dir.join(OUTPUT);
        if let Err(error) = trim(&path)
            .or_else(|error| if error.kind() == io::ErrorKind::NotFound { Ok(()) } else { Err(error) })
        {
            tracing::debug!(path = %path.display(), %error, "the output of a command cannot be cut");
        }
    }

    /// The last lines that a command printed.
    pub fn last_lines(&self, count: usize) -> Vec<String> {
        crate::program::last_lines(&self.dir.join(OUTPUT), count)
    }
}

/// Writes a life; on a full disk over the file that is there, which takes no more room than it has.
fn write(path: &Path, life: &Life) -> io::Result<()> {
    let directory = path.parent().unwrap_or(Path::new("/"));
    fs::create_dir_all(directory).and_then(|()| documents::write(path, life)).or_else(|error| {
        let over = || -> io::Result<()> {
            let text = serde_json::to_vec_pretty(life)?;
            let mut file = OpenOptions::new().write(true).open(path)?;
            file.write_all(&text)?;
            file.set_len(text.len() as u64)?;
            file.sync_all()
        };
        over().map_err(|_| error)
    })
}

fn trim(path: &Path) -> io::Result<()> {
    let length = fs::metadata(path)?.len();
    let Some(skipped) = length.checked_sub(OUTPUT_BYTES).filter(|beyond| *beyond > 0) else { return Ok(()) };
    let mut file = OpenOptions::new().read(true).write(true).open(path)?;
    let mut end = Vec::new();
    file.seek(SeekFrom::Start(skipped))?;
    (&file).take(OUTPUT_BYTES).read_to_end(&mut end)?;
    // A disk that is full has no room for it, and gets room now.
    let aside = fs::write(path.with_extension("log.1"), end);
    file.set_len(0)?;
    aside
}
