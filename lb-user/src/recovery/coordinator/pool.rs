//! A pool: every backend that is ready is active, and one at a time is taken out.
//!
//! A member that falls gets no new flows as long as enough others pass their checks; it keeps the flows that it
//! has, and is renewed once nobody else is out. If too few pass them, the checks are doubted rather than the
//! backends: whoever lives serves.

use std::collections::BTreeSet;

use super::Coordinator;
use super::trigger::BORN_BEYOND;
use crate::clock::Now;
use crate::names::BackendName;
use crate::recovery::backend::State;
use crate::recovery::event::Event;
use crate::recovery::message::{Instance, Output};
use crate::recovery::report::{Outcome, Reason};

impl Coordinator {
    /// A backend gets new flows from now on, beside those that do.
    pub(super) fn join(&mut self, name: &BackendName, why: Option<String>, now: Now) {
        let mut active = self.steering.active.clone();
        active.insert(name.clone());
        let draining = self.draining().filter(|draining| draining != name);
        self.steer(active, draining);
        self.set_state(name, State::Active, why, now);
    }

    /// Keeps those active that should be.
    pub(super) fn watch_pool(&mut self, now: Now) {
        let dead: Vec<_> =
            self.steering.active.iter().filter(|name| self.is_dead(name, now)).cloned().collect();
        for name in dead {
            let why = self.why_dead(&name);
            self.lose_member(&name, Reason::Died { status: why.clone() }, &why, now);
        }
        let failed = |this: &Self| {
            let fit: BTreeSet<_> = this.fit_active().cloned().collect();
            this.steering.active.difference(&fit).next().cloned()
        };
        if !self.has_enough() {
            self.undo(failed(self), "too few pass their checks", now);
        }
        self.readmit(now);
        while !self.has_enough()
            && let Some(name) = self.cold_in_need(now)
        {
            self.is_ready_now(&name, now);
        }
        if self.has_enough() {
            while let Some(name) = failed(self) {
                self.eject(&name, now);
            }
            self.renew_ejected(now);
        } else {
            let mut able = self.names_where(|b| b.is_ejected() && b.has_fallen(&self.policy));
            // In maintenance the dead are not restarted, and they serve nobody.
            able.retain(|name| !self.is_dead(name, now));
            for name in able {
                self.join(&name, Some("too few pass their checks, so all who live serve".into()), now);
            }
        }
    }

    /// Takes back those who stayed out for failing again and again and are ready, when that is over or they are
    /// needed.
    fn readmit(&mut self, now: Now) {
        let has_enough = self.has_enough();
        let due = self.names_where(|b| {
            let is_over = b.ejections.left_ms(now) == 0 || !has_enough;
            b.state == State::Starting && b.is_ready(&self.policy, now) && is_over
        });
        for name in due {
            self.has_risen(&name, now);
        }
    }

    pub(super) fn has_enough(&self) -> bool {
        self.fit_active().count() >= self.policy.floor()
    }

    /// A member lives and fails its checks: no new flows for it.
    fn eject(&mut self, name: &BackendName, now: Now) {
        let finding = self.finding_of(name);
        if self.cycle.is_none() && !self.maintenance {
            return self.begin_cycle(name, None, Reason::Unhealthy { finding }, None, now);
        }
        self.leave(name);
        self.set_state(name, State::Starting, Some(finding), now);
    }

    /// Begins to renew a member that was ejected while another one was out.
    fn renew_ejected(&mut self, now: Now) {
        let limit = self.policy.ready_deadline_ms;
        let undecided = |since| now.ms_since(since) > limit;
        let due = |b: &super::Backend| {
            let waits = undecided(b.since) && !b.is_ready(&self.policy, now);
            b.is_ejected() && (b.has_fallen(&self.policy) || waits)
        };
        let due = self.names_where(due).into_iter().next();
        if let Some(name) = due.filter(|_| self.cycle.is_none() && !self.maintenance) {
            let finding = self.finding_of(&name);
            self.begin_cycle(&name, None, Reason::Unhealthy { finding }, None, now);
        }
    }

    fn leave(&mut self, name: &BackendName) {
        let mut active = self.steering.active.clone();
        active.remove(name);
        self.steer(active, self.draining());
    }

    /// A member has died: it is started again, under a rejuvenation of its own if none is under way.
    pub(super) fn lose_member(&mut self, name: &BackendName, reason: Reason, why: &str, now: Now) {
        if !self.has_enough() {
            self.undo(Some(name.clone()), why, now);
        }
        if self.maintenance {
            self.leave(name);
            self.refuse(name);
            return self.leave_dead(name, why, now);
        }
        if self.cycle.is_none() {
            return self.begin_cycle(name, None, reason, None, now);
        }
        self.out.push(Output::Event(Event::Failed {
            backend: name.clone(),
            why: format!("{why} while another backend was out"),
        }));
        self.leave(name);
        self.refuse(name);
        self.restart(name, why, now);
    }

    /// Takes back the backend that drains, if it is fit: too few are left without it.
    fn undo(&mut self, failed: Option<BackendName>, why: &str, now: Now) {
        let Some(cycle) = self.cycle_to_undo(now) else { return };
        let failed = failed.unwrap_or_else(|| cycle.from.clone());
        self.note_rolled_back(&cycle, &failed, why);
        self.cycle = None;
        self.join(&cycle.from, None, now);
        self.report(cycle, Outcome::RolledBack, Some(format!("{failed} failed: {why}")), now);
    }

    /// Renews the first active backend that has aged.
    pub(super) fn watch_pool_ceiling(&mut self, now: Now) {
        self.watch_shadow(now);
        if self.rules_rest(now) {
            return;
        }
        let mut born_beyond = None;
        let aged = self.fit_active().find_map(|name| {
            let reason = self.aged(name, now)?;
            if !matches!(reason, Reason::Ceiling { .. }) || !self.was_born_beyond(name) {
                return Some((name.clone(), reason));
            }
            // That one would be no better for it, and keeps nobody else from it.
            let age = self.aged_by_time(name, now);
            born_beyond.get_or_insert_with(|| (name.clone(), reason));
            Some((name.clone(), age?))
        });
        let Some((name, reason)) = aged else {
            match born_beyond {
                Some((name, reason)) => {
                    let why = format!("{name} was beyond the ceiling from its start: {BORN_BEYOND}");
                    self.wait(reason, why);
                }
                None => self.waits_for = None,
            }
            return;
        };
        match self.reason_to_refuse().or_else(|| self.why_not_spared(&name)) {
            Some(why) => self.wait(reason, why),
            None if self.may_begin(&name, &reason, now) => self.propose_cycle(&name, None, reason, now),
            None => {}
        }
    }

    /// Why this member cannot be taken out on purpose.
    pub(super) fn why_not_spared(&self, name: &BackendName) -> Option<String> {
        if !self.is_active(name) {
            return Some(self.why_not_standing(name));
        }
        let left = self.fit_active().filter(|active| *active != name).count();
        let floor = self.policy.floor();
        (left < floor).then(|| {
            format!(
                "without {name} there would be {left} active backends, and {floor} have to be: wait for more"
            )
        })
    }

    /// Of the active backends that can be renewed, the one whose life is the longest.
    pub(super) fn oldest_active(&self) -> Option<BackendName> {
        let born = |name: &&BackendName| {
            self.backends.get(*name).and_then(|backend| backend.instance).map(Instance::began_ms)
        };
        self.fit_active().filter(|name| self.policy.can_renew(name)).min_by_key(born).cloned()
    }
}
