//! Taking a service up where an earlier controller left it.
//!
//! Three witnesses are heard, each for what it knows best: the steering word in the kernel says where new
//! flows go, the processes say which lives go on, and the journal says what was meant.

use std::collections::{BTreeMap, BTreeSet};

use super::Coordinator;
use crate::clock::Now;
use crate::names::{BackendName, ServiceName};
use crate::recovery::backend::{State, Warmth};
use crate::recovery::cycle::Cycle;
use crate::recovery::event::Event;
use crate::recovery::journal::{Record, Standing, open_cycle};
use crate::recovery::message::{Instance, Output, Steering};
use crate::recovery::policy::{NEVER_MS, Policy};
use crate::recovery::report::{Outcome, Reason};

/// What is known of a life that ended while no controller ran.
const FOUND_DEAD: &str = "found dead";

impl Coordinator {
    /// A service that an earlier controller left: `alive` holds the life of each backend, if it goes on,
    /// `steering` is what the kernel does at this moment, and `history` is what the journal holds.
    pub fn resume(
        service: ServiceName,
        policy: Policy,
        alive: &BTreeMap<BackendName, Option<Instance>>,
        steering: Steering,
        history: &[Record],
        now: Now,
    ) -> (Self, Vec<Output>) {
        let (mut this, _) = Self::new(service, policy, alive.keys().cloned(), &[], now);
        let standing = Standing::of(history);
        (this.paused, this.maintenance) = (standing.paused, standing.maintenance);
        for name in &standing.held_out {
            if let Some(backend) = this.backends.get_mut(name) {
                backend.held = true;
            }
        }
        this.steering = steering;
        this.cycles = history.iter().filter_map(Record::cycle).max().unwrap_or(0);
        this.out.push(Output::Event(Event::ControllerStarted { adopted: true }));
        for (name, instance) in alive {
            if let Some(instance) = instance {
                this.take_up(name, *instance, history, now);
            }
        }
        this.take_up_ladders(&standing, now);
        this.keep_one_active(now);
        this.take_up_cycle(history, now);
        this.take_up_holds(now);
        // Without the journal it is not known what drains: that goes on as a backend like any other.
        if this.steering.draining != this.draining() {
            this.steer_old(this.draining());
        }
        this.bury(alive, now);
        // The active one may have died before the earlier controller did, while the old one drains.
        if this.policy.spread {
            this.watch_pool(now);
        } else {
            this.watch_active(now);
        }
        this.announce(now);
        let out = std::mem::take(&mut this.out);
        (this, out)
    }

    /// The service is set up anew: what an earlier controller had under way came to an end without it.
    pub(super) fn close_history(&mut self, history: &[Record], standing: &Standing, now: Now) {
        for backend in standing.quarantined.iter().chain(standing.steps.keys()).collect::<BTreeSet<_>>() {
            self.record(Record::Recovered { backend: backend.clone() });
        }
        let Some((Record::Handover { cycle, from, to, reason, at, instance, .. }, _)) = open_cycle(history)
        else {
            return;
        };
        // The boot clock may have begun anew, and says nothing of how long it took.
        let begun = Now { unix_ms: at.unix_ms, ..now };
        let mut cycle = Cycle::new(*cycle, reason.clone(), from.clone(), to.clone(), begun);
        cycle.before = *instance;
        self.end_cycle(cycle, Outcome::Interrupted, None, now);
    }

    fn take_up(&mut self, name: &BackendName, instance: Instance, history: &[Record], now: Now) {
        let is_active = self.is_active(name);
        let drained = |record: &Record| {
            matches!(record, Record::Handover { from, instance: life, .. }
                if from == name && *life == Some(instance))
        };
        let Some(backend) = self.backends.get_mut(name) else { return };
        backend.begin_life(instance);
        backend.fresh_memory = Some(0);
        // It may have flows of a time of which nothing is known, and one without any drains at once.
        backend.has_worked = true;
        // Whether one that waited had been warmed up is not known, and it costs little to do it again.
        if is_active || self.steering.draining.as_ref() == Some(name) || history.iter().any(drained) {
            backend.warmth = Warmth::Warm;
        }
        if is_active {
            self.set_state(name, State::Active, None, now);
        }
    }

    /// Goes on with the cycle that was under way, or ends it as what it has become.
    fn take_up_cycle(&mut self, history: &[Record], now: Now) {
        let Some((record, stopping)) = open_cycle(history) else { return };
        let Record::Handover { cycle, from, to, epoch, reason, at, drain_deadline_ms, instance } = record
        else {
            return;
        };
        let mut resumed = Cycle::new(*cycle, reason.clone(), from.clone(), to.clone(), *at);
        resumed.drain_deadline_ms = *drain_deadline_ms;
        resumed.before = *instance;
        resumed.note_trouble("the controller ended on the way, and another one took over".to_owned());
        if !self.backends.contains_key(from) {
            return self.end_cycle(resumed, Outcome::Removed, None, now);
        }
        let was_dead = matches!(reason, Reason::Died { .. });
        if self.steering.epoch > *epoch || was_dead {
            // More happened than was written down, so how long flows have been waiting is not known; and who was
            // dead has to be found so again. Nobody has less time than was promised, whatever the policy says now.
            resumed.drain_deadline_ms = self.policy.drain_deadline(now).max(*drain_deadline_ms);
        }
        let is_done = match self.steering.epoch.cmp(epoch) {
            std::cmp::Ordering::Less => false,
            std::cmp::Ordering::Equal => to.as_ref().map_or(!self.is_active(from), |to| self.is_active(to)),
            std::cmp::Ordering::Greater => true,
        };
        if !is_done {
            return self.end_cycle(resumed, Outcome::Undone, None, now);
        }
        if self.is_active(from) {
            let detail = "new flows were found to go to it again".to_owned();
            return self.end_cycle(resumed, Outcome::RolledBack, Some(detail), now);
        }
        let life = self.backends.get(from).and_then(|backend| backend.instance);
        if life.is_some() && life == *instance {
            // A stop that was decided on is looked at once more: flows may have come since.
            let state = if stopping { State::Drained } else { State::Draining };
            self.set_state(from, state, Some("taken up again".into()), now);
        } else {
            resumed.stopping = Some(now);
            resumed.unseen =
                Some("its old life ended while no controller ran: what that cut is not known".into());
        }
        self.cycle = Some(resumed);
    }

    /// Goes on holding out whom operators hold out.
    fn take_up_holds(&mut self, now: Now) {
        for name in self.names_where(|backend| backend.held) {
            let drains = self.draining_backend() == Some(&name);
            if self.is_active(&name) {
                // The controller died before new flows were led away, and the operator has had no answer.
                self.release(&name);
            } else if let Some(cycle) = self.cycle.as_mut().filter(|_| drains) {
                cycle.drain_deadline_ms = NEVER_MS;
            } else {
                self.hold_out(&name, now);
            }
        }
    }

    /// What was a pool and is none any more keeps one active backend: the others wait, with their flows.
    fn keep_one_active(&mut self, now: Now) {
        if self.policy.spread || self.steering.active.len() <= 1 {
            return;
        }
        let lives = |name: &&BackendName| self.backends.get(*name).is_some_and(|b| b.instance.is_some());
        let kept = self.steering.active.iter().find(lives).cloned();
        for name in self.steering.active.clone().into_iter().filter(|name| kept.as_ref() != Some(name)) {
            self.set_state(&name, State::Starting, Some("one is active from now on".into()), now);
        }
        self.steer(kept.into_iter().collect(), self.steering.draining.clone());
    }

    /// Deals with the backends whose command does not run.
    fn bury(&mut self, alive: &BTreeMap<BackendName, Option<Instance>>, now: Now) {
        let dead = |name: &BackendName| alive.get(name).is_some_and(Option::is_none);
        let held = self.names_where(|backend| backend.state == State::Maintenance);
        let (active, others): (Vec<_>, Vec<_>) = alive
            .keys()
            .filter(|name| dead(name) && !held.contains(name))
            .partition(|name| self.is_active(name));
        for name in others {
            // What an earlier controller had begun to renew is the end of that.
            let is_renewed = self.cycle.as_ref().is_some_and(|cycle| cycle.from == *name);
            if self.maintenance && !is_renewed {
                self.leave_dead(name, FOUND_DEAD, now);
            } else {
                self.restart_found_dead(name, FOUND_DEAD, now);
            }
        }
        for name in active {
            let reason = Reason::Died { status: FOUND_DEAD.into() };
            if self.policy.spread {
                self.lose_member(name, reason, FOUND_DEAD, now);
            } else if self.maintenance {
                self.step_aside(name, FOUND_DEAD, now);
            } else if !self.roll_back(name, &reason, FOUND_DEAD, now) {
                self.steer(BTreeSet::new(), self.draining());
                self.restart(name, FOUND_DEAD, now);
            }
        }
    }
}
