//! From `[service.recovery]` to a [`Recovery`], and from `[[service.hook]]` to a [`Hook`].

use super::super::finding::Findings;
use super::super::read::Fields;
use super::super::types::{Hook, HookAction, Recovery};
use super::check::no_longer_than;
use crate::recovery::hook::Phase;

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
            if let Some(span) = fields.written("retries") {
                findings.error(&span, "`retries` is beside `exec`", "only a webhook is tried again");
            }
            fields.texts("exec").map(|command| HookAction::Exec(command.to_vec()))
        }
        (None, Some(_)) => Some(HookAction::Webhook {
            url: fields.text("webhook")?.to_owned(),
            retries: fields.count("retries")?,
        }),
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
