//! Counting results into a verdict: rise, fall, and failures among the last checks. Pure, and the one place that
//! counts them: it decides both when a backend is asked again and what the coordinator makes of it.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

/// How many results make a verdict.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rule {
    /// Passes in a row that make a backend up (1 or more).
    pub rise: u32,
    /// Failures in a row that make it down (1 or more).
    pub fall: u32,
    /// Failures that make it down although passes are among them.
    pub window: Option<Window>,
}

/// So many failures among the last checks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Window {
    /// Failures (1 to `checks`)...
    pub failures: u32,
    /// ...among so many last checks (at most 1,000).
    pub checks: u32,
}

/// The most results that a window looks back on.
const WINDOW_MAX: usize = 1000;

/// What the results say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The backend answers.
    Up,
    /// It does not.
    Down,
}

/// The results of one life of a backend.
#[derive(Clone, Debug, Default)]
pub struct Tally {
    verdict: Option<Verdict>,
    /// Whether the last results passed, and how many in a row did so.
    row: (bool, u32),
    /// The last results, oldest first; kept only for a window.
    last: VecDeque<bool>,
}

impl Tally {
    /// Takes one more result, and answers with the verdict if it has changed.
    pub fn note(&mut self, passed: bool, rule: &Rule) -> Option<Verdict> {
        let (same, row) = self.row;
        self.row = (passed, if same == passed { row.saturating_add(1) } else { 1 });
        if let Some(window) = rule.window {
            self.last.push_back(passed);
            while self.last.len() > (window.checks as usize).clamp(1, WINDOW_MAX) {
                self.last.pop_front();
            }
        }
        let before = self.verdict;
        if self.passed() >= rule.rise.max(1) {
            // The failures that it has risen after count no more, or the next one would be one too many.
            if before == Some(Verdict::Down) {
                self.last.clear();
            }
            self.verdict = Some(Verdict::Up);
        } else if self.failed() >= rule.fall.max(1) || !passed && self.is_full(rule.window) {
            self.verdict = Some(Verdict::Down);
        }
        self.verdict.filter(|_| self.verdict != before)
    }

    /// The verdict so far.
    pub fn verdict(&self) -> Option<Verdict> {
        self.verdict
    }

    /// Checks that have passed in a row, up to the last one.
    pub fn passed(&self) -> u32 {
        if self.row.0 { self.row.1 } else { 0 }
    }

    /// Checks that have failed in a row, up to the last one.
    pub fn failed(&self) -> u32 {
        if self.row.0 { 0 } else { self.row.1 }
    }

    /// Whether the last result says the same as the verdict.
    pub fn is_settled(&self) -> bool {
        self.verdict == Some(if self.row.0 { Verdict::Up } else { Verdict::Down })
    }

    fn is_full(&self, window: Option<Window>) -> bool {
        let failures = self.last.iter().filter(|passed| !**passed).count();
        window.is_some_and(|window| failures >= window.failures.max(1) as usize)
    }
}
