//! The ladder of recovery actions: what is done to bring a backend back, and what if that does not help.
//!
//! [`Ladder`] is a pure state machine, one a backend:
//!
//! ```text
//!          begin             fail            fail                 fail
//!  at rest ----> first step ----> next step ----> ... last step -------> at rest, one more run has failed
//!     ^               |               |                  |
//!     +---------------+---------------+------------------+
//!                          prove: its checks have risen
//! ```
//!
//! What always holds: a step of the machine is given a number, which the journal keeps, and no number is
//! ordered twice.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::message::Instance;
use crate::clock::Now;

/// So many steps are kept for the report.
const KEPT_STEPS: usize = 32;

/// What ends a life so that another one may begin.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Step {
    /// The backend is asked to end, and started again.
    #[default]
    Graceful,
    /// It is ended by force, and started again.
    Restart,
    /// Its machine is started again, and brings it up.
    Reboot,
    /// Its machine is made anew, and brings it up.
    Recreate,
}

impl Step {
    /// Whether it is done to a machine, which must never be done twice.
    pub fn is_of_machine(self) -> bool {
        matches!(self, Self::Reboot | Self::Recreate)
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Graceful => "graceful restart",
            Self::Restart => "restart by force",
            Self::Reboot => "reboot",
            Self::Recreate => "recreation",
        })
    }
}

/// What the success of a step rests upon, besides checks that have risen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Evidence {
    /// Another process runs.
    Process,
    /// Another boot of the machine runs.
    Boot,
    /// The commands that did it have succeeded; nothing else tells one life from the next.
    Commands,
}

/// A step that there is for a backend.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rung {
    /// What is done.
    pub step: Step,
    /// What shows that it was done.
    pub evidence: Evidence,
}

/// The only step of a backend of which no other is known.
pub(super) const GRACEFUL: Rung = Rung { step: Step::Graceful, evidence: Evidence::Process };

/// Proof that a step brought the backend back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StepProof {
    /// What it rests upon, besides checks that have risen.
    pub evidence: Evidence,
    /// The life that was ended, if one is known.
    pub before: Option<Instance>,
    /// The life that began.
    pub after: Option<Instance>,
}

/// A step that was taken.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StepReport {
    /// What was done.
    pub step: Step,
    /// When it began, in milliseconds since 1970-01-01 UTC.
    pub begun_unix_ms: u64,
    /// From there until it was proven or given up, in milliseconds; absent while it is under way.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub took_ms: Option<u64>,
    /// The proof.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub proof: Option<StepProof>,
    /// Why there is none, or was none in time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure: Option<String>,
}

/// What follows from a failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// No step was under way.
    Nothing,
    /// The next step.
    Step,
    /// There is none: the run has failed, and so many in a row.
    Exhausted(u32),
}

/// Where a backend stands on its ladder.
#[derive(Clone, Debug, Default)]
pub(super) struct Ladder {
    /// The rung that is under way, or is to be taken next.
    at: usize,
    /// The last step, and when it began.
    last: Option<(Rung, Now)>,
    /// It has neither been proven nor given up.
    is_under_way: bool,
    before: Option<Instance>,
    taken: Vec<StepReport>,
    /// Runs of the ladder that have failed in a row.
    failed_runs: u32,
    /// The number of the last step of the machine.
    number: u64,
    /// It is not tried any more until an operator wants it, or nobody else serves.
    pub(super) quarantined: bool,
}

impl Ladder {
    /// Takes the step that it stands on; `rungs` is all that there are, `before` the life that is ended.
    ///
    /// A `wedged` backend is not asked politely. A step of the machine is not taken if it cannot be `written`
    /// down: the one below it is.
    pub(super) fn begin(
        &mut self,
        rungs: &[Rung],
        before: Option<Instance>,
        wedged: bool,
        written: bool,
        now: Now,
    ) -> Step {
        if self.at == 0 && self.failed_runs == 0 {
            self.taken.clear();
        }
        let by_force = rungs.iter().position(|rung| rung.step == Step::Restart);
        if let Some(index) = by_force.filter(|index| wedged && *index > self.at) {
            self.at = index;
        }
        let reachable = rungs.get(..=self.at).unwrap_or(rungs);
        let allowed = |rung: &&Rung| written || !rung.step.is_of_machine();
        let rung = reachable.iter().rfind(allowed).copied().unwrap_or(GRACEFUL);
        self.number += u64::from(rung.step.is_of_machine());
        (self.last, self.is_under_way) = (Some((rung, now)), true);
        self.before = before;
        if rungs.is_empty() {
            // What its operator does is no step of ours, and no report tells of it.
            return rung.step;
        }
        if self.taken.len() == KEPT_STEPS {
            self.taken.remove(0);
        }
        self.taken.push(StepReport {
            step: rung.step,
            begun_unix_ms: now.unix_ms,
            took_ms: None,
            proof: None,
            failure: None,
        });
        rung.step
    }

    /// The step under way, or what followed it, has failed.
    pub(super) fn fail(&mut self, rungs: &[Rung], why: &str, now: Now) -> Next {
        let Some((_, begun)) = self.last.filter(|_| self.is_under_way) else { return Next::Nothing };
        self.is_under_way = false;
        if let Some(last) = self.taken.last_mut() {
            (last.took_ms, last.failure) = (Some(now.ms_since(begun)), Some(why.to_owned()));
        }
        if self.at + 1 < rungs.len() {
            self.at += 1;
            return Next::Step;
        }
        self.at = 0;
        self.failed_runs = self.failed_runs.saturating_add(1);
        Next::Exhausted(self.failed_runs)
    }

    /// The checks of the backend have risen in this life.
    pub(super) fn prove(&mut self, after: Option<Instance>, now: Now) {
        // One that comes up after it was given up has been brought back by its last step all the same.
        let unproven = self.taken.last_mut().filter(|last| last.proof.is_none());
        if let (Some((rung, begun)), Some(report)) = (self.last, unproven) {
            report.took_ms = Some(now.ms_since(begun));
            report.proof = Some(StepProof { evidence: rung.evidence, before: self.before, after });
        }
        self.is_under_way = false;
        (self.at, self.failed_runs, self.quarantined) = (0, 0, false);
    }

    /// Nothing is tried any more, and what was is over.
    pub(super) fn rest(&mut self) {
        self.is_under_way = false;
        (self.at, self.failed_runs, self.quarantined) = (0, 0, false);
    }

    /// An earlier controller ordered this step of the machine: it is taken to be under way.
    pub(super) fn take_up(&mut self, rungs: &[Rung], step: Step, number: u64, now: Now) {
        self.number = number;
        self.at = rungs.iter().position(|rung| rung.step == step).unwrap_or(0);
        let rung = rungs.get(self.at).copied().unwrap_or(GRACEFUL);
        (self.last, self.is_under_way) = (Some((rung, now)), true);
        self.taken.push(StepReport {
            step,
            begun_unix_ms: now.unix_ms,
            took_ms: None,
            proof: None,
            failure: None,
        });
    }

    /// The number of the last step of the machine; 0 if there was none since the backend was last proven well.
    pub(super) fn number(&self) -> u64 {
        self.number
    }

    /// Steps of the machine are over: whatever comes next begins to count anew.
    pub(super) fn forget_numbers(&mut self) {
        self.number = 0;
    }

    /// The step under way.
    pub(super) fn step(&self) -> Option<Step> {
        self.last.filter(|_| self.is_under_way).map(|(rung, _)| rung.step)
    }

    /// Whether a step is under way in the first run: there may be one that helps.
    pub(super) fn is_at_work(&self) -> bool {
        self.is_under_way && self.failed_runs == 0
    }

    /// Whether a life that is said to be new is the one that the step under way was to end.
    pub(super) fn has_failed_to_end(&self, life: Instance) -> bool {
        let by_process = self.last.is_some_and(|(rung, _)| rung.evidence == Evidence::Process);
        self.is_under_way && by_process && life.is_known() && self.before == Some(life)
    }

    /// Runs that have failed in a row.
    pub(super) fn failed_runs(&self) -> u32 {
        self.failed_runs
    }

    /// What was done since the backend was last well.
    pub(super) fn taken(&self) -> &[StepReport] {
        &self.taken
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: [Rung; 4] = [
        Rung { step: Step::Graceful, evidence: Evidence::Process },
        Rung { step: Step::Restart, evidence: Evidence::Process },
        Rung { step: Step::Reboot, evidence: Evidence::Boot },
        Rung { step: Step::Recreate, evidence: Evidence::Commands },
    ];

    fn now(ms: u64) -> Now {
        Now { boot_ms: ms, unix_ms: ms }
    }

    fn life(pid: u32) -> Instance {
        Instance { pid, start_ticks: 1 }
    }

    #[test]
    fn each_failure_leads_to_the_next_step_until_there_is_none() {
        let mut ladder = Ladder::default();
        let mut steps = Vec::new();
        for ms in 0..4 {
            steps.push(ladder.begin(&ALL, Some(life(1)), false, true, now(ms)));
            let next = ladder.fail(&ALL, "no", now(ms + 1));
            assert_eq!(next, if ms < 3 { Next::Step } else { Next::Exhausted(1) });
        }
        assert_eq!(steps, [Step::Graceful, Step::Restart, Step::Reboot, Step::Recreate]);
        assert_eq!(ladder.number(), 2);
        assert_eq!(ladder.fail(&ALL, "late", now(9)), Next::Nothing);
        assert_eq!(ladder.begin(&ALL, Some(life(1)), false, true, now(10)), Step::Graceful, "a new run");
        assert_eq!(ladder.taken().len(), 5, "the report still has the first run");
    }

    #[test]
    fn a_proven_step_ends_the_run_and_says_what_it_rests_upon() {
        let mut ladder = Ladder::default();
        ladder.begin(&ALL, Some(life(1)), false, true, now(0));
        ladder.fail(&ALL, "it hangs", now(10));
        ladder.begin(&ALL, Some(life(1)), false, true, now(10));
        ladder.prove(Some(life(2)), now(30));
        let [first, second] = ladder.taken() else { panic!("{:?}", ladder.taken()) };
        assert_eq!((first.failure.as_deref(), first.took_ms), (Some("it hangs"), Some(10)));
        let proof = StepProof { evidence: Evidence::Process, before: Some(life(1)), after: Some(life(2)) };
        assert_eq!((second.proof, second.took_ms), (Some(proof), Some(20)));
        assert_eq!(ladder.begin(&ALL, Some(life(2)), false, true, now(50)), Step::Graceful);
        assert_eq!(ladder.taken().len(), 1, "another recovery");
    }

    #[test]
    fn the_same_process_is_no_proof() {
        let mut ladder = Ladder::default();
        ladder.begin(&ALL, Some(life(1)), false, true, now(0));
        let same = |pid| ladder.has_failed_to_end(life(pid));
        assert!(same(1) && !same(2));
    }

    #[test]
    fn a_wedged_backend_is_not_asked_politely() {
        let mut ladder = Ladder::default();
        assert_eq!(ladder.begin(&ALL, Some(life(1)), true, true, now(0)), Step::Restart);
        assert_eq!(Ladder::default().begin(&ALL[..1], Some(life(1)), true, true, now(0)), Step::Graceful);
    }

    #[test]
    fn what_cannot_be_written_down_is_not_done_to_a_machine() {
        let mut ladder = Ladder::default();
        for _ in 0..2 {
            ladder.begin(&ALL, Some(life(1)), false, false, now(0));
            ladder.fail(&ALL, "no", now(0));
        }
        assert_eq!(ladder.begin(&ALL, Some(life(1)), false, false, now(0)), Step::Restart);
        assert_eq!(ladder.number(), 0);
    }

    #[test]
    fn a_step_that_another_controller_ordered_is_not_ordered_again() {
        let mut ladder = Ladder::default();
        ladder.take_up(&ALL, Step::Reboot, 1, now(0));
        assert_eq!(ladder.step(), Some(Step::Reboot));
        assert_eq!(ladder.fail(&ALL, "no", now(5)), Next::Step);
        assert_eq!(ladder.begin(&ALL, Some(life(1)), false, true, now(5)), Step::Recreate);
        assert_eq!(ladder.number(), 2);
    }

    #[test]
    fn the_report_has_an_end() {
        let mut ladder = Ladder::default();
        for ms in 0..200 {
            ladder.begin(&ALL, None, false, true, now(ms));
            ladder.fail(&ALL, "no", now(ms));
        }
        assert_eq!(ladder.taken().len(), KEPT_STEPS);
    }
}
