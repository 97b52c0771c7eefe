//! Whose fault a failed request is.
//!
//! What always holds: only a request that was under way while a backend was dead and still got new flows, and that
//! ended as connections of the dead do, is put down to its death. All others are the balancer's fault.

use std::collections::BTreeMap;

use baton::load::{Outcome, Record, Report};

/// A backend that was killed while it served.
#[derive(Clone, Debug)]
pub struct Death {
    /// As its answers name it.
    pub backend: String,
    /// When it was killed, in milliseconds since 1970.
    pub at_unix_ms: u64,
    /// When new flows went elsewhere.
    pub over_unix_ms: u64,
}

/// A handshake that had begun before new flows went elsewhere may end so much later.
const SLACK_MS: u64 = 100;

/// Failed requests.
#[derive(Clone, Debug, Default)]
pub struct Failures {
    /// Of flows on a backend that was killed, by cause.
    pub on_the_killed: BTreeMap<String, u64>,
    /// All others, one line each.
    pub unexplained: Vec<String>,
}

/// Finds the cause of each failure of a run.
pub fn judge(run: &Report, deaths: &[Death]) -> Failures {
    let mut failures = Failures::default();
    let started = run.summary.started_unix_ms;
    for record in run.records.iter().filter(|record| record.outcome.is_failure()) {
        let cause = record.outcome.cause().into_owned();
        if deaths.iter().any(|death| explains(death, record, started)) {
            *failures.on_the_killed.entry(cause).or_default() += 1;
        } else {
            let (from, to) = (started + record.start_us / 1000, started + record.end_us / 1000);
            failures.unexplained.push(format!(
                "request {} on port {:?} of backend {:?} from {from} to {to}: {cause}",
                record.number, record.local_port, record.backend
            ));
        }
    }
    failures
}

fn explains(death: &Death, record: &Record, started_unix_ms: u64) -> bool {
    let begun = started_unix_ms + record.start_us / 1000;
    let ended = started_unix_ms + record.end_us / 1000;
    let is_of_it = record.backend.as_deref().is_none_or(|backend| backend == death.backend);
    is_of_it && is_loss(record.outcome) && begun <= death.over_unix_ms + SLACK_MS && ended >= death.at_unix_ms
}

/// What a client sees of a process that is gone.
fn is_loss(outcome: Outcome) -> bool {
    matches!(
        outcome,
        Outcome::Refused
            | Outcome::ResetBeforeFirstByte
            | Outcome::ResetMidResponse
            | Outcome::EofBeforeFirstByte
            | Outcome::EofMidResponse
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(outcome: Outcome, backend: Option<&str>, start_ms: u64, end_ms: u64) -> Record {
        Record {
            number: 1,
            kind: 0,
            intended_us: start_ms * 1000,
            start_us: start_ms * 1000,
            connected_us: None,
            first_byte_us: None,
            end_us: end_ms * 1000,
            outcome,
            status: None,
            backend: backend.map(Into::into),
            body_bytes: 0,
            connection: None,
            local_port: None,
        }
    }

    #[test]
    fn only_what_the_killed_one_took_along_is_put_down_to_its_death() {
        let death = Death { backend: "1".into(), at_unix_ms: 5_000, over_unix_ms: 5_050 };
        let is_explained =
            |outcome, backend, start, end| explains(&death, &record(outcome, backend, start, end), 0);
        assert!(is_explained(Outcome::ResetMidResponse, Some("1"), 4_000, 5_001));
        assert!(is_explained(Outcome::Refused, None, 5_100, 5_101));
        // Another backend, another time, or a cause that no death has.
        assert!(!is_explained(Outcome::ResetMidResponse, Some("0"), 4_000, 5_001));
        assert!(!is_explained(Outcome::Refused, None, 5_200, 5_201));
        assert!(!is_explained(Outcome::Refused, None, 4_000, 4_999));
        assert!(!is_explained(Outcome::Timeout, None, 4_000, 5_001));
    }
}
