//! What a controller is to make of a service: the service as the configuration describes it, and where its
//! packets are steered.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use ipnet::Ipv4Net;
use lb_common::affinity::Prefixes;
use lb_common::endpoint::{TCP, UDP};
use lb_common::pool;
use lb_common::snat::PortRange;
use lb_common::tables::service_flags;
use lb_common::{Endpoint, Forwarding, NextHop, Service};

use crate::config::{
    self, AtDrain, Ceiling, DeadFlows, Driver, Protocol, RejuvenationWindow, Stragglers, Tracking, UdpDrain,
};
use crate::dataplane::{FlowTimeouts, Mode};
use crate::recovery::hook::Phase;
use crate::recovery::window::{Window, Zone};
use crate::recovery::{self, Policy, ShadowRules};

/// How long a command may take to end after SIGTERM before it is killed.
pub(super) const STOP_GRACE: Duration = Duration::from_secs(10);

/// Replies to datagrams that a backend got before a handover are waited for so long.
const REPLY_MS: u64 = 1_000;

/// A service whose backends are processes of this host, with a network and a data plane of its own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OwnNetwork {
    /// How the XDP program runs.
    pub mode: Mode,
    /// Where the service takes its own addresses from.
    pub pool: Ipv4Net,
    /// Stands over `/etc/resolv.conf` for the commands.
    pub resolv_conf: Option<PathBuf>,
    /// How long silent flows are remembered.
    pub timeouts: FlowTimeouts,
    /// Flows that the table is made for ([`lb_common::bucket::FLOWS`]); by the machine's memory if not given.
    pub flow_table: Option<u32>,
}

/// Whether Baton itself runs the backends of a service, in namespaces of their own.
pub fn is_embedded(service: &config::Service) -> bool {
    service.backends.iter().any(|backend| matches!(backend.driver, Driver::Process(_)))
}

/// Whether open flows of a backend that drains go on at another one, so that nobody has to wait for them.
pub(super) fn moves_flows(service: &config::Service) -> bool {
    service.protocol == Protocol::Udp && service.udp_drain == UdpDrain::Move
}

/// Whether clients with affinity go on to open flows at a backend that drains.
pub(super) fn honours_affinity(service: &config::Service) -> bool {
    service.affinity.as_ref().is_some_and(|affinity| affinity.at_drain == AtDrain::Honour)
}

/// Whether the packet path sees both requests and their answers, and so whether clients are served.
pub(super) fn sees_turns(service: &config::Service) -> bool {
    service.forwarding == Forwarding::Nat && service.tracking == Tracking::Always
}

/// Whether the packet path counts the open flows of each backend.
pub(super) fn counts_open(service: &config::Service) -> bool {
    matches!(service.policy, pool::Policy::Lc | pool::Policy::Wlc | pool::Policy::Random2)
        || service.backends.iter().any(|backend| backend.max_flows.is_some())
}

/// The number of a protocol in IP headers.
pub(super) fn number_of(protocol: Protocol) -> u8 {
    match protocol {
        Protocol::Tcp => TCP,
        Protocol::Udp => UDP,
    }
}

/// How the new flows of a service are spread over its backends; `None` if one of them gets all.
pub(super) fn spread_by(service: &config::Service) -> Option<pool::Policy> {
    Some(service.policy).filter(|policy| *policy != pool::Policy::ActiveStandby)
}

/// A service as the packet path is to know it. Its ports for `snat`, if it lends any, are of `snat_group`.
pub(super) fn entry(service: &config::Service, uplink: NextHop, snat_group: u32) -> Service {
    let vip = Endpoint::new(service.vip, number_of(service.protocol));
    let mut entry = Service::new(vip, uplink);
    if let Some(ports) = &service.snat_ports {
        let count = (ports.end() - ports.start()).saturating_add(1);
        entry = entry.with_snat(PortRange { first: *ports.start(), count, group: snat_group });
    }
    if let Some(affinity) = &service.affinity {
        let prefixes = Prefixes::new(affinity.prefix_v4.into(), affinity.prefix_v6.into());
        entry = entry.with_affinity(millis(affinity.time), prefixes.unwrap_or(Prefixes::HOSTS));
        if affinity.at_drain == AtDrain::Break {
            entry = entry.with_flags(service_flags::BREAK_AFFINITY);
        }
    }
    let wanted = [
        (service.udp_drain == UdpDrain::Move, service_flags::MOVE_DATAGRAMS),
        (service.tracking == Tracking::DrainOnly, service_flags::DRAIN_ONLY),
        (counts_open(service), service_flags::COUNT_OPEN),
    ];
    wanted.into_iter().filter(|(wanted, _)| *wanted).fold(entry, |entry, (_, flag)| entry.with_flags(flag))
}

/// When to rejuvenate a service, and how long to wait for what; `machine_memory` is what a ceiling without a
/// limit is a part of, in bytes.
pub(super) fn policy_of(service: &config::Service, machine_memory: u64) -> Policy {
    let (check, drain, renewal) = (&service.check, &service.drain, &service.rejuvenation);
    let (warm_up, defaults) = (service.warm_up.as_ref(), Policy::default());
    let (memory_limit_bytes, ceiling_percent) = match renewal.ceiling {
        Ceiling::Bytes(bytes) => (bytes, 100),
        Ceiling::Percent(percent) => (service.memory_limit.unwrap_or(machine_memory), percent),
    };
    Policy {
        memory_limit_bytes,
        ceiling_percent,
        ceiling_hits: renewal.ceiling_hits,
        ceiling_window: renewal.ceiling_window,
        cooldown_ms: millis(renewal.cooldown),
        check_period_ms: millis(check.interval),
        check_timeout_ms: millis(check.timeout),
        rise: check.rise,
        fall: check.fall,
        drain_deadline_ms: millis(drain.deadline),
        // Flows that are not tracked until they speak may be there unseen for as long as they keep silent.
        settle_ms: match service.tracking {
            Tracking::DrainOnly => millis(drain.deadline),
            Tracking::Always if moves_flows(service) => millis(drain.settle).max(REPLY_MS),
            Tracking::Always => millis(drain.settle),
        },
        stragglers: match drain.stragglers {
            Stragglers::Cut => recovery::Stragglers::Cut,
            Stragglers::Wait => recovery::Stragglers::Wait,
        },
        spread: spread_by(service).is_some(),
        min_uptime_ms: millis(renewal.min_uptime),
        reset_dead: service.dead_flows == DeadFlows::Reset,
        observation_ms: millis(renewal.observation),
        ready_deadline_ms: millis(renewal.ready_timeout),
        retry_ms: millis(renewal.retry),
        fall_window: check.watch.window,
        fall_ignored: check.watch.fall_ignored,
        ejection_step_ms: millis(check.watch.ejection.step),
        ejection_most_ms: millis(check.watch.ejection.most),
        ejection_forget_ms: millis(check.watch.ejection.forget),
        shadow: ShadowRules { checks: check.watch.shadow, ceiling: renewal.ceiling_shadow },
        warm_up_requests: warm_up.map_or(0, |warm_up| warm_up.requests),
        warm_up_pass_percent: warm_up.map_or(defaults.warm_up_pass_percent, |warm_up| warm_up.pass_percent),
        warm_up_deadline_ms: warm_up.map_or(defaults.warm_up_deadline_ms, |w| millis(w.deadline)),
        quarantine_after: service.recovery.quarantine_after,
        hooks: hooks_of(service),
        veto_retry_ms: millis(service.recovery.veto_retry),
        veto_limit_ms: millis(service.recovery.veto_limit),
        diagnosis_ms: service.recovery.diagnose.as_ref().map(|_| millis(service.recovery.diagnose_timeout)),
        active_least: service.min_active.map_or(1, |share| share.of(service.backends.len())),
        max_age_ms: renewal.max_age.map(millis),
        jitter: renewal.jitter,
        windows: renewal.windows.iter().map(window).collect(),
        ceiling_breaks_window: renewal.ceiling_breaks_window,
        ..defaults
    }
}

/// The phases that have hooks, and how long those may take together, one after the other.
fn hooks_of(service: &config::Service) -> BTreeMap<Phase, u64> {
    let mut limits = BTreeMap::new();
    for hook in &service.hooks {
        let limit: &mut u64 = limits.entry(hook.on).or_default();
        *limit = limit.saturating_add(millis(hook.limit()));
    }
    limits
}

fn window(window: &RejuvenationWindow) -> Window {
    Window {
        days: window.days,
        start_minute: window.start_minute,
        length_ms: millis(window.length),
        zone: window.time_zone.clone().unwrap_or_else(Zone::of_system),
    }
}

/// A time in milliseconds.
pub(super) fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}
