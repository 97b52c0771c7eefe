//! The events of a service as they happen.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::{Duration, Instant};

use baton::recovery::event::{Event, Timed};

use crate::lab::{Lab, baton};

/// Follows the events of a service.
pub(super) struct Events {
    child: Child,
    lines: Receiver<Timed>,
}

impl Events {
    /// From now on, or from somewhat before.
    pub(super) fn follow(lab: &Lab) -> Self {
        let words = ["events", "--follow", "--json", "--name", lab.name()];
        let mut command = Command::new(baton());
        command.args(words).stdin(Stdio::null()).stdout(Stdio::piped());
        let mut child = command.spawn().expect("baton");
        let output = child.stdout.take().expect("a pipe");
        let (sender, lines) = channel();
        thread::spawn(move || {
            for line in BufReader::new(output).lines().map_while(Result::ok) {
                let Ok(timed) = serde_json::from_str(&line) else { continue };
                if sender.send(timed).is_err() {
                    return;
                }
            }
        });
        Self { child, lines }
    }

    /// The next event that is one of those, not before `unix_ms`; none if it takes longer than `limit`.
    pub(super) fn next(
        &self,
        unix_ms: u64,
        limit: Duration,
        is_wanted: impl Fn(&Event) -> bool,
    ) -> Option<Timed> {
        let end = Instant::now() + limit;
        loop {
            let left = end.saturating_duration_since(Instant::now());
            let timed = self.lines.recv_timeout(left).ok()?;
            if timed.unix_ms >= unix_ms && is_wanted(&timed.event) {
                return Some(timed);
            }
        }
    }

    /// All that has been heard and not been asked for.
    pub(super) fn rest(&self) -> impl Iterator<Item = Timed> {
        self.lines.try_iter()
    }
}

impl Drop for Events {
    fn drop(&mut self) {
        // It only prints.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
