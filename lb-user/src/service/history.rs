//! What has happened: the last events in memory and on disk, and every report.

use std::collections::VecDeque;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::PathBuf;

use tokio::sync::broadcast;

use crate::clock::Now;
use crate::documents;
use crate::names::ServiceName;
use crate::paths::ServicePaths;
use crate::recovery::event::{Event, Timed};
use crate::recovery::report::Report;

/// Events that are kept.
const EVENTS_MAX: usize = 1_000;
/// Events that a slow follower may be behind.
const FOLLOWERS_BEHIND: usize = 256;

/// The past of a service.
pub(super) struct History {
    service: ServiceName,
    events: VecDeque<Timed>,
    file: Option<File>,
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
        Self { service: service.clone(), events, file, reports: paths.reports(), followers }
    }

    /// Keeps an event and tells everyone who follows.
    pub(super) fn note(&mut self, event: Event, now: Now) {
        tracing::info!(service = %self.service, "{event}");
        let timed = Timed { unix_ms: now.unix_ms, service: self.service.clone(), event };
        if let (Some(file), Ok(mut line)) = (&mut self.file, serde_json::to_string(&timed)) {
            line.push('\n');
            // A disk that is full loses history, not service.
            let _ = file.write_all(line.as_bytes());
        }
        self.events.push_back(timed.clone());
        if self.events.len() > EVENTS_MAX {
            self.events.pop_front();
        }
        // Without followers there is nobody to tell.
        let _ = self.followers.send(timed);
    }

    /// Keeps a report.
    pub(super) fn keep(&self, report: &Report) {
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

fn rewrite(path: &PathBuf, events: &VecDeque<Timed>) -> io::Result<File> {
    let mut text = String::new();
    for event in events {
        text.push_str(&serde_json::to_string(event).map_err(io::Error::other)?);
        text.push('\n');
    }
    fs::write(path, text)?;
    OpenOptions::new().append(true).open(path)
}
