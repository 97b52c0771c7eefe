//! One backend as the coordinator knows it.

use std::collections::VecDeque;
use std::fmt;

use serde::{Deserialize, Serialize};

use super::ejections::Ejections;
use super::evidence::Evidence;
use super::ladder::Ladder;
use super::message::Instance;
use super::policy::Policy;
use super::warm_up::WarmUp;
use crate::clock::Now;
use crate::flow_counts::OpenFlows;

/// Where a backend stands in its cycle; from any of these an operator may take it to `Maintenance` and back.
///
/// ```text
///              passed its checks,         handover to it
///  Starting ---------------------> Standby -------------> Active
///    ^   |         (and Warming)      |                   ^   |
///    |   | start failed,              | aged while   new  |   | handover
///    |   | command ended,             | it waited    one  |   | away
///    |   | not ready in time          |            failed |   v
///    |   +------> Failed              +----------------> Draining <---+
///    |              | later                               |         | flows
///    |              v              no flow left, deadline |         | came back
///    +--------- Recovering <----------------------------- Drained ----+
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// Its command is being started, or runs and is not ready yet.
    Starting,
    /// Ready, and waits.
    Standby,
    /// Gets new flows.
    Active,
    /// Gets no new flows, and finishes those it has.
    Draining,
    /// Has no flows left; looked at once more before it is stopped.
    Drained,
    /// Its processes are being ended.
    Recovering,
    /// Its command ended or never came up; it is tried again later.
    Failed,
    /// An operator holds it out; it keeps its flows, and is neither started nor stopped.
    Maintenance,
    /// It has passed its checks and gets the requests of its warm-up.
    Warming,
}

impl State {
    /// All of them.
    pub const ALL: [Self; 9] = [
        Self::Starting,
        Self::Standby,
        Self::Active,
        Self::Draining,
        Self::Drained,
        Self::Recovering,
        Self::Failed,
        Self::Maintenance,
        Self::Warming,
    ];
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Starting => "starting",
            Self::Standby => "standby",
            Self::Active => "active",
            Self::Draining => "draining",
            Self::Drained => "drained",
            Self::Recovering => "recovering",
            Self::Failed => "failed",
            Self::Maintenance => "maintenance",
            Self::Warming => "warming",
        })
    }
}

/// Whether a life has been warmed up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Warmth {
    /// Not yet.
    Unknown,
    /// It has, or has served clients.
    Warm,
    /// Nothing was heard of it in time: as [`Warmth::Cold`], unless that comes yet.
    Unheard,
    /// It failed to be: it is not made ready any more, but for want of others.
    Cold,
}

/// A backend and what its checks, samples and scans have shown.
#[derive(Clone, Debug)]
pub(super) struct Backend {
    pub(super) state: State,
    pub(super) since: Now,
    /// An operator wants it held out.
    pub(super) held: bool,
    pub(super) instance: Option<Instance>,
    /// The life that goes on or was the last one.
    pub(super) last_life: Option<Instance>,
    /// A life whose end was reported before its start.
    pub(super) ended_early: Option<(Instance, String)>,
    /// Whether this life has been active, or may have been before this controller came: then it may have flows, and
    /// have aged by work.
    pub(super) has_worked: bool,
    /// What its checks have shown.
    pub(super) evidence: Evidence,
    memory: VecDeque<u64>,
    /// The first sample of this life; 0 if nobody watched it begin.
    pub(super) fresh_memory: Option<u64>,
    /// Starts that failed in a row.
    pub(super) attempts: u32,
    pub(super) retry_at: Option<Now>,
    /// Since when scans have found no open flow.
    pub(super) empty_since: Option<Now>,
    pub(super) open: OpenFlows,
    /// Clients who may come back to it.
    pub(super) leases: u64,
    /// How often it failed its checks lately.
    pub(super) ejections: Ejections,
    /// What rules in shadow have said of it.
    pub(super) shadow: Shadow,
    /// Whether this life has been warmed up.
    pub(super) warmth: Warmth,
    /// What came of its last warm-up, in whatever life.
    pub(super) last_warm_up: Option<WarmUp>,
    /// What is done to bring it back.
    pub(super) ladder: Ladder,
}

/// What rules in shadow have said of a backend.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Shadow {
    /// How often it would have been taken out for its checks.
    pub(super) ejections: u64,
    /// It was said that it would be, and it has not risen since.
    pub(super) is_fallen: bool,
    /// How often it would have been renewed.
    pub(super) rejuvenations: u64,
    /// It was said in this life that it would be renewed.
    pub(super) is_over_ceiling: bool,
}

impl Backend {
    pub(super) fn new(now: Now) -> Self {
        Self {
            state: State::Starting,
            since: now,
            held: false,
            instance: None,
            last_life: None,
            ended_early: None,
            has_worked: false,
            evidence: Evidence::default(),
            memory: VecDeque::new(),
            fresh_memory: None,
            attempts: 0,
            retry_at: None,
            empty_since: None,
            open: OpenFlows::default(),
            leases: 0,
            ejections: Ejections::default(),
            shadow: Shadow::default(),
            ladder: Ladder::default(),
            warmth: Warmth::Unknown,
            last_warm_up: None,
        }
    }

    /// A new life began: nothing that the old one showed counts any more.
    pub(super) fn begin_life(&mut self, instance: Instance) {
        self.instance = Some(instance);
        self.last_life = Some(instance);
        self.has_worked = false;
        self.warmth = Warmth::Unknown;
        self.forget_checks();
        self.memory.clear();
        self.fresh_memory = None;
        self.ejections.note_rise();
        (self.shadow.is_fallen, self.shadow.is_over_ceiling) = (false, false);
    }

    pub(super) fn forget_checks(&mut self) {
        self.evidence = Evidence::default();
    }

    pub(super) fn note_memory(&mut self, bytes: u64, policy: &Policy) {
        self.fresh_memory.get_or_insert(bytes);
        self.memory.push_back(bytes);
        while self.memory.len() > policy.ceiling_window.max(1) as usize {
            self.memory.pop_front();
        }
    }

    /// One without open flows at this moment is not empty while clients may come back to it.
    pub(super) fn note_flows(&mut self, open: OpenFlows, leases: u64, now: Now) {
        (self.open, self.leases) = (open, leases);
        self.empty_since = if open.total() + leases == 0 { self.empty_since.or(Some(now)) } else { None };
    }

    /// It serves, or waits and could, or is out because an operator wants it so.
    pub(super) fn stands(&self) -> bool {
        matches!(self.state, State::Active | State::Standby | State::Maintenance)
    }

    /// Enough checks in a row have passed.
    pub(super) fn has_risen(&self, policy: &Policy) -> bool {
        self.evidence.has_risen(policy)
    }

    /// Enough checks have failed, the last one among them, and something is to be done about it.
    pub(super) fn has_fallen(&self, policy: &Policy) -> bool {
        !policy.shadow.checks && self.evidence.is_unfit(policy)
    }

    /// It is ready, and stays out all the same: it has failed too often lately.
    pub(super) fn is_kept_out(&self, policy: &Policy, now: Now) -> bool {
        self.state == State::Starting && self.ejections.left_ms(now) > 0 && self.is_ready(policy, now)
    }

    /// It fell, nothing was heard of it since, and no client was answered either.
    pub(super) fn is_silent(&self, policy: &Policy) -> bool {
        self.has_fallen(policy) && self.evidence.is_silent()
    }

    /// Its last check passed, and not long ago.
    pub(super) fn passes(&self, policy: &Policy, now: Now) -> bool {
        self.evidence.passes(policy, now) && self.instance.is_some()
    }

    /// It has passed its checks just now, so a handover to it is safe.
    pub(super) fn is_ready(&self, policy: &Policy, now: Now) -> bool {
        self.has_risen(policy) && self.passes(policy, now)
    }

    /// The last sample, if enough of the last ones are beyond the ceiling.
    pub(super) fn over_ceiling(&self, policy: &Policy) -> Option<u64> {
        let over = self.memory.iter().filter(|bytes| **bytes > policy.ceiling_bytes()).count();
        let hits = u32::try_from(over).unwrap_or(u32::MAX);
        self.memory.back().copied().filter(|_| hits >= policy.ceiling_hits.max(1))
    }

    /// Its life has gone on for long enough to have aged.
    pub(super) fn is_of_age(&self, policy: &Policy, now: Now) -> bool {
        self.instance.is_some_and(|life| now.boot_ms.saturating_sub(life.began_ms()) >= policy.min_uptime_ms)
    }

    /// It gets no new flows although its life was active once: it failed its checks.
    pub(super) fn is_ejected(&self) -> bool {
        self.state == State::Starting && self.instance.is_some() && self.has_worked
    }

    /// Scans have found no open flow for the settle time.
    pub(super) fn is_settled(&self, policy: &Policy, now: Now) -> bool {
        self.empty_since.is_some_and(|since| now.ms_since(since) >= policy.settle_ms)
    }
}
