//! Compares what clients were told with what servers did, by the servers' execution logs.
//!
//! A server appends one line to its log whenever it executes a request; the line starts with the request's id,
//! and a space, tab or comma ends the id. Lines of other runs are ignored, so a log may be shared.

use std::fs::File;
use std::io::{self, BufRead, BufReader};
use std::path::{Path, PathBuf};

use serde::Serialize;
use thiserror::Error;

use super::engine::Report;
use super::record::Outcome;

/// An execution log cannot be read.
#[derive(Debug, Error)]
#[error("cannot read the execution log {}: {source}; check the path", path.display())]
pub struct ExecutedError {
    path: PathBuf,
    source: io::Error,
}

/// What the execution logs say about a run, by the numbers of its requests.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Executions {
    /// Executions of requests of this run.
    pub executed: u64,
    /// Executed more than once.
    pub doubled: Vec<u64>,
    /// Answered as expected but never executed; only of kinds that are logged.
    pub lost: Vec<u64>,
    /// Failed for the client, but executed.
    pub executed_but_failed: Vec<u64>,
}

impl Executions {
    /// Reads the logs and compares them with a finished run.
    pub fn read<P: AsRef<Path>>(paths: &[P], report: &Report) -> Result<Self, ExecutedError> {
        let mut times = Times::new(report);
        for path in paths {
            let path = path.as_ref();
            let failed = |source| ExecutedError { path: path.to_owned(), source };
            times.read(BufReader::new(File::open(path).map_err(failed)?)).map_err(failed)?;
        }
        Ok(times.compare(report))
    }
}

/// How many times each request of a run was executed.
struct Times {
    /// How an id of the run begins.
    prefix: Vec<u8>,
    /// The number of executions of each; stops counting at 255.
    by_number: Vec<u8>,
    executed: u64,
}

impl Times {
    fn new(report: &Report) -> Self {
        let prefix = format!("{}-", report.plan.run).into_bytes();
        Self { prefix, by_number: vec![0; report.records.len()], executed: 0 }
    }

    fn read(&mut self, mut log: impl BufRead) -> io::Result<()> {
        let mut line = Vec::new();
        while log.read_until(b'\n', &mut line)? > 0 {
            if let Some(times) = number(&line, &self.prefix).and_then(|number| self.by_number.get_mut(number))
            {
                *times = times.saturating_add(1);
                self.executed += 1;
            }
            line.clear();
        }
        Ok(())
    }

    /// Records are in the order of their numbers, which are those of their places.
    fn compare(self, report: &Report) -> Executions {
        let mut found = Executions { executed: self.executed, ..Executions::default() };
        for (record, &times) in report.records.iter().zip(&self.by_number) {
            let is_logged = report.plan.kinds.get(usize::from(record.kind)).is_some_and(|kind| kind.logged);
            if times > 1 {
                found.doubled.push(record.number);
            }
            if times == 0 && is_logged && record.outcome == Outcome::Ok {
                found.lost.push(record.number);
            }
            if times > 0 && record.outcome.is_failure() {
                found.executed_but_failed.push(record.number);
            }
        }
        found
    }
}

/// The number of the request that a line of a log is about, if it is of the run whose ids begin with `prefix`.
fn number(line: &[u8], prefix: &[u8]) -> Option<usize> {
    let rest = line.strip_prefix(prefix)?;
    let digits = rest.split(|byte| b" \t,\r\n".contains(byte)).next()?;
    std::str::from_utf8(digits).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_counts_if_it_starts_with_an_id_of_the_run() {
        assert_eq!(number(b"run-17\n", b"run-"), Some(17));
        assert_eq!(number(b"run-17 /work 3ms\n", b"run-"), Some(17));
        assert_eq!(number(b"run-17,a\r\n", b"run-"), Some(17));
        for other in [&b"run-x\n"[..], b"run-\n", b"other-17\n", b"\n", b"run-1-2\n", b"\xff\n"] {
            assert_eq!(number(other, b"run-"), None);
        }
    }
}
