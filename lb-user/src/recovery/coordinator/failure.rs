//! An active backend that fails: who serves instead.
//!
//! Nothing here waits for a journal: somebody has to serve. What was not written down is found again in the
//! steering word when the next controller comes.

use std::collections::BTreeSet;

use super::{Backend, Coordinator};
use crate::clock::Now;
use crate::names::BackendName;
use crate::recovery::backend::State;
use crate::recovery::cycle::Cycle;
use crate::recovery::event::Event;
use crate::recovery::journal::Record;
use crate::recovery::message::Output;
use crate::recovery::report::{Outcome, Reason};

impl Coordinator {
    /// An active backend that lives but fails its checks, or none at all.
    pub(super) fn watch_active(&mut self, now: Now) {
        let fallen = |name: &&BackendName| {
            self.backends.get(*name).is_some_and(|backend| backend.has_fallen(&self.policy))
        };
        if let Some(name) = self.active().filter(fallen).cloned() {
            let (reason, why) = if self.is_dead(&name, now) {
                let why = self.why_dead(&name);
                (Reason::Died { status: why.clone() }, why)
            } else {
                let finding = self.finding_of(&name);
                (Reason::Unhealthy { finding: finding.clone() }, finding)
            };
            self.lose_active(&name, reason, &why, now);
        }
        if self.active().is_none() {
            self.promote_any(now);
        }
    }

    /// What the last check of a backend found wrong.
    pub(super) fn finding_of(&self, name: &BackendName) -> String {
        let finding = self.backends.get(name).and_then(|backend| backend.evidence.last_finding.as_ref());
        finding.map_or_else(|| "it fails its checks now and then".to_owned(), ToString::to_string)
    }

    /// Whether it is proven that a backend serves nobody: its process has ended, or it fell in silence, no
    /// client was answered either, and whoever checks it gets answers of another backend.
    pub(super) fn is_dead(&self, name: &BackendName, now: Now) -> bool {
        let passes = |(other, b): (&BackendName, &Backend)| other != name && b.passes(&self.policy, now);
        self.backends.get(name).is_some_and(|backend| {
            backend.instance.is_none() || backend.is_silent(&self.policy) && self.backends.iter().any(passes)
        })
    }

    pub(super) fn why_dead(&self, name: &BackendName) -> String {
        format!("{}, and no client was answered since", self.finding_of(name))
    }

    /// Resets the flows of a dead backend, if that is wanted.
    pub(super) fn refuse(&mut self, name: &BackendName) {
        if self.policy.reset_dead {
            self.out.push(Output::Refuse(name.clone()));
        }
    }

    /// A backend that dies in silence while it drains is not waited for.
    pub(super) fn watch_drain(&mut self, now: Now) {
        let dead = |name: &&BackendName| self.is_dead(name, now) && !self.is_being_diagnosed(name);
        let Some(name) = self.draining_backend().filter(dead).cloned() else { return };
        let why = self.why_dead(&name);
        self.lose_draining(&name, &why, now);
    }

    /// The backend that drains has died.
    pub(super) fn lose_draining(&mut self, name: &BackendName, why: &str, now: Now) {
        let what = format!("{why} while it drained");
        if let Some(cycle) = self.cycle.as_mut() {
            cycle.note_trouble(format!("{name}: {what}"));
        }
        self.out.push(Output::Event(Event::Failed { backend: name.clone(), why: what }));
        self.refuse(name);
        let lives = self.backends.get(name).is_some_and(|backend| backend.held && backend.instance.is_some());
        if lives {
            // Whoever holds it out may want to look at it as it is.
            if let Some(cycle) = &mut self.cycle {
                cycle.unseen = Some(format!("{why}: what it still had cannot be told finished from lost"));
            }
            self.hold_out(name, now);
        } else {
            self.stop_drained(name, now);
        }
    }

    /// The active backend is unfit: back to the old one if it still drains, else on to a standby.
    pub(super) fn lose_active(&mut self, name: &BackendName, reason: Reason, why: &str, now: Now) {
        if self.maintenance {
            return self.step_aside(name, why, now);
        }
        if self.roll_back(name, &reason, why, now) {
            return;
        }
        let in_need = || self.cold_in_need(now).filter(|_| self.is_dead(name, now));
        if let Some(to) = self.ready_standby(now).or_else(in_need) {
            if self.cycle.is_none() {
                return self.begin_cycle(name, Some(&to), reason, None, now);
            }
            return self.pass_on(name, Some(&to), why, now);
        }
        // Nobody can take over: what is dead is started again, what lives goes on serving as it can.
        if self.is_dead(name, now) {
            self.out.push(Output::Event(Event::Failed {
                backend: name.clone(),
                why: format!("{why}, and no standby is ready"),
            }));
            self.pass_on(name, None, why, now);
        } else {
            let why = self.why_no_standby(now);
            self.wait(reason, why);
        }
    }

    /// New flows go to `to`, or to nobody, without a rejuvenation of who failed: none may begin, or one is under way.
    pub(super) fn pass_on(&mut self, failed: &BackendName, to: Option<&BackendName>, why: &str, now: Now) {
        let is_dead = self.is_dead(failed, now);
        if let (Some(cycle), Some(to)) = (&mut self.cycle, to) {
            cycle.note_trouble(format!("{failed}: {why}; new flows went to {to}"));
        }
        match to {
            Some(to) => self.activate(to, now),
            None => self.steer(BTreeSet::new(), self.draining()),
        }
        if !is_dead {
            return self.set_state(failed, State::Starting, Some(why.to_owned()), now);
        }
        self.refuse(failed);
        if self.maintenance {
            self.leave_dead(failed, why, now);
        } else {
            self.restart(failed, why, now);
        }
    }

    /// Sends new flows back to the backend that still drains, and begins to renew the one that failed; false
    /// if there is nobody to go back to.
    pub(super) fn roll_back(&mut self, failed: &BackendName, reason: &Reason, why: &str, now: Now) -> bool {
        let Some(cycle) = self.cycle_to_roll_back(failed, now) else { return false };
        let old = cycle.from.clone();
        self.note_rolled_back(&cycle, failed, why);
        self.begin_cycle(failed, Some(&old), reason.clone(), None, now);
        self.report(cycle, Outcome::RolledBack, Some(format!("{failed} failed: {why}")), now);
        true
    }

    /// Nobody is active: the first backend that is ready becomes it, or the one that drains, or one that has not been
    /// warmed up.
    fn promote_any(&mut self, now: Now) {
        if let Some(name) = self.ready_standby(now) {
            return self.activate(&name, now);
        }
        let Some(cycle) = self.cycle_to_undo(now) else {
            if let Some(name) = self.cold_in_need(now) {
                self.is_ready_now(&name, now);
                self.activate(&name, now);
            }
            return;
        };
        let failed = cycle.to.clone().unwrap_or_else(|| cycle.from.clone());
        self.note_rolled_back(&cycle, &failed, "it does not serve");
        self.cycle = None;
        self.activate(&cycle.from, now);
        let detail = format!("{failed} does not serve");
        self.report(cycle, Outcome::RolledBack, Some(detail), now);
    }

    fn activate(&mut self, name: &BackendName, now: Now) {
        self.steer(BTreeSet::from([name.clone()]), self.draining());
        self.last_handover = Some(now);
        self.set_state(name, State::Active, None, now);
    }

    /// The cycle that is under way, if new flows could go back to its old backend.
    ///
    /// Within the observation window one that was fit when it was handed over is trusted unless its checks
    /// fail; later, or if it was unfit itself, it must have passed them just now.
    pub(super) fn cycle_to_undo(&self, now: Now) -> Option<Cycle> {
        let cycle = self.cycle.as_ref()?;
        let old = self.backends.get(&cycle.from)?;
        let drains = old.instance.is_some() && matches!(old.state, State::Draining | State::Drained);
        let was_fit = cycle.reason.is_planned();
        let observed = now.ms_since(cycle.begun) <= self.policy.observation_ms;
        let trusted = was_fit && observed && !old.has_fallen(&self.policy);
        (drains && (trusted || old.is_ready(&self.policy, now))).then(|| cycle.clone())
    }

    /// The same, if it was `failed` that took over; one that an operator takes out is gone back to only for want of
    /// others.
    pub(super) fn cycle_to_roll_back(&self, failed: &BackendName, now: Now) -> Option<Cycle> {
        let cycle = self.cycle_to_undo(now).filter(|cycle| cycle.to.as_ref() == Some(failed))?;
        let is_spared = self.is_held(&cycle.from) && self.ready_standby(now).is_some();
        (!is_spared).then_some(cycle)
    }

    pub(super) fn note_rolled_back(&mut self, cycle: &Cycle, failed: &BackendName, why: &str) {
        self.record(Record::Ended { cycle: cycle.number, outcome: Outcome::RolledBack });
        self.out.push(Output::Event(Event::RolledBack {
            from: failed.clone(),
            to: cycle.from.clone(),
            why: why.to_owned(),
        }));
        self.release(&cycle.from);
    }
}
