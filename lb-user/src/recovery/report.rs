//! The drain report: one document a rejuvenation, with the numbers that prove what it says.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::hook::{DiagnosisReport, HookReport};
use super::ladder::StepReport;
use super::message::{CutFlow, Instance};
use super::warm_up::WarmUp;
use crate::flow_counts::OpenFlows;
use crate::names::{BackendName, ServiceName};

/// Why a rejuvenation was started.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "code", rename_all = "snake_case")]
pub enum Reason {
    /// Memory went beyond the ceiling.
    Ceiling {
        /// The last sample, in bytes.
        memory_rss_bytes: u64,
        /// The ceiling, in bytes.
        ceiling_bytes: u64,
        /// The limit that the ceiling is a share of, in bytes.
        limit_bytes: u64,
    },
    /// Its life had the age at which it is renewed.
    Age {
        /// The life's age at the decision, in milliseconds.
        age_ms: u64,
        /// The age at which this life is renewed, in milliseconds.
        limit_ms: u64,
    },
    /// An operator asked for it.
    Operator,
    /// The active backend failed its checks while its process lives.
    Unhealthy {
        /// What the last check found.
        finding: String,
    },
    /// The active backend's process ended.
    Died {
        /// How.
        status: String,
    },
}

impl Reason {
    /// Whether it was wanted while the backend was fit; a failure is answered without anybody's leave.
    pub fn is_planned(&self) -> bool {
        matches!(self, Self::Ceiling { .. } | Self::Age { .. } | Self::Operator)
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ceiling { memory_rss_bytes, ceiling_bytes, .. } => {
                let mib = |bytes: u64| bytes as f64 / f64::from(1 << 20);
                write!(f, "ceiling: {:.1} MiB beyond {:.1} MiB", mib(*memory_rss_bytes), mib(*ceiling_bytes))
            }
            Self::Age { age_ms, limit_ms } => {
                let whole = |ms: &u64| humantime::format_duration(Duration::from_secs(ms / 1000));
                write!(f, "age: {} of {}", whole(age_ms), whole(limit_ms))
            }
            Self::Operator => write!(f, "operator"),
            Self::Unhealthy { finding } => write!(f, "unhealthy: {finding}"),
            Self::Died { status } => write!(f, "died: {status}"),
        }
    }
}

/// How a rejuvenation ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// Every flow ended by itself and the old backend is back as standby.
    Completed,
    /// The old backend is back, but flows were cut.
    CompletedWithCuts,
    /// The new active backend failed, and traffic went back to the old one.
    RolledBack,
    /// The old backend did not become ready again in time; it is still being tried.
    NotReady,
    /// The controller died between the decision and the handover, which never happened.
    Undone,
    /// It drained and was not stopped, because it was needed after all.
    CalledOff,
    /// It drained, and is held out as the operator wanted; it was not restarted.
    HeldOut,
    /// The old backend was taken out of the configuration meanwhile, and is no business of ours any more.
    Removed,
    /// The machine was restarted meanwhile, or the data plane unloaded: all flows are gone.
    Interrupted,
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Completed => "completed",
            Self::CompletedWithCuts => "completed with cuts",
            Self::RolledBack => "rolled back",
            Self::NotReady => "left the old backend not ready",
            Self::Undone => "was undone before it began",
            Self::CalledOff => "was called off",
            Self::HeldOut => "ended with the backend held out",
            Self::Removed => "ended because the backend was removed from the configuration",
            Self::Interrupted => "was interrupted: the machine was restarted, or the data plane unloaded",
        })
    }
}

/// When each phase was reached, in milliseconds since 1970-01-01 UTC.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Times {
    /// The handover was decided and done.
    pub handover_unix_ms: u64,
    /// No flow was left, or the deadline had passed.
    pub drained_unix_ms: Option<u64>,
    /// The old backend's processes were gone.
    pub stopped_unix_ms: Option<u64>,
    /// Its command ran again.
    pub started_unix_ms: Option<u64>,
    /// The cycle ended: it was ready again, or given up on.
    pub ended_unix_ms: Option<u64>,
}

/// Proof of a restart: the old life and the new one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Proof {
    /// The life that was ended.
    pub before: Option<Instance>,
    /// The life that began.
    pub after: Option<Instance>,
}

/// What one rejuvenation did.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// The service.
    pub service: ServiceName,
    /// The cycle, counted from 1.
    pub cycle: u64,
    /// Why it was done, with the numbers.
    pub reason: Reason,
    /// The backend that was rejuvenated.
    pub from: BackendName,
    /// The backend that took over, or that was active already if a standby is renewed; none in a pool, where
    /// the others did.
    #[serde(default)]
    pub to: Option<BackendName>,
    /// How it ended.
    pub outcome: Outcome,
    /// More about the outcome, where there is more to say.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
    /// When each phase was reached.
    pub times: Times,
    /// How long flows took to end, in milliseconds.
    pub drain_ms: u64,
    /// From the handover to the end of the cycle, in milliseconds.
    pub duration_ms: u64,
    /// Flows that were open on the old backend at the first scan after the handover.
    pub flows_at_handover: OpenFlows,
    /// Of those, how many had ended when the backend was stopped.
    pub flows_finished: u64,
    /// Flows that ended because the backend was stopped.
    pub cut: Vec<CutFlow>,
    /// Proof of the restart.
    pub proof: Proof,
    /// What went wrong on the way and was dealt with, in order; the first 16 of them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub troubles: Vec<String>,
    /// What came of the last warm-up of the life that began.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub warm_up: Option<WarmUp>,
    /// The steps of the recovery, in order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub steps: Vec<StepReport>,
    /// How the diagnosis before the stop ended, if there was one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub diagnosis: Option<DiagnosisReport>,
    /// How hooks ended that ran before the report, in order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub hooks: Vec<HookReport>,
}

impl Report {
    /// Whether what was asked for was done, and nothing was lost on the way.
    pub fn is_clean(&self) -> bool {
        matches!(self.outcome, Outcome::Completed | Outcome::HeldOut) && self.cut.is_empty()
    }
}
