//! Following a backend's log while the shim writes and rotates it.

use std::fs::File;
use std::io::{BufRead, BufReader, Read, Seek, SeekFrom};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::log;

/// The longest line that is shown; what is behind it is cut off.
const LINE_MAX: usize = 16 << 10;
/// How far from its end a file is read for its last lines.
const LAST_BYTES: u64 = 64 << 10;

/// A place in the log.
#[derive(Debug)]
pub struct Tail {
    path: PathBuf,
    open: Option<(BufReader<File>, u64)>,
    partial: Vec<u8>,
}

impl Tail {
    pub(super) fn from_end(path: PathBuf) -> Self {
        let mut tail = Self { path, open: None, partial: Vec::new() };
        tail.open();
        if let Some((reader, _)) = &mut tail.open {
            // A file that cannot be sought is read from its beginning.
            let _ = reader.seek(SeekFrom::End(0));
        }
        tail
    }

    /// The lines that have come since the last call.
    pub fn lines(&mut self) -> Vec<String> {
        let mut lines = Vec::new();
        loop {
            self.read_open(&mut lines);
            if !self.was_rotated() {
                return lines;
            }
            self.partial.clear();
            self.open();
            if self.open.is_none() {
                return lines;
            }
        }
    }

    fn read_open(&mut self, lines: &mut Vec<String>) {
        let Some((reader, _)) = &mut self.open else { return };
        while reader.read_until(b'\n', &mut self.partial).is_ok_and(|read| read > 0) {
            if self.partial.last() != Some(&b'\n') {
                // The rest of the line is not written yet.
                return;
            }
            self.partial.pop();
            self.partial.truncate(LINE_MAX);
            lines.push(log::text(&String::from_utf8_lossy(&self.partial)).to_owned());
            self.partial.clear();
        }
    }

    fn was_rotated(&self) -> bool {
        let current = std::fs::metadata(&self.path).ok().map(|meta| meta.ino());
        current.is_some() && current != self.open.as_ref().map(|(_, inode)| *inode)
    }

    fn open(&mut self) {
        self.open = File::open(&self.path).ok().and_then(|file| {
            let inode = file.metadata().ok()?.ino();
            Some((BufReader::new(file), inode))
        });
    }
}

/// The last `count` lines of a log.
pub(super) fn last_lines(path: &Path, count: usize) -> Vec<String> {
    let read = || {
        let mut file = File::open(path).ok()?;
        let length = file.metadata().ok()?.len();
        file.seek(SeekFrom::Start(length.saturating_sub(LAST_BYTES))).ok()?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes).ok()?;
        Some(String::from_utf8_lossy(&bytes).into_owned())
    };
    let content = read().unwrap_or_default();
    let lines: Vec<_> = content.lines().map(|line| log::text(line).to_owned()).collect();
    lines[lines.len().saturating_sub(count)..].to_vec()
}

#[cfg(test)]
mod tests {
    use super::super::log::Log;
    use super::*;

    #[test]
    fn it_follows_from_the_end_and_over_a_rotation() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join(log::FILE);
        Log::open(directory.path()).line("out", "before");
        let mut tail = Tail::from_end(path.clone());
        assert!(tail.lines().is_empty());
        Log::open(directory.path()).line("err", "one two");
        assert_eq!(tail.lines(), ["one two"]);
        std::fs::rename(&path, path.with_extension("log.1")).unwrap();
        Log::open(directory.path()).line("out", "after");
        assert_eq!(tail.lines(), ["after"]);
        assert_eq!(last_lines(&path, 5), ["after"]);
    }
}
