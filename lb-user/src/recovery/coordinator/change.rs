//! From one configuration to the next in the middle of whatever is under way.
//!
//! Nothing that goes on is interrupted, asked for twice or forgotten: what is known of the backends that stay is
//! kept, and a step that was ordered is still waited for.

use std::collections::BTreeSet;

use super::{Backend, Coordinator};
use crate::clock::Now;
use crate::names::BackendName;
use crate::recovery::backend::State;
use crate::recovery::journal::Record;
use crate::recovery::message::Output;
use crate::recovery::policy::Policy;
use crate::recovery::report::Outcome;

impl Coordinator {
    /// From now on this is the policy and these are the backends: those that `stay` as they are, and all others
    /// of `backends`, which are new although one of that name may have been there.
    ///
    /// Whether the service is a pool cannot change. As with [`Coordinator::step`], the change has not happened if
    /// its records cannot be made durable.
    pub fn change(
        &mut self,
        policy: Policy,
        backends: &BTreeSet<BackendName>,
        stay: &BTreeSet<BackendName>,
        now: Now,
    ) -> Vec<Output> {
        self.leave_is_fresh = false;
        if !policy.judges_like(&self.policy) {
            self.judge_anew(now);
        }
        if let Some(cycle) = self.cycle.as_mut().filter(|_| policy.hooks != self.policy.hooks) {
            // Others may have to be asked.
            (cycle.consented, cycle.asked_since) = (false, None);
        }
        self.policy = policy;
        let leave = self.names_where(|_| true).into_iter().filter(|name| !stay.contains(name));
        for name in leave.collect::<Vec<_>>() {
            self.dismiss(&name, now);
        }
        let known: BTreeSet<_> = self.backends.keys().cloned().collect();
        let active: BTreeSet<_> = self.steering.active.intersection(&known).cloned().collect();
        let draining = self.draining();
        if active != self.steering.active || draining != self.steering.draining {
            self.steer(active, draining);
        }
        for name in backends.difference(&known) {
            self.welcome(name, now);
        }
        if self.policy.warm_up_requests == 0 {
            self.stop_warming(now);
        }
        self.look(now)
    }

    /// What was judged by other rules counts for nothing.
    fn judge_anew(&mut self, now: Now) {
        for backend in self.backends.values_mut() {
            if backend.state == State::Starting && backend.evidence.is_up() {
                // It has all its time to become ready again.
                backend.since = now;
            }
            backend.forget_checks();
        }
    }

    /// A backend is no business of this service any more. It goes on as it is, and so do the flows that it has.
    fn dismiss(&mut self, name: &BackendName, now: Now) {
        if let Some(cycle) = self.cycle.take_if(|cycle| cycle.from == *name) {
            self.end_cycle(cycle, Outcome::Removed, None, now);
        }
        if let Some(pending) = self.pending.take_if(|pending| pending.backend.as_ref() == Some(name)) {
            self.withdraw(
                &pending,
                format!("{name} was taken out of the configuration before that could begin"),
            );
        }
        self.backends.remove(name);
    }

    /// A new backend: one that runs is found so by its start.
    fn welcome(&mut self, name: &BackendName, now: Now) {
        // What was written down of another one of that name is over.
        self.record(Record::Ready { backend: name.clone() });
        self.record(Record::Recovered { backend: name.clone() });
        let mut backend = Backend::new(now);
        if self.maintenance {
            backend.state = State::Failed;
        } else {
            self.out.push(Output::Start(name.clone()));
        }
        self.backends.insert(name.clone(), backend);
    }
}
