//! What the command prints, kept in its log by one thread a stream.

use std::io::{self, BufRead, BufReader, PipeReader, PipeWriter, Read};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crate::driver::process::log::Log;

/// A line that is longer is broken up.
const LINE_MAX: u64 = 64 << 10;
/// A line and a log need no more.
const STACK_BYTES: usize = 256 << 10;

/// The threads that keep the command's output.
pub(super) struct Output {
    log: Arc<Mutex<Log>>,
    readers: Vec<JoinHandle<()>>,
}

impl Output {
    /// Begins to keep what is written to the two ends that are returned: standard output and error.
    pub(super) fn open(dir: &Path) -> io::Result<(Self, PipeWriter, PipeWriter)> {
        let mut log = Log::open(dir);
        log.begin_life();
        let mut this = Self { log: Arc::new(Mutex::new(log)), readers: Vec::new() };
        let (stdout, out) = io::pipe()?;
        let (stderr, err) = io::pipe()?;
        this.follow(stdout, "out")?;
        this.follow(stderr, "err")?;
        Ok((this, out, err))
    }

    fn follow(&mut self, stream: PipeReader, name: &'static str) -> io::Result<()> {
        let log = Arc::clone(&self.log);
        let builder = thread::Builder::new().name(name.to_owned()).stack_size(STACK_BYTES);
        self.readers.push(builder.spawn(move || copy(stream, name, &log))?);
        Ok(())
    }

    /// Adds a line of the shim's own.
    pub(super) fn note(&self, text: &str) {
        self.log.lock().unwrap_or_else(PoisonError::into_inner).line("err", &format!("baton: {text}"));
    }

    /// Waits until all that was printed is kept, at most for `limit`: somebody else may hold the pipes open.
    pub(super) fn finish(&mut self, limit: Duration) {
        let deadline = Instant::now() + limit;
        while self.readers.iter().any(|reader| !reader.is_finished()) && Instant::now() < deadline {
            thread::sleep(Duration::from_millis(2));
        }
    }
}

/// Copies a stream to the log until its end, line by line.
fn copy(stream: PipeReader, name: &'static str, log: &Mutex<Log>) {
    let mut reader = BufReader::new(stream);
    let mut line = Vec::new();
    loop {
        line.clear();
        match reader.by_ref().take(LINE_MAX).read_until(b'\n', &mut line) {
            Ok(0) | Err(_) => return,
            Ok(_) => {
                let text = String::from_utf8_lossy(&line);
                let mut log = log.lock().unwrap_or_else(PoisonError::into_inner);
                log.line(name, text.trim_end_matches(['\n', '\r']));
            }
        }
    }
}
