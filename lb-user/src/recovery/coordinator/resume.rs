//! Taking a service up where an earlier controller left it.
//!
//! Three witnesses are heard, each for what it knows best: the steering word in the kernel says where new
//! flows go, the processes say which lives go on, and the journal says what was meant.

use std::collections::BTreeMap;

use super::Coordinator;
use crate::clock::Now;
use crate::names::{BackendName, ServiceName};
use crate::recovery::backend::{Backend, State};
use crate::recovery::cycle::Cycle;
use crate::recovery::event::Event;
use crate::recovery::journal::Record;
use crate::recovery::message::{Instance, Output, Steering};
use crate::recovery::policy::Policy;
use crate::recovery::report::Outcome;

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
        let (mut this, _) = Self::new(service, policy, alive.keys().cloned(), now);
        this.steering = steering;
        this.cycles = history.iter().map(Record::cycle).max().unwrap_or(0);
        this.out.push(Output::Event(Event::ControllerStarted { adopted: true }));
        for (name, instance) in alive {
            this.take_up(name, *instance, now);
        }
        if let Some(record) = open_cycle(history) {
            this.take_up_cycle(record, history, now);
        } else if this.steering.draining.is_some() {
            // What drains cannot be told without the journal: it goes on as a backend like any other.
            this.steer(this.steering.active.clone(), None);
        }
        let out = std::mem::take(&mut this.out);
        (this, out)
    }

    fn take_up(&mut self, name: &BackendName, instance: Option<Instance>, now: Now) {
        let is_active = self.steering.active.as_ref() == Some(name);
        let Some(instance) = instance else {
            if is_active {
                self.steer(None, None);
            }
            self.restart(name, now);
            return;
        };
        let worked = is_active || self.steering.draining.as_ref() == Some(name);
        if let Some(backend) = self.backends.get_mut(name) {
            backend.begin_life(instance);
            backend.has_worked = worked;
        }
        if is_active {
            self.set_state(name, State::Active, None, now);
        }
    }

    /// Ends what may be left of a backend; its start follows.
    fn restart(&mut self, name: &BackendName, now: Now) {
        self.set_state(name, State::Recovering, Some("found dead".into()), now);
        self.out.push(Output::Stop(name.clone()));
    }

    fn take_up_cycle(&mut self, record: &Record, history: &[Record], now: Now) {
        let Record::Handover { cycle, from, to, epoch, reason, at, drain_deadline_ms, instance } = record
        else {
            return;
        };
        if self.steering.epoch < *epoch {
            self.record(Record::Ended { cycle: *cycle, outcome: Outcome::Undone });
            return;
        }
        let mut resumed = Cycle::new(*cycle, reason.clone(), from.clone(), to.clone(), *at);
        resumed.drain_deadline_ms = *drain_deadline_ms;
        resumed.before = *instance;
        let stopping = history.iter().any(|r| matches!(r, Record::Stopping { cycle: c, .. } if c == cycle));
        resumed.stopping = stopping.then_some(now);
        let life = self.backends.get(from).and_then(|backend: &Backend| backend.instance);
        match life {
            Some(life) if Some(life) == *instance => {
                let state = if stopping { State::Drained } else { State::Draining };
                self.set_state(from, state, Some("taken up again".into()), now);
            }
            // Already restarted, or already being restarted by `take_up`.
            _ => resumed.stopping = Some(now),
        }
        self.cycle = Some(resumed);
    }
}

/// The handover of the last cycle, if that has not ended.
fn open_cycle(history: &[Record]) -> Option<&Record> {
    let ended =
        |number: u64| history.iter().any(|r| matches!(r, Record::Ended { cycle, .. } if *cycle == number));
    history.iter().rev().find(|r| matches!(r, Record::Handover { .. })).filter(|r| !ended(r.cycle()))
}
