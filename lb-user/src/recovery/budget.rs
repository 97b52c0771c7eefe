//! The budget: how many rejuvenations may be under way at once over all services of a controller.
//!
//! Pure, and told as often as anything may have changed how each service stands. A service that wants to begin
//! asks by situation so; one whose rejuvenation is under way counts, whoever allowed it and whether or not there was
//! room: a death is answered at once. Nothing has to be given back, for a service that stands otherwise holds
//! nothing.
//!
//! What always holds:
//! 1. Nobody is allowed to begin while as many as the limit are under way or allowed to begin.
//! 2. Nobody is allowed to take a backend out while as many of its host as the limit are out or about to be.
//! 3. Operators come before rules, and among equals who has waited for the longest. One whose host has no room holds
//!    up nobody else.
//! 4. What is allowed belongs to a service and ends with it.

use std::collections::BTreeMap;

use crate::clock::Now;
use crate::names::{BackendName, ServiceName};

/// How much may be under way at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Rejuvenations over all services (1 or more).
    pub rejuvenations: u32,
    /// Backends of one host that are out, for whatever reason, when another one is taken out (1 or more).
    pub per_host: Option<u32>,
}

impl Default for Limits {
    fn default() -> Self {
        Self { rejuvenations: 1, per_host: None }
    }
}

/// A rejuvenation that is ready to begin.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wish {
    /// The backend that it would take out.
    pub backend: BackendName,
    /// Whether an operator asked for it.
    pub by_operator: bool,
}

/// What a service needs of the budget.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Need {
    /// Nothing.
    Nothing,
    /// To begin a rejuvenation.
    Begin(Wish),
    /// One is under way.
    UnderWay {
        /// The backend that is out.
        backend: BackendName,
        /// Whether it was wanted: a failure is answered without anybody's leave.
        planned: bool,
    },
}

/// How a service stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Situation {
    /// What it needs.
    pub need: Need,
    /// The host of the backend that it wants to take out.
    pub host: Option<String>,
    /// The hosts of its backends that are out, one entry a backend.
    pub out: Vec<String>,
}

/// The answer to a wish.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Leave {
    /// It may begin.
    Granted,
    /// It has to wait, for this.
    Waits(String),
}

/// A service and since when it wants what it wants.
#[derive(Clone, Debug)]
struct Asker {
    situation: Situation,
    since: Now,
    granted: bool,
}

impl Asker {
    fn wish(&self) -> Option<&Wish> {
        match &self.situation.need {
            Need::Begin(wish) => Some(wish),
            Need::Nothing | Need::UnderWay { .. } => None,
        }
    }

    /// The host that a backend is about to be taken out on.
    fn takes_from(&self) -> Option<&String> {
        self.situation.host.as_ref().filter(|_| self.granted)
    }
}

/// Decides who may begin.
#[derive(Clone, Debug, Default)]
pub struct Arbiter {
    limits: Limits,
    askers: BTreeMap<ServiceName, Asker>,
    /// Why nobody may begin yet.
    closed: Option<String>,
}

impl Arbiter {
    /// An arbiter that allows so much.
    pub fn new(limits: Limits) -> Self {
        Self { limits, askers: BTreeMap::new(), closed: None }
    }

    /// Allows nobody to begin until [`Arbiter::open`].
    pub fn close(&mut self, why: &str) {
        self.closed = Some(why.to_owned());
    }

    /// Allows again.
    pub fn open(&mut self) {
        self.closed = None;
    }

    /// Allows so much from now on; what is under way goes on.
    pub fn change_limits(&mut self, limits: Limits) {
        self.limits = limits;
    }

    /// A service stands like this; the answer is to its wish, if it has one.
    pub fn tell(&mut self, service: &ServiceName, situation: Situation, now: Now) -> Option<Leave> {
        let asker = self.askers.entry(service.clone()).or_insert_with(|| Asker {
            situation: situation.clone(),
            since: now,
            granted: false,
        });
        let same = asker.situation.need == situation.need && asker.situation.host == situation.host;
        asker.situation = situation;
        if !same {
            asker.since = now;
        }
        self.grant();
        self.answer(service)
    }

    /// The controller of a service has ended, and another one will take it up: it wants nothing, and what is under
    /// way still counts.
    pub fn interrupt(&mut self, service: &ServiceName) {
        self.askers.retain(|name, asker| name != service || asker.wish().is_none());
    }

    /// A service is gone.
    pub fn forget(&mut self, service: &ServiceName) {
        self.askers.remove(service);
    }

    /// Whether a wish of those that `counts` names has been granted and has not begun.
    pub fn has_granted(&self, counts: impl Fn(&Wish) -> bool) -> bool {
        self.askers.values().any(|asker| asker.granted && asker.wish().is_some_and(&counts))
    }

    /// Whether a planned rejuvenation is under way.
    pub fn has_planned(&self) -> bool {
        self.askers.values().any(|asker| matches!(asker.situation.need, Need::UnderWay { planned: true, .. }))
    }

    /// Anew each time: a death may have taken the room of whoever has not begun yet.
    fn grant(&mut self) {
        for asker in self.askers.values_mut() {
            asker.granted = false;
        }
        if self.closed.is_some() {
            return;
        }
        let mut queue: Vec<_> = self
            .askers
            .iter()
            .filter_map(|(name, asker)| Some((!asker.wish()?.by_operator, asker.since, name.clone())))
            .collect();
        queue.sort();
        for (_, _, name) in queue {
            let is_free = self.has_room() && self.why_host_is_full(&name).is_none();
            if let Some(asker) = self.askers.get_mut(&name).filter(|_| is_free) {
                asker.granted = true;
            }
        }
    }

    fn has_room(&self) -> bool {
        let taken = self.askers.values();
        let taken = taken.filter(|a| a.granted || matches!(a.situation.need, Need::UnderWay { .. })).count();
        taken < self.limits.rejuvenations.max(1) as usize
    }

    /// Why the host of a service's wish can spare no backend.
    fn why_host_is_full(&self, service: &ServiceName) -> Option<String> {
        let limit = self.limits.per_host?.max(1) as usize;
        let host = self.askers.get(service)?.situation.host.as_ref()?;
        let out =
            self.askers.values().flat_map(|asker| &asker.situation.out).filter(|out| *out == host).count();
        let about_to_be = self.askers.iter().filter(|(name, _)| *name != service);
        let about_to_be = about_to_be.filter(|(_, asker)| asker.takes_from() == Some(host)).count();
        let count = out + about_to_be;
        (count >= limit)
            .then(|| format!("for host {host}: {count} of its backends are out, and {limit} may be"))
    }

    fn answer(&self, service: &ServiceName) -> Option<Leave> {
        let asker = self.askers.get(service)?;
        asker.wish()?;
        if asker.granted {
            return Some(Leave::Granted);
        }
        if let Some(why) = &self.closed {
            return Some(Leave::Waits(why.clone()));
        }
        let host = self.why_host_is_full(service).filter(|_| self.has_room());
        Some(Leave::Waits(host.unwrap_or_else(|| self.who_is_first(service))))
    }

    /// Whom a service waits for, for people.
    fn who_is_first(&self, service: &ServiceName) -> String {
        let others = self.askers.iter().filter(|(name, _)| *name != service);
        let busy: Vec<_> = others
            .filter_map(|(name, asker)| match &asker.situation.need {
                Need::UnderWay { backend, .. } => Some(format!("{name} rejuvenates {backend}")),
                Need::Begin(wish) if asker.granted => {
                    Some(format!("{name} begins to rejuvenate {}", wish.backend))
                }
                Need::Begin(_) | Need::Nothing => None,
            })
            .collect();
        format!("for the budget: {}", busy.join(", "))
    }
}
