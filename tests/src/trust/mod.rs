//! Rejuvenations in a row under requests of every kind, some of them with a fault: whether an operator may leave
//! Baton alone.
//!
//! What always holds: a round either ends as it should or the trial ends with what is wrong, and whatever the
//! rounds did, every failed request has a cause that is named.

#![expect(clippy::missing_panics_doc, reason = "a test fails by a panic, wherever in the trial")]

mod faults;
mod judge;
mod watch;

use std::collections::BTreeMap;
use std::time::Instant;

use serde::Serialize;

use crate::plane::{Governed, Options};

use watch::Watch;

pub use faults::{Fault, Round};
pub use judge::{Death, Failures, judge};

/// The service of every trial.
const SERVICE: &str = "shop";
/// No start, no stop and no return takes long here, and what hangs is not waited for as long as elsewhere.
const SETTINGS: &str = "[service.drain]\ndeadline = \"20s\"\n";
/// Requests on connections that are used once, again and again, and for long.
const KINDS: [&str; 4] = [
    "name=short,path=/free,weight=50,mode=close",
    "name=keep-alive,path=/free,weight=40,mode=keep-alive,requests=6,idle=80ms",
    "name=slow,path=/slow?ms=300,weight=6,mode=close",
    "name=upload,path=/upload,weight=4,mode=close,upload=50k,check=receipt",
];

/// How long a trial is.
#[derive(Clone, Copy, Debug)]
pub struct Length {
    /// Rejuvenations.
    pub rounds: u32,
    /// Every so manieth has a fault, each kind in turn.
    pub fault_every: u32,
    /// Backends of the service.
    pub backends: usize,
}

/// A trial under way.
struct Trial {
    governed: Governed,
    backends: usize,
    deaths: Vec<Death>,
    cut_with_the_killed: u64,
    controllers_killed: u32,
}

/// What a trial has shown.
#[derive(Clone, Debug, Serialize)]
pub struct Figures {
    /// Rejuvenations asked for.
    pub rounds: u32,
    /// Backends of the service.
    pub backends: usize,
    /// Rounds with each fault.
    pub faults: BTreeMap<Fault, u32>,
    /// From the first round to the end of the last one.
    pub seconds: f64,
    /// Requests of clients.
    pub requests: u64,
    /// Those that failed because the backend that they were on was killed, by cause.
    pub failed_on_the_killed: BTreeMap<String, u64>,
    /// All other failures: there must be none.
    pub failed: u64,
    /// What failed, a line each.
    pub failures: Vec<String>,
    /// Flows that the killed took along, by the reports.
    pub cut_on_the_killed: u64,
    /// Flows that any other stop has cut: there must be none.
    pub cut: u64,
    /// Looks at where new flows go.
    pub looks: u64,
    /// Looks that found no backend: there must be none.
    pub looks_without_backend: u64,
    /// Changes of the active backend that the looks found.
    pub handovers: u64,
    /// Reports that were kept.
    pub reports: u64,
    /// The longest time in which no request succeeded, in milliseconds.
    pub longest_gap_ms: f64,
    /// What became of each round with a fault.
    pub faulty_rounds: Vec<Round>,
}

/// Rejuvenates a service again and again.
pub fn trial(length: Length) -> Figures {
    let mut trial = Trial::up(length.backends);
    let watch = Watch::begin(&trial.governed.service(SERVICE));
    let requests = trial.governed.requests_of(0, &KINDS);
    let begun = Instant::now();
    let mut faults = Fault::ALL.into_iter().cycle();
    let mut rounds = Vec::new();
    for number in 1..=length.rounds {
        let fault = if number % length.fault_every == 0 { faults.next() } else { None };
        let at = begun.elapsed().as_secs_f64();
        println!("{at:>6.1} s: round {number}, {fault:?}");
        let said = trial.round(fault);
        rounds.push(Round { round: number, fault, said });
        trial.governed.until_ready(1);
    }
    let seconds = begun.elapsed().as_secs_f64();
    let run = requests.end();
    let seen = watch.end();
    let failures = judge(&run, &trial.deaths);
    let reports = trial.reports();
    let cut: u64 = reports.iter().map(|report| report["cut"].as_array().map_or(0, Vec::len) as u64).sum();
    let faulty_rounds: Vec<_> = rounds.into_iter().filter(|round| round.fault.is_some()).collect();
    let mut faults = BTreeMap::new();
    for fault in faulty_rounds.iter().filter_map(|round| round.fault) {
        *faults.entry(fault).or_default() += 1;
    }
    Figures {
        rounds: length.rounds,
        backends: length.backends,
        faults,
        seconds,
        requests: run.summary.requests,
        failed_on_the_killed: failures.on_the_killed,
        failed: failures.unexplained.len() as u64,
        failures: failures.unexplained,
        cut_on_the_killed: trial.cut_with_the_killed,
        cut: cut - trial.cut_with_the_killed,
        looks: seen.looks,
        looks_without_backend: seen.without_backend,
        handovers: seen.handovers,
        reports: reports.len() as u64,
        longest_gap_ms: run.summary.longest_gap_ms,
        faulty_rounds,
    }
}

impl Trial {
    fn up(backends: usize) -> Self {
        let mut governed = Governed::new(Options { backends, ..Options::default() });
        let service = governed.describe(SERVICE, SETTINGS);
        // What hangs is found out soon, and what fails is tried again soon.
        let service = service
            .replace("fast_interval", "timeout = \"400ms\"\nfast_interval")
            .replace("probe_interval", "ready_timeout = \"4s\"\nretry = \"200ms\"\nprobe_interval")
            .replace("type = \"command\"", "type = \"command\"\ntimeout = \"1s\"");
        governed.up(&[service]);
        Self { governed, backends, deaths: Vec::new(), cut_with_the_killed: 0, controllers_killed: 0 }
    }

    fn round(&mut self, fault: Option<Fault>) -> Vec<String> {
        match fault {
            None => self.plain(),
            Some(Fault::StandbyFails) => self.standby_fails(),
            Some(Fault::RestartHangs) => self.restart_hangs(),
            Some(Fault::ControllerKilled) => self.controller_killed(),
            Some(Fault::NewActiveDies) => self.new_active_dies(),
        }
    }
}

/// Panics if anything was lost that was not on a backend that was killed.
pub fn assert_trusted(figures: &Figures) {
    assert_eq!(figures.failed, 0, "{figures:#?}");
    assert_eq!(figures.cut, 0, "{figures:#?}");
    assert_eq!(figures.looks_without_backend, 0, "{figures:#?}");
    // Nobody has looked away meanwhile.
    assert!(figures.handovers >= u64::from(figures.rounds), "{figures:#?}");
    assert!(figures.reports >= u64::from(figures.rounds), "{figures:#?}");
}
