//! Following a backend's log while the shim writes and rotates it.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::log::Entry;
use crate::program::harmless;

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
            // Between the look at the file and the look at its name more may have been written.
            self.read_open(&mut lines);
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
            if let Entry::Printed(text) = Entry::parse(&String::from_utf8_lossy(&self.partial)) {
                lines.push(text.to_owned());
            }
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

/// The last lines that the present or last life printed, at most `count`, oldest first.
pub(super) fn last_lines(path: &Path, count: usize) -> Vec<String> {
    let mut lines = Vec::new();
    for line in end_of(path).unwrap_or_default().lines() {
        match Entry::parse(line) {
            Entry::LifeBegins => lines.clear(),
            Entry::Printed(text) => lines.push(harmless(text.as_bytes())),
            Entry::Nothing => {}
        }
    }
    lines.split_off(lines.len().saturating_sub(count))
}

/// The whole lines at the end of a file.
fn end_of(path: &Path) -> io::Result<String> {
    let mut file = File::open(path)?;
    let skipped = file.metadata()?.len().saturating_sub(LAST_BYTES);
    file.seek(SeekFrom::Start(skipped))?;
    let mut bytes = Vec::new();
    file.take(2 * LAST_BYTES).read_to_end(&mut bytes)?;
    let text = String::from_utf8_lossy(&bytes);
    let whole = if skipped == 0 { &text } else { text.split_once('\n').map_or("", |(_, whole)| whole) };
    Ok(whole.to_owned())
}

#[cfg(test)]
mod tests {
    use super::super::log::{FILE, Log};
    use super::*;

    #[test]
    fn it_follows_from_the_end_and_over_a_rotation() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join(FILE);
        Log::open(directory.path()).line("out", "before");
        let mut tail = Tail::from_end(path.clone());
        assert!(tail.lines().is_empty());
        Log::open(directory.path()).line("err", "one two");
        assert_eq!(tail.lines(), ["one two"]);
        Log::open(directory.path()).line("out", "last");
        std::fs::rename(&path, path.with_extension("log.1")).unwrap();
        Log::open(directory.path()).line("out", "after");
        assert_eq!(tail.lines(), ["last", "after"]);
        assert_eq!(last_lines(&path, 5), ["after"]);
    }

    #[test]
    fn a_log_that_does_not_exist_yet_is_followed_from_its_beginning() {
        let directory = tempfile::tempdir().unwrap();
        let mut tail = Tail::from_end(directory.path().join(FILE));
        assert!(tail.lines().is_empty());
        Log::open(directory.path()).line("out", "first");
        assert_eq!(tail.lines(), ["first"]);
    }

    #[test]
    fn a_half_written_line_waits_for_its_other_half() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join(FILE);
        let mut tail = Tail::from_end(path.clone());
        std::fs::write(&path, "1 out ab").unwrap();
        assert!(tail.lines().is_empty());
        std::fs::write(&path, "1 out abcd\n").unwrap();
        assert_eq!(tail.lines(), ["abcd"]);
    }

    #[test]
    fn the_last_words_are_those_of_the_last_life() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join(FILE);
        let mut log = Log::open(directory.path());
        for text in ["old", "older"] {
            log.line("err", text);
        }
        log.begin_life();
        assert!(last_lines(&path, 5).is_empty());
        for text in ["one", "two", "three"] {
            log.line("out", text);
        }
        assert_eq!(last_lines(&path, 2), ["two", "three"]);
        log.line("out", &"x".repeat(LAST_BYTES as usize - 100));
        log.line("out", "end");
        assert_eq!(last_lines(&path, 9).last().map(String::as_str), Some("end"));
    }
}
