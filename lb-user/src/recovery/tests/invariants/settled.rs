//! What must be so once nothing fails any more.

use std::collections::BTreeMap;

use super::{Checker, LOOK_MS, Verdict};
use crate::clock::Now;
use crate::names::BackendName;
use crate::recovery::journal::Standing;
use crate::recovery::{Coordinator, State};

impl Checker {
    /// 4, that somebody serves if anybody can, and that states and steering tell the same story; asked after
    /// each step.
    pub(in crate::recovery::tests) fn settled(&self, coordinator: &Coordinator, now: Now) -> Verdict {
        let states: BTreeMap<_, _> = coordinator.states().collect();
        for (name, state) in &states {
            let is_active = self.word.active.contains(name);
            if (*state == State::Active) != is_active {
                return Err(format!("{name} is {state} under {:?}", self.word));
            }
        }
        let drains = |state: &State| matches!(state, State::Draining | State::Drained);
        if states.values().filter(|state| drains(state)).count() > 1 {
            return Err(format!("two backends drain: {states:?}"));
        }
        if states.values().any(drains) && coordinator.activity(now).is_none() {
            return Err(format!("a drain without a rejuvenation: {states:?}"));
        }
        if coordinator.steering() != &self.word {
            return Err(format!("{:?} was ordered, {:?} is meant", self.word, coordinator.steering()));
        }
        self.operators_are_obeyed(&states)?;
        if self.policy.spread {
            self.all_serve_who_can(&states, now)?;
        } else {
            self.somebody_serves(&states, now)?;
        }
        self.went_back(now)
    }

    /// 7: whom operators hold out, as it is written down, is out or on the way.
    fn operators_are_obeyed(&self, states: &BTreeMap<&BackendName, State>) -> Verdict {
        for name in Standing::of(&self.durable).held_out.difference(&self.released) {
            let Some(state) = states.get(name) else { continue };
            let on_the_way = matches!(state, State::Draining | State::Drained | State::Recovering);
            if *state != State::Maintenance && !on_the_way {
                return Err(format!("{name} is to be held out, and is {state}"));
            }
        }
        Ok(())
    }

    /// Who of a pool is ready and is not out on purpose is active, unless it failed too often lately and is not
    /// needed; and if too few pass their checks, whoever
    /// was active in its life and lives is.
    pub(in crate::recovery::tests) fn all_serve_who_can(
        &self,
        states: &BTreeMap<&BackendName, State>,
        now: Now,
    ) -> Verdict {
        let out = |state| {
            matches!(state, State::Draining | State::Drained | State::Recovering | State::Maintenance)
        };
        let fit = self.word.active.iter().filter(|name| !self.has_failed(name)).count();
        let stays_out =
            |name: &BackendName| self.stay_out.get(name).is_some_and(|until| now.boot_ms < until + LOOK_MS);
        for (name, state) in states.iter().filter(|(_, state)| !out(**state)) {
            let is_spared = stays_out(name) && fit >= self.policy.floor();
            let is_warm = self.policy.warm_up_requests == 0 || self.backends[*name].warm == Some(true);
            let is_due = is_warm && self.is_ready(name, now) && !is_spared;
            if !self.word.active.contains(*name) && is_due {
                return Err(format!("{name} is ready, and {state} instead of active"));
            }
        }
        let could = self.backends.keys().find(|name| self.can_return_to(name, now));
        if let Some(name) = could.filter(|_| fit < self.policy.floor()) {
            return Err(format!("{fit} fit backends are active, and {name} is not gone back to"));
        }
        self.nobody_cold_waits(states, fit, now)?;
        let unfit = self.word.active.iter().find(|name| self.has_failed(name));
        match unfit.filter(|_| fit >= self.policy.floor()) {
            Some(name) => Err(format!("{name} has failed and is active beside {fit} fit ones")),
            None => Ok(()),
        }
    }

    /// Nobody is active only while nobody could be.
    pub(in crate::recovery::tests) fn somebody_serves(
        &self,
        states: &BTreeMap<&BackendName, State>,
        now: Now,
    ) -> Verdict {
        let could = |name: &BackendName| match states[name] {
            State::Standby | State::Warming | State::Failed => self.is_ready(name, now),
            State::Draining | State::Drained => self.can_return_to(name, now),
            _ => false,
        };
        match self.backends.keys().find(|name| self.word.active.is_empty() && could(name)) {
            Some(name) => Err(format!("nobody is active although {name} could be")),
            None => Ok(()),
        }
    }
}
