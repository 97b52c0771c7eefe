//! The text of a `baton.toml` for what was imported.

use std::fmt::{Display, Write};
use std::ops::RangeInclusive;
use std::time::Duration;

use lb_common::Forwarding;
use toml::Value;

use super::Note;
use super::draft::{DraftCheck, Settled, SettledBackend};
use crate::check::{Check, GOOD_STATUS, HttpCheck, payload};
use crate::config::{Protocol, show_duration};

/// The whole file: notes stand before the service that they are about, or at the top.
pub(super) fn config(source: &str, interfaces: &[String], services: &[Settled], notes: &[Note]) -> String {
    let mut out = format!("# Made from {} by `baton import`.\n", source.escape_debug());
    out.push_str("# `baton config check FILE` says whether it can be used; every note is about something to look at.\n");
    let first_of = |note: &Note| services.iter().position(|service| service.lines.contains(&note.line));
    comment(&mut out, notes.iter().filter(|note| first_of(note).is_none()));
    let _ = writeln!(out, "\n[data_plane]\ninterfaces = {}", list(interfaces));
    for (index, service) in services.iter().enumerate() {
        out.push('\n');
        comment(&mut out, notes.iter().filter(|note| first_of(note) == Some(index)));
        write_service(&mut out, service);
    }
    out
}

fn comment<'n>(out: &mut String, notes: impl Iterator<Item = &'n Note>) {
    for note in notes {
        let _ = match note.line {
            0 => writeln!(out, "# note: {}: {}", note.directive, note.message),
            line => writeln!(out, "# note: line {line}: {}: {}", note.directive, note.message),
        };
    }
}

fn write_service(out: &mut String, service: &Settled) {
    out.push_str("[[service]]\n");
    key(out, "name", text(&service.name));
    key(out, "vip", text(&service.vip.to_string()));
    if service.protocol == Protocol::Udp {
        key(out, "protocol", text("udp"));
    }
    match service.forwarding {
        Forwarding::Nat => {}
        Forwarding::Dsr => key(out, "forwarding", text("dsr")),
        Forwarding::Ipip => key(out, "forwarding", text("ipip")),
    }
    key(out, "policy", text(service.policy.name()));
    if let Some(time) = service.affinity {
        key(out, "affinity", duration(time));
    }
    if let Some(bits) = service.prefix {
        let family = if service.vip.is_ipv4() { "v4" } else { "v6" };
        key(out, &format!("affinity_prefix_{family}"), bits);
    }
    if service.keep_dead {
        key(out, "dead_flows", text("keep"));
    }
    out.push_str("\n[service.check]\n");
    write_check(out, &service.check);
    for backend in &service.backends {
        out.push_str("\n[[service.backend]]\n");
        write_backend(out, backend, service.policy.is_weighted());
    }
}

fn write_backend(out: &mut String, backend: &SettledBackend, weighted: bool) {
    key(out, "name", text(&backend.name));
    key(out, "address", text(&backend.address.to_string()));
    if backend.weight == 0 || (weighted && backend.weight != 1) {
        key(out, "weight", backend.weight);
    }
    if backend.max_flows != 0 {
        key(out, "max_flows", backend.max_flows);
    }
}

fn write_check(out: &mut String, check: &DraftCheck) {
    match &check.what {
        Check::Tcp => key(out, "type", text("tcp")),
        Check::Http(http) => write_http(out, http),
        Check::Udp(udp) => {
            key(out, "type", text("udp"));
            if !udp.payload.is_empty() {
                key(out, "payload", text(&payload::format(&udp.payload)));
            }
            if let Some(answer) = &udp.answer {
                key(out, "answer", text(answer.as_str()));
            }
        }
        Check::Script(script) => {
            key(out, "type", text("script"));
            key(out, "command", list(&script.command));
        }
    }
    key(out, "interval", duration(check.interval));
    if let Some(fast) = check.fast_interval.filter(|fast| *fast < check.interval) {
        key(out, "fast_interval", duration(fast));
    }
    key(out, "timeout", duration(check.timeout));
    key(out, "rise", 1);
    key(out, "fall", check.fall);
}

fn write_http(out: &mut String, http: &HttpCheck) {
    key(out, "type", text(if http.tls.is_some() { "https" } else { "http" }));
    key(out, "path", text(&http.path));
    if http.method != "GET" {
        key(out, "method", text(&http.method));
    }
    if let Some(host) = &http.host {
        key(out, "host", text(host));
    }
    if http.status != [GOOD_STATUS] {
        let ranges: Vec<_> = http.status.iter().map(status).collect();
        key(out, "status", list(&ranges));
    }
    if let Some(body) = &http.body {
        key(out, "body", text(body.as_str()));
    }
    if http.tls.as_ref().is_some_and(|tls| !tls.verify) {
        key(out, "verify", false);
    }
}

fn status(range: &RangeInclusive<u16>) -> String {
    let (first, last) = (range.start(), range.end());
    if first == last { first.to_string() } else { format!("{first}-{last}") }
}

fn key(out: &mut String, name: &str, value: impl Display) {
    let _ = writeln!(out, "{name} = {value}");
}

fn text(text: &str) -> Value {
    Value::from(text)
}

fn list(texts: &[String]) -> Value {
    Value::Array(texts.iter().map(|text| Value::from(text.as_str())).collect())
}

fn duration(time: Duration) -> Value {
    text(&show_duration(time))
}
