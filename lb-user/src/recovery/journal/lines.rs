//! The lines of a journal, and what still counts if some are damaged.
//!
//! A crash leaves a torn end: what is not whole was never acted upon, so it is cut off and that is all. Damage before
//! the end is another matter: the records were acted upon, and nobody knows what they said.
//! - What comes after them counts as far as its checksums and its order hold. Most of what stands restrains:
//!   maintenance, holds, quarantines, steps that were ordered. To forget it would set Baton free to act where it
//!   must not; to keep what was taken back costs an operator one word.
//! - A word of an operator's may be among what was lost. So nothing planned begins until there is a new one: the
//!   service counts as paused, unless it was paused or resumed after the last damage.
//! - A line whose checksum holds, of a kind that is not known here, is another version's. It is kept, and says
//!   nothing.

use std::fmt;
use std::io;

use super::Record;

/// So many damaged places are named.
const PLACES_NAMED: usize = 4;

/// A line whose checksum holds.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Line {
    Known(Record),
    /// As JSON.
    Unknown(String),
}

/// A stretch that cannot be trusted, or in which records are missing.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Place {
    /// The last record before it.
    after: Option<u64>,
    /// Where it begins, in bytes.
    at: u64,
    bytes: u64,
    /// Records that were lost there, by the numbers of those round it.
    records: u64,
    /// There is none before or none after it: so many damaged lines, which may have been more.
    at_least: bool,
}

/// What is damaged before the end of a journal.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Damage(Vec<Place>);

impl fmt::Display for Damage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let records: u64 = self.0.iter().map(|place| place.records).sum();
        let about = if self.0.iter().any(|place| place.at_least) { "at least " } else { "" };
        let were = if records == 1 { "record was" } else { "records were" };
        write!(f, "{about}{records} {were} lost")?;
        for (number, place) in self.0.iter().take(PLACES_NAMED).enumerate() {
            let Place { after, at, bytes, records, .. } = place;
            let join = if number == 0 { ": " } else { "; " };
            match after {
                Some(after) => write!(f, "{join}{records} after number {after}")?,
                None => write!(f, "{join}{records} at the beginning")?,
            }
            write!(f, " ({bytes} damaged bytes at byte {at})")?;
        }
        match self.0.len().saturating_sub(PLACES_NAMED) {
            0 => Ok(()),
            more => write!(f, "; and in {more} more places"),
        }
    }
}

/// What the bytes of a journal hold.
#[derive(Debug, Default)]
pub(super) struct Scan {
    pub(super) lines: Vec<Line>,
    /// The number of the last record.
    pub(super) sequence: u64,
    /// Where its line ends.
    pub(super) length: u64,
    /// Bytes of a line at the end that was not written whole.
    pub(super) torn: u64,
    pub(super) damage: Option<Damage>,
}

impl Scan {
    pub(super) fn of(bytes: &[u8]) -> Self {
        let mut scan = Self::default();
        let mut places: Vec<Place> = Vec::new();
        let mut last = None;
        let mut open: Option<Place> = None;
        let mut at = 0;
        let mut lines_before_pause = 0;
        for text in bytes.split_inclusive(|byte| *byte == b'\n') {
            let (begin, size) = (at, text.len() as u64);
            at += size;
            if let Some((sequence, line)) =
                parse(text).filter(|(number, _)| last.is_none_or(|last| *number > last))
            {
                let missing = last.map(|last| sequence - last - 1);
                if let Some(place) = open.take() {
                    places.push(match missing {
                        Some(records) => Place { records, at_least: false, ..place },
                        None => place,
                    });
                    lines_before_pause = scan.lines.len();
                } else if let Some(records @ 1..) = missing {
                    places.push(Place { after: last, at: begin, bytes: 0, records, at_least: false });
                    lines_before_pause = scan.lines.len();
                }
                scan.lines.push(line);
                last = Some(sequence);
                scan.length = at;
            } else if text.ends_with(b"\n") {
                let place = open.get_or_insert(Place {
                    after: last,
                    at: begin,
                    bytes: 0,
                    records: 0,
                    at_least: true,
                });
                place.bytes += size;
                place.records += 1;
            } else {
                scan.torn = size;
            }
        }
        if let Some(place) = open {
            places.push(place);
            lines_before_pause = scan.lines.len();
        }
        scan.sequence = last.unwrap_or(0);
        let lost = places.iter().any(|place| place.records > 0);
        scan.damage = (!places.is_empty()).then_some(Damage(places));
        if lost {
            scan.pause_unless_told(lines_before_pause);
        }
        scan
    }

    fn pause_unless_told(&mut self, since: usize) {
        let is_word = |line: &Line| matches!(line, Line::Known(Record::Paused | Record::Resumed));
        if !self.lines.iter().skip(since).any(is_word) {
            self.lines.push(Line::Known(Record::Paused));
        }
    }

    pub(super) fn records(&self) -> Vec<Record> {
        let known = |line: &Line| match line {
            Line::Known(record) => Some(record.clone()),
            Line::Unknown(_) => None,
        };
        self.lines.iter().filter_map(known).collect()
    }
}

/// A record as its line.
pub(super) fn line(sequence: u64, record: &Record) -> io::Result<Vec<u8>> {
    Ok(line_of(sequence, &serde_json::to_string(record).map_err(io::Error::other)?))
}

/// The same of a record as JSON.
pub(super) fn line_of(sequence: u64, json: &str) -> Vec<u8> {
    let body = format!("{sequence} {json}");
    format!("{:08x} {body}\n", crc32fast::hash(body.as_bytes())).into_bytes()
}

fn parse(line: &[u8]) -> Option<(u64, Line)> {
    let (checksum, body) = std::str::from_utf8(line).ok()?.strip_suffix('\n')?.split_once(' ')?;
    if u32::from_str_radix(checksum, 16).ok()? != crc32fast::hash(body.as_bytes()) {
        return None;
    }
    let (sequence, json) = body.split_once(' ')?;
    let line = serde_json::from_str(json).map_or_else(|_| Line::Unknown(json.to_owned()), Line::Known);
    Some((sequence.parse().ok()?, line))
}
