//! From `[budget]` and the windows to what they mean.

use super::super::finding::Findings;
use super::super::read::Fields;
use super::super::types::{
    Backend, Budget, FleetLock, LockedFor, Rejuvenation, RejuvenationWindow, Service, Share,
};
use super::recovery::trusted_over_tls;
use crate::recovery::Jitter;

/// The budget that `fields` is.
pub(super) fn budget(fields: &Fields, findings: &mut Findings<'_>) -> Option<Budget> {
    Some(Budget {
        rejuvenations: fields.count("rejuvenations")?,
        per_host: fields.count("per_host"),
        fleet_lock: fleet_lock(fields.table("fleet_lock")?, findings)?,
    })
}

/// The outer `None` is that something is wrong.
#[expect(clippy::option_option, reason = "what is wrong and what is not wanted are different")]
fn fleet_lock(fields: &Fields, findings: &mut Findings<'_>) -> Option<Option<FleetLock>> {
    if fields.written("url").is_none() {
        let keys = ["group", "id", "ca_file", "timeout", "required_for"];
        if let Some(span) = keys.into_iter().find_map(|key| fields.written(key)) {
            let help = "name the server of the lock with `url`, or leave [budget.fleet_lock] out";
            findings.error(&span, "`url` is missing in [budget.fleet_lock]", help);
        }
        return Some(None);
    }
    trusted_over_tls(fields, "url", findings);
    Some(Some(FleetLock {
        url: fields.text("url")?.trim_end_matches('/').to_owned(),
        group: fields.text("group")?.to_owned(),
        id: fields.text("id").map(str::to_owned),
        ca_file: fields.path("ca_file"),
        timeout: fields.duration("timeout")?,
        required_for: match fields.text("required_for")? {
            "rules" => LockedFor::Rules,
            _ => LockedFor::Restart,
        },
    }))
}

/// The windows of a rejuvenation.
pub(super) fn windows(rejuvenation: &Fields) -> Option<Vec<RejuvenationWindow>> {
    let window = |fields: &Fields| {
        Some(RejuvenationWindow {
            days: fields.count("days")?,
            start_minute: fields.count("start")?,
            length: fields.duration("length")?,
            time_zone: fields.zone("time_zone"),
        })
    };
    rejuvenation.tables("window")?.iter().map(window).collect()
}

/// Ages that do not fit each other.
pub(super) fn ages_fit(fields: &Fields, rejuvenation: &Rejuvenation, findings: &mut Findings<'_>) {
    let Some(max_age) = rejuvenation.max_age else {
        if let Some(span) = fields.written("jitter") {
            findings.warning(&span, "`jitter` spreads nothing without `max_age`", "give a `max_age`, too");
        }
        return;
    };
    if max_age < rejuvenation.min_uptime {
        let message = "`max_age` is below `min_uptime`, before which no backend is renewed";
        findings.error(&fields.at("max_age"), message, "make it longer than `min_uptime`");
    }
    if let Jitter::Ms(ms) = rejuvenation.jitter
        && u128::from(ms) > max_age.as_millis()
    {
        let message = "`jitter` is longer than `max_age`";
        findings.error(&fields.at("jitter"), message, "make it a part of `max_age`, such as `10%`");
    }
}

/// A floor that leaves nobody to be renewed.
pub(super) fn floor_leaves_some(
    service: &Fields,
    floor: Option<Share>,
    backends: &[Backend],
    findings: &mut Findings<'_>,
) {
    let (Some(floor), Some(span)) = (floor, service.written("min_active")) else { return };
    let (floor, all) = (floor.of(backends.len()) as usize, backends.len());
    if floor > all {
        let message = format!("{floor} backends never are active: there are {all}");
        findings.error(&span, message, format!("make it less than {all}"));
    } else if floor == all {
        let message = format!("with all {all} backends active none is ever renewed");
        findings.warning(&span, message, format!("make it less than {all}"));
    }
}

/// A limit for hosts that no backend names.
pub(super) fn hosts_are_named(file: &Fields, services: &[Option<Service>], findings: &mut Findings<'_>) {
    let Some(span) = file.table("budget").and_then(|budget| budget.written("per_host")) else { return };
    let all_known: Option<Vec<_>> = services.iter().map(Option::as_ref).collect();
    let Some(services) = all_known.filter(|services| !services.is_empty()) else { return };
    if services.iter().flat_map(|service| &service.backends).all(|backend| backend.host.is_none()) {
        let help = "say where backends run: `host = \"name\"` in [[service.backend]]";
        findings.warning(&span, "no backend names its host, so `per_host` limits nothing", help);
    }
}
