//! Processes by identity: a pid alone may have been given to another process meanwhile.
//!
//! What always holds: nothing here signals a process before a descriptor of it was opened and its start time
//! was compared; and a process of which nothing can be learned (descriptors used up, say) counts as alive,
//! because a wrong "it is dead" starts a second life.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::thread;
use std::time::Duration;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use procfs::ProcError;
use procfs::process::{Process, Stat};
use rustix::process::{PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use tokio::sync::oneshot;
use tokio::time::sleep;

use crate::recovery::Instance;

/// A walk ends after this many processes: a tree that grows while it is walked must not hold the walker.
const WALK_MAX: usize = 32_768;
/// A wait for the end of a process looks this often whether anybody still waits.
const WAIT: Duration = Duration::from_millis(500);

/// A process found in a tree.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Member {
    pub(super) life: Instance,
    /// Its process group.
    pub(super) group: u32,
}

/// The life that a pid stands for at this moment, be it only a zombie's.
pub(super) fn instance(pid: u32) -> Option<Instance> {
    stat(pid).ok().map(|stat| life_of(&stat))
}

/// Whether this life goes on; a zombie's does not.
pub(super) fn is_alive(life: Instance) -> bool {
    match stat(life.pid) {
        Ok(stat) => life_of(&stat) == life && !has_ended(&stat),
        Err(ProcError::NotFound(_)) => false,
        Err(_) => true,
    }
}

/// Waits until this life has ended, at most for `limit`; true if it has.
pub(super) fn wait(life: Instance, limit: Duration) -> bool {
    let timeout = PollTimeout::try_from(limit).unwrap_or(PollTimeout::MAX);
    match open(life) {
        Ok(None) => true,
        Ok(Some(descriptor)) => {
            // An interrupted call is as good as one that timed out.
            let ready = poll(&mut [PollFd::new(descriptor.as_fd(), PollFlags::POLLIN)], timeout);
            ready.is_ok_and(|ready| ready > 0)
        }
        // No descriptor can be had: all that is left is to look.
        Err(_) => {
            thread::sleep(limit);
            !is_alive(life)
        }
    }
}

/// Waits on a thread of its own, which no end of a runtime has to wait for.
pub(super) async fn wait_for_end(instance: Instance) {
    let (sender, receiver) = oneshot::channel();
    let waiter = thread::Builder::new().name("wait-for-end".to_owned()).spawn(move || {
        while !sender.is_closed() && !wait(instance, WAIT) {}
        // Nobody may be waiting any more.
        let _ = sender.send(());
    });
    // A thread that could not be made has dropped the sender: there is nothing left to do but to look.
    if waiter.is_err() || receiver.await.is_err() {
        while is_alive(instance) {
            sleep(WAIT).await;
        }
    }
}

/// A descriptor of this life, which becomes readable when that ends; `None` if it has ended.
fn open(life: Instance) -> io::Result<Option<OwnedFd>> {
    let Some(pid) = rustix::process::Pid::from_raw(life.pid.cast_signed()) else { return Ok(None) };
    match pidfd_open(pid, PidfdFlags::empty()) {
        // Opened first, looked at second: now the pid cannot be given to another process unnoticed.
        Ok(descriptor) => Ok(is_alive(life).then_some(descriptor)),
        Err(rustix::io::Errno::SRCH) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// Signals this life, and no other that its pid may stand for by now. What has ended needs no signal; where
/// the kernel refuses for another reason, callers look again and repeat.
pub(super) fn signal(life: Instance, signal: Signal) {
    if let Ok(Some(descriptor)) = open(life) {
        let _ = pidfd_send_signal(descriptor, signal);
    }
}

/// Every process below `root`, zombies left out. Processes that are born or lose their parent during the walk
/// may be missed: who needs all looks again until there is nothing left.
pub(super) fn descendants(root: u32) -> Vec<Member> {
    let mut found = Vec::new();
    let mut seen = BTreeSet::from([root]);
    let mut open = vec![root];
    while let Some(parent) = open.pop()
        && seen.len() < WALK_MAX
    {
        for child in children(parent) {
            if !seen.insert(child) {
                continue;
            }
            let Ok(stat) = stat(child) else { continue };
            // With any other parent the pid belongs to somebody else by now.
            if ![parent.cast_signed(), root.cast_signed()].contains(&stat.ppid) {
                continue;
            }
            open.push(child);
            if !has_ended(&stat) {
                found.push(member(&stat));
            }
        }
    }
    found
}

/// Every process that lives in the network namespace that `path` names; none if there is no such namespace.
pub(super) fn inhabitants(path: &Path) -> Vec<Member> {
    let Ok(wanted) = fs::metadata(path).map(|meta| (meta.dev(), meta.ino())) else { return Vec::new() };
    let Ok(entries) = fs::read_dir("/proc") else { return Vec::new() };
    entries
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .filter(|pid| {
            fs::metadata(format!("/proc/{pid}/ns/net")).is_ok_and(|meta| (meta.dev(), meta.ino()) == wanted)
        })
        .filter_map(find)
        .collect()
}

/// The process that a pid stands for at this moment, if it lives.
pub(super) fn find(pid: u32) -> Option<Member> {
    stat(pid).ok().filter(|stat| !has_ended(stat)).map(|stat| member(&stat))
}

fn stat(pid: u32) -> Result<Stat, ProcError> {
    Process::new(pid.cast_signed())?.stat()
}

fn life_of(stat: &Stat) -> Instance {
    Instance { pid: stat.pid.cast_unsigned(), start_ticks: stat.starttime }
}

fn member(stat: &Stat) -> Member {
    Member { life: life_of(stat), group: stat.pgrp.cast_unsigned() }
}

/// A process whose first thread has ended shows as a zombie, too, while its other threads go on.
fn has_ended(stat: &Stat) -> bool {
    matches!(stat.state, 'Z' | 'X') && stat.num_threads <= 1
}

fn children(pid: u32) -> Vec<u32> {
    // Children belong to threads; a process that is gone has none.
    let Ok(threads) = fs::read_dir(format!("/proc/{pid}/task")) else { return Vec::new() };
    threads
        .flatten()
        .filter_map(|thread| fs::read_to_string(thread.path().join("children")).ok())
        .flat_map(|list| list.split_whitespace().filter_map(|pid| pid.parse().ok()).collect::<Vec<_>>())
        .collect()
}

#[cfg(test)]
mod tests {
    use std::process::{Child, Command};
    use std::time::Instant;

    use super::*;

    struct Sleeper(Child);

    impl Sleeper {
        fn new() -> Self {
            Self(Command::new("sleep").arg("60").spawn().unwrap())
        }

        fn life(&self) -> Instance {
            instance(self.0.id()).unwrap()
        }
    }

    impl Drop for Sleeper {
        fn drop(&mut self) {
            let _ = self.0.kill();
            let _ = self.0.wait();
        }
    }

    #[test]
    fn a_pid_with_another_start_time_is_another_life() {
        let mut sleeper = Sleeper::new();
        let life = sleeper.life();
        let reused = Instance { start_ticks: life.start_ticks - 1, ..life };
        assert!(is_alive(life) && !is_alive(reused));
        assert!(open(reused).unwrap().is_none());
        signal(reused, Signal::KILL);
        assert!(sleeper.0.try_wait().unwrap().is_none(), "a stranger was killed");
        assert!(!wait(life, Duration::from_millis(1)) && wait(reused, Duration::from_secs(9)));
        signal(life, Signal::KILL);
        assert!(wait(life, Duration::from_secs(9)));
        assert!(!sleeper.0.wait().unwrap().success());
        assert!(!is_alive(life));
    }

    #[test]
    fn a_zombie_does_not_live_and_still_has_its_identity() {
        let sleeper = Sleeper::new();
        let life = sleeper.life();
        signal(life, Signal::KILL);
        while is_alive(life) {
            thread::yield_now();
        }
        assert_eq!(instance(life.pid), Some(life));
        assert_eq!(find(life.pid), None);
        assert!(open(life).unwrap().is_none());
    }

    #[test]
    fn descendants_of_every_degree_are_found() {
        let mut shell = Command::new("sh").args(["-c", "(sleep 61 & wait) & wait"]).spawn().unwrap();
        let deadline = Instant::now() + Duration::from_secs(5);
        while descendants(shell.id()).len() < 2 && Instant::now() < deadline {
            thread::yield_now();
        }
        let found = descendants(shell.id());
        for member in &found {
            signal(member.life, Signal::KILL);
        }
        shell.wait().unwrap();
        assert_eq!(found.len(), 2, "{found:?}");
    }

    #[test]
    fn this_process_inhabits_its_own_namespace() {
        let own = inhabitants(Path::new("/proc/self/ns/net"));
        assert!(own.iter().any(|member| member.life.pid == std::process::id()));
        assert_eq!(inhabitants(Path::new("/run/netns/baton-no-such")), []);
    }
}
