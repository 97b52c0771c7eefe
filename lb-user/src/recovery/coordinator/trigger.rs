//! What asks for a rejuvenation, and what keeps it from beginning.

use super::{Backend, Coordinator};
use crate::clock::Now;
use crate::names::BackendName;
use crate::recovery::backend::State;
use crate::recovery::report::Reason;

/// What is to be done about a backend that was born beyond the ceiling.
pub(super) const BORN_BEYOND: &str = "a fresh instance needs more memory than the ceiling allows, raise it";

impl Coordinator {
    /// The backend that an operator's rejuvenation takes out, and who takes over.
    pub(super) fn whom_to_renew(
        &self,
        wanted: Option<BackendName>,
        now: Now,
    ) -> Result<(BackendName, Option<BackendName>), String> {
        if let Some(why) = wanted.as_ref().and_then(|name| self.why_unknown(name)).or(self.reason_to_refuse())
        {
            return Err(why);
        }
        let oldest = || self.oldest_active().filter(|_| self.policy.spread);
        let chosen = wanted.clone().or_else(oldest).or_else(|| self.active().cloned());
        if let Some(why) = chosen.as_ref().and_then(|name| self.why_not_renewed(name)) {
            return Err(why);
        }
        if self.policy.spread {
            let from = chosen.ok_or("no backend is active")?;
            return self.why_not_spared(&from).map_or(Ok((from, None)), Err);
        }
        let active = self.active().cloned();
        if wanted.is_none() || wanted == active {
            let to = self.ready_standby(now).ok_or_else(|| self.why_no_standby(now))?;
            return Ok((active.ok_or("no backend is active")?, Some(to)));
        }
        match (wanted, active.filter(|name| self.fit_active().any(|fit| fit == name))) {
            (Some(from), Some(to)) if self.state_of(&from) == Some(State::Standby) => Ok((from, Some(to))),
            (Some(from), Some(_)) => Err(self.why_not_standing(&from)),
            _ => Err("no active backend passes its checks, so none is taken out".to_owned()),
        }
    }

    /// Why a backend is never going to be renewed as things are configured.
    pub(super) fn why_never_renewed(&self, name: &BackendName) -> Option<String> {
        self.why_unknown(name).or_else(|| self.why_not_renewed(name))
    }

    /// Whether there are too few backends for one of them ever to be taken out.
    pub(super) fn is_too_small(&self) -> bool {
        let floor = if self.policy.spread { self.policy.floor() } else { 1 };
        self.backends.len() <= floor
    }

    /// Why Baton cannot renew a backend, whatever it wants.
    fn why_not_renewed(&self, name: &BackendName) -> Option<String> {
        (!self.policy.can_renew(name)).then(|| {
            format!(
                "backend {name} has the driver `manual`, so Baton cannot restart it: `baton drain {service} {name} --wait`, \
                 restart it, `baton ready {service} {name}`",
                service = self.service
            )
        })
    }

    pub(super) fn state_of(&self, name: &BackendName) -> Option<State> {
        self.backends.get(name).map(|backend| backend.state)
    }

    pub(super) fn why_unknown(&self, name: &BackendName) -> Option<String> {
        let known: Vec<_> = self.backends.keys().map(ToString::to_string).collect();
        let is_known = self.backends.contains_key(name);
        (!is_known).then(|| format!("there is no backend `{name}`: there are {}", known.join(", ")))
    }

    pub(super) fn why_not_standing(&self, name: &BackendName) -> String {
        let state = self.state_of(name).map_or_else(String::new, |state| state.to_string());
        format!("{name} is {state}: wait until it is back")
    }

    /// Why nothing can be begun on purpose: it could not be written down.
    pub(super) fn why_not_written(&self) -> Option<String> {
        let error = self.journal_error.as_ref()?;
        Some(format!("the journal cannot be written: {error}; make room or repair it first"))
    }

    pub(super) fn reason_to_refuse(&self) -> Option<String> {
        if let Some(why) = self.why_not_written() {
            return Some(why);
        }
        if let Some(cycle) = &self.cycle {
            let (number, from) = (cycle.number, &cycle.from);
            return Some(format!("rejuvenation {number} of {from} is under way: wait until it ends"));
        }
        self.someone_out()
    }

    /// A backend that is out while another one is ready to take over: only then is it one too many.
    fn someone_out(&self) -> Option<String> {
        let others = self.policy.spread || self.backends.values().any(|b| b.state == State::Standby);
        let (name, backend) = self.backends.iter().find(|(_, b)| others && !b.stands())?;
        Some(format!("{name} is {}, and two must not be out at once: wait until it is back", backend.state))
    }

    /// A standby that a handover to is safe at this moment; one that has failed often, or is beyond the ceiling,
    /// comes last.
    pub(super) fn ready_standby(&self, now: Now) -> Option<BackendName> {
        self.backends
            .iter()
            .filter(|(_, b)| b.state == State::Standby && b.is_ready(&self.policy, now) && self.is_warm(b))
            .min_by_key(|(_, b)| (b.ejections.left_ms(now) > 0, b.over_ceiling(&self.policy).is_some()))
            .map(|(name, _)| name.clone())
    }

    pub(super) fn why_no_standby(&self, now: Now) -> String {
        let others: Vec<String> = self
            .backends
            .iter()
            .filter(|(name, _)| !self.is_active(name))
            .map(|(name, backend)| {
                let finding = backend.evidence.last_finding.as_ref().map_or_else(
                    || format!("for {:.1} s", now.ms_since(backend.since) as f64 / 1000.0),
                    |finding| format!("last check: {finding}"),
                );
                format!("{name} is {} ({finding})", backend.state)
            })
            .collect();
        if others.is_empty() {
            return "no standby is ready, so nothing was handed over: there is no other backend".to_owned();
        }
        format!("no standby is ready, so nothing was handed over: {}", others.join(", "))
    }

    pub(super) fn watch_ceiling(&mut self, now: Now) {
        let Some(name) = self.active().cloned() else { return };
        let fit = self.fit_active().any(|fit| *fit == name);
        self.watch_shadow(now);
        if self.rules_rest(now) || !fit {
            return;
        }
        if let Some(reason) = self.aged(&name, now) {
            self.want(&name, reason, now);
        } else {
            self.waits_for = None;
            self.renew_aged_standby(&name, now);
        }
    }

    /// Whether rules ask for nothing at this moment, whatever they see.
    pub(super) fn rules_rest(&self, now: Now) -> bool {
        let is_asked = self.pending.as_ref().is_some_and(|pending| !pending.is_held_back);
        let busy = self.cycle.is_some() || is_asked;
        self.paused || self.maintenance || busy || self.is_cooling(now)
    }

    fn is_cooling(&self, now: Now) -> bool {
        self.last_handover.is_some_and(|at| now.ms_since(at) < self.policy.cooldown_ms)
    }

    /// What asks for a rejuvenation of a backend that is old enough for one.
    pub(super) fn aged(&self, name: &BackendName, now: Now) -> Option<Reason> {
        let ceiling = self.over_ceiling(name).filter(|_| !self.policy.shadow.ceiling);
        ceiling.filter(|_| self.may_have_aged(name, now)).or_else(|| self.aged_by_time(name, now))
    }

    /// The same, whatever its memory.
    pub(super) fn aged_by_time(&self, name: &BackendName, now: Now) -> Option<Reason> {
        self.over_age(name, now).filter(|_| self.may_have_aged(name, now))
    }

    /// Whether it can be renewed, and is old enough for that.
    fn may_have_aged(&self, name: &BackendName, now: Now) -> bool {
        let is_of_age = |backend: &Backend| backend.is_of_age(&self.policy, now);
        self.policy.can_renew(name) && self.backends.get(name).is_some_and(is_of_age)
    }

    fn over_age(&self, name: &BackendName, now: Now) -> Option<Reason> {
        let life = self.backends.get(name)?.instance?;
        let limit_ms = self.policy.age_limit_ms(&self.service, name, life)?;
        let age_ms = now.boot_ms.saturating_sub(life.began_ms());
        (age_ms >= limit_ms).then_some(Reason::Age { age_ms, limit_ms })
    }

    pub(super) fn over_ceiling(&self, name: &BackendName) -> Option<Reason> {
        let memory_rss_bytes = self.backends.get(name)?.over_ceiling(&self.policy)?;
        Some(Reason::Ceiling {
            memory_rss_bytes,
            ceiling_bytes: self.policy.ceiling_bytes(),
            limit_bytes: self.policy.memory_limit_bytes,
        })
    }

    /// Hands over if a standby is ready and itself below the ceiling; else says once what it waits for.
    fn want(&mut self, from: &BackendName, reason: Reason, now: Now) {
        if let Some(error) = &self.journal_error {
            return self.wait(reason, format!("the journal cannot be written: {error}"));
        }
        let Some(to) = self.ready_standby(now) else { return self.wait(reason, self.why_no_standby(now)) };
        if let Some(why) = self.someone_out().or_else(|| self.why_stays_out(&to, now)) {
            return self.wait(reason, why);
        }
        let is_over = !self.policy.shadow.ceiling && self.over_ceiling(&to).is_some();
        if is_over && self.renew_aged_standby(from, now) {
            return;
        }
        // Age is no matter of memory.
        let reason = match self.aged_by_time(from, now).filter(|_| is_over) {
            Some(age) => age,
            None if is_over => return self.wait(reason, self.why_beyond_too(&to)),
            None => reason,
        };
        if self.may_begin(from, &reason, now) {
            self.propose_cycle(from, Some(&to), reason, now);
        }
    }

    /// Why nothing is handed over to a standby that is beyond the ceiling, and that is not renewed first.
    fn why_beyond_too(&self, to: &BackendName) -> String {
        let what = if self.was_born_beyond(to) {
            BORN_BEYOND.to_owned()
        } else {
            self.why_not_renewed(to)
                .unwrap_or_else(|| "it is renewed first, once it is as old as `min_uptime`".to_owned())
        };
        format!("{to} is beyond the ceiling too: {what}")
    }

    /// Whether the first sample of a life was beyond the ceiling: another life would be so, too.
    pub(super) fn was_born_beyond(&self, name: &BackendName) -> bool {
        let fresh = self.backends.get(name).and_then(|backend| backend.fresh_memory);
        fresh.is_some_and(|bytes| bytes > self.policy.ceiling_bytes())
    }

    /// Renews a standby that has aged, true if there is one: while it was active, until new flows went back to the
    /// old one; or while it waited, if it leaks with time.
    fn renew_aged_standby(&mut self, active: &BackendName, now: Now) -> bool {
        let aged = self.backends.iter().find_map(|(name, backend)| {
            let reason = self.aged(name, now).filter(|_| backend.state == State::Standby)?;
            let leaks = matches!(reason, Reason::Ceiling { .. }) && !self.was_born_beyond(name);
            (backend.has_worked || leaks).then(|| (name.clone(), reason))
        });
        let Some((name, reason)) = aged.filter(|_| self.reason_to_refuse().is_none()) else { return false };
        if self.may_begin(&name, &reason, now) {
            self.propose_cycle(&name, Some(active), reason, now);
        }
        true
    }
}
