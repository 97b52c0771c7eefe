//! The rejuvenation that is under way.

use super::backend::Backend;
use super::hook::{DiagnosisReport, HookReport};
use super::message::{CutFlow, Instance, RequestId};
use super::policy::NEVER_MS;
use super::report::{Outcome, Proof, Reason, Report, Times};
use super::warm_up::WarmUp;
use crate::clock::Now;
use crate::flow_counts::OpenFlows;
use crate::names::{BackendName, ServiceName};

/// A rejuvenation between its decision and its report.
#[derive(Clone, Debug)]
pub(super) struct Cycle {
    pub(super) number: u64,
    pub(super) reason: Reason,
    pub(super) from: BackendName,
    pub(super) to: Option<BackendName>,
    pub(super) begun: Now,
    /// Flows that are left at this moment are cut, on the boot clock.
    pub(super) drain_deadline_ms: u64,
    /// Operators who wait for the report.
    pub(super) requests: Vec<RequestId>,
    pub(super) times: Times,
    pub(super) drain_ms: u64,
    pub(super) at_handover: Option<OpenFlows>,
    pub(super) cut: Vec<CutFlow>,
    pub(super) before: Option<Instance>,
    /// When the stop was journaled: the old life must not be relied on any more.
    pub(super) stopping: Option<Now>,
    /// What happened to it that nobody saw, for the report.
    pub(super) unseen: Option<String>,
    /// What went wrong on the way and was dealt with.
    pub(super) troubles: Vec<String>,
    /// What came of warming the new life up.
    pub(super) warm_up: Option<WarmUp>,
    /// When the last step of the first run of the ladder began, or the last life of it.
    pub(super) last_step: Option<Now>,
    /// Hooks consent to the stop, or had long enough.
    pub(super) consented: bool,
    /// Since when they have been asked.
    pub(super) asked_since: Option<Now>,
    pub(super) diagnosis: Diagnosis,
    hooks: Vec<HookReport>,
}

/// A report names so many troubles: a start that is tried for days fails alike each time.
const TROUBLES_MAX: usize = 16;

/// How far the diagnosis of a drained backend is.
#[derive(Clone, Debug)]
pub(super) enum Diagnosis {
    /// It has not begun.
    NotYet,
    /// It has, and is given up on the boot clock.
    UnderWay {
        /// When.
        lost_at_ms: u64,
    },
    /// It is over.
    Done(DiagnosisReport),
}

/// So many reports of hooks are kept.
const KEPT_HOOKS: usize = 32;

impl Cycle {
    pub(super) fn new(
        number: u64,
        reason: Reason,
        from: BackendName,
        to: Option<BackendName>,
        now: Now,
    ) -> Self {
        Self {
            number,
            reason,
            from,
            to,
            begun: now,
            drain_deadline_ms: now.boot_ms,
            requests: Vec::new(),
            times: Times { handover_unix_ms: now.unix_ms, ..Times::default() },
            drain_ms: 0,
            at_handover: None,
            cut: Vec::new(),
            before: None,
            stopping: None,
            unseen: None,
            troubles: Vec::new(),
            warm_up: None,
            last_step: None,
            consented: false,
            asked_since: None,
            diagnosis: Diagnosis::NotYet,
            hooks: Vec::new(),
        }
    }

    /// Keeps what hooks have reported, for as long as there is room.
    pub(super) fn keep_hooks(&mut self, reports: Vec<HookReport>) {
        self.hooks.extend(reports);
        self.hooks.truncate(KEPT_HOOKS);
    }

    /// How long what drains may take yet, for people.
    pub(super) fn deadline_in_words(&self, now: Now) -> String {
        match self.drain_deadline_ms {
            NEVER_MS => "no deadline".to_owned(),
            at => format!("deadline in {} s", at.saturating_sub(now.boot_ms) / 1000),
        }
    }

    /// Something went wrong, for the report.
    pub(super) fn note_trouble(&mut self, what: String) {
        if self.troubles.len() < TROUBLES_MAX {
            self.troubles.push(what);
        }
    }

    /// No flow is left, or those that are will be cut.
    pub(super) fn note_drained(&mut self, now: Now) {
        self.times.drained_unix_ms = Some(now.unix_ms);
        self.drain_ms = now.ms_since(self.begun);
    }

    pub(super) fn report(
        mut self,
        service: &ServiceName,
        outcome: Outcome,
        detail: Option<String>,
        old: Option<&Backend>,
        now: Now,
    ) -> Report {
        self.times.ended_unix_ms = Some(now.unix_ms);
        let flows_at_handover = self.at_handover.unwrap_or_default();
        let cut = self.cut.len() as u64;
        let after = old.and_then(|old| old.instance).filter(|instance| Some(*instance) != self.before);
        Report {
            service: service.clone(),
            cycle: self.number,
            reason: self.reason,
            from: self.from,
            to: self.to,
            outcome,
            detail,
            times: self.times,
            drain_ms: self.drain_ms,
            duration_ms: now.ms_since(self.begun),
            flows_at_handover,
            flows_finished: flows_at_handover.total().saturating_sub(cut),
            cut: self.cut,
            proof: Proof { before: self.before, after },
            troubles: self.troubles,
            warm_up: self.warm_up,
            steps: old
                .filter(|_| self.stopping.is_some())
                .map_or_else(Vec::new, |old| old.ladder.taken().to_vec()),
            diagnosis: match self.diagnosis {
                Diagnosis::Done(report) => Some(report),
                Diagnosis::NotYet | Diagnosis::UnderWay { .. } => None,
            },
            hooks: self.hooks,
        }
    }
}
