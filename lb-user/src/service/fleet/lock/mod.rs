//! Keeps the lock of the site as the budget needs it: takes it, gives it back, and remembers both over a crash.
//!
//! What always holds: that the lock may be held is on disk before it is asked for, and stays there until the server
//! has taken it back.

mod client;
mod identity;
mod ledger;

use std::time::Duration;

use tokio::time::{MissedTickBehavior, interval};
use tokio_util::task::AbortOnDropHandle;

use super::super::budget::Budget;
use super::FleetError;
use crate::clock::Now;
use crate::config;
use crate::paths::PlanePaths;
use crate::recovery::fleet_lock::{Answer, FleetLock, Request};

pub(super) use identity::Identity;
use ledger::Ledger;

/// How often it is looked at whether the lock is needed.
const TICK: Duration = Duration::from_millis(200);

/// Who takes the lock that is configured.
pub(super) fn identity(settings: Option<&config::FleetLock>) -> Result<Option<Identity>, FleetError> {
    settings.map(Identity::of).transpose().map_err(FleetError::Settings)
}

/// Begins to keep the lock that is wanted, and to give back what earlier controllers may hold.
pub(super) fn keep(
    wanted: Option<Identity>,
    paths: &PlanePaths,
    budget: &Budget,
) -> Vec<AbortOnDropHandle<()>> {
    let ledger = Ledger::new(paths.fleet_lock());
    let left = ledger.read();
    let mut keepers = Vec::new();
    // What has changed is at most how its server is reached: the new way is the one that may work.
    let is_wanted = |old: &Identity| wanted.as_ref().is_some_and(|wanted| wanted.is_same_lock(old));
    let may_be_held = left.iter().any(is_wanted);
    for old in left.iter().filter(|old| !is_wanted(old)) {
        keepers.push(spawn(Keeper::new(old.clone(), &ledger, None, true)));
    }
    if let Some(identity) = wanted {
        keepers.push(spawn(Keeper::new(identity, &ledger, Some(budget.clone()), may_be_held)));
    }
    keepers
}

fn spawn(keeper: Keeper) -> AbortOnDropHandle<()> {
    AbortOnDropHandle::new(tokio::task::spawn_local(keeper.run()))
}

/// Whoever deals with one lock.
struct Keeper {
    identity: Identity,
    ledger: Ledger,
    /// Who needs it; nobody if it is only to be given back.
    budget: Option<Budget>,
    lock: FleetLock,
}

impl Keeper {
    fn new(identity: Identity, ledger: &Ledger, budget: Option<Budget>, may_be_held: bool) -> Self {
        Self { identity, ledger: ledger.clone(), budget, lock: FleetLock::new(may_be_held) }
    }

    async fn run(mut self) {
        let mut ticks = interval(TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            let needed =
                self.budget.as_ref().is_some_and(|budget| budget.needs_lock(self.lock.may_be_held()));
            if let Some(request) = self.lock.next(needed, Now::read()) {
                if request == Request::GiveBack {
                    // From here on it may be gone.
                    self.tell(Some("for the lock of the fleet, which is being given back".to_owned()));
                }
                let answer = self.ask(request).await;
                self.note(request, &answer);
                self.lock.hear(request, answer, Now::read());
            }
            self.tell(self.lock.waits());
            if self.lock.is_free() {
                self.erase();
                if self.budget.is_none() {
                    return;
                }
            }
        }
    }

    fn tell(&self, waits: Option<String>) {
        if let Some(budget) = &self.budget {
            budget.set_lock(waits);
        }
    }

    async fn ask(&self, request: Request) -> Answer {
        if request == Request::Take
            && let Err(error) = self.ledger.add(&self.identity)
        {
            return Answer::Denied(format!("that it is taken cannot be written down: {error}"));
        }
        client::ask(&self.identity, request).await
    }

    fn note(&self, request: Request, answer: &Answer) {
        let (url, group) = (&self.identity.url, &self.identity.group);
        match (request, answer) {
            (Request::Take, Answer::Done) => tracing::info!(%url, %group, "the lock of the fleet is taken"),
            (Request::GiveBack, Answer::Done) => {
                tracing::info!(%url, %group, "the lock of the fleet is given back");
            }
            (Request::Take, Answer::Denied(why)) => {
                tracing::info!(%url, %group, "the lock of the fleet is not to be had: {why}");
            }
            (_, Answer::Denied(why) | Answer::Failed(why)) => {
                tracing::warn!(%url, %group, "the server of the lock of the fleet does not answer well: {why}");
            }
        }
    }

    fn erase(&self) {
        if let Err(error) = self.ledger.remove(&self.identity) {
            tracing::warn!(%error, "that the lock of the fleet is free cannot be written down; it is given back again later");
        }
    }
}
