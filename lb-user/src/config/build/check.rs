//! From `[service.check]` to a [`ServiceCheck`].

use std::ops::Range;

use super::super::describe::show_duration;
use super::super::finding::Findings;
use super::super::read::Fields;
use super::super::types::{Agent, Ejection, Protocol, ServiceCheck, Watch};
use crate::check::{
    Check, CheckError, HttpCheck, ScriptCheck, SlowRule, TlsCheck, UdpCheck, Window, payload,
};

/// The check that this table is, for a service of this protocol.
pub(super) fn check(
    fields: &Fields,
    protocol: Option<Protocol>,
    findings: &mut Findings<'_>,
) -> Option<ServiceCheck> {
    let interval = fields.duration("interval");
    let fast_interval =
        if fields.written("fast_interval").is_some() { fields.duration("fast_interval") } else { interval };
    if let (Some(interval), Some(fast)) = (interval, fast_interval)
        && fast > interval
    {
        let help = "make `fast_interval` at most `interval`";
        findings.error(&fields.at("fast_interval"), "the fast interval is the longer one", help);
    }
    if let (Some(kind), Some(protocol)) = (fields.text("type"), protocol) {
        protocols_agree(fields, kind, protocol, findings);
    }
    if fields.flag("verify") == Some(false)
        && let Some(span) = fields.written("ca_file")
    {
        findings.warning(&span, "`ca_file` is not looked at with verify = false", "leave one of them out");
    }
    let watch = watch(fields, findings);
    let what = what(fields)?;
    if let Err(error) = what.validate() {
        say(&error, &fields.at(culprit(&error)), findings);
        return None;
    }
    Some(ServiceCheck {
        what,
        interval: interval?,
        fast_interval: fast_interval?,
        timeout: fields.duration("timeout")?,
        rise: fields.count("rise")?,
        fall: fields.count("fall")?,
        watch: watch?,
    })
}

fn watch(fields: &Fields, findings: &mut Findings<'_>) -> Option<Watch> {
    let factor: u32 = fields.count("slow_factor")?;
    no_longer_than(fields, "ejection_step", "ejection_most", findings);
    Some(Watch {
        window: window(fields, findings),
        fall_ignored: fields.count("fall_ignored")?,
        slow: Some(SlowRule { factor, least: fields.duration("slow_least")? }).filter(|_| factor > 0),
        ejection: Ejection {
            step: fields.duration("ejection_step")?,
            most: fields.duration("ejection_most")?,
            forget: fields.duration("ejection_forget")?,
        },
        shadow: fields.flag("shadow")?,
        agent: match fields.count("agent_port") {
            Some(port) => Some(Agent {
                port,
                interval: fields.duration("agent_interval")?,
                timeout: fields.duration("agent_timeout")?,
            }),
            None => None,
        },
    })
}

/// A time that is written although another one, which is the most, is shorter. None at all is a wish of its own.
pub(super) fn no_longer_than(fields: &Fields, key: &str, most: &str, findings: &mut Findings<'_>) {
    let (Some(span), Some(time)) = (fields.written(key), fields.duration(key)) else { return };
    if let Some(limit) = fields.duration(most).filter(|limit| !limit.is_zero() && time > *limit) {
        let message = format!("`{key}` is longer than `{most}`, {}", show_duration(limit));
        findings.warning(&span, message, format!("make it shorter, or `{most}` longer"));
    }
}

/// The window of failures, if there is one.
fn window(fields: &Fields, findings: &mut Findings<'_>) -> Option<Window> {
    let (hits, checks) = (fields.written("fall_hits"), fields.written("fall_window"));
    if let (Some(at), None) | (None, Some(at)) = (&hits, &checks) {
        let message = "`fall_hits` and `fall_window` mean something together only";
        findings.error(at, message, "write both: fall_hits = 4, fall_window = 10");
        return None;
    }
    let at = hits?;
    let window = Window { failures: fields.count("fall_hits")?, checks: fields.count("fall_window")? };
    if window.failures > window.checks {
        let message = format!("{} failures are not found among {} checks", window.failures, window.checks);
        findings.error(&at, message, "make `fall_hits` at most `fall_window`");
        return None;
    }
    Some(window)
}

fn what(fields: &Fields) -> Option<Check> {
    let pattern = |key: &str| match fields.written(key) {
        Some(_) => fields.text(key)?.parse().ok().map(Some),
        None => Some(None),
    };
    Some(match fields.text("type")? {
        "udp" => Check::Udp(UdpCheck {
            payload: payload::parse(fields.text("payload")?).ok()?,
            answer: pattern("answer")?,
        }),
        "script" => Check::Script(ScriptCheck { command: fields.texts("command")?.to_vec() }),
        kind @ ("http" | "https") => Check::Http(HttpCheck {
            tls: if kind == "https" { Some(tls(fields)?) } else { None },
            body: pattern("body")?,
            ..http(fields, fields.text("path")?)?
        }),
        _ => Check::Tcp,
    })
}

/// The request for `path` that `fields` describe, and the statuses that are right; neither TLS nor what the body must
/// be.
pub(super) fn http(fields: &Fields, path: &str) -> Option<HttpCheck> {
    Some(HttpCheck {
        tls: None,
        method: fields.text("method")?.to_owned(),
        path: path.to_owned(),
        host: fields.text("host").map(str::to_owned),
        headers: fields.pairs("headers")?.to_vec(),
        status: fields.statuses("status")?.to_vec(),
        body: None,
    })
}

/// Says what is wrong with a check: the messages of these errors end with what to do.
pub(super) fn say(error: &CheckError, at: &Range<usize>, findings: &mut Findings<'_>) {
    let text = error.to_string();
    let (message, help) = text.split_once(": ").unwrap_or((&text, "see `baton config example`"));
    findings.error(at, message, help);
}

fn tls(fields: &Fields) -> Option<TlsCheck> {
    Some(TlsCheck {
        verify: fields.flag("verify")?,
        ca_file: fields.path("ca_file"),
        expires_in: fields.duration("expires_in"),
    })
}

/// A TCP check of a UDP service, or the other way round, asks a port where nobody may be.
fn protocols_agree(fields: &Fields, kind: &str, protocol: Protocol, findings: &mut Findings<'_>) {
    let asked = match kind {
        "tcp" | "http" | "https" => Protocol::Tcp,
        "udp" => Protocol::Udp,
        _ => return,
    };
    if asked != protocol {
        let (asked, served) = match protocol {
            Protocol::Tcp => ("UDP", "TCP"),
            Protocol::Udp => ("TCP", "UDP"),
        };
        let message = format!("the check asks a {asked} port, and the service is on {served}");
        findings.warning(&fields.at("type"), message, "make sure that backends listen on both");
    }
}

/// The key that a check cannot be made because of.
fn culprit(error: &CheckError) -> &'static str {
    match error {
        CheckError::Kind(_) => "type",
        CheckError::Method(_) => "method",
        CheckError::Path(_) => "path",
        CheckError::Host(_) => "host",
        CheckError::Header(_) | CheckError::OwnHeader(_) => "headers",
        CheckError::Status => "status",
        CheckError::PayloadLength(_) | CheckError::Payload(_) => "payload",
        CheckError::Program(_) => "command",
    }
}
