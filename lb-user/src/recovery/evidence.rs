//! What the checks of one life of a backend, and the packet path beside them, have shown.

use super::message::Finding;
use super::policy::Policy;
use crate::check::{Tally, Verdict};
use crate::clock::Now;

/// The results so far, and what was seen of clients meanwhile.
#[derive(Clone, Debug, Default)]
pub(super) struct Evidence {
    tally: Tally,
    last_pass: Option<Now>,
    /// The failed checks in a row found silence, and nothing else.
    silent: bool,
    /// They were resets, and nothing else.
    reset: bool,
    /// Requests that it had begun to answer when the first of them failed, and when the last one did.
    turns: Option<(u64, u64)>,
    /// Flows that clients had begun with it at the same moments.
    asked: Option<(u64, u64)>,
    /// Resets that it had sent to clients at the same moments.
    resets: Option<(u64, u64)>,
    pub(super) last_finding: Option<Finding>,
}

impl Evidence {
    /// A check is about to be reported as failed; so many requests have been answered by now.
    pub(super) fn note_turns(&mut self, turns: u64) {
        self.turns = Some((self.first_of(self.turns, turns), turns));
    }

    /// The same of flows that clients have begun, and of resets that it has sent them.
    pub(super) fn note_asked(&mut self, flows: u64, resets: u64) {
        self.asked = Some((self.first_of(self.asked, flows), flows));
        self.resets = Some((self.first_of(self.resets, resets), resets));
    }

    /// What was counted when the first of the failed checks in a row ended, if this is not the first.
    fn first_of(&self, seen: Option<(u64, u64)>, now: u64) -> u64 {
        seen.filter(|_| self.tally.failed() > 0).map_or(now, |(first, _)| first)
    }

    pub(super) fn note_check(&mut self, result: Result<(), Finding>, policy: &Policy, now: Now) {
        match result {
            Ok(()) => {
                self.tally.note(true, &policy.rule());
                self.last_pass = Some(now);
                (self.turns, self.asked, self.resets) = (None, None, None);
                self.last_finding = None;
            }
            // Nobody was asked, so nothing is known but why not; passes grow old meanwhile.
            Err(finding @ Finding::Unchecked(_)) => self.last_finding = Some(finding),
            Err(finding) => {
                let is_first = self.tally.failed() == 0;
                self.silent = finding.is_silence() && (self.silent || is_first);
                self.reset = finding.is_reset() && (self.reset || is_first);
                self.tally.note(false, &policy.rule());
                self.last_finding = Some(finding);
            }
        }
    }

    /// Enough checks in a row have passed.
    pub(super) fn has_risen(&self, policy: &Policy) -> bool {
        self.tally.passed() >= policy.rise.max(1)
    }

    /// It has risen, and has not failed enough checks since.
    pub(super) fn is_up(&self) -> bool {
        self.tally.verdict() == Some(Verdict::Up)
    }

    /// The last check failed, and enough of them did; or fewer, but clients ask in vain or are reset, too.
    pub(super) fn is_unfit(&self, policy: &Policy) -> bool {
        let failed = self.tally.failed();
        let confirmed = failed >= policy.fall_ignored.max(1) && self.is_confirmed_by_clients();
        failed > 0 && (self.tally.verdict() == Some(Verdict::Down) || confirmed)
    }

    /// No client was answered since the first of the failed checks, and clients met what the checks did.
    fn is_confirmed_by_clients(&self) -> bool {
        let met_silence = self.silent && has_grown(self.asked);
        let met_resets = self.reset && has_grown(self.resets);
        self.answers_nobody() && (met_silence || met_resets)
    }

    /// Nothing was heard of it since the first of its failed checks, and no client was answered either.
    pub(super) fn is_silent(&self) -> bool {
        self.silent && self.answers_nobody()
    }

    fn answers_nobody(&self) -> bool {
        self.turns.is_some_and(|(first, last)| first == last)
    }

    /// Its last check passed, and not long ago.
    pub(super) fn passes(&self, policy: &Policy, now: Now) -> bool {
        let fresh = self
            .last_pass
            .is_some_and(|at| now.ms_since(at) <= 2 * policy.check_period_ms + policy.check_timeout_ms);
        self.tally.passed() > 0 && fresh
    }
}

/// Whether a count went on after the first of the failed checks.
fn has_grown(counted: Option<(u64, u64)>) -> bool {
    counted.is_some_and(|(first, last)| first != last)
}
