//! What the checker of the invariants knows of a backend, by what the coordinator was told.

use crate::clock::Now;
use crate::recovery::message::{Finding, Instance};
use crate::recovery::policy::Policy;

/// What the coordinator can know of a backend.
#[expect(clippy::struct_excessive_bools, reason = "each is a fact of its own")]
#[derive(Clone, Debug)]
pub(super) struct Known {
    pub(super) life: Option<Instance>,
    pub(super) passed: u32,
    pub(super) failed: u32,
    pub(super) last_pass: Option<Now>,
    /// The failed checks in a row found silence, and nothing else.
    pub(super) silent: bool,
    /// They found resets, and nothing else.
    pub(super) reset: bool,
    /// What it had answered when the first of them failed, and when the last one did.
    pub(super) turns: Option<(u64, u64)>,
    /// Flows that clients had begun with it then.
    pub(super) asked: Option<(u64, u64)>,
    /// Resets that they had been sent then.
    pub(super) resets: Option<(u64, u64)>,
    /// The results of its checks since it last came up from a fall, as far as a window of the policy counts them.
    pub(super) recent: Vec<bool>,
    /// When it fell, if it has not risen since.
    pub(super) fell_at: Option<Now>,
    /// Since when it has not been ready, if it is not.
    pub(super) unready_since: Option<Now>,
    /// It had been so for too long when that was allowed to take longer.
    pub(super) overdue: bool,
    /// Flows in the last scan.
    pub(super) open: Option<u64>,
    /// A stop was ordered and not answered yet.
    pub(super) stopping: bool,
    /// It was taken out on purpose and is not ready again.
    pub(super) out: bool,
    /// Whether this life was warmed up or has served, or its warm-up has failed.
    pub(super) warm: Option<bool>,
    pub(super) warm_up: WarmUp,
}

/// The warm-up that was ordered last.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct WarmUp {
    /// When it was ordered, until anything is heard.
    pub(super) since: Option<Now>,
    /// A failure was heard of since, perhaps of the one before.
    pub(super) failed: bool,
    /// It is not waited for any more.
    pub(super) given_up: bool,
}

impl WarmUp {
    /// A failure that nobody waits for is not the last word: its checks had failed too, and it is warmed up anew.
    pub(super) fn has_failed(&self) -> Option<bool> {
        (self.failed && self.given_up).then_some(false)
    }

    /// Nothing was heard for longer than it may take.
    pub(super) fn is_overdue(&self, policy: &Policy, now: Now) -> bool {
        self.since.is_some_and(|at| now.ms_since(at) > policy.warm_up_limit_ms())
    }
}

impl Known {
    pub(super) fn new(life: Option<Instance>, now: Now) -> Self {
        Self {
            life,
            passed: 0,
            failed: 0,
            last_pass: None,
            silent: false,
            reset: false,
            turns: None,
            asked: None,
            resets: None,
            recent: Vec::new(),
            fell_at: None,
            unready_since: Some(now),
            overdue: false,
            open: None,
            stopping: false,
            out: false,
            warm: None,
            warm_up: WarmUp::default(),
        }
    }
}

impl Known {
    /// It has not been ready for as long as it may take to become so.
    pub(super) fn is_overdue(&self, policy: &Policy, now: Now) -> bool {
        self.unready_since.is_some_and(|at| now.ms_since(at) >= policy.ready_deadline_ms)
    }

    /// Its checks mean something else from now on.
    pub(super) fn forget_checks(&mut self, now: Now) {
        let unready_since = self.unready_since.or(Some(now));
        let Self { life, overdue, open, stopping, out, warm, warm_up, .. } = *self;
        *self = Self { unready_since, overdue, open, stopping, out, warm, warm_up, ..Self::new(life, now) };
    }

    /// What was counted when the first of its failed checks in a row ended, and by now.
    pub(super) fn since_first(&self, seen: Option<(u64, u64)>, now: u64) -> (u64, u64) {
        (seen.filter(|_| self.failed > 0).map_or(now, |(first, _)| first), now)
    }

    /// A check of this life has ended.
    pub(super) fn hear_check(&mut self, result: &Result<(), Finding>, policy: &Policy, now: Now) {
        if result.is_ok() {
            (self.passed, self.failed, self.last_pass) = (self.passed + 1, 0, Some(now));
            (self.turns, self.asked, self.resets) = (None, None, None);
        } else {
            let silence =
                matches!(result, Err(Finding::Refused | Finding::TimedOut | Finding::Unreachable(_)));
            let reset = matches!(result, Err(Finding::Refused | Finding::Reset));
            self.silent = silence && (self.silent || self.failed == 0);
            self.reset = reset && (self.reset || self.failed == 0);
            (self.passed, self.failed) = (0, self.failed + 1);
        }
        self.recent.push(result.is_ok());
        if self.passed >= policy.rise {
            (self.unready_since, self.overdue) = (None, false);
            self.out = false;
            if self.fell_at.take().is_some() {
                self.recent.clear();
            }
        } else if self.has_fallen(policy) {
            self.fell_at = self.fell_at.or(Some(now).filter(|_| self.fails_often(policy)));
            self.unready_since = self.unready_since.or(Some(now));
        }
    }

    /// Its last check failed, and enough did; or fewer, while clients asked in vain or were reset.
    pub(super) fn has_fallen(&self, policy: &Policy) -> bool {
        let same = |seen: Option<(u64, u64)>| seen.map(|(first, last)| first == last);
        let met_the_same =
            self.silent && same(self.asked) == Some(false) || self.reset && same(self.resets) == Some(false);
        let in_vain = same(self.turns) == Some(true) && met_the_same;
        let soon = in_vain && self.failed >= policy.fall_ignored;
        !policy.shadow.checks
            && self.failed > 0
            && (self.fell_at.is_some() || self.fails_often(policy) || soon)
    }

    pub(super) fn fails_often(&self, policy: &Policy) -> bool {
        let often = policy.fall_window.is_some_and(|window| {
            let last = self.recent.iter().rev().take(window.checks as usize);
            last.filter(|passed| !**passed).count() >= window.failures as usize
        });
        self.failed >= policy.fall || self.failed > 0 && often
    }
}
