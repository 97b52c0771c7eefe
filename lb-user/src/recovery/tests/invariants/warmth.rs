//! What must always be so of warm-ups.

use std::collections::BTreeMap;

use super::{Checker, Known, Verdict, WarmUp};
use crate::clock::Now;
use crate::names::BackendName;
use crate::recovery::State;
use crate::recovery::message::Instance;

impl Checker {
    pub(super) fn hear_warm_up(&mut self, backend: &BackendName, instance: Instance, passed: bool) {
        let known = self.known_mut(backend);
        if known.life == Some(instance) {
            (known.warm_up.since, known.warm_up.failed) = (None, known.warm_up.failed || !passed);
            known.warm = known.warm.or(Some(true).filter(|_| passed)).or(known.warm_up.has_failed());
        }
    }

    /// It is not waited for any more.
    pub(super) fn give_up_warm_up(&mut self, backend: &BackendName) {
        let known = self.known_mut(backend);
        known.warm_up.given_up = true;
        known.warm = known.warm.or(known.warm_up.has_failed());
    }

    /// Nobody who serves gets requests that count as a warm-up.
    pub(super) fn order_warm_up(&mut self, backend: &BackendName, now: Now) -> Verdict {
        if self.word.active.contains(backend) {
            return Err(format!("{backend} is warmed up while it serves"));
        }
        let known = self.known_mut(backend);
        known.warm = known.warm.filter(|warm| *warm);
        known.warm_up = WarmUp { since: Some(now), ..WarmUp::default() };
        Ok(())
    }

    /// 8: it is warm, or goes on with what it did, or nobody else could serve.
    pub(super) fn may_serve_cold(&self, to: &BackendName, now: Now) -> bool {
        if self.policy.warm_up_requests == 0
            || self.backends[to].warm == Some(true)
            || self.can_return_to(to, now)
        {
            return true;
        }
        let fit = self.word.active.iter().filter(|name| !self.has_failed(name)).count();
        let waits = |name: &BackendName, known: &Known| {
            let drains = self.drain.as_ref().is_some_and(|drain| drain.from == *name);
            name != to
                && known.warm == Some(true)
                && !known.stopping
                && !drains
                && !self.held_out.contains(name)
        };
        // In a pool who is warm serves.
        let others = !self.policy.spread
            && self.backends.iter().any(|(name, known)| waits(name, known) && self.is_ready(name, now));
        fit < self.policy.floor() && !others
    }

    /// Nobody waits for a warm-up while too few of a pool serve.
    pub(super) fn nobody_cold_waits(
        &self,
        states: &BTreeMap<&BackendName, State>,
        fit: usize,
        now: Now,
    ) -> Verdict {
        let cold = states.iter().find(|(name, state)| {
            matches!(state, State::Warming | State::Failed) && self.is_ready(name, now)
        });
        if let Some((name, _)) = cold.filter(|_| fit < self.policy.floor()) {
            return Err(format!("{fit} fit backends are active, and {name} waits for its warm-up"));
        }
        Ok(())
    }
}
