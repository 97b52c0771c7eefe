//! Several services under one budget: each in a world of its own, all on one clock.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use super::invariants::Verdict;
use super::world::{HOOK_MS, World};
use super::{name, policy};
use crate::clock::Now;
use crate::names::{BackendName, ServiceName};
use crate::recovery::budget::{Arbiter, Leave, Limits, Need, Situation};
use crate::recovery::event::Event;
use crate::recovery::hook::Phase;
use crate::recovery::report::Reason;
use crate::recovery::{Coordinator, Policy, State};

/// The worlds go on in turns of this.
const TURN_MS: u64 = 10;

/// Where a backend runs: there are two hosts, and the third backend of a service shares that of the first.
fn host_of(backend: &BackendName) -> &'static str {
    if backend.as_str() == "b" { "right" } else { "left" }
}

/// What is under way and who is out, by events alone; it shares no decision with the arbiter.
#[derive(Debug, Default)]
struct Account {
    limits: Limits,
    under_way: BTreeMap<ServiceName, u64>,
    most: usize,
    /// Services that took a backend out on purpose.
    begun: Vec<ServiceName>,
    states: BTreeMap<(ServiceName, BackendName), State>,
}

impl Account {
    /// Never is one begun on purpose while as many as the budget allows are under way, or while the host has as
    /// many out as it can spare.
    fn may_begin(&self, service: &ServiceName, from: &BackendName) -> Verdict {
        let others = self.under_way.keys().filter(|other| *other != service).count();
        if others >= self.limits.rejuvenations as usize {
            return Err(format!("{service} begins while {:?} are under way", self.under_way));
        }
        let here = |of: &(ServiceName, BackendName)| {
            host_of(&of.1) == host_of(from) && (&of.0, &of.1) != (service, from)
        };
        let out: Vec<_> = self.states.iter().filter(|(of, state)| here(of) && is_out(**state)).collect();
        match self.limits.per_host {
            Some(limit) if out.len() >= limit as usize => {
                Err(format!("{service} takes {from} out of {} while {out:?} are out", host_of(from)))
            }
            _ => Ok(()),
        }
    }
}

fn is_out(state: State) -> bool {
    !matches!(state, State::Active | State::Standby)
}

/// A service's share of a budget.
#[derive(Clone)]
pub(super) struct Purse {
    pub(super) service: ServiceName,
    arbiter: Rc<RefCell<Arbiter>>,
    account: Rc<RefCell<Account>>,
}

impl Purse {
    pub(super) fn ask(&self, coordinator: &Coordinator, now: Now) -> Option<Leave> {
        let need = coordinator.need();
        let host = match &need {
            Need::Begin(wish) => Some(host_of(&wish.backend).to_owned()),
            Need::UnderWay { .. } | Need::Nothing => None,
        };
        let out = coordinator.states().filter(|(_, state)| is_out(*state));
        let out = out.map(|(name, _)| host_of(name).to_owned()).collect();
        self.arbiter.borrow_mut().tell(&self.service, Situation { need, host, out }, now)
    }

    /// The controller of the service has ended; the next one finds this rejuvenation, or none, in the journal.
    pub(super) fn interrupt(&self, open: Option<u64>) {
        self.arbiter.borrow_mut().interrupt(&self.service);
        let mut account = self.account.borrow_mut();
        match open {
            Some(cycle) => drop(account.under_way.insert(self.service.clone(), cycle)),
            None => drop(account.under_way.remove(&self.service)),
        }
    }

    /// The service has these backends from now on, and only those that `stay` are known.
    pub(super) fn change_backends(&self, backends: &BTreeSet<BackendName>, stay: &BTreeSet<BackendName>) {
        let states = &mut self.account.borrow_mut().states;
        states.retain(|(service, backend), _| *service != self.service || stay.contains(backend));
        for backend in backends {
            states.entry((self.service.clone(), backend.clone())).or_insert(State::Starting);
        }
    }

    /// Takes note of what has happened, if that was allowed. Operators hold out whom they want, by `is_held`.
    pub(super) fn hear(&self, event: &Event, is_held: impl Fn(&BackendName) -> bool) -> Verdict {
        let mut account = self.account.borrow_mut();
        match event {
            Event::ControllerStarted { .. } => {
                let own = account.states.iter_mut().filter(|((service, _), _)| *service == self.service);
                own.for_each(|(_, state)| *state = State::Starting);
            }
            Event::State { backend, to, .. } => {
                account.states.insert((self.service.clone(), backend.clone()), *to);
            }
            Event::Handover { reason, cycle, from, .. } => {
                if reason.is_planned() && !is_held(from) {
                    account.may_begin(&self.service, from)?;
                }
                account.under_way.insert(self.service.clone(), *cycle);
                account.most = account.most.max(account.under_way.len());
                if matches!(reason, Reason::Ceiling { .. } | Reason::Operator) {
                    account.begun.push(self.service.clone());
                }
            }
            Event::RejuvenationEnded { cycle, .. } if account.under_way.get(&self.service) == Some(cycle) => {
                account.under_way.remove(&self.service);
            }
            _ => {}
        }
        Ok(())
    }
}

/// All services of a controller.
pub(super) struct Site {
    pub(super) worlds: Vec<World>,
    arbiter: Rc<RefCell<Arbiter>>,
    account: Rc<RefCell<Account>>,
}

impl Site {
    /// So many services of two backends each, `a` on one host and `b` on another.
    fn new(services: u64, limits: Limits, policy: &Policy, seed: u64) -> Self {
        let policy = Policy { asks: true, ..policy.clone() };
        let worlds = (0..services).map(|number| World::new(policy.clone(), &["a", "b"], seed + number));
        let mut site = Self::of(worlds.collect(), limits);
        site.run(3_000);
        site
    }

    /// These services, from now on under one budget.
    pub(super) fn of(mut worlds: Vec<World>, limits: Limits) -> Self {
        let arbiter = Rc::new(RefCell::new(Arbiter::new(limits)));
        let account = Rc::new(RefCell::new(Account { limits, ..Account::default() }));
        for (number, world) in worlds.iter_mut().enumerate() {
            let service: ServiceName = format!("service-{number}").parse().unwrap();
            let states = world.coordinator.states();
            let states = states.map(|(backend, state)| ((service.clone(), backend.clone()), state));
            account.borrow_mut().states.extend(states);
            let (arbiter, account) = (Rc::clone(&arbiter), Rc::clone(&account));
            world.purse = Some(Purse { service, arbiter, account });
        }
        Self { worlds, arbiter, account }
    }

    pub(super) fn run(&mut self, ms: u64) {
        for _ in 0..ms / TURN_MS {
            for world in &mut self.worlds {
                world.run(TURN_MS);
            }
        }
    }

    pub(super) fn under_way(&self) -> usize {
        self.account.borrow().under_way.len()
    }

    fn begun(&self) -> Vec<String> {
        self.account.borrow().begun.iter().map(ToString::to_string).collect()
    }

    /// Operators allow so much from now on.
    pub(super) fn change_limits(&mut self, limits: Limits) {
        self.arbiter.borrow_mut().change_limits(limits);
        self.account.borrow_mut().limits = limits;
    }

    /// The controller of all of them dies, and the next one takes them up.
    pub(super) fn crash(&mut self) {
        let limits = self.account.borrow().limits;
        self.arbiter.replace(Arbiter::new(limits));
        self.arbiter.borrow_mut().close("until every service has been taken up");
        for world in &mut self.worlds {
            world.crash();
        }
        self.run(TURN_MS);
        self.arbiter.borrow_mut().open();
    }

    fn until_calm(&mut self) {
        for _ in 0..600 {
            if self.under_way() == 0 {
                return;
            }
            self.run(500);
        }
        panic!("{:?} are still under way", self.account.borrow().under_way);
    }
}

fn age(world: &mut World) {
    let active = world.active();
    let machine = world.machines.iter_mut().find(|(name, _)| name.as_str() == active);
    if let Some(life) = machine.and_then(|(_, machine)| machine.life.as_mut()) {
        life.memory = 900;
    }
}

const ONE: Limits = Limits { rejuvenations: 1, per_host: None };

#[test]
fn services_that_age_together_are_rejuvenated_one_after_another() {
    for allowed in [1, 2] {
        let mut site = Site::new(4, Limits { rejuvenations: allowed, per_host: None }, &policy(), 1);
        site.worlds.iter_mut().for_each(age);
        site.run(30_000);
        let account = site.account.borrow();
        assert_eq!((account.begun.len(), account.most), (4, allowed as usize));
        drop(account);
        let said = site.worlds.iter().map(World::said).collect::<String>();
        assert!(said.contains("waits: for the budget: service-"), "{said}");
        assert_eq!(site.under_way(), 0);
    }
}

#[test]
fn an_operator_comes_before_rules_and_who_waits_for_longer_before_who_came_later() {
    let mut site = Site::new(4, ONE, &policy(), 1);
    site.worlds[0].machine("a").flows = 1;
    site.worlds[0].machine("b").flows = 1;
    site.worlds[0].rejuvenate();
    site.run(1_000);
    for number in [2, 1] {
        age(&mut site.worlds[number]);
        site.run(3_000);
    }
    let request = site.worlds[3].rejuvenate();
    site.run(1_000);
    assert_eq!(site.begun(), ["service-0"]);
    for backend in ["a", "b"] {
        site.worlds[0].machine(backend).flows = 0;
    }
    site.run(30_000);
    assert_eq!(site.begun(), ["service-0", "service-3", "service-2", "service-1"]);
    assert!(site.worlds[3].report_of(request).is_clean());
}

#[test]
fn a_death_waits_for_nobody_and_counts() {
    let mut site = Site::new(3, ONE, &policy(), 1);
    for backend in ["a", "b"] {
        site.worlds[0].machine(backend).flows = 1;
    }
    site.worlds[0].rejuvenate();
    site.run(1_000);
    let active = site.worlds[1].active();
    site.worlds[1].machine(if active == "a" { "b" } else { "a" }).bad_starts = 0;
    site.worlds[1].machine(&active).bad_starts = 3;
    site.worlds[1].kill(&active);
    site.run(100);
    assert_ne!(site.worlds[1].active(), active, "the other one serves at once");
    assert_eq!(site.under_way(), 2);
    // While either of them goes on, nobody begins.
    site.worlds[2].rejuvenate();
    for backend in ["a", "b"] {
        site.worlds[0].machine(backend).flows = 0;
    }
    site.run(2_000);
    site.until_calm();
    assert_eq!(site.account.borrow().most, 2);
    site.run(10_000);
    assert_eq!(site.begun(), ["service-0", "service-2"]);
}

#[test]
fn what_is_under_way_counts_for_the_next_controller_too() {
    let mut site = Site::new(3, ONE, &policy(), 1);
    for backend in ["a", "b"] {
        site.worlds[2].machine(backend).flows = 1;
    }
    site.worlds[2].rejuvenate();
    site.run(1_000);
    site.worlds.iter_mut().take(2).for_each(age);
    site.crash();
    site.run(5_000);
    assert_eq!((site.begun().len(), site.under_way()), (1, 1));
    for backend in ["a", "b"] {
        site.worlds[2].machine(backend).flows = 0;
    }
    site.run(30_000);
    assert_eq!((site.begun().len(), site.under_way()), (3, 0));
}

#[test]
fn a_host_spares_one_backend_at_a_time_and_holds_up_no_other_host() {
    let limits = Limits { rejuvenations: 9, per_host: Some(1) };
    let mut site = Site::new(2, limits, &policy(), 1);
    // Somebody of the left host is out for good.
    let standby = if site.worlds[0].active() == "a" { "b" } else { "a" };
    site.worlds[0].drain(standby);
    site.run(1_000);
    let same = site.worlds[1].rejuvenate_one(standby);
    site.run(5_000);
    assert_eq!(site.begun(), [""; 0], "the host can spare no second one");
    assert!(site.worlds[1].coordinator.waits().unwrap().contains("for host"));
    site.worlds[0].ready(standby);
    site.run(10_000);
    assert!(site.worlds[1].report_of(same).is_clean());
}

#[test]
fn room_that_a_death_has_taken_while_hooks_thought_is_not_begun_in() {
    let asks = Policy { hooks: [(Phase::BeforeHandover, 1_000)].into(), ..policy() };
    let mut site = Site::new(2, ONE, &asks, 1);
    let request = site.worlds[0].rejuvenate();
    let active = site.worlds[1].active();
    site.worlds[1].machine(&active).bad_starts = 3;
    site.worlds[1].kill(&active);
    site.run(HOOK_MS + 3 * TURN_MS);
    assert_eq!(site.under_way(), 1);
    assert!(site.worlds[0].coordinator.waits().unwrap().contains("for the budget: service-1"));
    site.run(20_000);
    assert!(site.worlds[0].report_of(request).is_clean());
}

#[test]
fn a_host_that_could_not_spare_it_is_caught() {
    let site = Site::new(2, Limits { rejuvenations: 9, per_host: Some(1) }, &policy(), 1);
    let purse = site.worlds[0].purse.clone().unwrap();
    let state = |backend, to| Event::State { backend, from: State::Active, to, why: None };
    let handover = |from| Event::Handover { cycle: 1, from, to: None, reason: Reason::Operator };
    purse.hear(&state(name("a"), State::Failed), |_| false).unwrap();
    let other = site.worlds[1].purse.clone().unwrap();
    assert!(other.hear(&handover(name("b")), |_| false).is_ok());
    let said = other.hear(&handover(name("a")), |_| false).unwrap_err();
    assert!(said.starts_with("service-1 takes a out of left while"), "{said}");
}

#[test]
fn one_that_begins_without_leave_is_caught() {
    let mut site = Site::new(2, ONE, &policy(), 1);
    for backend in ["a", "b"] {
        site.worlds[0].machine(backend).flows = 1;
    }
    site.worlds[0].rejuvenate();
    site.run(1_000);
    let handover = |reason| Event::Handover { cycle: 1, from: name("a"), to: None, reason };
    let purse = site.worlds[1].purse.clone().unwrap();
    assert!(purse.hear(&handover(Reason::Died { status: "gone".into() }), |_| false).is_ok());
    assert!(purse.hear(&handover(Reason::Operator), |_| true).is_ok());
    let said = purse.hear(&handover(Reason::Operator), |_| false).unwrap_err();
    assert!(said.starts_with("service-1 begins while"), "{said}");
}
