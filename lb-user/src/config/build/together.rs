//! What only several tables together show to be wrong.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::ops::Range;

use lb_common::pool::{MEMBERS_MAX, Policy};
use lb_common::{BACKENDS_MAX, SERVICES_MAX};

use super::super::finding::Findings;
use super::super::read::Fields;
use super::super::types::{Backend, Ceiling};
use super::super::units::show_size;
use super::backend::is_process;
use super::service::protocol;
use crate::driver::netns::BACKENDS_ROOM;

/// Services of a file.
pub(super) fn services(file: &Fields, services: &[Fields], findings: &mut Findings<'_>) {
    let names = services.iter().map(|service| (service.text("name"), service.at("name")));
    no_two(names, findings, |name| format!("another service is called `{name}`"));
    let vips = services.iter().map(|service| {
        let vip = service.endpoint("vip").zip(protocol(service));
        (vip, service.at("vip"))
    });
    no_two(vips, findings, |(vip, _)| format!("another service of the same protocol has the VIP `{vip}`"));
    for service in services {
        vip_is_of_a_host(service, findings);
    }
    if let Some(first_too_many) = services.get(SERVICES_MAX as usize) {
        let message = format!("{} services are more than {SERVICES_MAX}", services.len());
        findings.error(&first_too_many.span, message, "let several controllers share them");
    }
    let backends: Vec<_> =
        services.iter().flat_map(|service| service.tables("backend").unwrap_or_default()).collect();
    let most = BACKENDS_MAX as usize - 1;
    if let Some(first_too_many) = backends.get(most) {
        let message = format!("{} backends in all are more than {most}", backends.len());
        findings.error(&first_too_many.span, message, "let several controllers share them");
    }
    interfaces_are_named(file, &backends, findings);
    replies_tell_their_service(services, findings);
}

/// A VIP that no packet of a client has as its destination, or none that the packet path sees.
fn vip_is_of_a_host(service: &Fields, findings: &mut Findings<'_>) {
    let Some(vip) = service.endpoint("vip") else { return };
    let help = "use an address that clients connect to and that is routed to this host";
    let what = match vip.ip() {
        ip if ip.is_unspecified() => "stands for all addresses",
        ip if ip.is_multicast() => "is a multicast address",
        IpAddr::V4(ip) if ip.is_broadcast() => "is a broadcast address",
        ip if ip.is_loopback() => "is of this host alone, and its packets pass no interface",
        _ => return,
    };
    findings.error(&service.at("vip"), format!("`{vip}` {what}"), help);
}

/// With `nat` a reply tells its service by where it comes from.
fn replies_tell_their_service(services: &[Fields], findings: &mut Findings<'_>) {
    let of_nat = services.iter().filter(|service| service.text("forwarding") == Some("nat"));
    let ends = of_nat.flat_map(|service| {
        let backends = service.tables("backend").unwrap_or_default().iter();
        backends.map(|backend| {
            let given = backend.endpoint("address").filter(|address| !address.ip().is_unspecified());
            let name = service.text("name").unwrap_or_default();
            (given.zip(protocol(service)), name, backend.at("address"))
        })
    });
    let mut known = BTreeMap::new();
    for (end, service, at) in ends {
        let Some((address, protocol)) = end else { continue };
        let first = *known.entry((address, protocol)).or_insert(service);
        if first != service {
            let message = format!("`{address}` is a backend of service `{first}` already");
            let help =
                "with `nat` a reply tells its service by where it comes from: use another port, or `dsr`";
            findings.error(&at, message, help);
        }
    }
}

/// Backends that Baton does not start are reached over an interface of the host.
fn interfaces_are_named(file: &Fields, backends: &[&Fields], findings: &mut Findings<'_>) {
    let Some(data_plane) = file.table("data_plane") else { return };
    let interfaces = data_plane.texts("interfaces").unwrap_or_default();
    if let Some(again) = (1..interfaces.len()).find(|at| interfaces[..*at].contains(&interfaces[*at])) {
        let message = format!("interface `{}` stands twice", interfaces[again]);
        findings.error(&data_plane.at("interfaces"), message, "name each interface once");
    }
    if data_plane.texts("interfaces").is_none_or(|interfaces| !interfaces.is_empty()) {
        return;
    }
    let Some(outside) = backends.iter().find(|backend| is_process(backend) == Some(false)) else { return };
    let at = data_plane.written("interfaces").unwrap_or_else(|| outside.span.clone());
    let name = outside.text("name").unwrap_or("?");
    let message = format!("no interface leads to backend `{name}`, which is no process that Baton starts");
    findings.error(&at, message, "name the interfaces of this host: [data_plane] interfaces = [\"eth0\"]");
}

/// Backends of a service.
pub(super) fn backends(service: &Fields, backends: &[Fields], findings: &mut Findings<'_>) {
    let names = backends.iter().map(|backend| (backend.text("name"), backend.at("name")));
    no_two(names, findings, |name| format!("another backend of the service is called `{name}`"));
    let given = |address: &SocketAddr| !address.ip().is_unspecified();
    let addresses =
        backends.iter().map(|backend| (backend.endpoint("address").filter(given), backend.at("address")));
    no_two(addresses, findings, |address| {
        format!("another backend of the service has the address `{address}`")
    });
    if backends.is_empty() {
        findings.error(&service.span, "the service has no backend", "add a [[service.backend]]");
    }
    if let Some(first_too_many) = backends.get(MEMBERS_MAX) {
        let message = format!("{} backends are more than {MEMBERS_MAX}", backends.len());
        findings.error(&first_too_many.span, message, "part them among several services");
    }
    processes_are_reached(service, backends, findings);
    if let Some(policy) = service.text("policy").and_then(Policy::from_name) {
        policy_has_its_backends(service, policy, backends, findings);
    }
}

/// Processes that Baton starts live in namespaces that they share with nobody and to which only `nat` leads.
fn processes_are_reached(service: &Fields, backends: &[Fields], findings: &mut Findings<'_>) {
    let process = backends.iter().any(|backend| is_process(backend) == Some(true));
    if process && let Some(other) = backends.iter().find(|backend| is_process(backend) == Some(false)) {
        let message = "in one service Baton starts all backends or none";
        findings.error(&other.span, message, "make two services, or let all drivers be of type \"process\"");
    }
    if process && let Some(first_too_many) = backends.get(BACKENDS_ROOM) {
        let message = format!("{} processes are more than {BACKENDS_ROOM}", backends.len());
        findings.error(&first_too_many.span, message, "the network of a service has room for no more");
    }
    if process && let Some(vip) = service.endpoint("vip").filter(SocketAddr::is_ipv6) {
        let message =
            format!("`{vip}` does not lead to processes that Baton starts: their namespaces are IPv4");
        findings.error(
            &service.at("vip"),
            message,
            "use an IPv4 VIP, or backends with addresses of their own",
        );
    }
    if let Some(mode @ ("dsr" | "ipip")) = service.text("forwarding")
        && process
    {
        let message = format!("forwarding = \"{mode}\" does not lead to processes that Baton starts");
        findings.error(&service.at("forwarding"), message, "use `nat`");
    }
}

fn policy_has_its_backends(
    service: &Fields,
    policy: Policy,
    backends: &[Fields],
    findings: &mut Findings<'_>,
) {
    let name = policy.name();
    let no_weight = |backend: &Fields| backend.count::<u64>("weight") == Some(0);
    if let ([only], Policy::ActiveStandby) = (backends, policy) {
        let message = "a single backend is never renewed: none can take over";
        findings.warning(&only.span, message, "add a second [[service.backend]]");
    }
    for backend in backends {
        // Without weight it gets no flows, whatever the policy.
        if let Some(span) = backend.written("weight")
            && !policy.is_weighted()
            && !(policy.has_pool() && no_weight(backend))
        {
            let message = format!("policy \"{name}\" knows no weights");
            findings.warning(&span, message, "leave `weight` out, or use a policy such as `wrr`");
        }
        if let Some(span) = backend.written("max_flows")
            && !policy.has_pool()
        {
            let message = format!("policy \"{name}\" knows no limits");
            findings.warning(&span, message, "leave `max_flows` out, or use another policy such as `rr`");
        }
    }
    if policy.has_pool() && !backends.is_empty() && backends.iter().all(no_weight) {
        let help = "give at least one backend a weight of 1 or more";
        findings.error(&service.span, "no backend has a weight, so none gets flows", help);
    }
}

/// Settings of an affinity that is not there.
pub(super) fn affinity_is_whole(service: &Fields, findings: &mut Findings<'_>) {
    if service.written("affinity").is_some() {
        return;
    }
    for key in ["affinity_prefix_v4", "affinity_prefix_v6", "affinity_at_drain"] {
        if let Some(span) = service.written(key) {
            let message = format!("`{key}` has no meaning without `affinity`");
            findings.error(&span, message, "add a time, such as affinity = \"5m\"");
        }
    }
}

/// A ceiling beyond an enforced limit is never seen: the kernel ends the backend first.
pub(super) fn ceiling_is_below_limits(
    service: &Fields,
    ceiling: Ceiling,
    memory_limit: Option<u64>,
    backends: &[Backend],
    findings: &mut Findings<'_>,
) {
    let bytes = match (ceiling, memory_limit) {
        (Ceiling::Bytes(bytes), _) => bytes,
        (percent, Some(limit)) => percent.bytes(limit),
        (Ceiling::Percent(_), None) => return,
    };
    let smallest = backends.iter().filter(|backend| backend.memory_max().is_some_and(|max| max <= bytes));
    let Some(backend) = smallest.min_by_key(|backend| backend.memory_max()) else { return };
    let at = service.table("rejuvenation").map_or_else(|| service.span.clone(), |table| table.at("ceiling"));
    let message = format!(
        "the ceiling, {}, is not below the memory_max of backend `{}`, {}",
        show_size(bytes),
        backend.name,
        backend.memory_max().map(show_size).unwrap_or_default()
    );
    findings.warning(
        &at,
        message,
        "lower it: at the limit the kernel ends the backend before Baton renews it",
    );
}

/// An error for each item that is there before.
fn no_two<T: PartialEq>(
    items: impl Iterator<Item = (Option<T>, Range<usize>)>,
    findings: &mut Findings<'_>,
    say: impl Fn(&T) -> String,
) {
    let mut seen: Vec<(T, Range<usize>)> = Vec::new();
    for (item, span) in items {
        let Some(item) = item else { continue };
        match seen.iter().find(|(other, _)| *other == item) {
            Some((_, first)) => {
                let line = findings.line_of(first);
                findings.error(&span, say(&item), format!("the first is in line {line}"));
            }
            None => seen.push((item, span)),
        }
    }
}
