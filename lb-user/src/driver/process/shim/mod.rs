//! The parent of one life of a backend's command: `baton shim DIR`, started by the controller and then on
//! its own.
//!
//! It enters the backend's network namespace, runs the command there, keeps its output in a file, reaps
//! every descendant and records how the command ended. When the command ends, so does whatever it left.

use std::fs;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, ExitCode, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, setns, unshare};
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;

use super::log::Log;
use super::record::{self, Ended, Launch, Running};
use super::tree;
use crate::clock::Now;

/// Descendants that outlive the command are killed again and again for at most this long.
const SWEEP_DEADLINE: Duration = Duration::from_secs(5);

/// Runs the shim for the backend whose files are in `dir`. Its first line of output says `started PID`, or
/// `error` and why.
pub fn main(dir: &Path) -> ExitCode {
    match start(dir) {
        Ok((child, running)) => {
            say(&format!("started {}", running.instance.pid));
            watch(dir, child, &running);
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

fn start(dir: &Path) -> Result<(Child, Running)> {
    let launch = record::launch(dir).context("cannot read what to run")?;
    // A controller's terminal must not end the backend with a Ctrl-C.
    nix::unistd::setsid().context("cannot begin a session")?;
    nix::sys::prctl::set_child_subreaper(true).context("cannot become the parent of orphans")?;
    let netns = fs::File::open(&launch.netns)
        .with_context(|| format!("cannot open network namespace {}", launch.netns.display()))?;
    setns(&netns, CloneFlags::CLONE_NEWNET).context("cannot enter the network namespace")?;
    if let Some(file) = &launch.resolv_conf {
        replace_resolv_conf(file)?;
    }
    let child = spawn(&launch)?;
    let life = |pid| tree::instance(pid).context("a process vanished while it was being recorded");
    let running = Running {
        instance: life(child.id())?,
        shim: life(std::process::id())?,
        started_unix_ms: Now::read().unix_ms,
    };
    record::note_running(dir, &running).context("cannot record what runs")?;
    Ok((child, running))
}

/// Shows the command another `/etc/resolv.conf`; the rest of the file system stays shared, later mounts included.
fn replace_resolv_conf(file: &Path) -> Result<()> {
    let none = None::<&str>;
    unshare(CloneFlags::CLONE_NEWNS).context("cannot make a mount namespace")?;
    mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_SLAVE, none).context("cannot detach mounts")?;
    mount(Some(file), "/etc/resolv.conf", none, MsFlags::MS_BIND, none)
        .with_context(|| format!("cannot put {} over /etc/resolv.conf", file.display()))
}

/// Starts the command inside its cgroup, which the shim itself leaves again: its own memory is not the backend's.
fn spawn(launch: &Launch) -> Result<Child> {
    let [program, arguments @ ..] = &launch.command[..] else { anyhow::bail!("the command is empty") };
    if let Some(procs) = &launch.cgroup_procs {
        fs::write(procs, "0").with_context(|| format!("cannot join {}", procs.display()))?;
    }
    let spawned = Command::new(program)
        .args(arguments)
        .current_dir(&launch.directory)
        .env_clear()
        .envs(launch.environment.iter().map(|(name, value)| (name, value)))
        .env("BATON_SERVICE", launch.service.as_str())
        .env("BATON_BACKEND", launch.backend.as_str())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .process_group(0)
        .spawn()
        .with_context(|| format!("cannot run `{program}`"));
    if let Some(root) = launch.cgroup_procs.as_deref().and_then(|procs| procs.ancestors().nth(3)) {
        fs::write(root.join("cgroup.procs"), "0").context("cannot leave the cgroup")?;
    }
    spawned
}

fn watch(dir: &Path, mut child: Child, running: &Running) {
    let log = Arc::new(Mutex::new(Log::open(dir)));
    let readers = [
        child.stdout.take().map(|stream| follow(stream, "out", Arc::clone(&log))),
        child.stderr.take().map(|stream| follow(stream, "err", Arc::clone(&log))),
    ];
    let status = reap_until_end(Pid::from_raw(child.id().cast_signed()));
    sweep();
    // All who held the other ends of the pipes are gone, so the readers come to an end.
    for reader in readers.into_iter().flatten() {
        let _ = reader.join();
    }
    let ended = Ended { instance: running.instance, status, ended_unix_ms: Now::read().unix_ms };
    if let Err(error) = record::note_ended(dir, &ended) {
        let mut log = log.lock().unwrap_or_else(PoisonError::into_inner);
        log.line("err", &format!("baton: the end of the command could not be recorded: {error}"));
    }
}

/// Copies a stream to the log until its end, line by line; a line that never ends is broken up.
fn follow(stream: impl Read + Send + 'static, name: &'static str, log: Arc<Mutex<Log>>) -> JoinHandle<()> {
    const LINE_MAX: u64 = 64 << 10;
    thread::spawn(move || {
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
    })
}

/// Reaps whatever ends until the command itself has; tells how it did.
fn reap_until_end(command: Pid) -> String {
    loop {
        match waitpid(None::<Pid>, None) {
            Ok(WaitStatus::Exited(pid, code)) if pid == command => {
                return format!("exited with status {code}");
            }
            Ok(WaitStatus::Signaled(pid, signal, _)) if pid == command => {
                return format!("killed by {signal}");
            }
            Ok(_) | Err(nix::errno::Errno::EINTR) => {}
            Err(error) => return format!("ended, and could not be reaped: {error}"),
        }
    }
}

/// Ends what the command left behind.
fn sweep() {
    let deadline = Instant::now() + SWEEP_DEADLINE;
    loop {
        while matches!(waitpid(None::<Pid>, Some(WaitPidFlag::WNOHANG)), Ok(status) if status != WaitStatus::StillAlive)
        {
        }
        let left = tree::descendants(std::process::id());
        if left.is_empty() || Instant::now() > deadline {
            return;
        }
        for pid in left {
            let _ = kill(Pid::from_raw(pid.cast_signed()), Signal::SIGKILL);
        }
        thread::sleep(Duration::from_millis(5));
    }
}
