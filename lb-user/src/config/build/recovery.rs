//! From `[service.recovery]` to a [`Recovery`], and from `[[service.hook]]` to a [`Hook`].

use http::Uri;
use http::uri::Scheme;

use super::super::finding::Findings;
use super::super::read::Fields;
use super::super::types::{Hook, HookAction, Recovery};
use super::check::no_longer_than;
use crate::recovery::hook::Phase;

/// Whoever is posted to without TLS shows no certificate.
pub(super) fn trusted_over_tls(fields: &Fields, url_key: &str, findings: &mut Findings<'_>) {
    let (Some(span), Some(url)) = (fields.written("ca_file"), fields.text(url_key)) else { return };
    if url.parse::<Uri>().is_ok_and(|url| url.scheme() == Some(&Scheme::HTTP)) {
        let message = format!("`ca_file` has no meaning with {url_key} = \"{}\"", url.escape_debug());
        findings.error(&span, message, "it belongs to a URL of `https`");
    }
}

/// How backends are brought back.
pub(super) fn recovery(fields: &Fields, findings: &mut Findings<'_>) -> Option<Recovery> {
    no_longer_than(fields, "veto_retry", "veto_limit", findings);
    Some(Recovery {
        quarantine_after: fields.count("quarantine_after")?,
        diagnose: fields.texts("diagnose").map(<[String]>::to_vec),
        diagnose_timeout: fields.duration("diagnose_timeout")?,
        veto_retry: fields.duration("veto_retry")?,
        veto_limit: fields.duration("veto_limit")?,
    })
}

/// The hook that this table is.
pub(super) fn hook(fields: &Fields, findings: &mut Findings<'_>) -> Option<Hook> {
    let action = action(fields, findings);
    let on = fields.text("on")?;
    Some(Hook {
        on: Phase::ALL.into_iter().find(|phase| phase.name() == on)?,
        action: action?,
        timeout: fields.duration("timeout")?,
    })
}

/// Either `exec` or `webhook`.
fn action(fields: &Fields, findings: &mut Findings<'_>) -> Option<HookAction> {
    let help = "give either `exec` or `webhook`";
    match (fields.written("exec"), fields.written("webhook")) {
        (Some(_), None) => {
            for (key, help) in
                [("retries", "only a webhook is tried again"), ("ca_file", "only a webhook speaks TLS")]
            {
                if let Some(span) = fields.written(key) {
                    findings.error(&span, format!("`{key}` is beside `exec`"), help);
                }
            }
            fields.texts("exec").map(|command| HookAction::Exec(command.to_vec()))
        }
        (None, Some(_)) => {
            trusted_over_tls(fields, "webhook", findings);
            Some(HookAction::Webhook {
                url: fields.text("webhook")?.to_owned(),
                ca_file: fields.path("ca_file"),
                retries: fields.count("retries")?,
            })
        }
        (None, None) => {
            findings.error(&fields.span, "a hook without anything to do", help);
            None
        }
        (Some(_), Some(span)) => {
            findings.error(&span, "`webhook` is beside `exec`", help);
            None
        }
    }
}
