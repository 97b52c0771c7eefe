//! The log of executed requests, by which doubled and lost executions show.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::Path;

/// A file to which every executed request adds one line: its id, the backend, method and path.
pub(crate) struct ExecutionLog(File);

impl ExecutionLog {
    /// Opens `path` for appending; several processes may share it.
    pub(crate) fn open(path: &Path) -> io::Result<Self> {
        OpenOptions::new().create(true).append(true).open(path).map(Self)
    }

    /// Adds one line in one write, so that lines of several processes do not mix.
    pub(crate) fn executed(&self, id: &str, backend: &str, method: &str, path: &str) -> io::Result<()> {
        (&self.0).write_all(format!("{id} {backend} {method} {path}\n").as_bytes())
    }
}
