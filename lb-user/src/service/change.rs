//! A service that becomes another one while it runs: nothing that is under way is broken off or forgotten.

use std::collections::BTreeSet;
use std::io;
use std::path::Path;

use lb_common::BackendState;
use procfs::Current;
use tokio::sync::oneshot;
use tokio::task::JoinSet;

use super::UpError;
use super::budget::{Budget, Purse};
use super::definition::policy_of;
use super::parts::Parts;
use super::runtime::Runtime;
use super::tasks;
use crate::check::Paces;
use crate::clock::Now;
use crate::config;
use crate::names::BackendName;
use crate::recovery::Policy;

/// What a service is to be like.
pub(super) struct Settings {
    pub(super) service: config::Service,
    pub(super) policy: Policy,
    pub(super) purse: Option<Purse>,
}

impl Settings {
    /// What the configuration makes of a service on this machine, with its share of a budget.
    pub(super) fn of(service: config::Service, budget: Option<&Budget>) -> Result<Self, UpError> {
        let memory = procfs::Meminfo::current().map_err(|error| {
            UpError::files(Path::new("/proc/meminfo"))(io::Error::other(error.to_string()))
        })?;
        let policy = Policy { asks: budget.is_some(), ..policy_of(&service, memory.mem_total) };
        let purse = budget.map(|budget| Purse::new(budget, &service));
        Ok(Self { service, policy, purse })
    }
}

/// What a service is to become.
pub(super) struct Change {
    pub(super) settings: Settings,
    /// Its parts as they are then.
    pub(super) parts: Parts,
    /// Dropped when it is brought about: until then the service stands on its old backends.
    pub(super) until_done: oneshot::Sender<()>,
}

impl Runtime {
    /// Takes in what the service is to become; its tables have been filled for that already.
    pub(super) fn hear_change(&mut self, change: Box<Change>) {
        self.change = Some(change);
        self.refuse_again();
    }

    /// Goes on refusing the flows of the dead, although the tables have been filled anew.
    fn refuse_again(&mut self) {
        for dead in self.cuts.keys().filter(|name| !self.dying.contains(*name)) {
            self.parts.set_backend_state(dead, BackendState::Refused);
        }
    }

    /// Becomes what was wanted, unless a backend that is to go is being started or stopped: that comes first.
    pub(super) fn change_if_possible(&mut self) {
        let Some(change) = &self.change else { return };
        let stay = self.staying(&change.parts);
        let busy = self.ordered.iter().find(|name| !stay.contains(*name));
        if let Some(backend) = busy {
            tracing::debug!(service = %self.service.name, %backend, "the change of a service waits for an order");
            return;
        }
        if let Some(change) = self.change.take() {
            self.become_changed(*change, &stay);
        }
    }

    /// The backends that are the same before and after.
    fn staying(&self, parts: &Parts) -> BTreeSet<BackendName> {
        let is_same = |name: &&BackendName| {
            let (old, new) = (self.parts.backends.get(*name), parts.backends.get(*name));
            old.zip(new).is_some_and(|(old, new)| (old.id, old.address) == (new.id, new.address))
        };
        self.parts.backends.keys().filter(is_same).cloned().collect()
    }

    fn become_changed(&mut self, change: Change, stay: &BTreeSet<BackendName>) {
        let Change { settings: Settings { service, policy, purse }, parts, until_done: _done } = change;
        let policy = parts.with_ladders(policy);
        let names = parts.names();
        if service.check.watch.slow != self.service.check.watch.slow || !stay.is_superset(&names) {
            let longest_ms = 2 * policy.check_period_ms + policy.check_timeout_ms;
            self.paces = Paces::new(service.check.watch.slow, longest_ms);
        }
        if service.check.watch.agent != self.service.check.watch.agent {
            self.advice.clear();
        }
        (self.service, self.policy, self.parts, self.purse) = (service, policy, parts, purse);
        self.advice.retain(|name, _| stay.contains(name));
        self.ends.retain(|name, _| stay.contains(name));
        self.cuts.retain(|name, _| stay.contains(name));
        self.dying.retain(|name| stay.contains(name));
        self.watchers = JoinSet::new();
        let reporters = tasks::Reporters { inputs: &self.reporter, checks: &self.checked };
        self.samples = tasks::watch_all(&self.parts, &self.service, reporters, &mut self.watchers);
        let (now, policy) = (Now::read(), self.policy.clone());
        self.step_by(now, |coordinator| coordinator.change(policy.clone(), &names, stay, now));
        self.settle_with_budget(now);
        // Weights, limits and ids may be others, though the same backends are active.
        self.parts.steer(self.coordinator.steering());
        self.refuse_again();
        tracing::info!(service = %self.service.name, "goes on with its new settings");
    }
}
