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
        let active = self.steering.active.clone();
        let refusal = self.reason_to_refuse();
        match (active, self.ready_standby(now), refusal) {
            (Some(from), Some(to), None) => {
                self.begin_cycle(&from, &to, Reason::Operator, Some(request), now);
            }
            (_, _, Some(why)) => self.out.push(Output::Answer { request, result: Err(why) }),
            _ => {
                let why = self.why_no_standby(now);
                self.out.push(Output::Answer { request, result: Err(why) });
            }
        }
    }

    pub(super) fn reason_to_refuse(&self) -> Option<String> {
        if let Some(error) = &self.journal_error {
            return Some(format!("the journal cannot be written: {error}; make room or repair it first"));
        }
        let cycle = self.cycle.as_ref()?;
        Some(format!("rejuvenation {} of {} is under way: wait until it ends", cycle.number, cycle.from))
    }

    /// A standby that a handover to is safe at this moment.
    pub(super) fn ready_standby(&self, now: Now) -> Option<BackendName> {
        self.backends
            .iter()
            .find(|(_, b)| b.state == State::Standby && b.is_ready(&self.policy, now))
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
        if self.cycle.is_some()
            || self.last_handover.is_some_and(|at| now.ms_since(at) < self.policy.cooldown_ms)
        {
            return;
        }
        if let Some(bytes) = self.backends.get(&name).and_then(|b| b.over_ceiling(&self.policy)) {
            let reason = Reason::Ceiling {
                memory_rss_bytes: bytes,
                ceiling_bytes: self.policy.ceiling_bytes(),
                limit_bytes: self.policy.memory_limit_bytes,
            };
            self.want(&name, reason, now);
        } else {
            self.waits_for = None;
            self.renew_aged_standby(now);
        }
    }

    /// Hands over if a standby is ready and itself below the ceiling; else says once what it waits for.
    pub(super) fn want(&mut self, from: &BackendName, reason: Reason, now: Now) {
        let standby = self.ready_standby(now);
        let aged = standby
            .as_ref()
            .and_then(|to| self.backends.get(to))
            .is_some_and(|b| b.over_ceiling(&self.policy).is_some());
        let why = match (&self.journal_error, standby) {
            (None, Some(to)) if !aged => return self.begin_cycle(from, &to, reason, None, now),
            (Some(error), _) => format!("the journal cannot be written: {error}"),
            (None, Some(to)) => format!(
                "{to} is beyond the ceiling too: a fresh instance needs more memory than the ceiling allows, raise it"
            ),
            (None, None) => self.why_no_standby(now),
        };
        // The times in it change with every look, the state does not.
        let key = why.split('(').next().unwrap_or_default().to_owned();
        if self.waits_for.as_ref() != Some(&key) {
            self.waits_for = Some(key);
            self.out.push(Output::Event(Event::RejuvenationWaits { reason, why }));
        }
    }

    /// A standby that aged while it was active, and came back by a roll-back, is renewed while it waits.
    pub(super) fn renew_aged_standby(&mut self, now: Now) {
        let aged = self.backends.iter().find(|(_, backend)| {
            backend.state == State::Standby
                && backend.has_worked
                && backend.over_ceiling(&self.policy).is_some()
        });
        if let Some((name, _)) = aged {
            let name = name.clone();
            if let Some(backend) = self.backends.get_mut(&name) {
                backend.empty_since = None;
            }
            self.set_state(&name, State::Drained, Some("aged while it waited".into()), now);
        }
    }
}
