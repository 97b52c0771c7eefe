//! What the coordinator is told, and what it answers.

use std::collections::BTreeSet;
use std::fmt;
use std::net::SocketAddr;

use lb_common::FlowState;
use serde::{Deserialize, Serialize};

use super::budget::Leave;
use super::event::Event;
use super::hook::{DiagnosisReport, HookCall, HookReport};
use super::journal::Record;
use super::ladder::Step;
use super::report::{Reason, Report};
use super::warm_up::WarmUp;
use crate::flow_counts::{FlowCounts, OpenFlows};
use crate::names::BackendName;

/// One life of a backend's command; a changed one proves a restart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Instance {
    /// Process id; 0 if nobody tells which process it is.
    pub pid: u32,
    /// When the process started, in clock ticks since boot (`/proc/PID/stat`, field 22); of an unknown process,
    /// when its life began as far as Baton knows, in milliseconds since boot.
    pub start_ticks: u64,
}

/// Milliseconds of a clock tick: user space sees a hundred of them a second on every architecture.
const TICK_MS: u64 = 10;

impl Instance {
    /// Whether its process is known.
    pub const fn is_known(self) -> bool {
        self.pid != 0
    }

    /// When it began, in milliseconds of the boot clock.
    pub(crate) fn began_ms(self) -> u64 {
        if self.is_known() { self.start_ticks.saturating_mul(TICK_MS) } else { self.start_ticks }
    }
}

/// What a failed check found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Finding {
    /// The port is closed.
    Refused,
    /// No answer within the check's time.
    TimedOut,
    /// The connection was reset.
    Reset,
    /// An answer, and not the one wanted.
    WrongAnswer(String),
    /// The backend's address cannot be reached.
    Unreachable(String),
    /// The check itself could not be made, so it says nothing about the backend.
    Unchecked(String),
    /// An answer as it should be, long after the time that it usually takes.
    Slow {
        /// How long the check took, in milliseconds.
        took_ms: u64,
        /// How long it usually takes, in milliseconds.
        usual_ms: u64,
    },
}

impl Finding {
    /// Nobody answered; the others are wrong answers of somebody.
    pub(super) fn is_silence(&self) -> bool {
        matches!(self, Self::Refused | Self::TimedOut | Self::Unreachable(_))
    }

    /// Whoever asked was reset, as a closed port does it, too.
    pub(super) fn is_reset(&self) -> bool {
        matches!(self, Self::Refused | Self::Reset)
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused => write!(f, "connection refused"),
            Self::Reset => write!(f, "connection reset"),
            Self::TimedOut => write!(f, "no answer in time"),
            Self::WrongAnswer(what) => write!(f, "wrong answer: {what}"),
            Self::Unreachable(why) => write!(f, "unreachable: {why}"),
            Self::Unchecked(why) => write!(f, "the check could not be made: {why}"),
            Self::Slow { took_ms, usual_ms } => {
                write!(f, "slow: answered after {took_ms} ms, usually {usual_ms} ms")
            }
        }
    }
}

/// Where the flows of the service go, by name; [`lb_common::Steer`] is the same by id.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Steering {
    /// Get new flows: one backend at most, or in a pool every one that is ready.
    pub active: BTreeSet<BackendName>,
    /// Gets old flows that have no entry.
    pub draining: Option<BackendName>,
    /// Counts the changes of `active`.
    pub epoch: u32,
}

/// A flow that ended because its backend was stopped.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CutFlow {
    /// The client's end, if it is known.
    pub client: Option<SocketAddr>,
    /// Its state ([`lb_common::FlowState::name`]).
    pub state: String,
    /// Milliseconds without a packet.
    pub idle_ms: u64,
    /// Whether a request was under way.
    pub awaiting_response: bool,
}

impl CutFlow {
    /// Flows that were cut, counted by state.
    pub(super) fn count(cut: &[Self]) -> OpenFlows {
        let mut counts = FlowCounts::default();
        for flow in cut {
            if let Some(state) = FlowState::ALL.into_iter().find(|state| state.name() == flow.state) {
                counts.add(state, flow.awaiting_response, flow.idle_ms);
            }
        }
        counts.open
    }
}

/// Names an operator's request, so that the answer finds its way back.
pub type RequestId = u64;

/// What happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Input {
    /// Time has passed.
    Tick,
    /// A backend's command runs.
    Started {
        /// The backend.
        backend: BackendName,
        /// Its new life.
        instance: Instance,
    },
    /// A backend's command could not be started, or its processes could not be ended.
    StartFailed {
        /// The backend.
        backend: BackendName,
        /// Why, and what to do.
        error: String,
    },
    /// A check of a backend ended.
    Checked {
        /// The backend.
        backend: BackendName,
        /// The life that was checked; the result of an older one is ignored.
        instance: Instance,
        /// What it found, if it failed.
        result: Result<(), Finding>,
    },
    /// What the packet path counted for a backend, told right before a failed check of it: whether clients are
    /// answered although the check was not. Not told where the packet path does not see answers.
    Answered {
        /// The backend.
        backend: BackendName,
        /// Requests that it has begun to answer, ever.
        turns: u64,
    },
    /// A backend's command ended by itself.
    Exited {
        /// The backend.
        backend: BackendName,
        /// The life that ended; an older one is ignored.
        instance: Instance,
        /// How, for people.
        status: String,
    },
    /// The probe measured a backend.
    Sampled {
        /// The backend.
        backend: BackendName,
        /// The life that was measured; the sample of an older one is ignored.
        instance: Instance,
        /// Resident memory of its process tree, in bytes.
        memory_rss_bytes: u64,
    },
    /// The flow table was scanned after the last output was carried out.
    Flows {
        /// The backend.
        backend: BackendName,
        /// What is open on it.
        open: OpenFlows,
        /// Clients who may come back to it as long as their affinity lasts, where that is honoured.
        leases: u64,
    },
    /// A backend's processes are gone, as [`Output::Stop`] asked.
    Stopped {
        /// The backend.
        backend: BackendName,
        /// Flows that were open when it was stopped.
        cut: Vec<CutFlow>,
    },
    /// An operator wants a rejuvenation.
    Rejuvenate {
        /// The request.
        request: RequestId,
        /// Of this backend; else of the active one, or in a pool of the one whose life is the longest.
        backend: Option<BackendName>,
        /// Not before a window opens.
        in_window: bool,
    },
    /// An operator wants a backend out: no new flows, and no restart when its flows have ended.
    Drain {
        /// The request; it is answered when the backend is held out.
        request: RequestId,
        /// The backend.
        backend: BackendName,
    },
    /// An operator is done with a backend that drains or was held out.
    Ready {
        /// The request; it is answered at once.
        request: RequestId,
        /// The backend.
        backend: BackendName,
    },
    /// An operator wants no automatic rejuvenation from now on.
    Pause {
        /// The request; it is answered at once.
        request: RequestId,
    },
    /// An operator leaves rejuvenations to the rules again.
    Resume {
        /// The request; it is answered at once.
        request: RequestId,
    },
    /// An operator wants no automatic action at all: neither a rejuvenation nor a restart; or leaves them to Baton
    /// again.
    Maintenance {
        /// The request; it is answered at once.
        request: RequestId,
        /// Whether it begins; else it ends.
        on: bool,
    },
    /// The answer to what [`super::Coordinator::need`] wants to begin.
    Leave(Leave),
    /// An operator wants the drain that is under way to end now; without one, nothing happens.
    Cut,
    /// The journal can be written, or not any more and why.
    Journal(Result<(), String>),
    /// What the packet path counted for a backend, told right before a failed check of it like
    /// [`Input::Answered`]: whether clients ask for answers at all, and whether they are reset.
    Asked {
        /// The backend.
        backend: BackendName,
        /// Flows that clients have begun with it, ever.
        flows: u64,
        /// Resets that it has sent them, ever.
        resets: u64,
    },
    /// A warm-up ended.
    WarmedUp {
        /// The backend.
        backend: BackendName,
        /// The life that was warmed up; the result of an older one is ignored.
        instance: Instance,
        /// What came of it.
        result: WarmUp,
    },
    /// The hooks of a phase have ended, as [`Output::Hook`] asked.
    Hooked {
        /// The number of the call.
        call: u64,
        /// How each of them ended, in order.
        reports: Vec<HookReport>,
    },
    /// The diagnosis of a backend has ended, as [`Output::Diagnose`] asked.
    Diagnosed {
        /// The backend.
        backend: BackendName,
        /// How.
        report: DiagnosisReport,
    },
}

/// What to do, in this order.
#[derive(Clone, Debug, PartialEq)]
pub enum Output {
    /// Make this durable before carrying out anything of the same step. If that fails, the step must not
    /// have happened: see [`super::Coordinator::step`].
    Journal(Record),
    /// New flows go there from now on.
    Steer(Steering),
    /// Start the backend's command; [`Input::Started`] or [`Input::StartFailed`] answers.
    Start(BackendName),
    /// Answer the packets of the backend's flows with resets, until it is started or gets new flows again.
    Refuse(BackendName),
    /// End all processes of the backend by this step; [`Input::Stopped`] or [`Input::StartFailed`] answers.
    Stop(BackendName, Step),
    /// Tell who listens.
    Event(Event),
    /// Keep this report.
    Report(Box<Report>),
    /// Answer an operator.
    Answer {
        /// The request.
        request: RequestId,
        /// The report, if what was asked for took a cycle; or why nothing was done.
        result: Result<Option<Box<Report>>, String>,
    },
    /// Send a backend the requests of its warm-up; [`Input::WarmedUp`] answers.
    WarmUp {
        /// The backend.
        backend: BackendName,
        /// The life that is to be warmed up.
        instance: Instance,
    },
    /// Run the hooks of a phase; [`Input::Hooked`] answers.
    Hook(Box<HookCall>),
    /// Run the diagnosis of the drained backend; [`Input::Diagnosed`] answers.
    Diagnose {
        /// The backend.
        backend: BackendName,
        /// Why it is going to be stopped.
        reason: Reason,
    },
}
