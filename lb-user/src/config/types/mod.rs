//! What a configuration file says, once it has been found right.
//!
//! Whoever holds a [`Config`] need not look again: names are unique, ranges hold, and a setting that does not
//! belong to the chosen kind of service, check or driver is not there.

mod backend;
mod budget;
mod recovery;
mod warm_up;
mod watch;

use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::time::Duration;

use lb_common::Forwarding;
use lb_common::pool::Policy;
use serde::{Deserialize, Serialize};

pub use self::backend::{Backend, CommandDriver, Driver, Process, Restart};
pub use self::budget::{Budget, FleetLock, LockedFor, RejuvenationWindow, Share};
pub use self::recovery::{Hook, HookAction, Recovery};
pub use self::warm_up::WarmUp;
pub use self::watch::{Agent, Ejection, Watch};
use crate::check::Check;
use crate::dataplane::{FlowTimeouts, Mode};
use crate::names::ServiceName;
use crate::recovery::Jitter;

/// A whole configuration file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// Settings of the controller itself.
    pub controller: Controller,
    /// Settings that all services share.
    pub data_plane: DataPlane,
    /// The services in the order of the file; names and VIPs are unique.
    pub services: Vec<Service>,
    /// How much may be rejuvenated at once over all of them.
    pub budget: Budget,
}

/// Settings of the controller itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Controller {
    /// How log lines are written.
    pub log_format: LogFormat,
}

/// How log lines are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LogFormat {
    /// One line of text an event.
    #[default]
    Text,
    /// One JSON object an event.
    Json,
}

/// Settings of the data plane, which all services share.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DataPlane {
    /// Interfaces of the host that carry packets for VIPs. If there are none, only processes that Baton starts
    /// in namespaces of its own can be backends.
    pub interfaces: Vec<String>,
    /// How the kernel runs the program there.
    pub xdp: Mode,
    /// Where replies of backends go that come back through Baton.
    pub replies: Replies,
    /// Flows that the table is made for ([`lb_common::bucket::FLOWS`]); by the machine's memory if not given.
    pub flow_table: Option<u32>,
    /// How long silent flows are remembered.
    pub timeouts: FlowTimeouts,
}

/// Where replies of backends go that come back through Baton.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Replies {
    /// To the router of the default route.
    #[default]
    Gateway,
    /// Each as the host's routes say.
    Stack,
}

/// A virtual service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Service {
    /// Its name.
    pub name: ServiceName,
    /// Where clients reach it; the port is not 0.
    pub vip: SocketAddr,
    /// The protocol of its flows.
    pub protocol: Protocol,
    /// How packets get to its backends.
    pub forwarding: Forwarding,
    /// Ports that take the place of the clients' in packets to the backends; only with [`Forwarding::Nat`].
    pub snat_ports: Option<RangeInclusive<u16>>,
    /// How a new flow gets its backend.
    pub policy: Policy,
    /// Whether a client's flows stay together.
    pub affinity: Option<Affinity>,
    /// What conversations of datagrams do at a handover.
    pub udp_drain: UdpDrain,
    /// When flows are tracked.
    pub tracking: Tracking,
    /// What becomes of the flows of a backend that is declared dead.
    pub dead_flows: DeadFlows,
    /// What a ceiling in percent is a percentage of, in bytes: as configured, else the smallest `memory_max` of
    /// its backends; `None` means the machine's memory.
    pub memory_limit: Option<u64>,
    /// How its backends are checked.
    pub check: ServiceCheck,
    /// How a backend gets rid of its flows.
    pub drain: Drain,
    /// When a backend is renewed.
    pub rejuvenation: Rejuvenation,
    /// What a backend gets before clients may reach it, if anything.
    pub warm_up: Option<WarmUp>,
    /// 1 to [`lb_common::pool::MEMBERS_MAX`], in the order of the file; names and addresses are unique within the service.
    pub backends: Vec<Backend>,
    /// How a backend is brought back.
    pub recovery: Recovery,
    /// Who is told of each phase, or asked before it, in the order of the file.
    pub hooks: Vec<Hook>,
    /// How many of them stay active when one is taken out; only of a pool.
    pub min_active: Option<Share>,
}

/// A transport protocol.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    /// TCP.
    #[default]
    Tcp,
    /// UDP.
    Udp,
}

/// How long and how closely a client's flows stay together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Affinity {
    /// How long a client stays with its backend after its last new flow: 1 s to 39 h.
    pub time: Duration,
    /// Clients that share this many first bits of an IPv4 address count as one (0 to 32).
    pub prefix_v4: u8,
    /// The same for IPv6 (0 to 128).
    pub prefix_v6: u8,
    /// What a client's affinity is worth once its backend drains.
    pub at_drain: AtDrain,
}

/// What a client's affinity is worth once its backend drains.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum AtDrain {
    /// The client's new flows still go to the backend that drains.
    #[default]
    Honour,
    /// The client's new flows go elsewhere at once.
    Break,
}

/// What conversations of datagrams do at a handover.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum UdpDrain {
    /// They follow it at once.
    #[default]
    Move,
    /// They stay where they are until they fall silent.
    Pin,
}

/// When flows are tracked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Tracking {
    /// From their first packet on.
    #[default]
    Always,
    /// Only while a backend drains.
    DrainOnly,
}

/// What becomes of the flows of a backend that is declared dead.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum DeadFlows {
    /// Their next packet is answered with a reset.
    #[default]
    Reset,
    /// They are left alone, in case the backend comes back with its connections.
    Keep,
}

/// How the backends of a service are checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServiceCheck {
    /// What is asked.
    pub what: Check,
    /// Time between checks.
    pub interval: Duration,
    /// Time between checks while it is not decided whether a backend is up; not longer than the interval.
    pub fast_interval: Duration,
    /// A check that takes longer has failed.
    pub timeout: Duration,
    /// Passed checks in a row that make a backend ready (1 or more).
    pub rise: u32,
    /// Failed checks in a row that make it unfit (1 or more).
    pub fall: u32,
    /// What else is made of the results.
    pub watch: Watch,
}

/// How a backend gets rid of its flows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Drain {
    /// How long flows may take to end by themselves.
    pub deadline: Duration,
    /// How long a backend must be seen without flows before it is stopped.
    pub settle: Duration,
    /// What becomes of flows that are open at the deadline.
    pub stragglers: Stragglers,
}

/// What becomes of flows that are open at the deadline of a drain.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Stragglers {
    /// They are cut, and named in the report.
    #[default]
    Cut,
    /// The drain goes on until they have ended or an operator cuts them.
    Wait,
}

/// When a backend is renewed, and how long it may take.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rejuvenation {
    /// Memory beyond which a backend asks to be renewed.
    pub ceiling: Ceiling,
    /// Samples beyond the ceiling that ask for it, 1 to [`Rejuvenation::ceiling_window`]...
    pub ceiling_hits: u32,
    /// ...among this many last ones.
    pub ceiling_window: u32,
    /// Whether a rejuvenation that the ceiling asks for is only spoken of.
    pub ceiling_shadow: bool,
    /// Time between samples.
    pub probe_interval: Duration,
    /// No automatic rejuvenation within this time after a handover.
    pub cooldown: Duration,
    /// No automatic rejuvenation of a backend that has run for less than this.
    pub min_uptime: Duration,
    /// How long after a handover a failure of the new active backend is answered by going back.
    pub observation: Duration,
    /// How long a backend may take to become ready.
    pub ready_timeout: Duration,
    /// Wait before a failed start is tried again; it doubles up to 64 times this.
    pub retry: Duration,
    /// A backend that has run for this long is renewed.
    pub max_age: Option<Duration>,
    /// How much earlier that may be.
    pub jitter: Jitter,
    /// When rules may rejuvenate; at all times if there is none.
    pub windows: Vec<RejuvenationWindow>,
    /// Whether a ceiling may at other times, too.
    pub ceiling_breaks_window: bool,
}

/// A limit of memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ceiling {
    /// So many bytes.
    Bytes(u64),
    /// So much of [`Service::memory_limit`], 1 to 100.
    Percent(u8),
}

impl Ceiling {
    /// The limit in bytes, if 100 % are `memory_limit` bytes.
    pub fn bytes(self, memory_limit: u64) -> u64 {
        match self {
            Self::Bytes(bytes) => bytes,
            Self::Percent(percent) => memory_limit / 100 * u64::from(percent),
        }
    }
}
