//! The journal: what was decided, on disk before it is done.
//!
//! One record a line: checksum, sequence number, JSON. A line that is torn or damaged ends what can be
//! trusted: it and all after it are cut off when the journal is opened, and said aloud.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::ladder::Step;
use super::message::Instance;
use super::report::{Outcome, Reason};
use crate::clock::Now;
use crate::names::BackendName;

/// Beyond this size the records of ended cycles are dropped at the next opening.
const COMPACT_BYTES: u64 = 1 << 20;

/// A decision.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "record", rename_all = "snake_case")]
pub enum Record {
    /// New flows are about to go to another backend.
    Handover {
        /// The cycle, counted from 1.
        cycle: u64,
        /// The backend that will drain.
        from: BackendName,
        /// The backend that will be active in its stead; none in a pool, where the others are.
        #[serde(default)]
        to: Option<BackendName>,
        /// The service's epoch after the handover.
        epoch: u32,
        /// Why.
        reason: Reason,
        /// When.
        at: Now,
        /// When what is left will be cut, in milliseconds of the boot clock.
        drain_deadline_ms: u64,
        /// The life that will be ended.
        instance: Option<Instance>,
    },
    /// The drained backend is about to be stopped.
    Stopping {
        /// The cycle.
        cycle: u64,
        /// The life that will be ended.
        instance: Option<Instance>,
    },
    /// The cycle is over.
    Ended {
        /// The cycle.
        cycle: u64,
        /// How it ended.
        outcome: Outcome,
    },
    /// An operator holds a backend out until [`Record::Ready`].
    HeldOut {
        /// The backend.
        backend: BackendName,
    },
    /// A backend is not held out any more.
    Ready {
        /// The backend.
        backend: BackendName,
    },
    /// No automatic rejuvenation until [`Record::Resumed`].
    Paused,
    /// Rejuvenations are left to the rules again.
    Resumed,
    /// A step is about to be done to the machine of a backend.
    Step {
        /// The backend.
        backend: BackendName,
        /// The step.
        step: Step,
        /// Counts such steps since the backend was last well, from 1.
        number: u64,
    },
    /// A backend is not tried any more until [`Record::Recovered`].
    Quarantined {
        /// The backend.
        backend: BackendName,
    },
    /// A backend is well, or tried again: its steps and its quarantine are over.
    Recovered {
        /// The backend.
        backend: BackendName,
    },
    /// No automatic action until [`Record::MaintenanceEnded`].
    MaintenanceBegan,
    /// Actions are left to Baton again.
    MaintenanceEnded,
}

impl Record {
    /// The cycle that it belongs to, if it is about one.
    pub fn cycle(&self) -> Option<u64> {
        match self {
            Self::Handover { cycle, .. } | Self::Stopping { cycle, .. } | Self::Ended { cycle, .. } => {
                Some(*cycle)
            }
            Self::HeldOut { .. }
            | Self::Ready { .. }
            | Self::Paused
            | Self::Resumed
            | Self::Step { .. }
            | Self::Quarantined { .. }
            | Self::Recovered { .. }
            | Self::MaintenanceBegan
            | Self::MaintenanceEnded => None,
        }
    }
}

/// What operators have said and not taken back, and how far the recovery of a backend got.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Standing {
    /// Backends that are held out.
    pub held_out: BTreeSet<BackendName>,
    /// No automatic rejuvenation.
    pub paused: bool,
    /// The last step that was done to the machine of a backend, and its number.
    pub steps: BTreeMap<BackendName, (Step, u64)>,
    /// Backends that are not tried any more.
    pub quarantined: BTreeSet<BackendName>,
    /// No automatic action.
    pub maintenance: bool,
}

impl Standing {
    /// What stands at the end of these records.
    pub fn of(records: &[Record]) -> Self {
        let mut standing = Self::default();
        for record in records {
            match record {
                Record::HeldOut { backend } => drop(standing.held_out.insert(backend.clone())),
                Record::Ready { backend } => drop(standing.held_out.remove(backend)),
                Record::Paused => standing.paused = true,
                Record::Resumed => standing.paused = false,
                Record::Step { backend, step, number } => {
                    standing.steps.insert(backend.clone(), (*step, *number));
                }
                Record::Quarantined { backend } => drop(standing.quarantined.insert(backend.clone())),
                Record::Recovered { backend } => {
                    standing.steps.remove(backend);
                    standing.quarantined.remove(backend);
                }
                Record::MaintenanceBegan => standing.maintenance = true,
                Record::MaintenanceEnded => standing.maintenance = false,
                Record::Handover { .. } | Record::Stopping { .. } | Record::Ended { .. } => {}
            }
        }
        standing
    }

    /// The records that say the same.
    fn records(self) -> impl Iterator<Item = Record> {
        let held_out = self.held_out.into_iter().map(|backend| Record::HeldOut { backend });
        let steps = self.steps.into_iter();
        let steps = steps.map(|(backend, (step, number))| Record::Step { backend, step, number });
        let quarantined = self.quarantined.into_iter().map(|backend| Record::Quarantined { backend });
        let paused = self.paused.then_some(Record::Paused).into_iter();
        let maintenance = self.maintenance.then_some(Record::MaintenanceBegan);
        paused.chain(maintenance).chain(held_out).chain(steps).chain(quarantined)
    }
}

/// An open journal.
#[derive(Debug)]
pub struct Journal {
    file: File,
    path: PathBuf,
    sequence: u64,
    /// Bytes of whole records; what a failed write left behind them is cut off before the next one.
    length: u64,
}

/// What was found when a journal was opened.
#[derive(Debug, Default, PartialEq)]
pub struct History {
    /// The records, oldest first.
    pub records: Vec<Record>,
    /// Bytes at the end that could not be trusted and were cut off.
    pub discarded: u64,
}

impl Journal {
    /// Opens the journal at `path`, or makes it with its directory.
    pub fn open(path: &Path) -> io::Result<(Self, History)> {
        if let Some(directory) = path.parent() {
            fs::create_dir_all(directory)?;
        }
        let mut file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path)?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes)?;
        let (lines, length) = trusted(&bytes);
        let discarded = bytes.len() as u64 - length;
        let sequence = lines.last().map_or(0, |line| line.0);
        let records = lines.into_iter().map(|line| line.1).collect();
        let mut journal = Self { file, path: path.to_owned(), sequence, length };
        if discarded > 0 {
            journal.file.set_len(length)?;
        }
        let history = History { records, discarded };
        if length > COMPACT_BYTES {
            journal.compact(&history.records)?;
        }
        journal.sync_directory()?;
        Ok((journal, history))
    }

    /// Appends records and returns once they are on disk; after an error none of them counts.
    pub fn append(&mut self, records: &[Record]) -> io::Result<()> {
        if records.is_empty() {
            return Ok(());
        }
        let mut text = Vec::new();
        let mut sequence = self.sequence;
        for record in records {
            sequence += 1;
            text.extend(line(sequence, record)?);
        }
        // A write that failed half-way may have left a torn line.
        self.file.set_len(self.length)?;
        self.file.seek(io::SeekFrom::Start(self.length))?;
        self.file.write_all(&text)?;
        self.file.sync_data()?;
        self.length += text.len() as u64;
        self.sequence = sequence;
        Ok(())
    }

    /// Whether a record could be written at this moment; leaves nothing behind.
    pub fn probe(&mut self) -> io::Result<()> {
        // As long as a record, so that a disk with a few bytes left does not pass.
        const PROBE: [u8; 1024] = [b'\n'; 1024];
        self.file.seek(io::SeekFrom::Start(self.length))?;
        let written = self.file.write_all(&PROBE).and_then(|()| self.file.sync_data());
        self.file.set_len(self.length)?;
        written
    }

    /// Keeps only what a resumption needs: what operators have said, and the last cycle.
    fn compact(&mut self, records: &[Record]) -> io::Result<()> {
        // The last one, not the greatest: numbers begin anew after a reboot.
        let last = records.iter().rev().find_map(Record::cycle);
        let of_cycle = records.iter().filter(|record| record.cycle().is_some() && record.cycle() == last);
        let mut text = Vec::new();
        let mut sequence = self.sequence;
        for record in Standing::of(records).records().chain(of_cycle.cloned()) {
            sequence += 1;
            text.extend(line(sequence, &record)?);
        }
        let temporary = self.path.with_extension("new");
        let mut file =
            OpenOptions::new().read(true).write(true).create(true).truncate(true).open(&temporary)?;
        file.write_all(&text)?;
        file.sync_all()?;
        fs::rename(&temporary, &self.path)?;
        (self.file, self.sequence, self.length) = (file, sequence, text.len() as u64);
        Ok(())
    }

    fn sync_directory(&self) -> io::Result<()> {
        self.path.parent().map_or(Ok(()), |directory| File::open(directory)?.sync_all())
    }
}

fn line(sequence: u64, record: &Record) -> io::Result<Vec<u8>> {
    let body = format!("{sequence} {}", serde_json::to_string(record).map_err(io::Error::other)?);
    Ok(format!("{:08x} {body}\n", crc32fast::hash(body.as_bytes())).into_bytes())
}

/// The records up to the first line that cannot be trusted, and where that line begins.
fn trusted(bytes: &[u8]) -> (Vec<(u64, Record)>, u64) {
    let mut lines: Vec<(u64, Record)> = Vec::new();
    let mut end = 0;
    for text in bytes.split_inclusive(|byte| *byte == b'\n') {
        let previous = lines.last().map(|line| line.0);
        match parse(text).filter(|(sequence, _)| previous.is_none_or(|previous| *sequence == previous + 1)) {
            Some(line) => lines.push(line),
            None => break,
        }
        end += text.len() as u64;
    }
    (lines, end)
}

fn parse(line: &[u8]) -> Option<(u64, Record)> {
    let (checksum, body) = std::str::from_utf8(line).ok()?.strip_suffix('\n')?.split_once(' ')?;
    if u32::from_str_radix(checksum, 16).ok()? != crc32fast::hash(body.as_bytes()) {
        return None;
    }
    let (sequence, json) = body.split_once(' ')?;
    Some((sequence.parse().ok()?, serde_json::from_str(json).ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ended(cycle: u64) -> Record {
        Record::Ended { cycle, outcome: Outcome::Completed }
    }

    fn scratch() -> (tempfile::TempDir, PathBuf) {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("service/journal");
        (directory, path)
    }

    #[test]
    fn what_was_appended_is_found_again() {
        let (_directory, path) = scratch();
        let (mut journal, history) = Journal::open(&path).unwrap();
        assert_eq!(history, History::default());
        journal.append(&[ended(1), ended(2)]).unwrap();
        journal.probe().unwrap();
        journal.append(&[ended(3)]).unwrap();
        let (_, history) = Journal::open(&path).unwrap();
        assert_eq!(history, History { records: vec![ended(1), ended(2), ended(3)], discarded: 0 });
    }

    #[test]
    fn a_torn_tail_is_cut_off_at_every_length_and_writing_goes_on() {
        let (_directory, path) = scratch();
        let (mut journal, _) = Journal::open(&path).unwrap();
        journal.append(&[ended(1)]).unwrap();
        let whole = fs::metadata(&path).unwrap().len();
        journal.append(&[ended(2)]).unwrap();
        let bytes = fs::read(&path).unwrap();
        for cut in whole as usize + 1..bytes.len() {
            fs::write(&path, &bytes[..cut]).unwrap();
            let (mut journal, history) = Journal::open(&path).unwrap();
            assert_eq!(history.records, [ended(1)], "cut at {cut}");
            assert_eq!(history.discarded, cut as u64 - whole);
            journal.append(&[ended(9)]).unwrap();
            assert_eq!(Journal::open(&path).unwrap().1.records, [ended(1), ended(9)]);
        }
    }

    #[test]
    fn a_flipped_bit_is_noticed_wherever_it_is() {
        let (_directory, path) = scratch();
        Journal::open(&path).unwrap().0.append(&[ended(1), ended(2)]).unwrap();
        let bytes = fs::read(&path).unwrap();
        for at in 0..bytes.len() {
            let mut damaged = bytes.clone();
            damaged[at] ^= 1;
            fs::write(&path, &damaged).unwrap();
            let records = Journal::open(&path).unwrap().1.records;
            let expected = usize::from(at >= bytes.len() / 2);
            assert_eq!(records.len(), expected, "bit flipped in byte {at}");
        }
    }

    #[test]
    fn a_large_journal_keeps_the_last_cycle_only() {
        let (_directory, path) = scratch();
        let (mut journal, _) = Journal::open(&path).unwrap();
        let many: Vec<_> = (0..20_000).map(ended).collect();
        journal.append(&many).unwrap();
        assert_eq!(Journal::open(&path).unwrap().1.records.len(), 20_000);
        let (mut journal, history) = Journal::open(&path).unwrap();
        assert_eq!(history.records, [ended(19_999)]);
        journal.append(&[ended(20_000)]).unwrap();
        assert_eq!(Journal::open(&path).unwrap().1.records, [ended(19_999), ended(20_000)]);
    }

    #[test]
    fn a_large_journal_keeps_what_operators_have_said() {
        let (_directory, path) = scratch();
        let (mut journal, _) = Journal::open(&path).unwrap();
        let (a, b): (BackendName, BackendName) = ("a".parse().unwrap(), "b".parse().unwrap());
        let held_out = |backend: &BackendName| Record::HeldOut { backend: backend.clone() };
        let ready = Record::Ready { backend: a.clone() };
        let said = [held_out(&a), held_out(&b), Record::Paused, Record::MaintenanceBegan, ready];
        journal.append(&said).unwrap();
        journal.append(&(0..20_000).map(ended).collect::<Vec<_>>()).unwrap();
        drop(Journal::open(&path).unwrap());
        let (_, history) = Journal::open(&path).unwrap();
        assert_eq!(history.records, [Record::Paused, Record::MaintenanceBegan, held_out(&b), ended(19_999)]);
        assert_eq!(
            Standing::of(&history.records),
            Standing { held_out: [b].into(), paused: true, maintenance: true, ..Standing::default() }
        );
        assert_eq!(Standing::of(&[Record::Paused, Record::Resumed]), Standing::default());
        let over = [Record::MaintenanceBegan, Record::MaintenanceEnded];
        assert_eq!(Standing::of(&over), Standing::default());
    }

    #[test]
    fn a_large_journal_keeps_how_far_recoveries_got() {
        let (_directory, path) = scratch();
        let (mut journal, _) = Journal::open(&path).unwrap();
        let (a, b): (BackendName, BackendName) = ("a".parse().unwrap(), "b".parse().unwrap());
        let step =
            |backend: &BackendName, step, number| Record::Step { backend: backend.clone(), step, number };
        let kept = [step(&b, Step::Recreate, 2), Record::Quarantined { backend: b.clone() }];
        let over = [step(&a, Step::Reboot, 1), Record::Quarantined { backend: a.clone() }];
        journal.append(&[step(&b, Step::Reboot, 1)]).unwrap();
        journal.append(&kept).unwrap();
        journal.append(&over).unwrap();
        journal.append(&[Record::Recovered { backend: a }]).unwrap();
        journal.append(&(0..20_000).map(ended).collect::<Vec<_>>()).unwrap();
        drop(Journal::open(&path).unwrap());
        let (_, history) = Journal::open(&path).unwrap();
        assert_eq!(history.records, [kept.as_slice(), &[ended(19_999)]].concat());
    }

    #[test]
    fn a_record_of_before_there_were_pools_is_read() {
        let old = r#"{"record":"handover","cycle":3,"from":"a","to":"b","epoch":4,"reason":{"code":"operator"},
            "at":{"boot_ms":1,"unix_ms":2},"drain_deadline_ms":5,"instance":null}"#;
        let Record::Handover { to, .. } = serde_json::from_str(old).unwrap() else {
            panic!("another record")
        };
        assert_eq!(to, Some("b".parse().unwrap()));
    }

    #[test]
    fn a_full_disk_is_an_error_and_leaves_the_journal_whole() {
        let (_directory, path) = scratch();
        let (mut journal, _) = Journal::open(&path).unwrap();
        journal.append(&[ended(1)]).unwrap();
        journal.file = OpenOptions::new().write(true).open("/dev/full").unwrap();
        assert!(journal.append(&[ended(2)]).is_err());
        assert!(journal.probe().is_err());
        assert_eq!(Journal::open(&path).unwrap().1.records, [ended(1)]);
    }
}
