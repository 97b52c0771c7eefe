//! What a controller prints and logs, written by threads of their own.
//!
//! What always holds: whoever prints waits for nobody and never fails. A reader who does not read, or has gone,
//! costs lines, which are counted; where they are missing, their number stands.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread;
use std::time::Duration;

/// What may wait for a reader, in bytes; as much again may be on its way to one.
const ROOM_BYTES: usize = 1 << 20;
/// How long the end of a controller waits for whoever reads.
const FLUSH_LIMIT: Duration = Duration::from_secs(1);

static OUTPUT: OnceLock<Outlet> = OnceLock::new();
static ERRORS: OnceLock<Outlet> = OnceLock::new();

/// One end of the process to which lines are written.
#[derive(Clone, Debug)]
pub(crate) struct Outlet(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    queue: Mutex<Queue>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct Queue {
    lines: VecDeque<Vec<u8>>,
    bytes: usize,
    /// Lines that found no room after those that wait.
    lost: u64,
    /// What was taken out of the queue is not written yet.
    is_writing: bool,
}

/// Standard output of this process.
pub(crate) fn output() -> &'static Outlet {
    OUTPUT.get_or_init(|| Outlet::of("write-output", own(io::stdout())))
}

/// Standard error of this process.
pub(crate) fn errors() -> &'static Outlet {
    ERRORS.get_or_init(|| Outlet::of("write-errors", own(io::stderr())))
}

/// Begins to write; from the threads of a namespace that may have to vanish it must not.
pub(crate) fn open() {
    let _ = (output(), errors());
}

/// Gives whoever reads a moment to take what is left.
pub(crate) fn flush() {
    for outlet in [&OUTPUT, &ERRORS].into_iter().filter_map(OnceLock::get) {
        outlet.flush(FLUSH_LIMIT);
    }
}

/// An end of the process without the lock that the library has on it, which a write that hangs would keep.
fn own(end: impl AsFd) -> Option<File> {
    end.as_fd().try_clone_to_owned().ok().map(File::from)
}

impl Outlet {
    /// `None` is an end that leads nowhere.
    fn of(thread: &str, end: Option<File>) -> Self {
        match end {
            Some(end) => Self::new(thread, end),
            None => Self::new(thread, io::sink()),
        }
    }

    fn new(thread: &str, end: impl Write + Send + 'static) -> Self {
        let shared = Arc::<Shared>::default();
        let writer = Arc::clone(&shared);
        // Without a thread all lines are lost, and counted.
        let _ = thread::Builder::new().name(thread.to_owned()).spawn(move || writer.write_forever(end));
        Self(shared)
    }

    /// Prints a line.
    pub(crate) fn line(&self, text: &str) {
        self.take(format!("{text}\n").into_bytes());
    }

    fn take(&self, line: Vec<u8>) {
        let mut queue = self.0.lock();
        // What comes after lost lines must not stand before their number.
        if queue.lost > 0 || queue.bytes + line.len() > ROOM_BYTES {
            queue.lost += 1;
        } else {
            queue.bytes += line.len();
            queue.lines.push_back(line);
        }
        self.0.changed.notify_all();
    }

    /// Waits until all that was printed is written, but no longer than `limit`.
    fn flush(&self, limit: Duration) {
        let is_busy = |queue: &mut Queue| queue.is_writing || queue.lost > 0 || !queue.lines.is_empty();
        let queue = self.0.lock();
        // Who does not read has been waited for long enough.
        drop(self.0.changed.wait_timeout_while(queue, limit, is_busy));
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn write_forever(&self, mut end: impl Write) {
        loop {
            let mut queue = self.lock();
            while queue.lines.is_empty() && queue.lost == 0 {
                queue = self.changed.wait(queue).unwrap_or_else(PoisonError::into_inner);
            }
            let taken = Queue { is_writing: true, ..Queue::default() };
            let Queue { mut lines, lost, .. } = std::mem::replace(&mut *queue, taken);
            drop(queue);
            if lost > 0 {
                lines.push_back(
                    format!("baton: {lost} lines are missing here: nobody read them\n").into_bytes(),
                );
            }
            for line in lines {
                // A reader that has gone misses it, and there is nobody else to tell.
                let _ = end.write_all(&line);
            }
            self.lock().is_writing = false;
            self.changed.notify_all();
        }
    }
}

/// One event of the log at a time.
impl Write for Outlet {
    fn write(&mut self, event: &[u8]) -> io::Result<usize> {
        self.take(event.to_vec());
        Ok(event.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead, BufReader, pipe};
    use std::sync::mpsc;

    use super::*;

    const PATIENCE: Duration = Duration::from_secs(20);
    const LINES: u64 = 10_000;

    #[test]
    fn a_reader_who_comes_late_finds_what_there_was_room_for_and_how_much_is_missing() {
        let (reader, writer) = pipe().unwrap();
        let outlet = Outlet::new("test", writer);
        let long = "x".repeat(1_000);
        // Much more than a pipe and the queue hold: if anything waited, this would never end.
        for number in 0..LINES {
            outlet.line(&format!("{number} {long}"));
        }
        let (sender, lines) = mpsc::channel();
        thread::spawn(move || {
            let mut lines = BufReader::new(reader).lines().map_while(Result::ok);
            while lines.next().is_some_and(|line| sender.send(line).is_ok()) {}
        });
        let (mut next, mut missing) = (0, 0);
        while next < LINES {
            let line =
                lines.recv_timeout(PATIENCE).expect("each line, or the number of those that are missing");
            let first = |text: &str| text.split(' ').next().unwrap().parse::<u64>().unwrap();
            if let Some(notice) = line.strip_prefix("baton: ") {
                (next, missing) = (next + first(notice), missing + first(notice));
            } else {
                assert_eq!(first(&line), next);
                next += 1;
            }
        }
        assert_eq!(next, LINES);
        assert!((1..LINES).contains(&missing), "{missing}");
    }

    #[test]
    fn a_reader_that_has_gone_harms_nobody() {
        let (reader, writer) = pipe().unwrap();
        let outlet = Outlet::new("test", writer);
        drop(reader);
        outlet.line("for nobody");
        outlet.flush(PATIENCE);
        assert!(!outlet.0.lock().is_writing, "it is over");
        outlet.line("nor this");
        outlet.flush(PATIENCE);
        assert_eq!(outlet.0.lock().lines.len(), 0);
    }
}
