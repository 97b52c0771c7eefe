//! Several services under one budget: each in a world of its own, all on one clock.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;

use super::invariants::Verdict;
use super::policy;
use super::world::World;
use crate::clock::Now;
use crate::names::{BackendName, ServiceName};
use crate::recovery::budget::{Arbiter, Leave, Limits, Need, Situation};
use crate::recovery::event::Event;
use crate::recovery::report::Reason;
use crate::recovery::{Coordinator, Policy, State};

/// The worlds go on in turns of this.
const TURN_MS: u64 = 10;

/// What is under way, by events alone; it shares no decision with the arbiter.
#[derive(Debug, Default)]
struct Account {
    limit: usize,
    under_way: BTreeMap<ServiceName, u64>,
    most: usize,
    /// Backends that were taken out on purpose, by the service.
    begun: Vec<ServiceName>,
}

/// A service's share of a budget.
#[derive(Clone)]
pub(super) struct Purse {
    service: ServiceName,
    hosts: BTreeMap<BackendName, String>,
    arbiter: Rc<RefCell<Arbiter>>,
    account: Rc<RefCell<Account>>,
}

impl Purse {
    pub(super) fn ask(&self, coordinator: &Coordinator, now: Now) -> Option<Leave> {
        let need = coordinator.need();
        let host = match &need {
            Need::Begin(wish) => self.hosts.get(&wish.backend).cloned(),
            _ => None,
        };
        let is_out = |state| !matches!(state, State::Active | State::Standby);
        let out = coordinator.states().filter(|(_, state)| is_out(*state));
        let out = out.filter_map(|(name, _)| self.hosts.get(name).cloned()).collect();
        self.arbiter.borrow_mut().tell(&self.service, Situation { need, host, out }, now)
    }

    /// Never is one begun on purpose while as many as the budget allows are under way.
    pub(super) fn hear(&self, event: &Event) -> Verdict {
        let mut account = self.account.borrow_mut();
        match event {
            Event::Handover { reason, cycle, .. } => {
                let others = account.under_way.keys().filter(|service| **service != self.service).count();
                if reason.is_planned() && others >= account.limit {
                    return Err(format!(
                        "{} begins while {:?} are under way",
                        self.service, account.under_way
                    ));
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
struct Site {
    worlds: Vec<World>,
    arbiter: Rc<RefCell<Arbiter>>,
    account: Rc<RefCell<Account>>,
}

impl Site {
    /// So many services of two backends each, `a` on one host and `b` on another.
    fn new(services: u64, limits: Limits, policy: &Policy, seed: u64) -> Self {
        let arbiter = Rc::new(RefCell::new(Arbiter::new(limits)));
        let limit = limits.rejuvenations as usize;
        let account = Rc::new(RefCell::new(Account { limit, ..Account::default() }));
        let policy = Policy { asks: true, ..policy.clone() };
        let world = |number| {
            let mut world = World::new(policy.clone(), &["a", "b"], seed + number);
            let hosts = [("a", "left"), ("b", "right")];
            world.purse = Some(Purse {
                service: format!("service-{number}").parse().unwrap(),
                hosts: hosts.map(|(name, host)| (super::name(name), host.to_owned())).into(),
                arbiter: Rc::clone(&arbiter),
                account: Rc::clone(&account),
            });
            world
        };
        let worlds = (0..services).map(world).collect();
        let mut site = Self { worlds, arbiter, account };
        site.run(3_000);
        site
    }

    fn run(&mut self, ms: u64) {
        for _ in 0..ms / TURN_MS {
            for world in &mut self.worlds {
                world.run(TURN_MS);
            }
        }
    }

    fn under_way(&self) -> usize {
        self.account.borrow().under_way.len()
    }

    fn begun(&self) -> Vec<String> {
        self.account.borrow().begun.iter().map(ToString::to_string).collect()
    }

    /// The controller of all of them dies, and the next one takes them up.
    fn crash(&mut self, limits: Limits) {
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
    site.crash(ONE);
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
fn one_that_begins_without_leave_is_caught() {
    let mut site = Site::new(2, ONE, &policy(), 1);
    for backend in ["a", "b"] {
        site.worlds[0].machine(backend).flows = 1;
    }
    site.worlds[0].rejuvenate();
    site.run(1_000);
    let handover = |reason| Event::Handover { cycle: 1, from: super::name("a"), to: None, reason };
    let purse = site.worlds[1].purse.clone().unwrap();
    assert!(purse.hear(&handover(Reason::Died { status: "gone".into() })).is_ok());
    let said = purse.hear(&handover(Reason::Operator)).unwrap_err();
    assert!(said.starts_with("service-1 begins while"), "{said}");
}
