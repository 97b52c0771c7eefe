//! From the tables of a service to a [`Service`].

use lb_common::Forwarding;
use lb_common::pool::Policy;

use super::super::finding::Findings;
use super::super::read::Fields;
use super::super::types::{
    Affinity, AtDrain, Backend, DeadFlows, Drain, Protocol, Rejuvenation, Service, Stragglers, Tracking,
    UdpDrain,
};
use super::{backend, budget, check, recovery, together, warm_up};

/// The service that this table is.
pub(super) fn service(fields: &Fields, findings: &mut Findings<'_>) -> Option<Service> {
    together::affinity_is_whole(fields, findings);
    let tables = fields.tables("backend");
    if let Some(tables) = tables {
        together::backends(fields, tables, findings);
    }
    let backends: Vec<Option<Backend>> =
        tables.unwrap_or_default().iter().map(|table| backend::backend(fields, table, findings)).collect();
    let check = fields.table("check").and_then(|table| check::check(table, protocol(fields), findings));
    let warm_up_fields = fields.table("warm_up");
    let warm_up = warm_up_fields.and_then(|table| warm_up::warm_up(table, protocol(fields), findings));
    let rejuvenation = fields.table("rejuvenation").and_then(|table| rejuvenation(table, findings));

    let recovery = fields.table("recovery").and_then(|table| recovery::recovery(table, findings));
    let hooks: Vec<_> = fields.tables("hook")?.iter().map(|table| recovery::hook(table, findings)).collect();

    let backends: Vec<Backend> = backends.into_iter().collect::<Option<_>>()?;
    let rejuvenation = rejuvenation?;
    let memory_limit = fields.bytes("memory_limit").or_else(|| smallest_limit(&backends));
    together::ceiling_is_below_limits(fields, rejuvenation.ceiling, memory_limit, &backends, findings);
    let min_active = fields.share("min_active");
    budget::floor_leaves_some(fields, min_active, &backends, findings);
    Some(Service {
        name: fields.text("name")?.parse().ok()?,
        vip: fields.endpoint("vip")?,
        protocol: protocol(fields)?,
        forwarding: forwarding(fields)?,
        snat_ports: fields.ports("snat_ports"),
        policy: Policy::from_name(fields.text("policy")?)?,
        affinity: match fields.duration("affinity") {
            Some(time) => Some(Affinity {
                time,
                prefix_v4: fields.count("affinity_prefix_v4")?,
                prefix_v6: fields.count("affinity_prefix_v6")?,
                at_drain: match fields.text("affinity_at_drain")? {
                    "break" => AtDrain::Break,
                    _ => AtDrain::Honour,
                },
            }),
            None => None,
        },
        // Only datagrams have it; what the others would do means nothing.
        udp_drain: match fields.text("udp_drain") {
            Some("pin") => UdpDrain::Pin,
            _ => UdpDrain::Move,
        },
        tracking: match fields.text("tracking")? {
            "drain-only" => Tracking::DrainOnly,
            _ => Tracking::Always,
        },
        dead_flows: match fields.text("dead_flows")? {
            "keep" => DeadFlows::Keep,
            _ => DeadFlows::Reset,
        },
        memory_limit,
        check: check?,
        drain: drain(fields.table("drain")?)?,
        rejuvenation,
        warm_up: match warm_up_fields?.count::<u32>("requests")? {
            0 => None,
            _ => Some(warm_up?),
        },
        backends,
        recovery: recovery?,
        hooks: hooks.into_iter().collect::<Option<_>>()?,
        min_active,
    })
}

pub(super) fn protocol(service: &Fields) -> Option<Protocol> {
    Some(match service.text("protocol")? {
        "udp" => Protocol::Udp,
        _ => Protocol::Tcp,
    })
}

pub(super) fn forwarding(service: &Fields) -> Option<Forwarding> {
    Some(match service.text("forwarding")? {
        "dsr" => Forwarding::Dsr,
        "ipip" => Forwarding::Ipip,
        _ => Forwarding::Nat,
    })
}

fn drain(fields: &Fields) -> Option<Drain> {
    Some(Drain {
        deadline: fields.duration("deadline")?,
        settle: fields.duration("settle")?,
        stragglers: match fields.text("stragglers")? {
            "wait" => Stragglers::Wait,
            _ => Stragglers::Cut,
        },
    })
}

fn rejuvenation(fields: &Fields, findings: &mut Findings<'_>) -> Option<Rejuvenation> {
    let (hits, window) = (fields.count("ceiling_hits"), fields.count("ceiling_window"));
    if let (Some(hits), Some(window)) = (hits, window)
        && hits > window
    {
        let at = fields.written("ceiling_hits").unwrap_or_else(|| fields.at("ceiling_window"));
        let message = format!("{hits} hits are not found among {window} samples");
        findings.error(&at, message, "make `ceiling_hits` at most `ceiling_window`");
    }
    let rejuvenation = Rejuvenation {
        ceiling: fields.ceiling("ceiling")?,
        ceiling_hits: hits?,
        ceiling_window: window?,
        ceiling_shadow: fields.flag("ceiling_shadow")?,
        probe_interval: fields.duration("probe_interval")?,
        cooldown: fields.duration("cooldown")?,
        min_uptime: fields.duration("min_uptime")?,
        observation: fields.duration("observation")?,
        ready_timeout: fields.duration("ready_timeout")?,
        retry: fields.duration("retry")?,
        max_age: fields.duration("max_age"),
        jitter: fields.jitter("jitter")?,
        windows: budget::windows(fields)?,
        ceiling_breaks_window: fields.flag("ceiling_breaks_window")?,
    };
    budget::ages_fit(fields, &rejuvenation, findings);
    Some(rejuvenation)
}

/// The smallest limit that is enforced on a backend.
fn smallest_limit(backends: &[Backend]) -> Option<u64> {
    backends.iter().filter_map(Backend::memory_max).min()
}
