//! From `[service.warm_up]` to a [`WarmUp`].

use super::super::finding::Findings;
use super::super::read::Fields;
use super::super::types::{Protocol, WarmUp};
use super::check;
use crate::check::{Check, HttpCheck, TlsCheck};

/// The warm-up that this table is, for a service of this protocol, if there is one and it is right.
pub(super) fn warm_up(
    fields: &Fields,
    protocol: Option<Protocol>,
    findings: &mut Findings<'_>,
) -> Option<WarmUp> {
    let requests: u32 = fields.count("requests")?;
    if requests == 0 {
        return None;
    }
    if protocol == Some(Protocol::Udp) {
        let help = "leave `requests` out: what would count as an answer to a datagram is not known";
        findings.error(&fields.at("requests"), "a service over UDP cannot be warmed up", help);
        return None;
    }
    let (timeout, deadline) = (fields.duration("timeout")?, fields.duration("deadline")?);
    if timeout > deadline {
        let help = "make `timeout` at most `deadline`";
        findings.error(&fields.at("timeout"), "one request may take longer than all of them", help);
        return None;
    }
    let what = what(fields)?;
    for check in &what {
        if let Err(error) = check.validate() {
            check::say(&error, &fields.span, findings);
            return None;
        }
    }
    if what.len() > requests as usize {
        let message = format!("only the first {requests} of {} paths would ever be requested", what.len());
        let help = format!("make `requests` at least {}", what.len());
        findings.warning(&fields.at("path"), message, help);
    }
    Some(WarmUp {
        requests,
        what,
        concurrency: fields.count("concurrency")?,
        timeout,
        deadline,
        pass_percent: fields.count("pass_percent")?,
    })
}

/// What takes turns: a request for each path, or a connection.
fn what(fields: &Fields) -> Option<Vec<Check>> {
    let kind = fields.text("type")?;
    if kind == "tcp" {
        return Some(vec![Check::Tcp]);
    }
    // It is the operator's own backend, whose certificate is what clients and checks look at.
    let any_certificate = TlsCheck { verify: false, ..TlsCheck::default() };
    let tls = (kind == "https").then_some(any_certificate);
    let request =
        |path: &String| Some(Check::Http(HttpCheck { tls: tls.clone(), ..check::http(fields, path)? }));
    fields.texts("path")?.iter().map(request).collect()
}
