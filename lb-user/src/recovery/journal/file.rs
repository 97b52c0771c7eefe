//! The journal's file, also on a disk that refuses.
//!
//! What always holds:
//! - An open never fails: what can be read counts, and what cannot be written now is tried again.
//! - Nothing is written over that has not been read: a journal that turns out to hold something else than was known
//!   when it was opened stays as it is.
//! - The file stays bounded: beyond a size the records of ended cycles are dropped, in a new file that takes the
//!   place of the old one in one step.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Seek, Write};
use std::path::{Path, PathBuf};

use super::lines::{Damage, Line, Scan, line, line_of};
use super::{Record, Standing};
use crate::atomic_file::replace;

/// Beyond this size the records of ended cycles are dropped.
const COMPACT_BYTES: u64 = 1 << 20;
/// So much of a damaged journal is kept aside, in bytes.
const ASIDE_BYTES: usize = 4 << 20;

/// Less what the umask of the controller takes away.
const MODE: u32 = 0o666;

/// An open journal.
#[derive(Debug)]
pub struct Journal {
    /// `None` while it cannot be written.
    pub(super) file: Option<File>,
    path: PathBuf,
    sequence: u64,
    /// Bytes of whole records; what a failed write left behind them is cut off before the next one.
    length: u64,
    kept: Kept,
    /// It is compacted beyond this length.
    compact_beyond: u64,
    /// It was found to hold what was not known.
    holds_more: bool,
}

/// What was found when a journal was opened.
#[derive(Debug, Default, PartialEq)]
pub struct History {
    /// The records, oldest first.
    pub records: Vec<Record>,
    /// Bytes at the end that had not been written whole, and were cut off.
    pub torn: u64,
    /// What is damaged before that.
    pub damage: Option<Damage>,
    /// Why it cannot be read: nothing is known of what it holds.
    pub unread: Option<String>,
    /// Why it cannot be written.
    pub trouble: Option<String>,
}

/// What a resumption needs: what stands, and the last cycle.
#[derive(Debug, Default, PartialEq)]
struct Kept {
    standing: Standing,
    cycle: Vec<Record>,
    /// Records of other versions, as JSON.
    unknown: Vec<String>,
}

impl Kept {
    fn of(scan: &Scan) -> Self {
        let mut kept = Self::default();
        for line in &scan.lines {
            match line {
                Line::Known(record) => kept.note(record),
                Line::Unknown(json) => kept.unknown.push(json.clone()),
            }
        }
        kept
    }

    fn note(&mut self, record: &Record) {
        self.standing.apply(record);
        let Some(cycle) = record.cycle() else { return };
        // The last one, not the greatest: numbers begin anew after a reboot.
        if self.cycle.last().and_then(Record::cycle) != Some(cycle) {
            self.cycle.clear();
        }
        self.cycle.push(record.clone());
    }
}

impl Journal {
    /// Opens the journal at `path`, or makes it with its directory.
    pub fn open(path: &Path) -> (Self, History) {
        let mut journal = Self {
            file: None,
            path: path.to_owned(),
            sequence: 0,
            length: 0,
            kept: Kept::default(),
            compact_beyond: COMPACT_BYTES,
            holds_more: false,
        };
        let bytes = match read(path) {
            Ok(bytes) => bytes,
            Err(error) => {
                let unread = Some(error.to_string());
                let trouble = Some(format!("it cannot be read either: {error}"));
                return (journal, History { unread, trouble, ..History::default() });
            }
        };
        let scan = Scan::of(&bytes);
        journal.kept = Kept::of(&scan);
        let trouble = journal.begin_writing(&bytes, &scan).err().map(|error| error.to_string());
        let records = scan.records();
        (journal, History { records, torn: scan.torn, damage: scan.damage, unread: None, trouble })
    }

    /// Makes ready to write behind what was found.
    fn begin_writing(&mut self, bytes: &[u8], scan: &Scan) -> io::Result<()> {
        if let Some(directory) = self.path.parent() {
            fs::create_dir_all(directory)?;
        }
        (self.sequence, self.length) = (scan.sequence, scan.length);
        if scan.damage.is_some() {
            let aside = self.path.with_extension("damaged");
            replace(&aside, &bytes[..bytes.len().min(ASIDE_BYTES)], MODE)?;
            self.compact()?;
            return Ok(());
        }
        let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&self.path)?;
        if scan.torn > 0 {
            file.set_len(scan.length)?;
        }
        sync_directory(&self.path)?;
        self.file = Some(file);
        self.keep_short();
        Ok(())
    }

    /// Tries again to write a journal that could not be written.
    fn writable(&mut self) -> io::Result<&mut File> {
        if self.file.is_none() {
            let bytes = read(&self.path)?;
            let scan = Scan::of(&bytes);
            self.holds_more = Kept::of(&scan) != self.kept;
            if self.holds_more {
                return Err(io::Error::other("it holds other records than when the service was taken up"));
            }
            self.begin_writing(&bytes, &scan)?;
        }
        self.file.as_mut().ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    /// Whether it can be read by now, and holds what was not known when it was opened.
    pub fn holds_more(&self) -> bool {
        self.holds_more
    }

    /// Appends records and returns once they are on disk; after an error none of them counts.
    pub fn append(&mut self, records: &[Record]) -> io::Result<()> {
        if records.is_empty() {
            return Ok(());
        }
        self.writable()?;
        let mut text = Vec::new();
        let mut sequence = self.sequence;
        for record in records {
            sequence += 1;
            text.extend(line(sequence, record)?);
        }
        let length = self.length;
        let file = self.writable()?;
        // A write that failed half-way may have left a torn line.
        file.set_len(length)?;
        file.seek(io::SeekFrom::Start(length))?;
        file.write_all(&text)?;
        file.sync_data()?;
        self.length += text.len() as u64;
        self.sequence = sequence;
        for record in records {
            self.kept.note(record);
        }
        self.keep_short();
        Ok(())
    }

    /// Whether a record could be written at this moment; leaves nothing behind.
    pub fn probe(&mut self) -> io::Result<()> {
        // As long as a record, so that a disk with a few bytes left does not pass; without the end of a line, so
        // that it is a torn one if this controller dies before it is cut off again.
        const PROBE: [u8; 1024] = [b' '; 1024];
        self.writable()?;
        let length = self.length;
        let file = self.writable()?;
        file.seek(io::SeekFrom::Start(length))?;
        let written = file.write_all(&PROBE).and_then(|()| file.sync_data());
        file.set_len(length)?;
        written
    }

    /// Drops the records of ended cycles once there are many.
    fn keep_short(&mut self) {
        if self.length <= self.compact_beyond {
            return;
        }
        if let Err(error) = self.compact() {
            tracing::warn!(path = %self.path.display(), %error, "the journal cannot be shortened and grows on");
            // It is whole, only long.
            self.compact_beyond = self.length + COMPACT_BYTES;
        }
    }

    /// Keeps only what a resumption needs.
    fn compact(&mut self) -> io::Result<()> {
        let mut text = Vec::new();
        let mut sequence = self.sequence;
        for record in self.kept.standing.clone().records().chain(self.kept.cycle.iter().cloned()) {
            sequence += 1;
            text.extend(line(sequence, &record)?);
        }
        for json in &self.kept.unknown {
            sequence += 1;
            text.extend(line_of(sequence, json));
        }
        self.file = Some(replace(&self.path, &text, MODE)?);
        (self.sequence, self.length) = (sequence, text.len() as u64);
        self.compact_beyond = COMPACT_BYTES.max(2 * self.length);
        sync_directory(&self.path)
    }
}

/// The bytes of a file; none if there is no such file.
/// The records of a journal, without opening it.
pub(super) fn peek(path: &Path) -> io::Result<Vec<Record>> {
    Ok(Scan::of(&read(path)?).records())
}

fn read(path: &Path) -> io::Result<Vec<u8>> {
    match fs::read(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        read => read,
    }
}

fn sync_directory(path: &Path) -> io::Result<()> {
    path.parent().map_or(Ok(()), |directory| File::open(directory)?.sync_all())
}
