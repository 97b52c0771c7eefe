//! The arbiter by itself: whatever services want, in whatever order.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::name;
use crate::clock::Now;
use crate::names::ServiceName;
use crate::recovery::budget::{Arbiter, Leave, Limits, Need, Situation, Wish};

const SERVICES: u8 = 8;

fn service(number: u8) -> ServiceName {
    format!("s{number}").parse().unwrap()
}

/// What a service does next.
#[derive(Clone, Debug)]
enum Move {
    /// It wants to begin, on this host if on any.
    Want { by_operator: bool, host: Option<u8> },
    /// It wants nothing any more, or has ended.
    Rest,
    /// It dies, and is answered without leave.
    Die,
    /// Its controller ends.
    Interrupt,
    /// It leaves the configuration.
    Leave,
    /// The configuration allows so much.
    Limit(u32),
}

fn moves() -> impl Strategy<Value = Vec<(u8, Move)>> {
    let host = proptest::option::of(0u8..2);
    let one = prop_oneof![
        8 => (any::<bool>(), host).prop_map(|(by_operator, host)| Move::Want { by_operator, host }),
        4 => Just(Move::Rest),
        2 => Just(Move::Die),
        1 => Just(Move::Interrupt),
        1 => Just(Move::Leave),
        1 => (1u32..4).prop_map(Move::Limit),
    ];
    proptest::collection::vec((0..SERVICES, one), 1..120)
}

/// What the test itself knows: what each service does, on which host.
#[derive(Default)]
struct Known {
    situations: BTreeMap<u8, Situation>,
    since: BTreeMap<u8, u64>,
}

impl Known {
    fn under_way(&self) -> BTreeSet<u8> {
        let is = |situation: &Situation| matches!(situation.need, Need::UnderWay { .. });
        self.situations.iter().filter(|(_, s)| is(s)).map(|(number, _)| *number).collect()
    }

    fn out_of(&self, host: &str) -> usize {
        self.situations.values().flat_map(|s| &s.out).filter(|out| *out == host).count()
    }
}

fn resting() -> Situation {
    Situation { need: Need::Nothing, host: None, out: Vec::new() }
}

fn wanting(by_operator: bool, host: Option<u8>) -> Situation {
    Situation {
        need: Need::Begin(Wish { backend: name("a"), by_operator }),
        host: host.map(|host| format!("host-{host}")),
        out: Vec::new(),
    }
}

fn under_way(planned: bool, host: Option<String>) -> Situation {
    let need = Need::UnderWay { backend: name("a"), planned };
    Situation { need, host: None, out: host.into_iter().collect() }
}

proptest! {
    #[test]
    fn whatever_services_want_the_limits_hold_and_nobody_waits_for_nothing(
        limit in 1u32..4,
        per_host in proptest::option::of(1u32..3),
        moves in moves(),
    ) {
        let mut limits = Limits { rejuvenations: limit, per_host };
        let mut arbiter = Arbiter::new(limits);
        let mut known = Known::default();
        for (at, (number, what)) in moves.into_iter().enumerate() {
            let now = Now::default().plus_ms(at as u64);
            let situation = match what {
                Move::Want { by_operator, host } => wanting(by_operator, host),
                Move::Rest => resting(),
                Move::Die => under_way(false, None),
                Move::Interrupt => {
                    arbiter.interrupt(&service(number));
                    if !known.under_way().contains(&number) {
                        known.situations.remove(&number);
                    }
                    continue;
                }
                Move::Leave => {
                    arbiter.forget(&service(number));
                    known.situations.remove(&number);
                    continue;
                }
                Move::Limit(rejuvenations) => {
                    limits.rejuvenations = rejuvenations;
                    arbiter.change_limits(limits);
                    continue;
                }
            };
            if known.situations.insert(number, situation.clone()) != Some(situation.clone()) {
                known.since.insert(number, at as u64);
            }
            let _ = arbiter.tell(&service(number), situation, now);
            // Everybody looks again, and whoever may begin does.
            for _ in 0..2 {
                for asker in 0..SERVICES {
                    let Some(situation) = known.situations.get(&asker).cloned() else { continue };
                    let host = situation.host.clone();
                    if arbiter.tell(&service(asker), situation, now) != Some(Leave::Granted) {
                        continue;
                    }
                    prop_assert!(known.under_way().len() < limits.rejuvenations as usize);
                    if let (Some(per_host), Some(host)) = (per_host, &host) {
                        prop_assert!(known.out_of(host) < per_host as usize);
                    }
                    let begun = under_way(true, host);
                    known.situations.insert(asker, begun.clone());
                    prop_assert_eq!(arbiter.tell(&service(asker), begun, now), None);
                }
            }
            // Who still waits has a reason to.
            for (waiting, situation) in &known.situations {
                let Need::Begin(_) = situation.need else { continue };
                let full = known.under_way().len() >= limits.rejuvenations as usize;
                let host_is_full = situation.host.as_ref().zip(per_host);
                let host_is_full = host_is_full.is_some_and(|(host, most)| known.out_of(host) >= most as usize);
                prop_assert!(full || host_is_full, "s{waiting} waits for nothing: {situation:?}");
                let said = arbiter.tell(&service(*waiting), situation.clone(), now);
                let Some(Leave::Waits(why)) = said else { panic!("{said:?}") };
                prop_assert!(why.len() > "for the budget: ".len(), "{why}");
            }
        }
    }

    #[test]
    fn operators_come_first_and_then_who_waits_for_longest(by_operator in proptest::collection::vec(any::<bool>(), 2..8)) {
        let mut arbiter = Arbiter::new(Limits::default());
        let first: ServiceName = "first".parse().unwrap();
        arbiter.tell(&first, under_way(true, None), Now::default());
        let situation = |by_operator| wanting(by_operator, None);
        for (number, by_operator) in by_operator.iter().enumerate() {
            let now = Now::default().plus_ms(number as u64);
            let leave = arbiter.tell(&service(number as u8), situation(*by_operator), now);
            prop_assert_eq!(leave, Some(Leave::Waits("for the budget: first rejuvenates a".into())));
        }
        arbiter.tell(&first, resting(), Now::default());
        let mut order = Vec::new();
        let mut waiting: BTreeSet<u8> = (0..by_operator.len() as u8).collect();
        while !waiting.is_empty() {
            let granted = waiting.iter().copied().find(|number| {
                let situation = situation(by_operator[usize::from(*number)]);
                arbiter.tell(&service(*number), situation, Now::default().plus_ms(99)) == Some(Leave::Granted)
            });
            let granted = granted.expect("somebody may begin");
            waiting.remove(&granted);
            arbiter.tell(&service(granted), resting(), Now::default().plus_ms(99));
            order.push(granted);
        }
        let mut expected: Vec<u8> = (0..by_operator.len() as u8).collect();
        expected.sort_by_key(|number| (!by_operator[usize::from(*number)], *number));
        prop_assert_eq!(order, expected);
    }
}

#[test]
fn nobody_begins_before_it_is_known_what_is_under_way() {
    let mut arbiter = Arbiter::new(Limits::default());
    arbiter.close("until every service has been taken up");
    let wish = wanting(true, None);
    let leave = arbiter.tell(&service(0), wish.clone(), Now::default());
    assert_eq!(leave, Some(Leave::Waits("until every service has been taken up".into())));
    arbiter.open();
    assert_eq!(arbiter.tell(&service(0), wish, Now::default()), Some(Leave::Granted));
}
