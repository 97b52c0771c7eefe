//! The figures as they are handed on: the JSON that `cargo xtask bench watchdog` reads and keeps.

use serde::Serialize;

use super::fault::Fault;
use super::trial::Trial;
use crate::packet_bench::Machine;

/// All that one run of the bench has to say.
#[derive(Clone, Debug, Serialize)]
pub struct Figures {
    /// Where it was measured.
    pub machine: Machine,
    /// How often each fault was made.
    pub trials: u32,
    /// The figures, in the order of the faults.
    pub faults: Vec<FaultFigures>,
    /// A healthy backend under all the load that it can bear; absent if that was not asked for.
    pub false_ejections: Option<Quiet>,
}

/// What came of one fault, made several times.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct FaultFigures {
    /// Its name.
    pub name: &'static str,
    /// Trials that ended as they should.
    pub completed: u32,
    /// Why the others did not.
    pub missed: Vec<String>,
    /// From the fault until new flows go elsewhere; absent if no trial was completed.
    pub detect_ms: Option<Spread>,
    /// From the fault until clients are served as usual.
    pub recover_ms: Option<Spread>,
    /// From the fault until the backend is ready again.
    pub back_ms: Option<Spread>,
    /// Requests that failed in a trial.
    pub failed_requests: Option<Spread>,
    /// Requests that were answered late in a trial.
    pub late_requests: Option<Spread>,
}

/// Samples of one figure.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Spread {
    /// The smallest.
    pub min: f64,
    /// The one in the middle.
    pub median: f64,
    /// The largest.
    pub max: f64,
}

/// What became of a healthy backend under all the load that it can bear.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Quiet {
    /// For so long.
    pub seconds: f64,
    /// How often it was taken for broken.
    pub ejections: u64,
    /// Whether the same process served in the end as in the beginning.
    pub same_backend: bool,
    /// What it answered.
    pub answered_per_second: f64,
    /// How much of a processor it used.
    pub processor_percent: f64,
    /// How long half of the answers took at most.
    pub p50_ms: f64,
    /// How long 99 of 100 answers took at most.
    pub p99_ms: f64,
}

impl FaultFigures {
    /// What the trials of a fault come to.
    pub fn of(fault: Fault, trials: &[Result<Trial, String>]) -> Self {
        let completed: Vec<_> = trials.iter().flatten().collect();
        let spread =
            |figure: fn(&Trial) -> f64| Spread::of(completed.iter().map(|trial| figure(trial)).collect());
        Self {
            name: fault.name(),
            completed: completed.len() as u32,
            missed: trials.iter().filter_map(|trial| trial.clone().err()).collect(),
            detect_ms: spread(|trial| trial.detect_ms),
            recover_ms: spread(|trial| trial.recover_ms),
            back_ms: spread(|trial| trial.back_ms),
            failed_requests: spread(|trial| trial.failed as f64),
            late_requests: spread(|trial| trial.late as f64),
        }
    }
}

impl Spread {
    /// `None` without samples.
    fn of(mut samples: Vec<f64>) -> Option<Self> {
        samples.sort_by(f64::total_cmp);
        let (low, high) = (samples.get(samples.len().checked_sub(1)? / 2)?, samples.get(samples.len() / 2)?);
        Some(Self { min: *samples.first()?, median: f64::midpoint(*low, *high), max: *samples.last()? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_those_of_the_trials_that_were_completed() {
        let trial = |detect_ms| Trial { detect_ms, recover_ms: 1.0, back_ms: 2.0, failed: 3, late: 0 };
        let trials =
            [Ok(trial(30.0)), Err("late".to_owned()), Ok(trial(10.0)), Ok(trial(20.0)), Ok(trial(40.0))];
        let figures = FaultFigures::of(Fault::Slow, &trials);
        assert_eq!(figures.detect_ms, Some(Spread { min: 10.0, median: 25.0, max: 40.0 }));
        assert_eq!((figures.completed, figures.missed.len()), (4, 1));
        assert_eq!(FaultFigures::of(Fault::Slow, &[]).detect_ms, None);
    }
}
