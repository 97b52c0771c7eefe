//! What asks for a rejuvenation, and what keeps it from beginning.

use super::Coordinator;
use crate::clock::Now;
use crate::names::BackendName;
use crate::recovery::backend::State;
use crate::recovery::event::Event;
use crate::recovery::message::{Output, RequestId};
use crate::recovery::report::Reason;

impl Coordinator {
    pub(super) fn requested(&mut self, request: RequestId, now: Now) {
        let why = match (self.steering.active.clone(), self.ready_standby(now), self.reason_to_refuse()) {
            (Some(from), Some(to), None) => {
                return self.begin_cycle(&from, &to, Reason::Operator, Some(request), now);
            }
            (_, _, Some(why)) => why,
            (_, Some(_), None) => "no backend is active".to_owned(),
            (_, None, None) => self.why_no_standby(now),
        };
        self.out.push(Output::Answer { request, result: Err(why) });
    }

    fn reason_to_refuse(&self) -> Option<String> {
        if let Some(error) = &self.journal_error {
            return Some(format!("the journal cannot be written: {error}; make room or repair it first"));
        }
        if let Some(cycle) = &self.cycle {
            let (number, from) = (cycle.number, &cycle.from);
            return Some(format!("rejuvenation {number} of {from} is under way: wait until it ends"));
        }
        self.someone_out()
    }

    /// A backend that is out while another one is ready to take over: only then is it one too many.
    fn someone_out(&self) -> Option<String> {
        let others = self.backends.values().any(|b| b.state == State::Standby);
        let (name, backend) = self.backends.iter().find(|(_, b)| others && !b.stands())?;
        Some(format!("{name} is {}, and two must not be out at once: wait until it is back", backend.state))
    }

    /// A standby that a handover to is safe at this moment, one below the ceiling first.
    pub(super) fn ready_standby(&self, now: Now) -> Option<BackendName> {
        self.backends
            .iter()
            .filter(|(_, b)| b.state == State::Standby && b.is_ready(&self.policy, now))
            .min_by_key(|(_, b)| b.over_ceiling(&self.policy).is_some())
            .map(|(name, _)| name.clone())
    }

    pub(super) fn why_no_standby(&self, now: Now) -> String {
        let others: Vec<String> = self
            .backends
            .iter()
            .filter(|(name, _)| self.steering.active.as_ref() != Some(name))
            .map(|(name, backend)| {
                let finding = backend.last_finding.as_ref().map_or_else(
                    || format!("for {:.1} s", now.ms_since(backend.since) as f64 / 1000.0),
                    |finding| format!("last check: {finding}"),
                );
                format!("{name} is {} ({finding})", backend.state)
            })
            .collect();
        format!("no standby is ready, so nothing was handed over: {}", others.join(", "))
    }

    pub(super) fn watch_ceiling(&mut self, now: Now) {
        let Some(name) = self.steering.active.clone() else { return };
        let fit = self.backends.get(&name).is_some_and(|b| !b.has_fallen(&self.policy));
        let cooling = self.last_handover.is_some_and(|at| now.ms_since(at) < self.policy.cooldown_ms);
        if self.cycle.is_some() || cooling || !fit {
            return;
        }
        if let Some(reason) = self.over_ceiling(&name) {
            self.want(&name, reason, now);
        } else {
            self.waits_for = None;
            self.renew_aged_standby(&name, now);
        }
    }

    fn over_ceiling(&self, name: &BackendName) -> Option<Reason> {
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
        if let Some(why) = self.someone_out() {
            return self.wait(reason, why);
        }
        if self.over_ceiling(&to).is_none() {
            return self.begin_cycle(from, &to, reason, None, now);
        }
        if self.renew_aged_standby(from, now) {
            return;
        }
        let why = format!(
            "{to} is beyond the ceiling too: a fresh instance needs more memory than the ceiling allows, raise it"
        );
        self.wait(reason, why);
    }

    /// Says what a rejuvenation waits for, once.
    pub(super) fn wait(&mut self, reason: Reason, why: String) {
        // The times in it change with every look, the state does not.
        let key = why.split('(').next().unwrap_or_default().to_owned();
        if self.waits_for.as_ref() != Some(&key) {
            self.waits_for = Some(key);
            self.out.push(Output::Event(Event::RejuvenationWaits { reason, why }));
        }
    }

    /// Renews a standby that aged while it was active and came back by a roll-back; true if there is one.
    fn renew_aged_standby(&mut self, active: &BackendName, now: Now) -> bool {
        let aged = self.backends.iter().find_map(|(name, backend)| {
            let worked = backend.state == State::Standby && backend.has_worked;
            Some((name.clone(), self.over_ceiling(name).filter(|_| worked)?))
        });
        let Some((name, reason)) = aged.filter(|_| self.reason_to_refuse().is_none()) else { return false };
        self.begin_cycle(&name, active, reason, None, now);
        true
    }
}
