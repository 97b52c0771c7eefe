//! A plain supervisor, as systemd or a shell loop is one: it starts the service, looks at its memory as often
//! as Baton does, and restarts it in place. Left alone, a service only meets its limit.
//!
//! What always holds: there is at most one process of the service; it is gone when the supervisor is dropped.

use std::fs::File;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{JoinHandle, sleep};
use std::time::Duration;

use anyhow::{Context, Result};

use super::child::Guarded;
use super::memory::resident_bytes;

/// Time between two looks at the service.
pub(super) const PROBE_PERIOD: Duration = Duration::from_millis(200);
/// How long the service may take to end after SIGTERM.
const STOP_GRACE: Duration = Duration::from_secs(5);

/// What is done about memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Policy {
    /// Nothing; at `limit_bytes` the process is killed, as the kernel does with a control group.
    LeaveAlone {
        /// Most resident memory.
        limit_bytes: u64,
    },
    /// A restart at `ceiling_bytes` or when the process has ended.
    Restart {
        /// Resident memory at which a restart is due.
        ceiling_bytes: u64,
    },
}

/// What one look at the process leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Action {
    Keep,
    Kill,
    Restart,
}

/// A supervised service.
pub(super) struct Supervisor {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

/// What the watching thread and its owner tell each other.
#[derive(Default)]
struct Shared {
    stop: AtomicBool,
    restarts: AtomicU64,
    resident_bytes: AtomicU64,
}

/// The thread's side.
struct Watch {
    command: Command,
    policy: Policy,
    process: Guarded,
    shared: Arc<Shared>,
}

impl Policy {
    /// Decides on resident memory, `None` if the process is gone.
    fn decide(self, resident: Option<u64>) -> Action {
        match (self, resident) {
            (Self::Restart { .. }, None) => Action::Restart,
            (Self::Restart { ceiling_bytes }, Some(bytes)) if bytes >= ceiling_bytes => Action::Restart,
            (Self::LeaveAlone { limit_bytes }, Some(bytes)) if bytes >= limit_bytes => Action::Kill,
            (Self::LeaveAlone { .. } | Self::Restart { .. }, _) => Action::Keep,
        }
    }
}

impl Supervisor {
    /// Starts the service, its output going to `log`, and watches it.
    pub(super) fn start(mut command: Command, policy: Policy, log: &File) -> Result<Self> {
        let output = || log.try_clone().context("share a log");
        command.stdin(Stdio::null()).stdout(output()?).stderr(output()?);
        let process = Guarded::spawn(&mut command, STOP_GRACE)?;
        let shared = Arc::new(Shared::default());
        let mut watch = Watch { command, policy, process, shared: Arc::clone(&shared) };
        let thread = std::thread::spawn(move || {
            if let Err(error) = watch.run() {
                eprintln!("warning: the supervisor gives up: {error:#}");
            }
        });
        Ok(Self { shared, thread: Some(thread) })
    }

    /// Restarts so far.
    pub(super) fn restarts(&self) -> u64 {
        self.shared.restarts.load(Ordering::Relaxed)
    }

    /// What the service had resident at the last look, in bytes; 0 if it is gone.
    pub(super) fn resident_bytes(&self) -> u64 {
        self.shared.resident_bytes.load(Ordering::Relaxed)
    }
}

impl Drop for Supervisor {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // A panic was printed by the thread itself.
            let _ = thread.join();
        }
    }
}

impl Watch {
    fn run(&mut self) -> Result<()> {
        while !self.shared.stop.load(Ordering::Relaxed) {
            let resident = match self.process.exited()? {
                None => resident_bytes(self.process.id()),
                Some(_) => None,
            };
            self.shared.resident_bytes.store(resident.unwrap_or(0), Ordering::Relaxed);
            match self.policy.decide(resident) {
                Action::Keep => {}
                Action::Kill => self.process.kill()?,
                Action::Restart => {
                    self.process.stop()?;
                    self.process = Guarded::spawn(&mut self.command, STOP_GRACE)?;
                    self.shared.restarts.fetch_add(1, Ordering::Relaxed);
                }
            }
            sleep(PROBE_PERIOD);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn restarts_at_the_ceiling_and_after_a_death() {
        let policy = Policy::Restart { ceiling_bytes: 100 };
        assert_eq!(policy.decide(Some(99)), Action::Keep);
        assert_eq!(policy.decide(Some(100)), Action::Restart);
        assert_eq!(policy.decide(None), Action::Restart);
    }

    #[test]
    fn a_service_left_alone_dies_at_its_limit_and_stays_dead() {
        let policy = Policy::LeaveAlone { limit_bytes: 100 };
        assert_eq!(policy.decide(Some(99)), Action::Keep);
        assert_eq!(policy.decide(Some(100)), Action::Kill);
        assert_eq!(policy.decide(None), Action::Keep);
    }
}
