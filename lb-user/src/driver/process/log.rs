//! A backend's output on disk: one line a line, with time and stream, in two files of bounded size.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use crate::clock::Now;

/// The current file; the one before it bears `.1` behind the name.
pub(super) const FILE: &str = "output.log";
/// A file is set aside when it has grown to this.
const ROTATE_BYTES: u64 = 8 << 20;

/// Writes lines; what the disk refuses is counted and said as soon as it takes lines again.
pub(super) struct Log {
    path: PathBuf,
    file: Option<File>,
    length: u64,
    lost: u64,
}

impl Log {
    pub(super) fn open(dir: &Path) -> Self {
        let path = dir.join(FILE);
        let mut log = Self { path, file: None, length: 0, lost: 0 };
        log.reopen();
        log
    }

    /// Appends a line of `stream` (`out` or `err`).
    pub(super) fn line(&mut self, stream: &str, text: &str) {
        if self.length > ROTATE_BYTES && fs::rename(&self.path, self.path.with_extension("log.1")).is_ok() {
            self.reopen();
        }
        let now = Now::read().unix_ms;
        let mut lines = format!("{now} {stream} {text}\n");
        if self.lost > 0 {
            let lost = self.lost;
            lines.insert_str(0, &format!("{now} err baton: {lost} lines were lost: the disk refused them\n"));
        }
        match self.write(lines.as_bytes()) {
            Ok(()) => self.lost = 0,
            Err(_) => self.lost += 1,
        }
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        if self.file.is_none() {
            self.reopen();
        }
        let file = self.file.as_mut().ok_or(io::ErrorKind::NotFound)?;
        file.write_all(bytes)?;
        self.length += bytes.len() as u64;
        Ok(())
    }

    fn reopen(&mut self) {
        self.file = OpenOptions::new().create(true).append(true).open(&self.path).ok();
        self.length = self.file.as_ref().and_then(|file| file.metadata().ok()).map_or(0, |meta| meta.len());
    }
}

/// The text of a line of the file.
pub(super) fn text(line: &str) -> &str {
    line.splitn(3, ' ').nth(2).unwrap_or(line)
}
