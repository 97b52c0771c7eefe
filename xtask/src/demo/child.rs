//! Child processes that never outlive the demo.
//!
//! What always holds: whoever owns a [`Guarded`] need not remember to end it; dropping it does, within its
//! grace. Each child has a process group of its own, so Ctrl-C reaches the demo alone and the demo decides in
//! which order things end.

use std::os::unix::process::CommandExt;
use std::process::{Child, ChildStderr, Command, ExitStatus};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

const POLL: Duration = Duration::from_millis(10);
/// A killed process is gone at once; this bounds the wait for the kernel.
const KILL_WAIT: Duration = Duration::from_secs(5);

/// A running child process.
pub(super) struct Guarded {
    child: Child,
    /// How long it may take to end after SIGTERM, before it is killed.
    grace: Duration,
}

impl Guarded {
    /// Starts `command`.
    pub(super) fn spawn(command: &mut Command, grace: Duration) -> Result<Self> {
        let program = command.get_program().to_string_lossy().into_owned();
        let child = command.process_group(0).spawn().with_context(|| format!("start {program}"))?;
        Ok(Self { child, grace })
    }

    /// Its process id.
    pub(super) fn id(&self) -> u32 {
        self.child.id()
    }

    /// The reading end of its standard error, if that is a pipe and was not taken yet.
    pub(super) fn take_stderr(&mut self) -> Option<ChildStderr> {
        self.child.stderr.take()
    }

    /// How it ended, if it did.
    pub(super) fn exited(&mut self) -> Result<Option<ExitStatus>> {
        self.child.try_wait().context("ask for a child's state")
    }

    /// Waits until it ends by itself, at most `limit`.
    pub(super) fn wait(&mut self, limit: Duration) -> Result<Option<ExitStatus>> {
        let start = Instant::now();
        loop {
            let status = self.exited()?;
            if status.is_some() || start.elapsed() >= limit {
                return Ok(status);
            }
            sleep(POLL);
        }
    }

    /// Ends it: SIGTERM, and SIGKILL when its grace is over. Nothing happens if it has ended.
    pub(super) fn stop(&mut self) -> Result<()> {
        if self.exited()?.is_none() {
            // It may end between the two lines; then there is nobody left to signal.
            let _ = kill(self.pid()?, Signal::SIGTERM);
            if self.wait(self.grace)?.is_none() {
                self.kill()?;
            }
        }
        Ok(())
    }

    /// Kills it.
    pub(super) fn kill(&mut self) -> Result<()> {
        self.child.kill().context("kill a child")?;
        if self.wait(KILL_WAIT)?.is_none() {
            bail!("process {} does not end although it was killed", self.id());
        }
        Ok(())
    }

    fn pid(&self) -> Result<Pid> {
        Ok(Pid::from_raw(i32::try_from(self.id()).context("a process id beyond all limits")?))
    }
}

impl Drop for Guarded {
    fn drop(&mut self) {
        if let Err(error) = self.stop() {
            eprintln!("warning: {error:#}");
        }
    }
}

/// Runs `command` to its end, at most `limit`; anything but success is an error.
pub(super) fn run(command: &mut Command, limit: Duration) -> Result<()> {
    let program = command.get_program().to_string_lossy().into_owned();
    match Guarded::spawn(command, Duration::from_secs(2))?.wait(limit)? {
        Some(status) if status.success() => Ok(()),
        Some(status) => bail!("{program} failed: {status}"),
        None => bail!("{program} was not ready after {} s", limit.as_secs()),
    }
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead, BufReader};
    use std::process::Stdio;

    use super::*;

    /// Runs a script that says when it has set its traps.
    fn shell(script: &str, grace: Duration) -> Guarded {
        let mut command = Command::new("sh");
        let mut child = Guarded::spawn(command.args(["-c", script]).stderr(Stdio::piped()), grace).unwrap();
        let mut said = String::new();
        BufReader::new(child.take_stderr().unwrap()).read_line(&mut said).unwrap();
        assert_eq!(said, "ready\n");
        child
    }

    #[test]
    fn dropping_a_child_ends_it_even_if_it_ignores_sigterm() {
        let script = "trap '' TERM; echo ready >&2; while :; do sleep 0.1; done";
        let child = shell(script, Duration::from_millis(100));
        let pid = child.pid().unwrap();
        drop(child);
        assert!(kill(pid, None).is_err());
    }

    #[test]
    fn a_child_that_ends_in_its_grace_is_not_killed() {
        let script = "trap 'exit 7' TERM; echo ready >&2; while :; do sleep 0.05; done";
        let mut child = shell(script, Duration::from_secs(5));
        child.stop().unwrap();
        assert_eq!(child.exited().unwrap().unwrap().code(), Some(7));
    }
}
