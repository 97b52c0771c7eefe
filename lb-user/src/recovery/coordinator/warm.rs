//! Warm-up: a life gets requests of Baton's own before it may get those of clients.
//!
//! While nobody else could serve, nobody is warmed up: who passes its checks serves at once, and takes over from
//! one that has died.

use super::{Backend, Coordinator};
use crate::clock::Now;
use crate::names::BackendName;
use crate::recovery::backend::{State, Warmth};
use crate::recovery::event::Event;
use crate::recovery::message::{Instance, Output};
use crate::recovery::warm_up::WarmUp;

impl Coordinator {
    /// What came of the last warm-up of a backend, if there was one.
    pub fn last_warm_up(&self, name: &BackendName) -> Option<&WarmUp> {
        self.backends.get(name)?.last_warm_up.as_ref()
    }

    /// Whether clients need not be the first who ask this backend for anything.
    pub(super) fn is_warm(&self, backend: &Backend) -> bool {
        self.policy.warm_up_requests == 0 || backend.warmth == Warmth::Warm
    }

    /// A backend has just passed its checks: it is ready, or its warm-up begins.
    pub(super) fn has_risen(&mut self, name: &BackendName, now: Now) {
        let served = if self.policy.spread { self.has_enough() } else { self.active().is_some() };
        let is_cold = self.backends.get(name).is_some_and(|backend| !self.is_warm(backend));
        if served && is_cold {
            self.warm_up(name, now);
        } else {
            self.is_ready_now(name, now);
        }
    }

    fn warm_up(&mut self, name: &BackendName, now: Now) {
        let Some(backend) = self.backends.get_mut(name) else { return };
        let Some(instance) = backend.instance else { return };
        // One that failed before, and was taken back by an operator since, has another chance.
        backend.warmth = Warmth::Unknown;
        self.set_state(name, State::Warming, None, now);
        self.out.push(Output::WarmUp { backend: name.clone(), instance });
    }

    pub(super) fn warmed_up(&mut self, name: &BackendName, instance: Instance, result: WarmUp, now: Now) {
        let percent = self.policy.warm_up_pass_percent;
        let Some(backend) = self.backends.get_mut(name) else { return };
        if backend.instance != Some(instance) {
            return;
        }
        let passed = result.reaches(percent);
        let is_late = backend.state == State::Failed && backend.warmth == Warmth::Unheard;
        backend.warmth = match backend.warmth {
            Warmth::Unknown | Warmth::Unheard if passed => Warmth::Warm,
            Warmth::Unheard => Warmth::Cold,
            // The answer of an earlier warm-up of this life may come after one that has failed.
            warmth => warmth,
        };
        backend.last_warm_up = Some(result.clone());
        let is_awaited = backend.state == State::Warming || is_late && passed;
        let is_ready = backend.is_ready(&self.policy, now);
        let why = format!("warm-up failed, {percent} % have to succeed: {result}");
        if let Some(cycle) = self.cycle.as_mut().filter(|cycle| cycle.from == *name) {
            cycle.warm_up = Some(result.clone());
        }
        self.out.push(Output::Event(Event::WarmedUp { backend: name.clone(), result }));
        if is_awaited && passed && is_ready {
            self.is_ready_now(name, now);
        } else if is_awaited && passed {
            // Its checks have the last word.
            self.set_state(name, State::Starting, None, now);
        } else if is_awaited {
            self.fail_cold(name, Warmth::Cold, why, now);
        }
    }

    /// A backend that no client has met yet did not warm up: it is started again, ever later.
    fn fail_cold(&mut self, name: &BackendName, warmth: Warmth, why: String, now: Now) {
        if let Some(backend) = self.backends.get_mut(name) {
            backend.warmth = warmth;
        }
        self.fail(name, why, now);
    }

    /// Nobody has to be warm any more: who waited for that, or was given up for it, need not.
    pub(super) fn stop_warming(&mut self, now: Now) {
        let waits = |b: &Backend| {
            let given_up = b.state == State::Failed && matches!(b.warmth, Warmth::Cold | Warmth::Unheard);
            // Whose process is not known has to be started again first.
            b.instance.is_some() && (b.state == State::Warming || given_up)
        };
        for name in self.names_where(waits) {
            let Some(backend) = self.backends.get_mut(&name) else { continue };
            backend.warmth = Warmth::Unknown;
            if backend.is_ready(&self.policy, now) {
                self.is_ready_now(&name, now);
            } else {
                self.set_state(&name, State::Starting, None, now);
            }
        }
    }

    /// A backend has passed its checks, and its warm-up if it has one.
    pub(super) fn is_ready_now(&mut self, name: &BackendName, now: Now) {
        if let Some(backend) = self.backends.get_mut(name) {
            backend.attempts = 0;
        }
        self.note_recovered(name, now);
        if self.policy.spread {
            self.join(name, None, now);
        } else {
            self.set_state(name, State::Standby, None, now);
        }
        self.rejoined(name, now);
    }

    /// Gives up on warm-ups of which nothing is heard, and begins those that had to be put off.
    pub(super) fn watch_warm_ups(&mut self, now: Now) {
        let limit = self.policy.warm_up_limit_ms();
        let late = |b: &Backend| b.state == State::Warming && now.ms_since(b.since) > limit;
        for name in self.names_where(late) {
            let why = "nothing was heard of its warm-up in time".to_owned();
            self.fail_cold(&name, Warmth::Unheard, why, now);
        }
        let served = self.active().is_some() && !self.policy.spread;
        let cold =
            |b: &Backend| b.state == State::Standby && b.warmth != Warmth::Warm && b.instance.is_some();
        let cold =
            if served && self.policy.warm_up_requests > 0 { self.names_where(cold) } else { Vec::new() };
        for name in cold {
            self.warm_up(&name, now);
        }
    }

    /// Somebody who passes its checks although no warm-up has succeeded yet: better than nobody.
    pub(super) fn cold_in_need(&self, now: Now) -> Option<BackendName> {
        let able = |b: &Backend| {
            let waits = matches!(b.state, State::Standby | State::Warming | State::Failed);
            waits && b.is_ready(&self.policy, now)
        };
        // One whose warm-up is under way before one that has failed it.
        let all = self.backends.iter().filter(|(_, backend)| able(backend));
        all.min_by_key(|(_, backend)| backend.state).map(|(name, _)| name.clone())
    }
}
