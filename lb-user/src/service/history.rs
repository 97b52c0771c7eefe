//! What has happened: the last events in memory and on disk, and the last reports.
//!
//! What always holds: neither grows without bound, and a disk that refuses loses history, not service.

use std::collections::VecDeque;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use tokio::sync::broadcast;

use crate::atomic_file;
use crate::clock::Now;
use crate::documents;
use crate::names::ServiceName;
use crate::paths::ServicePaths;
use crate::recovery::event::{Event, Timed};
use crate::recovery::report::Report;

/// Events that are kept.
const EVENTS_MAX: usize = 1_000;
/// Reports of a service that are kept.
const REPORTS_MAX: usize = 1_000;
/// Events that a slow follower may be behind.
const FOLLOWERS_BEHIND: usize = 256;

/// The past of a service.
pub(super) struct History {
    service: ServiceName,
    events: VecDeque<Timed>,
    path: PathBuf,
    file: Option<File>,
    /// Lines of the file, whole or not.
    lines: usize,
    reports: PathBuf,
    followers: broadcast::Sender<Timed>,
}

impl History {
    /// Opens the past that earlier controllers of the running service left.
    pub(super) fn open(service: &ServiceName, paths: &ServicePaths) -> Self {
        let path = paths.run_dir().join("events.jsonl");
        let text = fs::read_to_string(&path).unwrap_or_default();
        let mut events: VecDeque<Timed> =
            text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
        while events.len() > EVENTS_MAX {
            events.pop_front();
        }
        let file = rewrite(&path, &events)
            .inspect_err(|error| tracing::warn!(%error, "events are kept in memory only"))
            .ok();
        let (followers, _) = broadcast::channel(FOLLOWERS_BEHIND);
        let lines = events.len();
        Self { service: service.clone(), events, path, file, lines, reports: paths.reports(), followers }
    }

    /// Keeps an event and tells everyone who follows.
    pub(super) fn note(&mut self, event: Event, now: Now) {
        tracing::info!(service = %self.service, "{event}");
        let timed = Timed { unix_ms: now.unix_ms, service: self.service.clone(), event };
        if let (Some(file), Ok(mut line)) = (&mut self.file, serde_json::to_string(&timed)) {
            line.push('\n');
            // What a full disk refuses is in memory, and on disk with the next rewriting.
            let _ = file.write_all(line.as_bytes());
        }
        self.lines += 1;
        self.events.push_back(timed.clone());
        if self.events.len() > EVENTS_MAX {
            self.events.pop_front();
        }
        if self.lines >= 2 * EVENTS_MAX {
            self.lines = self.events.len();
            if let Ok(file) = rewrite(&self.path, &self.events) {
                self.file = Some(file);
            }
        }
        // Without followers there is nobody to tell.
        let _ = self.followers.send(timed);
    }

    /// Keeps a report, and drops those that are too many.
    pub(super) fn keep(&self, report: &Report) {
        prune(&self.reports, REPORTS_MAX - 1);
        let path = self.reports.join(format!("{}-{}.json", report.times.handover_unix_ms, report.cycle));
        let written = fs::create_dir_all(&self.reports).and_then(|()| documents::write(&path, report));
        if let Err(error) = written {
            tracing::warn!(%error, path = %path.display(), "the drain report could not be kept");
        }
    }

    /// The past, and a way to hear of the future.
    pub(super) fn follow(&self) -> (Vec<Timed>, broadcast::Receiver<Timed>) {
        (self.events.iter().cloned().collect(), self.followers.subscribe())
    }
}

fn rewrite(path: &Path, events: &VecDeque<Timed>) -> io::Result<File> {
    let mut text = String::new();
    for event in events {
        text.push_str(&serde_json::to_string(event).map_err(io::Error::other)?);
        text.push('\n');
    }
    atomic_file::replace(path, text.as_bytes(), 0o666)?;
    OpenOptions::new().append(true).open(path)
}

/// Leaves the newest reports; what is not named as a report is not touched.
fn prune(reports: &Path, kept: usize) {
    // Without a directory there are none.
    let Ok(entries) = fs::read_dir(reports) else { return };
    let mut found: Vec<((u64, u64), PathBuf)> = entries
        .flatten()
        .filter_map(|entry| {
            let name = entry.file_name();
            let (handover_unix_ms, cycle) = name.to_str()?.strip_suffix(".json")?.split_once('-')?;
            Some(((handover_unix_ms.parse().ok()?, cycle.parse().ok()?), entry.path()))
        })
        .collect();
    found.sort_unstable();
    let surplus = found.len().saturating_sub(kept);
    for (_, path) in found.into_iter().take(surplus) {
        if let Err(error) = fs::remove_file(&path) {
            tracing::warn!(%error, path = %path.display(), "an old drain report could not be removed");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::paths::Roots;

    #[test]
    fn a_history_that_goes_on_and_on_stays_bounded_and_keeps_its_end() {
        let run = tempfile::tempdir().unwrap();
        let roots = Roots { run: run.path().to_owned(), ..Roots::default() };
        let service: ServiceName = "shop".parse().unwrap();
        let paths = roots.service(&service);
        fs::create_dir_all(paths.run_dir()).unwrap();
        let mut history = History::open(&service, &paths);
        let path = paths.run_dir().join("events.jsonl");
        let lines = || fs::read_to_string(&path).unwrap().lines().count();
        for number in 1..=5 * EVENTS_MAX {
            let now = Now { boot_ms: 0, unix_ms: number as u64 };
            history.note(Event::JournalFailed { error: "full".into() }, now);
            assert!(number % 100 != 0 || lines() <= 2 * EVENTS_MAX);
        }
        let (events, _) = History::open(&service, &paths).follow();
        let ends = (events.first().unwrap().unix_ms, events.last().unwrap().unix_ms);
        assert_eq!((lines(), ends), (EVENTS_MAX, (4 * EVENTS_MAX as u64 + 1, 5 * EVENTS_MAX as u64)));
    }

    #[test]
    fn the_newest_reports_are_kept_and_nothing_else_is_touched() {
        let reports = tempfile::tempdir().unwrap();
        for name in ["9-2.json", "10-1.json", "10-3.json", "100-4.json", "notes.txt", "my-own.json"] {
            fs::write(reports.path().join(name), "{}").unwrap();
        }
        prune(reports.path(), 2);
        let mut left: Vec<_> =
            fs::read_dir(reports.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        left.sort();
        assert_eq!(left, ["10-3.json", "100-4.json", "my-own.json", "notes.txt"]);
    }
}
