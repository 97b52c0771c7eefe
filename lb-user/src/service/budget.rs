//! The budget as the services of a controller share it: who stands how, and the lock of the site beside it.
//!
//! One thread runs all services, so a borrow lasts for a call and is never held over an await.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;

use super::runtime::Runtime;
use crate::clock::Now;
use crate::config::{self, LockedFor};
use crate::names::{BackendName, ServiceName};
use crate::recovery::budget::{Arbiter, Leave, Limits, Need, Situation, Wish};
use crate::recovery::{Coordinator, Input, State};

/// A step may change what is wanted, and an answer what is wanted next; it ends with nothing or a cycle.
const ANSWERS: u32 = 4;

/// The budget of a controller.
#[derive(Clone)]
pub(super) struct Budget(Rc<RefCell<Shared>>);

struct Shared {
    arbiter: Arbiter,
    locked_for: Option<LockedFor>,
    /// Why the lock of the site does not let anybody begin; none if it is held.
    lock_waits: Option<String>,
}

impl Budget {
    /// A budget of which nobody gets anything until [`Budget::open`].
    pub(super) fn new(config: &config::Budget) -> Self {
        let mut arbiter = Arbiter::new(limits(config));
        arbiter.close("until every service has been taken up");
        let locked_for = config.fleet_lock.as_ref().map(|lock| lock.required_for);
        let lock_waits = locked_for.map(|_| "for the lock of the fleet".to_owned());
        Self(Rc::new(RefCell::new(Shared { arbiter, locked_for, lock_waits })))
    }

    /// All services have been taken up, so what is under way is known.
    pub(super) fn open(&self) {
        self.0.borrow_mut().arbiter.open();
    }

    /// A service that nobody controls yet has a rejuvenation of this backend under way.
    pub(super) fn note_under_way(
        &self,
        service: &ServiceName,
        backend: BackendName,
        planned: bool,
        now: Now,
    ) {
        let need = Need::UnderWay { backend, planned };
        let _ = self.tell(service, Situation { need, host: None, out: Vec::new() }, now);
    }

    /// Allows as much as the configuration says now.
    pub(super) fn change(&self, config: &config::Budget) {
        self.0.borrow_mut().arbiter.change_limits(limits(config));
    }

    /// The controller of a service has ended, and the next one takes it up.
    pub(super) fn interrupt(&self, service: &ServiceName) {
        self.0.borrow_mut().arbiter.interrupt(service);
    }

    /// A service is no longer this controller's.
    pub(super) fn forget(&self, service: &ServiceName) {
        self.0.borrow_mut().arbiter.forget(service);
    }

    /// Whether the lock of the site has to be held, which it is at this moment or not.
    pub(super) fn needs_lock(&self, is_held: bool) -> bool {
        let shared = self.0.borrow();
        shared.arbiter.has_granted(|wish| shared.is_locked(wish)) || is_held && shared.arbiter.has_planned()
    }

    /// What the lock of the site says from now on: why nobody may begin, or nothing if it is held.
    pub(super) fn set_lock(&self, waits: Option<String>) {
        self.0.borrow_mut().lock_waits = waits;
    }

    fn tell(&self, service: &ServiceName, situation: Situation, now: Now) -> Option<Leave> {
        let mut shared = self.0.borrow_mut();
        let need = situation.need.clone();
        let leave = shared.arbiter.tell(service, situation, now)?;
        Some(shared.with_lock(&need, leave))
    }
}

impl Shared {
    /// What a leave is worth while the lock of the site is as it is.
    fn with_lock(&self, need: &Need, leave: Leave) -> Leave {
        let locked = matches!(need, Need::Begin(wish) if self.is_locked(wish));
        match (&leave, &self.lock_waits) {
            (Leave::Granted, Some(why)) if locked => Leave::Waits(why.clone()),
            _ => leave,
        }
    }

    fn is_locked(&self, wish: &Wish) -> bool {
        match self.locked_for {
            None => false,
            Some(LockedFor::Restart) => true,
            Some(LockedFor::Rules) => !wish.by_operator,
        }
    }
}

fn limits(config: &config::Budget) -> Limits {
    Limits { rejuvenations: config.rejuvenations, per_host: config.per_host }
}

/// A service's share of the budget of its controller.
#[derive(Clone)]
pub(super) struct Purse {
    budget: Budget,
    hosts: BTreeMap<BackendName, String>,
}

impl Purse {
    /// What a service has of a budget.
    pub(super) fn new(budget: &Budget, service: &config::Service) -> Self {
        let hosts = service.backends.iter();
        let hosts = hosts.filter_map(|backend| Some((backend.name.clone(), backend.host.clone()?))).collect();
        Self { budget: budget.clone(), hosts }
    }
}

impl Runtime {
    /// Tells the budget how the service stands after a step, and steps on with its answer.
    pub(super) fn settle_with_budget(&mut self, now: Now) {
        for _ in 0..ANSWERS {
            let Some(purse) = &self.purse else { return };
            let situation = purse.situation(&self.coordinator);
            let Some(leave) = purse.budget.tell(&self.service.name, situation, now) else { return };
            if self.coordinator.heard(&leave) {
                return;
            }
            self.step_once(&Input::Leave(leave), now);
        }
    }

    /// The answer that a wish of `coordinator` would get at this moment, which nobody else hears of.
    pub(super) fn would_have_leave(&self, coordinator: &Coordinator) -> Option<Leave> {
        let purse = self.purse.as_ref()?;
        let shared = purse.budget.0.borrow();
        let (mut arbiter, situation) = (shared.arbiter.clone(), purse.situation(coordinator));
        let need = situation.need.clone();
        let leave = arbiter.tell(&self.service.name, situation, Now::read())?;
        Some(shared.with_lock(&need, leave))
    }
}

impl Purse {
    fn situation(&self, coordinator: &Coordinator) -> Situation {
        let need = coordinator.need();
        let host = match &need {
            Need::Begin(wish) => self.hosts.get(&wish.backend).cloned(),
            Need::UnderWay { .. } | Need::Nothing => None,
        };
        let is_out = |state| !matches!(state, State::Active | State::Standby);
        let out = coordinator.states().filter(|(_, state)| is_out(*state));
        let out = out.filter_map(|(name, _)| self.hosts.get(name).cloned()).collect();
        Situation { need, host, out }
    }
}
