//! Hooks: programs and addresses of the operator's that are told of each phase, and asked before some of them.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use super::backend::State;
use super::report::Reason;
use crate::names::{BackendName, ServiceName};

/// When a hook runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Phase {
    /// A rejuvenation is wanted; a hook that fails vetoes it.
    BeforeHandover,
    /// New flows go elsewhere, for whatever reason.
    AfterHandover,
    /// No flow is left, or the deadline has passed.
    AfterDrain,
    /// The drained backend is about to be stopped; a hook that fails keeps it from that for a while.
    BeforeStop,
    /// The backend's processes are gone.
    AfterStop,
    /// It was started.
    AfterStart,
    /// It is back, and the rejuvenation is over.
    AfterRejoin,
    /// Something failed: a backend, a step of its recovery, or a rejuvenation.
    OnFailure,
}

impl Phase {
    /// All of them.
    pub const ALL: [Self; 8] = [
        Self::BeforeHandover,
        Self::AfterHandover,
        Self::AfterDrain,
        Self::BeforeStop,
        Self::AfterStop,
        Self::AfterStart,
        Self::AfterRejoin,
        Self::OnFailure,
    ];

    /// Its name in the configuration and in documents.
    pub const fn name(self) -> &'static str {
        match self {
            Self::BeforeHandover => "before-handover",
            Self::AfterHandover => "after-handover",
            Self::AfterDrain => "after-drain",
            Self::BeforeStop => "before-stop",
            Self::AfterStop => "after-stop",
            Self::AfterStart => "after-start",
            Self::AfterRejoin => "after-rejoin",
            Self::OnFailure => "on-failure",
        }
    }

    /// Whether its hooks are asked for their consent.
    pub const fn asks(self) -> bool {
        matches!(self, Self::BeforeHandover | Self::BeforeStop)
    }
}

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// What hooks are told: the document on their standard input, or in the body of their request.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct HookCall {
    /// Tells the calls of one controller apart.
    pub call: u64,
    /// When, in milliseconds since 1970-01-01 UTC.
    pub unix_ms: u64,
    /// The service.
    pub service: ServiceName,
    /// The backend that it is about.
    pub backend: BackendName,
    /// The phase.
    pub phase: Phase,
    /// The rejuvenation that is under way, counted from 1; `null` if there is none yet.
    pub cycle: Option<u64>,
    /// Why there is, or is to be, a rejuvenation; `null` if there is none.
    pub reason: Option<Reason>,
    /// What happened, or is going to, for people.
    pub what: String,
    /// Every backend of the service, and its state.
    pub states: BTreeMap<BackendName, State>,
}

/// How one hook ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HookReport {
    /// The phase.
    pub phase: Phase,
    /// The program or the address.
    pub hook: String,
    /// How long it took, in milliseconds.
    pub took_ms: u64,
    /// Why it failed, if it did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure: Option<String>,
}

/// How the diagnosis of a drained backend ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DiagnosisReport {
    /// Program and arguments.
    pub command: Vec<String>,
    /// How long it took, in milliseconds.
    pub took_ms: u64,
    /// Its exit status, if it ended by itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exit_status: Option<i32>,
    /// Why it is not known to have succeeded, if so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure: Option<String>,
    /// The last lines that it printed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub last_lines: Vec<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_phase_is_called_the_same_everywhere() {
        for phase in Phase::ALL {
            assert_eq!(serde_json::to_value(phase).unwrap(), phase.name());
        }
    }
}
