//! Probes: what the kernel knows of a backend's processes, read from procfs.

use procfs::WithCurrentSystemInfo;
use procfs::process::{Process, Stat};
use serde::{Deserialize, Serialize};

/// One measurement of a process tree. Each field's name ends in its unit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sample {
    /// Resident memory, summed over the processes; pages that they share count for each.
    pub memory_rss_bytes: u64,
    /// User and system time of the processes that live, in milliseconds.
    pub cpu_ms: u64,
    /// Threads.
    pub threads_count: u64,
    /// Open file descriptors.
    pub fds_count: u64,
    /// Processes.
    pub processes_count: u64,
}

/// Measures the processes `pids`; those that have ended meanwhile count for nothing.
pub fn sample(pids: &[u32]) -> Sample {
    let mut sum = Sample::default();
    for pid in pids {
        if let Some(one) = measure(*pid) {
            sum.add(&one);
        }
    }
    sum
}

fn measure(pid: u32) -> Option<Sample> {
    let process = Process::new(pid.cast_signed()).ok()?;
    let stat = process.stat().ok()?;
    let fds = process.fd_count().ok().and_then(|count| u64::try_from(count).ok());
    Some(from_stat(&stat, procfs::ticks_per_second(), fds.unwrap_or(0)))
}

fn from_stat(stat: &Stat, ticks_per_second: u64, fds_count: u64) -> Sample {
    Sample {
        memory_rss_bytes: stat.rss_bytes().get(),
        cpu_ms: (stat.utime + stat.stime) * 1000 / ticks_per_second,
        threads_count: u64::try_from(stat.num_threads).unwrap_or(0),
        fds_count,
        processes_count: 1,
    }
}

impl Sample {
    fn add(&mut self, other: &Self) {
        self.memory_rss_bytes += other.memory_rss_bytes;
        self.cpu_ms += other.cpu_ms;
        self.threads_count += other.threads_count;
        self.fds_count += other.fds_count;
        self.processes_count += other.processes_count;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_measures_this_process() {
        let own = sample(&[std::process::id()]);
        assert!(own.memory_rss_bytes > 1 << 20, "{own:?}");
        assert!(own.threads_count >= 1 && own.fds_count >= 3, "{own:?}");
        assert_eq!(own.processes_count, 1);
    }

    #[test]
    fn processes_add_up_and_those_that_are_gone_count_for_nothing() {
        let pid = std::process::id();
        let gone = u32::MAX / 4;
        assert_eq!(sample(&[pid, pid, gone]).processes_count, 2);
        assert_eq!(sample(&[gone]), Sample::default());
    }
}
