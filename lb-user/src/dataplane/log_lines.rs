//! The log lines of a program that was built with `debug-log`.
#![expect(unsafe_code, reason = "tokio leaves the life of a registered descriptor to the caller")]

use std::io;

use aya_log::EbpfLogger;
use log::Log;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use super::Dataplane;

/// Lines to be given to a logger as they come.
pub struct LogLines<L: Log>(AsyncFd<EbpfLogger<L>>);

impl Dataplane {
    /// The program's log lines, for `logger`; an error if it was built without them.
    pub fn log_lines<L: Log>(&mut self, logger: L) -> io::Result<LogLines<L>> {
        let lines = EbpfLogger::init_with_logger(&mut self.ebpf, logger).map_err(io::Error::other)?;
        // SAFETY: the logger owns its descriptor and keeps it open until it is dropped with the `AsyncFd`.
        unsafe { AsyncFd::register_with_interest(lines, Interest::READABLE) }
            .map(LogLines)
            .map_err(Into::into)
    }
}

impl<L: Log> LogLines<L> {
    /// Waits for lines and logs them.
    pub async fn forward(&mut self) -> io::Result<()> {
        let mut ready = self.0.readable_mut().await?;
        ready.get_inner_mut().flush();
        ready.clear_ready();
        Ok(())
    }
}
