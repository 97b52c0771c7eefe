//! One fault, from the moment at which it is made until the backend is back.

use std::thread::{self, JoinHandle};
use std::time::Duration;

use baton::clock::Now;
use baton::load::{Plan, Record, Report, RequestKind, Stop, run_until};
use baton::net::netns::run_in;
use baton::recovery::State;
use baton::recovery::event::Event;

use super::events::Events;
use super::fault::Fault;
use crate::lab::{Lab, PATIENCE, aging_service, eventually};

/// What every request takes while nothing is wrong.
const LATENCY: &str = "20ms";
/// Who waits longer than this has not been served as usual.
const USUAL: Duration = Duration::from_millis(150);
const RATE: f64 = 100.0;
/// How long a client waits.
const CLIENT_TIMEOUT: Duration = Duration::from_secs(3);
/// Load before the fault.
const BEFORE: Duration = Duration::from_secs(1);
/// The same for a fault that shows only against what is usual: that takes 16 checks to learn.
const BEFORE_SLOW: Duration = Duration::from_secs(7);
/// Clients are served again once this goes by without a request that fails or takes longer than usual.
const SERVED: Duration = Duration::from_secs(1);

/// A service that can be told to fail.
pub struct Subject {
    lab: Lab,
}

/// What came of a fault, in milliseconds since it was made.
#[derive(Clone, Copy, Debug)]
pub struct Trial {
    /// New flows go elsewhere.
    pub detect_ms: f64,
    /// The first second begins in which every request is answered as usual.
    pub recover_ms: f64,
    /// The backend waits as a standby again.
    pub back_ms: f64,
    /// Requests that failed.
    pub failed: u64,
    /// Requests that were answered, and later than usual.
    pub late: u64,
}

impl Subject {
    /// Two backends that are ready.
    pub fn up() -> Self {
        let mut lab = Lab::new();
        let service = aging_service();
        let command = [&service, "--listen", "0.0.0.0:8080", "--healthy", "--faults", "--latency", LATENCY];
        lab.up_as(&["--check", "http:/health"], &command);
        Self { lab }
    }

    /// Makes the fault happen to the active backend; an error says what did not come about in time.
    pub fn suffer(&self, fault: Fault) -> Result<Trial, String> {
        let lab = &self.lab;
        eventually("both backends are ready", || {
            let mut states = lab.states();
            states.sort();
            states == ["active", "standby"]
        });
        let events = Events::follow(lab);
        let load = Load::start(lab);
        // What is usual has to be seen for some time, and nothing tells when it has been.
        thread::sleep(if fault == Fault::Slow { BEFORE_SLOW } else { BEFORE });
        let victim = lab.backend("active");
        let name = victim["name"].as_str().unwrap_or_default().to_owned();
        let struck = Now::read().unix_ms;
        fault.strike(lab, &victim);
        let detected = events.next(
            struck,
            PATIENCE,
            |event| matches!(event, Event::Handover { from, .. } if from.as_str() == name),
        );
        fault.mend(lab, &victim);
        let detected = detected.ok_or("the fault was not detected in time")?;
        let back = events.next(struck, PATIENCE, |event| {
            matches!(event, Event::State { backend, to: State::Standby, .. } if backend.as_str() == name)
        });
        let back = back.ok_or("the backend did not come back in time")?;
        // A whole second has to go by before it can be known to be a good one.
        thread::sleep(SERVED + USUAL);
        let report = load.end();
        let since = |unix_ms: u64| unix_ms.saturating_sub(struck) as f64;
        let start_us = struck.saturating_sub(report.summary.started_unix_ms) * 1_000;
        let recover_us = served_again_us(&report.records, start_us).ok_or("clients were not served again")?;
        let after = || report.records.iter().filter(|record| record.end_us >= start_us);
        Ok(Trial {
            detect_ms: since(detected.unix_ms),
            recover_ms: (recover_us - start_us) as f64 / 1_000.0,
            back_ms: since(back.unix_ms),
            failed: after().filter(|record| record.outcome.is_failure()).count() as u64,
            late: after().filter(|record| !record.outcome.is_failure() && !is_usual(record)).count() as u64,
        })
    }
}

fn is_usual(record: &Record) -> bool {
    !record.outcome.is_failure() && record.corrected_us() <= USUAL.as_micros() as u64
}

/// The beginning of the first second from `start_us` on in which every request is answered as usual.
fn served_again_us(records: &[Record], start_us: u64) -> Option<u64> {
    let length_us = SERVED.as_micros() as u64;
    let last_us = records.iter().map(|record| record.intended_us).max()?;
    let mut begin_us = start_us;
    for record in records.iter().filter(|record| record.intended_us >= start_us) {
        if record.intended_us >= begin_us + length_us {
            return Some(begin_us);
        }
        if !is_usual(record) {
            begin_us = record.intended_us + 1;
        }
    }
    (last_us >= begin_us + length_us).then_some(begin_us)
}

/// Requests that go on until they are told to end.
struct Load {
    stop: Stop,
    thread: JoinHandle<Report>,
}

impl Load {
    fn start(lab: &Lab) -> Self {
        let mut plan = Plan::new(lab.vip().into());
        plan.kinds =
            vec!["name=short,path=/free,weight=1,mode=close".parse::<RequestKind>().expect("a kind")];
        (plan.rate, plan.duration) = (RATE, 4 * PATIENCE);
        (plan.timeout, plan.connect_timeout) = (CLIENT_TIMEOUT, CLIENT_TIMEOUT);
        let stop = Stop::new();
        let (netns, told) = (lab.netns().try_clone().expect("a namespace"), stop.clone());
        let thread = thread::spawn(move || {
            let run = || {
                let runtime =
                    tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
                runtime.block_on(run_until(&plan, &mut (), &told)).expect("a plan that can be run")
            };
            run_in(&netns, run).expect("a namespace that can be entered")
        });
        Self { stop, thread }
    }

    fn end(self) -> Report {
        self.stop.finish();
        self.thread.join().expect("load that ends")
    }
}

#[cfg(test)]
mod tests {
    use baton::load::Outcome;

    use super::*;

    fn record(at_ms: u64, took_ms: u64, outcome: Outcome) -> Record {
        Record {
            number: 0,
            kind: 0,
            intended_us: at_ms * 1_000,
            start_us: at_ms * 1_000,
            connected_us: None,
            first_byte_us: None,
            end_us: (at_ms + took_ms) * 1_000,
            outcome,
            status: None,
            backend: None,
            body_bytes: 0,
            connection: None,
            local_port: None,
        }
    }

    #[test]
    fn clients_are_served_again_from_the_first_second_on_that_is_good_throughout() {
        let mut records: Vec<_> = (0..40).map(|number| record(number * 100, 20, Outcome::Ok)).collect();
        assert_eq!(served_again_us(&records, 500_000), Some(500_000));
        records[7].outcome = Outcome::Refused;
        records[12] = record(1_200, 200, Outcome::Ok);
        assert_eq!(served_again_us(&records, 500_000), Some(1_200_001));
        records[35].outcome = Outcome::Timeout;
        assert_eq!(served_again_us(&records, 500_000), Some(1_200_001));
        assert_eq!(served_again_us(&records, 3_400_000), None);
    }
}
