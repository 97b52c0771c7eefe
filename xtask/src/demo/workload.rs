//! What is served, how fast it ages, and what is asked of it: all numbers of the demo, as pure functions.
//!
//! The leak is chosen so that memory reaches the ceiling about once in [`CYCLE_S`] seconds at whatever rate,
//! which shows several rejuvenations in a short time and still leaves each of them time to drain.

use std::path::{Path, PathBuf};
use std::process::Command;

use clap::ValueEnum;

/// Seconds from a fresh start to the ceiling.
const CYCLE_S: u64 = 6;
/// Rejuvenation and restart are due at this share of the limit, Baton's default.
const CEILING_PERCENT: u64 = 50;
/// Sum of the weights of a mix. Slow requests are fewer than one in a hundred: the 99th percentile is to show
/// what the service does to the others.
const WEIGHTS: u64 = 1000;
const MIB: u64 = 1 << 20;

/// Limit for the aging service. Its live heap may take [`AGING_HEAP_MIB`] of it.
const AGING_LIMIT_MIB: u64 = 128;
const AGING_HEAP_MIB: u64 = 112;
/// What the aging service has resident when it starts.
const AGING_BASE_BYTES: u64 = 4_000_000;
/// Garbage a second over all requests, so that the collector has the same to do at every rate.
const AGING_GARBAGE_BYTES_A_SECOND: u64 = 128 << 20;
const AGING_STARTUP_DELAY: &str = "1s";

/// What aiohttp has resident when it starts, and what it leaks on a 404, both measured.
const AIOHTTP_BASE_BYTES: u64 = 38_000_000;
const AIOHTTP_LEAK_BYTES: u64 = 7400;

/// A service that ages.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum ServiceKind {
    /// The aging service of this repository
    Aging,
    /// aiohttp 3.10.10, which leaks on every 404
    Aiohttp,
}

/// Where the parts of a service are.
pub(super) struct Programs {
    /// The aging service's binary.
    pub(super) aging: PathBuf,
    /// Python of the virtual environment.
    pub(super) python: PathBuf,
    /// The script that aiohttp runs.
    pub(super) script: PathBuf,
}

/// A service and its load, ready to run.
pub(super) struct Workload {
    kind: ServiceKind,
    programs: Programs,
    rate: u32,
}

/// One kind of request of the mix.
struct Request {
    /// As `baton load --request` takes it, without the weight.
    spec: &'static str,
    /// Out of 1000.
    weight: u16,
    leaks: bool,
}

/// Connections that lie idle are given up after a second: a drain waits for their clients, and a cycle is short.
const AGING_MIX: [Request; 3] = [
    Request { spec: "name=short,path=/work,mode=close,check=id,id=required", weight: 375, leaks: true },
    Request {
        spec: "name=keep-alive,path=/work,mode=keep-alive,requests=50,idle=1s,check=id,id=required",
        weight: 620,
        leaks: true,
    },
    Request { spec: "name=slow,path=/slow?ms=2000,mode=close,id=required", weight: 5, leaks: false },
];

const AIOHTTP_MIX: [Request; 4] = [
    Request { spec: "name=short,path=/work,mode=close,check=id,id=required", weight: 175, leaks: false },
    Request {
        spec: "name=keep-alive,path=/work,mode=keep-alive,requests=50,idle=1s,check=id,id=required",
        weight: 220,
        leaks: false,
    },
    Request {
        spec: "name=missing,path=/missing,mode=keep-alive,requests=50,idle=1s,expect=404,id=required",
        weight: 600,
        leaks: true,
    },
    Request { spec: "name=slow,path=/slow?ms=2000,mode=close,id=required", weight: 5, leaks: false },
];

impl Workload {
    /// `rate` is in requests a second over the whole mix.
    pub(super) fn new(kind: ServiceKind, programs: Programs, rate: u32) -> Self {
        Self { kind, programs, rate }
    }

    /// The command that serves at `address:port` and logs its executions.
    pub(super) fn command(&self, address: &str, port: u16, executions: &Path) -> Command {
        let mut command = match self.kind {
            ServiceKind::Aging => {
                let mut command = Command::new(&self.programs.aging);
                command.arg(format!("--listen={address}:{port}")).args([
                    format!("--heap-max={AGING_HEAP_MIB}MiB"),
                    format!("--leak={}", self.aging_leak_bytes()),
                    format!("--garbage={}", AGING_GARBAGE_BYTES_A_SECOND / u64::from(self.rate)),
                    format!("--startup-delay={AGING_STARTUP_DELAY}"),
                ]);
                command
            }
            ServiceKind::Aiohttp => {
                let mut command = Command::new(&self.programs.python);
                command
                    .arg(&self.programs.script)
                    .args([format!("--host={address}"), format!("--port={port}")]);
                command
            }
        };
        command.arg("--execution-log").arg(executions);
        command
    }

    /// The mix, as arguments of `baton load --request`.
    pub(super) fn requests(&self) -> Vec<String> {
        self.mix().iter().map(|request| format!("{},weight={}", request.spec, request.weight)).collect()
    }

    /// Most memory that the service may have, in mebibytes.
    pub(super) fn limit_mib(&self) -> u64 {
        match self.kind {
            ServiceKind::Aging => AGING_LIMIT_MIB,
            ServiceKind::Aiohttp => {
                let ceiling_bytes = AIOHTTP_BASE_BYTES + AIOHTTP_LEAK_BYTES * self.leaks_a_cycle();
                ceiling_bytes * 100 / CEILING_PERCENT / MIB
            }
        }
    }

    /// The same in bytes.
    pub(super) fn limit_bytes(&self) -> u64 {
        self.limit_mib() * MIB
    }

    /// Resident memory at which a restart is due, in bytes.
    pub(super) fn ceiling_bytes(&self) -> u64 {
        self.limit_bytes() * CEILING_PERCENT / 100
    }

    fn mix(&self) -> &'static [Request] {
        match self.kind {
            ServiceKind::Aging => &AGING_MIX,
            ServiceKind::Aiohttp => &AIOHTTP_MIX,
        }
    }

    /// Requests that leak between a start and the ceiling.
    fn leaks_a_cycle(&self) -> u64 {
        let leaking = self.mix().iter().filter(|request| request.leaks);
        let share: u64 = leaking.map(|request| u64::from(request.weight)).sum();
        u64::from(self.rate) * share * CYCLE_S / WEIGHTS
    }

    fn aging_leak_bytes(&self) -> u64 {
        (self.ceiling_bytes() - AGING_BASE_BYTES) / self.leaks_a_cycle()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn workload(kind: ServiceKind, rate: u32) -> Workload {
        let programs = Programs { aging: "aging".into(), python: "python".into(), script: "script".into() };
        Workload::new(kind, programs, rate)
    }

    #[test]
    fn weights_are_shares_of_a_thousand() {
        for mix in [&AGING_MIX[..], &AIOHTTP_MIX] {
            assert_eq!(mix.iter().map(|request| u64::from(request.weight)).sum::<u64>(), WEIGHTS);
        }
    }

    #[test]
    fn a_cycle_takes_as_long_at_every_rate() {
        for rate in [100, 500, 2000] {
            let aging = workload(ServiceKind::Aging, rate);
            let grown =
                AGING_BASE_BYTES + aging.aging_leak_bytes() * u64::from(rate) * 995 * CYCLE_S / WEIGHTS;
            assert!(grown.abs_diff(aging.ceiling_bytes()) < MIB, "{rate}: {grown}");
            let aiohttp = workload(ServiceKind::Aiohttp, rate);
            let grown = AIOHTTP_BASE_BYTES + AIOHTTP_LEAK_BYTES * u64::from(rate) * 600 * CYCLE_S / WEIGHTS;
            assert!(grown.abs_diff(aiohttp.ceiling_bytes()) < MIB, "{rate}: {grown}");
        }
    }

    #[test]
    fn the_command_tells_the_service_where_to_listen_and_to_log() {
        let command = workload(ServiceKind::Aging, 500).command("127.0.0.1", 80, Path::new("/log"));
        let words: Vec<_> = command.get_args().map(|word| word.to_string_lossy().into_owned()).collect();
        assert_eq!(words[0], "--listen=127.0.0.1:80");
        assert!(words.ends_with(&["--execution-log".to_owned(), "/log".to_owned()]));
    }
}
