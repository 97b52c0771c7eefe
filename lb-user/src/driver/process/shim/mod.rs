//! The parent of one life of a backend's command: `baton shim DIR`, started by the controller and then on
//! its own.
//!
//! It enters the backend's network namespace, runs the command there, keeps its output in a file, reaps
//! every descendant and records how the command ended. What the command leaves behind is ended, too. What
//! always holds: there is one shim a backend, and it lives as long as any process of that life does, so
//! that its end proves that nothing is left.

mod output;
mod reaper;
mod stage;

use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ExitCode};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use anyhow::{Context, Result};
use nix::sys::signal::{SigSet, SigmaskHow, Signal};
use nix::unistd::Pid;

use self::output::Output;
use super::cgroup;
use super::record::{self, Ended, Running};
use crate::clock::Now;
use crate::driver::lives;

/// How long the end of the command waits to be recorded until the last it printed is kept.
const LAST_WORDS: Duration = Duration::from_millis(300);

/// Shows in `ps`; unlike the controller's, so that who kills that by name does not kill this.
const COMM: &std::ffi::CStr = c"bt-shim";

/// Runs the shim for the backend whose files are in `dir`. Its first line of output says `started PID`, or
/// `error` and why.
pub fn main(dir: &Path) -> ExitCode {
    match Life::begin(dir) {
        Ok(life) => {
            say(&format!("started {}", life.running.instance.pid));
            life.watch(dir);
            ExitCode::SUCCESS
        }
        Err(error) => {
            say(&format!("error {error:#}").replace('\n', " "));
            ExitCode::FAILURE
        }
    }
}

/// The controller may be gone by now, so nobody may be reading.
fn say(line: &str) {
    let _ = writeln!(io::stdout(), "{line}");
}

/// One life of the command.
struct Life {
    running: Running,
    output: Output,
    cgroup_procs: Option<PathBuf>,
    /// OOM kills of the cgroup in earlier lives.
    oom_kills_before: u64,
    /// Held until the shim ends.
    _lock: File,
}

impl Life {
    fn begin(dir: &Path) -> Result<Self> {
        // A controller's terminal must not end the backend with a Ctrl-C.
        nix::unistd::setsid().context("cannot begin a session")?;
        nix::sys::prctl::set_child_subreaper(true).context("cannot become the parent of orphans")?;
        nix::sys::prctl::set_name(COMM).context("cannot take a name")?;
        let lock = record::lock(dir).context("processes of an earlier life have not ended yet")?;
        record::forget(dir).context("cannot remove the record of an earlier life")?;
        let launch = record::launch(dir).context("cannot read what to run")?;
        stage::enter(&launch)?;
        hear_signals_again().context("cannot restore what signals do")?;
        // Threads inherit what is blocked, and so would the command.
        let heard = block_signals().context("cannot block signals")?;
        let opened = Output::open(dir).context("cannot keep the command's output");
        heard.thread_set_mask().context("cannot hear signals again")?;
        let (output, stdout, stderr) = opened?;
        let oom_kills_before = launch.cgroup_procs.as_deref().map_or(0, cgroup::oom_kills_beside);
        let child = stage::spawn(&launch, stdout, stderr)?;
        // It could not fail before, and without it the shim is only easier to end.
        let _ = block_signals();
        if let Some(Err(error)) = launch.cgroup_procs.as_deref().map(cgroup::leave) {
            output.note(&format!("the shim could not leave the cgroup, so its memory counts, too: {error}"));
        }
        let running = record_start(dir, &child).inspect_err(|_| {
            // Nobody would ever find it.
            reaper::end_now();
        })?;
        Ok(Self { running, output, cgroup_procs: launch.cgroup_procs, oom_kills_before, _lock: lock })
    }

    fn watch(mut self, dir: &Path) {
        let command = Pid::from_raw(self.running.instance.pid.cast_signed());
        let end = reaper::wait_for(command);
        let oom_kills = self.cgroup_procs.as_deref().map_or(0, cgroup::oom_kills_beside);
        let status = match oom_kills.saturating_sub(self.oom_kills_before) {
            0 => end,
            kills => format!("{end}, after the kernel killed {kills} of its processes at the memory limit"),
        };
        self.output.finish(LAST_WORDS);
        let ended = Ended { instance: self.running.instance, status, ended_unix_ms: Now::read().unix_ms };
        if let Err(error) = record::note_ended(dir, &ended) {
            self.output.note(&format!("the end of the command could not be recorded: {error}"));
        }
        let killed = reaper::end_leftovers(self.running.instance.pid);
        if killed > 0 {
            self.output.note(&format!("killed {killed} processes that the command had left behind"));
        }
        self.output.finish(LAST_WORDS);
    }
}

fn record_start(dir: &Path, child: &Child) -> Result<Running> {
    let life = |pid| lives::instance(pid).context("a process vanished while it was being recorded");
    let running = Running {
        instance: life(child.id())?,
        shim: life(std::process::id())?,
        started_unix_ms: Now::read().unix_ms,
    };
    record::note_running(dir, &running).context("cannot record what runs")?;
    Ok(running)
}

/// The signals that end a controller.
const ENDING: [Signal; 6] =
    [Signal::SIGHUP, Signal::SIGINT, Signal::SIGQUIT, Signal::SIGTERM, Signal::SIGUSR1, Signal::SIGUSR2];

/// The command must be free to hear signals that whoever started the controller ignores, as `nohup` does:
/// what is ignored stays so in a new program, what has a handler does not.
fn hear_signals_again() -> io::Result<()> {
    ENDING.iter().try_for_each(|signal| {
        signal_hook::flag::register(*signal as i32, Arc::new(AtomicBool::new(false))).map(drop)
    })
}

/// From now on only SIGKILL ends the calling thread and those that it makes: without its shim a command would
/// write to a broken pipe. Returns what was blocked until now.
fn block_signals() -> nix::Result<SigSet> {
    SigSet::from_iter(ENDING).thread_swap_mask(SigmaskHow::SIG_BLOCK)
}
