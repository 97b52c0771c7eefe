//! An active backend that fails: who serves instead.

use super::Coordinator;
use crate::clock::Now;
use crate::names::BackendName;
use crate::recovery::backend::State;
use crate::recovery::event::Event;
use crate::recovery::journal::Record;
use crate::recovery::message::Output;
use crate::recovery::report::{Outcome, Reason};

impl Coordinator {
    /// An active backend that lives but fails its checks.
    pub(super) fn watch_active(&mut self, now: Now) {
        let Some(name) = self.steering.active.clone() else {
            self.promote_any(now);
            return;
        };
        let Some(backend) = self.backends.get(&name) else { return };
        if !backend.has_fallen(&self.policy) || self.journal_error.is_some() {
            return;
        }
        let finding = backend.last_finding.as_ref().map(ToString::to_string).unwrap_or_default();
        self.lose_active(&name, Reason::Unhealthy { finding: finding.clone() }, &finding, now);
    }

    /// The active backend is unfit: back to the old one if it still drains, else on to a standby.
    pub(super) fn lose_active(&mut self, name: &BackendName, reason: Reason, why: &str, now: Now) {
        if self.roll_back(name, why, now) {
            return;
        }
        if self.cycle.is_none()
            && let Some(to) = self.ready_standby(now)
        {
            self.begin_cycle(name, &to, reason, None, now);
            return;
        }
        // Nobody can take over: what is dead is started again, what lives goes on serving as it can.
        let dead = self.backends.get(name).is_some_and(|backend| backend.instance.is_none());
        if dead {
            self.out.push(Output::Event(Event::Failed {
                backend: name.clone(),
                why: format!("{why}, and no standby is ready"),
            }));
            self.steer(None, None);
            self.set_state(name, State::Recovering, None, now);
            self.out.push(Output::Stop(name.clone()));
        }
    }

    /// Sends new flows back to a backend that still drains; false if there is none.
    pub(super) fn roll_back(&mut self, failed: &BackendName, why: &str, now: Now) -> bool {
        let Some(cycle) = &self.cycle else { return false };
        let old = cycle.from.clone();
        let alive = self.backends.get(&old).is_some_and(|backend| {
            backend.instance.is_some() && matches!(backend.state, State::Draining | State::Drained)
        });
        // An old backend that was itself unfit is no place to go back to.
        let was_fit = matches!(cycle.reason, Reason::Ceiling { .. } | Reason::Operator);
        let observed = was_fit && now.ms_since(cycle.begun) <= self.policy.observation_ms;
        let Some(cycle) = self.cycle.take_if(|cycle| alive && observed && cycle.to == *failed) else {
            return false;
        };
        self.record(Record::Ended { cycle: cycle.number, outcome: Outcome::RolledBack });
        self.steer(Some(old.clone()), None);
        self.out.push(Output::Event(Event::RolledBack {
            from: failed.clone(),
            to: old.clone(),
            why: why.to_owned(),
        }));
        self.set_state(&old, State::Active, None, now);
        self.set_state(failed, State::Recovering, None, now);
        self.out.push(Output::Stop(failed.clone()));
        self.report(cycle, Outcome::RolledBack, Some(format!("{failed} failed: {why}")), now);
        true
    }

    /// Nobody is active: the first backend that is ready becomes it.
    pub(super) fn promote_any(&mut self, now: Now) {
        if let Some(name) = self.ready_standby(now) {
            self.activate(&name, now);
        }
    }
}
