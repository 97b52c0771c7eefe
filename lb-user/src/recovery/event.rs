//! What happened, for people and programs that follow a service.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::backend::State;
use super::hook::Phase;
use super::ladder::Step;
use super::report::{Outcome, Reason};
use super::warm_up::WarmUp;
use crate::names::{BackendName, ServiceName};

/// An event with its time and service.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Timed {
    /// Milliseconds since 1970-01-01 UTC.
    pub unix_ms: u64,
    /// The service.
    pub service: ServiceName,
    /// What happened.
    #[serde(flatten)]
    pub event: Event,
}

/// What happened.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Event {
    /// A controller took the service up.
    ControllerStarted {
        /// Whether it adopted running backends.
        adopted: bool,
    },
    /// The controller ends in good order.
    ControllerStopped,
    /// A backend's state changed.
    State {
        /// The backend.
        backend: BackendName,
        /// What it was.
        from: State,
        /// What it is.
        to: State,
        /// Why, where that is not plain.
        #[serde(skip_serializing_if = "Option::is_none")]
        why: Option<String>,
    },
    /// A rejuvenation is wanted but cannot begin.
    RejuvenationWaits {
        /// What asks for it.
        reason: Reason,
        /// What it waits for.
        why: String,
    },
    /// A rejuvenation that an operator asked for, and that waited, is not going to begin.
    RejuvenationWithdrawn {
        /// Why not.
        why: String,
    },
    /// New flows go to another backend from now on, or in a pool to the other ones.
    Handover {
        /// The cycle, counted from 1.
        cycle: u64,
        /// The backend that drains.
        from: BackendName,
        /// The backend that is active in its stead; none in a pool.
        #[serde(default)]
        to: Option<BackendName>,
        /// Why.
        reason: Reason,
    },
    /// An active backend failed while the old one still drained: new flows go there again.
    RolledBack {
        /// The backend that failed.
        from: BackendName,
        /// The backend that is active again.
        to: BackendName,
        /// What it failed at.
        why: String,
    },
    /// No flow is left, or the deadline has passed.
    Drained {
        /// The backend.
        backend: BackendName,
        /// Flows that are left.
        left: u64,
    },
    /// A backend was started.
    Started {
        /// The backend.
        backend: BackendName,
        /// Process id of its command; 0 if that is not known.
        pid: u32,
    },
    /// A backend's command ended, or never came up.
    Failed {
        /// The backend.
        backend: BackendName,
        /// What is known.
        why: String,
    },
    /// A rejuvenation ended.
    RejuvenationEnded {
        /// The cycle.
        cycle: u64,
        /// How it ended.
        outcome: Outcome,
        /// Flows that ended because the old backend was stopped.
        cut: u64,
        /// From decision to the old backend's return, in milliseconds.
        duration_ms: u64,
    },
    /// An operator holds a backend out.
    HeldOut {
        /// The backend.
        backend: BackendName,
    },
    /// A backend is not held out any more.
    Ready {
        /// The backend.
        backend: BackendName,
    },
    /// An operator wants no automatic rejuvenation.
    Paused,
    /// Rejuvenations are left to the rules again.
    Resumed,
    /// A warm-up ended.
    WarmedUp {
        /// The backend.
        backend: BackendName,
        /// What came of it.
        result: WarmUp,
    },
    /// An operator wants no automatic action.
    MaintenanceBegan,
    /// Actions are left to Baton again.
    MaintenanceEnded,
    /// The journal cannot be written: no rejuvenation starts.
    JournalFailed {
        /// What the system said.
        error: String,
    },
    /// A backend has failed its checks again and again, and is kept out for some time.
    StaysOut {
        /// The backend.
        backend: BackendName,
        /// How often it has failed them lately.
        times: u32,
        /// For so long, in milliseconds.
        for_ms: u64,
    },
    /// A backend has failed its checks and would be taken out, were that not only spoken of.
    WouldEject {
        /// The backend.
        backend: BackendName,
        /// What the last check found.
        finding: String,
    },
    /// A backend would be renewed, were that not only spoken of.
    WouldRejuvenate {
        /// The backend.
        backend: BackendName,
        /// Why.
        reason: Reason,
    },
    /// A backend is brought back by more than a graceful restart.
    Step {
        /// The backend.
        backend: BackendName,
        /// What is done.
        step: Step,
    },
    /// A step has not brought the backend back: the next one is taken.
    StepFailed {
        /// The backend.
        backend: BackendName,
        /// What was done.
        step: Step,
        /// Why there is no proof that it helped.
        why: String,
    },
    /// A backend is not tried any more while another one serves.
    Quarantined {
        /// The backend.
        backend: BackendName,
        /// Runs of its ladder that failed in a row.
        runs: u32,
    },
    /// A backend that was not tried any more is tried again.
    Released {
        /// The backend.
        backend: BackendName,
        /// Why.
        why: String,
    },
    /// Hooks are asked for their consent.
    Asked {
        /// The phase.
        phase: Phase,
        /// The backend.
        backend: BackendName,
    },
    /// A hook does not consent.
    Vetoed {
        /// The phase.
        phase: Phase,
        /// The backend.
        backend: BackendName,
        /// What the hook said.
        why: String,
        /// When rules ask again, in milliseconds.
        again_ms: u64,
    },
    /// A backend is stopped although a hook does not consent: it had long enough.
    Overruled {
        /// The backend.
        backend: BackendName,
    },
    /// A hook that is only told has failed; nothing waits for it.
    HookFailed {
        /// The phase.
        phase: Phase,
        /// The program or the address.
        hook: String,
        /// Why.
        why: String,
    },
    /// The diagnosis of a drained backend begins.
    Diagnosing {
        /// The backend.
        backend: BackendName,
    },
    /// It has ended.
    Diagnosed {
        /// The backend.
        backend: BackendName,
        /// How long it took, in milliseconds.
        took_ms: u64,
        /// Why it is not known to have succeeded, if so.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        failure: Option<String>,
    },
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ControllerStarted { adopted: false } => write!(f, "controller started"),
            Self::ControllerStarted { adopted: true } => {
                write!(f, "controller started and adopted what was running")
            }
            Self::ControllerStopped => write!(f, "controller stopped"),
            Self::State { backend, from, to, why: None } => write!(f, "{backend}: {from} -> {to}"),
            Self::State { backend, from, to, why: Some(why) } => {
                write!(f, "{backend}: {from} -> {to}: {why}")
            }
            Self::RejuvenationWaits { reason, why } => write!(f, "rejuvenation ({reason}) waits: {why}"),
            Self::RejuvenationWithdrawn { why } => {
                write!(f, "the rejuvenation that an operator asked for is not going to begin: {why}")
            }
            Self::Handover { cycle, from, to: Some(to), reason } => {
                write!(f, "handover {cycle}: new flows go to {to}, {from} drains ({reason})")
            }
            Self::Handover { cycle, from, to: None, reason } => {
                write!(f, "handover {cycle}: new flows go to the others, {from} drains ({reason})")
            }
            Self::RolledBack { from, to, why } => {
                write!(f, "rolled back: {from} failed ({why}), new flows go to {to} again")
            }
            Self::Drained { backend, left: 0 } => write!(f, "{backend}: drained, no flow is left"),
            Self::Drained { backend, left } => {
                write!(f, "{backend}: drain deadline passed, {left} flows are left")
            }
            Self::Started { backend, pid: 0 } => write!(f, "{backend}: started"),
            Self::Started { backend, pid } => write!(f, "{backend}: started as process {pid}"),
            Self::Failed { backend, why } => write!(f, "{backend}: {why}"),
            Self::RejuvenationEnded { cycle, outcome, cut, duration_ms } => {
                let seconds = *duration_ms as f64 / 1000.0;
                write!(f, "rejuvenation {cycle} {outcome} after {seconds:.1} s, {cut} flows cut")
            }
            Self::HeldOut { backend } => write!(f, "{backend}: held out by the operator"),
            Self::Ready { backend } => write!(f, "{backend}: no longer held out"),
            Self::Paused => write!(f, "paused: no automatic rejuvenation"),
            Self::Resumed => write!(f, "resumed: rejuvenations are left to the rules"),
            Self::WarmedUp { backend, result } => write!(f, "{backend}: warm-up: {result}"),
            Self::MaintenanceBegan => write!(f, "maintenance: no rejuvenation and no restart"),
            Self::MaintenanceEnded => write!(f, "maintenance is over"),
            Self::JournalFailed { error } => {
                write!(f, "the journal cannot be written, so no rejuvenation starts: {error}")
            }
            Self::StaysOut { backend, times, for_ms } => {
                let seconds = *for_ms as f64 / 1000.0;
                write!(f, "{backend}: failed its checks {times} times lately, stays out for {seconds:.1} s")
            }
            Self::WouldEject { backend, finding } => {
                write!(f, "{backend}: would be taken out ({finding}), and is not: its check is in shadow")
            }
            Self::WouldRejuvenate { backend, reason } => {
                write!(f, "{backend}: would be renewed ({reason}), and is not: the ceiling is in shadow")
            }
            recovery => recovery.describe_recovery(f),
        }
    }
}

impl Event {
    /// The events of steps, hooks and diagnoses.
    fn describe_recovery(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = |ms: &u64| *ms as f64 / 1000.0;
        match self {
            Self::Step { backend, step } => write!(f, "{backend}: {step} begins"),
            Self::StepFailed { backend, step, why } => {
                write!(f, "{backend}: the {step} did not bring it back: {why}")
            }
            Self::Quarantined { backend, runs } => write!(
                f,
                "{backend}: left alone after {runs} recoveries that failed; `baton ready` tries it again"
            ),
            Self::Released { backend, why } => write!(f, "{backend}: tried again: {why}"),
            Self::Asked { phase, backend } => write!(f, "{backend}: hooks are asked ({phase})"),
            Self::Vetoed { phase, backend, why, again_ms } => {
                write!(
                    f,
                    "{backend}: vetoed by a hook ({phase}), asked again in {:.0} s: {why}",
                    seconds(again_ms)
                )
            }
            Self::Overruled { backend } => {
                write!(f, "{backend}: stopped although a hook does not consent: it had long enough")
            }
            Self::HookFailed { phase, hook, why } => write!(f, "hook {hook} ({phase}) failed: {why}"),
            Self::Diagnosing { backend } => write!(f, "{backend}: the diagnosis begins"),
            Self::Diagnosed { backend, took_ms, failure: None } => {
                write!(f, "{backend}: diagnosed in {:.1} s", seconds(took_ms))
            }
            Self::Diagnosed { backend, took_ms, failure: Some(why) } => {
                write!(
                    f,
                    "{backend}: the diagnosis failed after {:.1} s, and the stop follows: {why}",
                    seconds(took_ms)
                )
            }
            // All others are described above.
            _ => Ok(()),
        }
    }
}
