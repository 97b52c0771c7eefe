//! What `baton status` shows, as a document.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

use crate::flow_counts::FlowCounts;
use crate::names::{BackendName, ServiceName};
use crate::recovery::WarmUp;
use crate::recovery::report::Report;
use crate::recovery::window::Opening;

/// A service as its controller sees it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServiceStatus {
    /// Its name.
    pub service: ServiceName,
    /// Where clients reach it.
    pub vip: SocketAddr,
    /// Process id of the controller; absent while none runs, and then the rest is as it was left.
    pub controller: Option<u32>,
    /// Handovers so far.
    pub epoch: u32,
    /// Rejuvenations that ended, since the journal began.
    pub rejuvenations: u64,
    /// Whether an operator has stopped automatic rejuvenations.
    #[serde(default)]
    pub paused: bool,
    /// Whether an operator wants no automatic action at all.
    #[serde(default)]
    pub maintenance: bool,
    /// What a rejuvenation that is wanted waits for.
    #[serde(default)]
    pub waits: Option<String>,
    /// When rules may rejuvenate; absent if at all times.
    #[serde(default)]
    pub window: Option<WindowStatus>,
    /// What is going on beyond serving, such as a drain and how far it is.
    pub activity: Option<String>,
    /// What hooks think about or have refused, and when.
    #[serde(default)]
    pub hooks: Vec<String>,
    /// Its backends.
    pub backends: Vec<BackendStatus>,
    /// Packets by reason ([`lb_common::Reason`]), those that were never met left out.
    pub packets: Vec<PacketCount>,
}

/// When rules may rejuvenate.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WindowStatus {
    /// Whether they may at this moment.
    pub open: bool,
    /// The opening that lasts, or else the next one.
    pub opening: Option<Opening>,
    /// When that ends or begins, in the window's own time, for people.
    pub changes: String,
}

/// One backend.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BackendStatus {
    /// Its name.
    pub name: BackendName,
    /// Its state in the cycle.
    pub state: String,
    /// Where it listens.
    pub address: SocketAddr,
    /// Process id of its command, while it runs.
    pub pid: Option<u32>,
    /// When its command was started, in milliseconds since 1970.
    pub started_unix_ms: Option<u64>,
    /// Resident memory of its process tree, in bytes, as last sampled.
    pub memory_rss_bytes: Option<u64>,
    /// What the ceiling is a percentage of, in bytes.
    pub memory_limit_bytes: u64,
    /// Flows that are pinned to it.
    pub flows: FlowCounts,
    /// Flows ever pinned to it at their SYN.
    pub flows_total: u64,
    /// What the packet path has counted for it, by name ([`lb_common::BackendCounters`]).
    #[serde(default)]
    pub counters: BTreeMap<String, u64>,
    /// How long clients waited for the first byte of responses: how many responses began before each time; those
    /// of none are left out.
    #[serde(default)]
    pub first_byte: Vec<FirstByte>,
    /// What its checks and the rules about them have come to.
    #[serde(default)]
    pub watch: WatchStatus,
    /// The step of its recovery that is under way, or that it is left alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub recovery: Option<String>,
    /// What came of its last warm-up, if this controller has had it warmed up.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub warm_up: Option<WarmUp>,
}

/// What the checks of a backend and the rules about them have come to.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct WatchStatus {
    /// What its last check found wrong; absent if it passed.
    pub finding: Option<String>,
    /// How often it has failed its checks lately.
    pub ejections: u32,
    /// How long it stays out for that yet, in milliseconds.
    pub stays_out_ms: u64,
    /// How often it would have been taken out, were its check not in shadow.
    pub shadow_ejections: u64,
    /// How often it would have been renewed, were the ceiling not in shadow.
    pub shadow_rejuvenations: u64,
    /// What its agent last said; absent if it has none.
    pub agent: Option<String>,
}

/// Responses that began within the same power of two of time.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FirstByte {
    /// They began sooner than this, in microseconds after the request, and later than half of it.
    pub before_us: u64,
    /// How many.
    pub responses: u64,
}

/// Packets that met one end.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PacketCount {
    /// The reason's name.
    pub reason: String,
    /// How many.
    pub packets: u64,
}

/// What came of an operator's wish.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Done {
    /// The report, if it took a cycle and its end was waited for.
    pub report: Option<Box<Report>>,
    /// What would be done at this moment, if that alone was asked for.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub plan: Vec<String>,
    /// What it waits for before it begins.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub waits: Option<String>,
    /// What was cut, if that was asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cut: Option<Cut>,
}

impl Done {
    /// It is over, with this report if it took a cycle.
    pub fn with(report: Option<Box<Report>>) -> Self {
        Self { report, ..Self::default() }
    }
}

/// What an operator has cut.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cut {
    /// The backend that drained.
    pub backend: BackendName,
    /// Flows that were open there.
    pub flows: u64,
    /// What becomes of the backend, as the end of a sentence about it.
    pub then: String,
}
