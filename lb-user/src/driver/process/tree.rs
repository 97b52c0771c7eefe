//! Processes by identity: a pid alone may have been given to another process meanwhile.

use std::fs;
use std::os::fd::OwnedFd;

use procfs::process::Process;

use crate::recovery::Instance;

/// The life that a pid stands for at this moment.
pub(super) fn instance(pid: u32) -> Option<Instance> {
    let stat = Process::new(pid.cast_signed()).ok()?.stat().ok()?;
    Some(Instance { pid, start_ticks: stat.starttime })
}

/// Whether this life goes on; a zombie's does not.
pub(super) fn is_alive(life: Instance) -> bool {
    Process::new(life.pid.cast_signed())
        .and_then(|process| process.stat())
        .is_ok_and(|stat| stat.starttime == life.start_ticks && !matches!(stat.state, 'Z' | 'X'))
}

/// A descriptor that becomes readable when this life ends; `None` if it has ended.
pub(super) fn open(life: Instance) -> Option<OwnedFd> {
    let pid = rustix::process::Pid::from_raw(life.pid.cast_signed())?;
    let descriptor = rustix::process::pidfd_open(pid, rustix::process::PidfdFlags::empty()).ok()?;
    // Opened first, looked at second: now the pid cannot be given to another process unnoticed.
    is_alive(life).then_some(descriptor)
}

/// Every process below `pid`, zombies left out.
pub(super) fn descendants(pid: u32) -> Vec<u32> {
    let mut found = Vec::new();
    let mut open = vec![pid];
    while let Some(parent) = open.pop() {
        for child in children(parent) {
            open.push(child);
            if instance(child).is_some_and(is_alive) {
                found.push(child);
            }
        }
    }
    found
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
