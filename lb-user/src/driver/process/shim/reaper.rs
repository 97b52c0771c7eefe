//! Reaping: how the command ended, and the end of what it left behind.
//!
//! Orphans of every degree become children of the shim, so "no child is left" means that nobody is.

use std::collections::BTreeSet;
use std::thread;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;
use rustix::process::Signal;

use crate::driver::lives;

/// What the command leaves behind has this long to end by itself: behind a wrapper script the server is such
/// a process, and may still be writing down what it knows. A controller that will not wait kills it earlier.
const GRACE: Duration = Duration::from_secs(10);
/// After this, what does not die hangs in the kernel, and there is no hurry any more.
const HURRY: Duration = Duration::from_secs(15);

/// Reaps whatever ends until the command itself has; tells how it did.
pub(super) fn wait_for(command: Pid) -> String {
    loop {
        match waitpid(None::<Pid>, None) {
            Ok(WaitStatus::Exited(pid, code)) if pid == command => {
                return format!("exited with status {code}");
            }
            Ok(WaitStatus::Signaled(pid, signal, _)) if pid == command => {
                return format!("killed by {signal}");
            }
            Ok(_) | Err(Errno::EINTR) => {}
            Err(error) => return format!("ended, and could not be reaped: {error}"),
        }
    }
}

/// Waits until no descendant is left. Those that the group of the command does not include have not heard of
/// its end yet and are asked to end; whoever stays is killed. Returns how many were killed.
pub(super) fn end_leftovers(group: u32) -> usize {
    let begun = Instant::now();
    let mut asked = BTreeSet::new();
    let mut killed = BTreeSet::new();
    while !reap_all() {
        let overdue = begun.elapsed() > GRACE;
        for member in lives::descendants(std::process::id()) {
            let key = (member.life.pid, member.life.start_ticks);
            if overdue {
                killed.insert(key);
                lives::signal(member.life, Signal::KILL);
            } else if member.group != group && asked.insert(key) {
                lives::signal(member.life, Signal::TERM);
            }
        }
        let pace = if begun.elapsed() < HURRY { 5 } else { 500 };
        thread::sleep(Duration::from_millis(pace));
    }
    killed.len()
}

/// Kills every descendant and waits until none is left.
pub(super) fn end_now() {
    let begun = Instant::now();
    while !reap_all() && begun.elapsed() < HURRY {
        for member in lives::descendants(std::process::id()) {
            lives::signal(member.life, Signal::KILL);
        }
        thread::sleep(Duration::from_millis(5));
    }
}

/// Reaps all that has ended; true if no child is left.
fn reap_all() -> bool {
    loop {
        match waitpid(None::<Pid>, Some(WaitPidFlag::WNOHANG)) {
            Ok(WaitStatus::StillAlive) => return false,
            Ok(_) | Err(Errno::EINTR) => {}
            Err(_) => return true,
        }
    }
}
