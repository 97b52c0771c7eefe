//! A backend's output on disk: one line a line, with time and stream, in two files of bounded size.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use crate::clock::Now;

/// The current file; the one before it bears `.1` behind the name.
pub(super) const FILE: &str = "output.log";
/// A file is set aside when it has grown to this.
const ROTATE_BYTES: u64 = 8 << 20;
/// The stream that marks where a life begins.
const LIFE: &str = "life";

/// Writes lines; what the disk refuses is counted and said as soon as it takes lines again.
pub(super) struct Log {
    path: PathBuf,
    file: Option<File>,
    length: u64,
    rotate_bytes: u64,
    lost: u64,
}

impl Log {
    pub(super) fn open(dir: &Path) -> Self {
        let mut log =
            Self { path: dir.join(FILE), file: None, length: 0, rotate_bytes: ROTATE_BYTES, lost: 0 };
        log.reopen();
        log
    }

    /// Marks the beginning of a life, so that the last words of an earlier one are not taken for its own.
    pub(super) fn begin_life(&mut self) {
        self.line(LIFE, "begins");
    }

    /// Appends a line of `stream` (`out` or `err`).
    pub(super) fn line(&mut self, stream: &str, text: &str) {
        if self.length > self.rotate_bytes
            && fs::rename(&self.path, self.path.with_extension("log.1")).is_ok()
        {
            self.reopen();
        }
        let now = Now::read().unix_ms;
        let mut lines = format!("{now} {stream} {text}\n");
        if self.lost > 0 {
            // What was refused last may have been written in part.
            let lost = self.lost;
            lines.insert_str(
                0,
                &format!("\n{now} err baton: {lost} lines were lost: the disk refused them\n"),
            );
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
        // What a command prints is as private as its environment.
        self.file = OpenOptions::new().create(true).append(true).mode(0o600).open(&self.path).ok();
        self.length = self.file.as_ref().and_then(|file| file.metadata().ok()).map_or(0, |meta| meta.len());
    }
}

/// A line of the file, read back.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Entry<'a> {
    /// A life begins.
    LifeBegins,
    /// The command printed this.
    Printed(&'a str),
    /// Nothing: what remained of a line that the disk refused.
    Nothing,
}

impl<'a> Entry<'a> {
    pub(super) fn parse(line: &'a str) -> Self {
        let mut parts = line.splitn(3, ' ');
        match (parts.next(), parts.next(), parts.next()) {
            (Some(_), Some(LIFE), Some(_)) => Self::LifeBegins,
            (Some(_), Some(_), Some(text)) => Self::Printed(text),
            _ => Self::Nothing,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_file_is_set_aside_and_only_one_is_kept() {
        let dir = tempfile::tempdir().unwrap();
        let mut log = Log { rotate_bytes: 100, ..Log::open(dir.path()) };
        for number in 0..40 {
            log.line("out", &format!("line {number}"));
        }
        let mut names: Vec<_> =
            fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        names.sort();
        assert_eq!(names, [FILE, "output.log.1"]);
        for name in names {
            assert!(fs::metadata(dir.path().join(name)).unwrap().len() < 200);
        }
        let last = fs::read_to_string(dir.path().join(FILE)).unwrap();
        assert!(last.ends_with("out line 39\n"), "{last}");
    }

    #[test]
    fn lines_that_the_disk_refuses_are_counted_and_said_later() {
        let dir = tempfile::tempdir().unwrap();
        let mut log = Log::open(dir.path());
        log.file = Some(OpenOptions::new().write(true).open("/dev/full").unwrap());
        log.line("out", "one");
        log.line("out", "two");
        log.file = None;
        log.line("out", "three");
        let text = fs::read_to_string(dir.path().join(FILE)).unwrap();
        let entries: Vec<_> = text.lines().map(Entry::parse).collect();
        let said = "baton: 2 lines were lost: the disk refused them";
        assert_eq!(entries, [Entry::Nothing, Entry::Printed(said), Entry::Printed("three")]);
    }

    #[test]
    fn a_log_whose_directory_is_gone_loses_lines_and_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        let mut log = Log::open(&dir.path().join("missing"));
        log.line("out", "one");
        assert_eq!(log.lost, 1);
    }
}
