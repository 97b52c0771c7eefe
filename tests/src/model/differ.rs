//! Runs a history through the program and the model, and says where they differ.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::path::PathBuf;

use aya::maps::{Map, MapData, PerCpuArray};
use baton::dataplane::{Dataplane, FlowTimeouts, Outcome, Sizes, unload};
use lb_common::pool::{Candidate, identity_of, steering_to};
use lb_common::reason::counter;
use lb_common::{BackendId, Endpoint, FlowState, Reason, ServiceId, Steer};

use super::bytes::address;
use super::fate::{Expected, Fate};
use super::history::{Step, beginning, policy};
use super::recipe::{Cast, Recipe};
use super::state::{Member, Model};
use super::world::{SNAT_SERVICES, World};
use super::{Tally, explain};
use crate::{frame, pins};

/// Flows that the table is made for: so many that no bucket fills up in a run.
const FLOWS: u32 = 1 << 14;

/// Program and model side by side.
pub struct Differ {
    dataplane: Dataplane,
    counters: PerCpuArray<MapData, u64>,
    counted: BTreeMap<(Option<ServiceId>, Reason), u64>,
    model: Model,
    history: u16,
    pins: PathBuf,
}

/// What has been seen of a frame that both agree about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ran {
    /// Mode, protocol and family of the service that it was for.
    pub way: Option<(&'static str, &'static str, u8)>,
    /// Its reason.
    pub reason: &'static str,
    /// What became of it.
    pub action: String,
    /// Its flow before and after.
    pub states: (Option<FlowState>, Option<FlowState>),
}

impl Ran {
    /// What a search is curious about: each reason by mode, by what became of the packet in each protocol and family,
    /// and by what it did to its flow.
    pub fn views(&self) -> [String; 3] {
        let Self { way, reason, action, .. } = self;
        let (mode, protocol, family) = way.unwrap_or(("no service", "", 0));
        let [before, after] = self.names();
        [
            format!("{mode} {reason}"),
            format!("{protocol} {family} {reason} {action}"),
            format!("{reason} {before} {after}"),
        ]
    }

    fn names(&self) -> [&'static str; 2] {
        let name = |state: Option<FlowState>| state.map_or("none", FlowState::name);
        [name(self.states.0), name(self.states.1)]
    }
}

impl fmt::Display for Ran {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.way {
            Some((mode, protocol, family)) => write!(f, "{mode} {protocol}{family}")?,
            None => write!(f, "no service")?,
        }
        let [before, after] = self.names();
        write!(f, " {} {} {before} to {after}", self.reason, self.action)
    }
}

/// Where program and model part.
#[derive(Clone, Debug)]
pub struct Difference {
    /// What differs, in words.
    pub what: String,
    /// The frame that came in, if it is about one.
    pub frame: Option<Vec<u8>>,
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.what)?;
        match &self.frame {
            Some(frame) => write!(f, "\nframe: {}", explain::hex(frame)),
            None => Ok(()),
        }
    }
}

impl Differ {
    /// A new pair, to which nothing has happened.
    ///
    /// # Panics
    ///
    /// Panics if the kernel refuses: this needs root and bpffs.
    pub fn new() -> Self {
        let pins = pins::fresh();
        let sizes = Sizes { flows: FLOWS, snat_services: SNAT_SERVICES };
        let mut dataplane = Dataplane::open(&pins, sizes).expect("a kernel that loads XDP programs");
        let world = World::new();
        world.set_up(&mut dataplane).expect("tables that can be written");
        let pinned = MapData::from_pin(pins.join("REASON_COUNTERS")).expect("a pinned map");
        let counters = Map::PerCpuArray(pinned).try_into().expect("a map of counters");
        Self { dataplane, counters, counted: BTreeMap::new(), model: Model::new(world), history: 0, pins }
    }

    /// The model, as far as it has come.
    pub fn model(&self) -> &Model {
        &self.model
    }

    /// Whom the names of the history that runs stand for.
    pub fn cast(&self) -> Cast<'_> {
        Cast { model: &self.model, history: self.history }
    }

    /// Begins a history: with clients of its own, and these services as they were set up.
    pub fn begin(&mut self, services: impl IntoIterator<Item = ServiceId>) {
        self.history += 1;
        for service in services {
            for step in beginning(&self.model.world().site(service).clone()) {
                self.control(&step);
            }
        }
    }

    /// How many histories have begun; one pair takes a few hundred, then its tables fill up.
    pub fn histories(&self) -> u16 {
        self.history
    }

    /// Runs one step; of a frame, what has been seen.
    ///
    /// # Panics
    ///
    /// Panics if the kernel refuses to run it, or if a third party finds a checksum wrong that both agree about.
    pub fn step(&mut self, step: &Step) -> Result<Option<Ran>, Difference> {
        match step {
            Step::Frame(recipe) => self.frame(recipe).map(Some),
            control => {
                self.control(control);
                Ok(None)
            }
        }
    }

    fn frame(&mut self, recipe: &Recipe) -> Result<Ran, Difference> {
        let frame = self.cast().frame(recipe);
        let seen = self.dataplane.run(&frame).expect("a run");
        let fates = self.model.fates(&frame, &seen);
        let differs = |what| Difference { what, frame: Some(frame.clone()) };
        let mut fitting: Vec<&Fate> = fates.iter().filter(|fate| fits(&fate.expected, &seen)).collect();
        let Some(first) = fitting.first() else {
            let counted = self.newly_counted();
            return Err(differs(explain::fates(&fates, &seen, &counted)));
        };
        let Expected { reason, service, .. } = first.expected;
        let count = self.counted.entry((service, reason)).or_default();
        *count += 1;
        let expected = *count;
        if self.count(service, reason) != expected {
            *self.counted.entry((service, reason)).or_default() -= 1;
            let counted = self.newly_counted();
            return Err(differs(format!("counted {counted}, not {}", explain::reason(service, reason))));
        }
        // etherparse does not keep the flag of IPv4 that is reserved.
        if recipe.wounds.is_empty() && recipe.fragment & 0x8000 == 0 {
            check_with_etherparse(&frame, &first.expected);
        }
        let is_ambiguous = fitting.len() > 1;
        if is_ambiguous {
            // All choices look alike from outside: the table says which one was made.
            let pinned = self.pinned();
            fitting
                .retain(|fate| fate.pins().is_none_or(|(key, flow)| pinned.get(&key) == Some(&flow.backend)));
        }
        let Some(fate) = fitting.first() else {
            return Err(differs("the flow is pinned to none of those that it may go to".to_owned()));
        };
        let mut fate = (*fate).clone();
        if is_ambiguous {
            fate.forget_hash();
        }
        let ran = self.ran(&fate);
        self.model.accept(fate);
        Ok(ran)
    }

    fn ran(&self, fate: &Fate) -> Ran {
        let Expected { reason, service, action, .. } = fate.expected;
        let way = service.map(|id| self.model.world().site(id).way());
        Ran { way, reason: reason.name(), action: format!("{action:?}").to_lowercase(), states: fate.states }
    }

    fn control(&mut self, step: &Step) {
        let service = step.service();
        let site = self.model.world().site(service).clone();
        let id = |place: &u8| site.replicas[usize::from(*place) % site.replicas.len()].id;
        match step {
            Step::Frame(_) => {}
            Step::Steer { active, draining, .. } => {
                let (active, draining) = (active.as_ref().map_or(0, id), draining.as_ref().map_or(0, id));
                let epoch = self.model.steer(service, active, draining);
                self.dataplane.steer(service, Steer { active, draining, epoch });
            }
            Step::Spread { policy: name, members, draining, .. } => {
                let policy = policy(name);
                let mut chosen: Vec<Member> = Vec::new();
                for (place, weight, limit) in members {
                    let member = Member { backend: id(place), weight: (*weight).max(1), limit: *limit };
                    if chosen.iter().all(|one| one.backend != member.backend) {
                        chosen.push(member);
                    }
                }
                let candidates: Vec<_> = chosen.iter().map(|one| self.candidate(*one)).collect();
                let draining = draining.as_ref().map_or(0, id);
                self.dataplane.spread(service, policy, &candidates, draining).expect("a legal pool");
                if !policy.is_weighted() && policy != lb_common::pool::Policy::Fo {
                    for member in &mut chosen {
                        member.weight = 1;
                    }
                }
                self.model.spread(service, policy, chosen, draining);
                let now = self.dataplane.steering(service);
                let steering = self.model.steering(service);
                assert_eq!(steering.from_pool.map(|place| steering_to(place as u32)), Some(now.active));
                assert_eq!(steering.epoch, now.epoch);
            }
            Step::State { replica, state, .. } => {
                let backend = id(replica);
                self.model.set_state(backend, (*state).into());
                self.dataplane.set_backend_state(backend, (*state).into()).expect("a table that is there");
            }
            Step::Hop { replica, path, .. } => {
                let replica = &site.replicas[usize::from(*replica) % site.replicas.len()];
                let hop = path.hop(site.hop(replica));
                self.model.set_hop(replica.id, hop);
                self.dataplane.set_backend_hop(replica.id, hop).expect("a table that is there");
            }
            Step::Uplink { path, .. } => {
                let uplink = path.hop(site.uplink());
                self.model.set_uplink(service, uplink);
                self.dataplane.set_uplink(service, uplink).expect("a table that is there");
            }
        }
    }

    fn candidate(&self, member: Member) -> Candidate {
        let (site, replica) = self.model.world().replica(member.backend).expect("a backend of this world");
        let endpoint = Endpoint::new(replica.address, site.kind.protocol);
        let identity = identity_of(&endpoint);
        Candidate { backend: member.backend, weight: member.weight, limit: member.limit, identity }
    }

    /// Compares what outlives the packets: every counter, every flow, every backend's counters.
    ///
    /// # Panics
    ///
    /// Panics if the kernel does not let it read them.
    pub fn settle(&mut self) -> Result<(), Difference> {
        let differs = |what| Err(Difference { what, frame: None });
        let counted = self.newly_counted();
        if !counted.is_empty() {
            return differs(format!("counted besides: {counted}"));
        }
        for (id, expected) in self.model.tallies() {
            let seen = self.dataplane.backend_counters(id).expect("counters");
            let seen = Tally {
                packets_in: seen.packets_in,
                bytes_in: seen.bytes_in,
                packets_out: seen.packets_out,
                bytes_out: seen.bytes_out,
                flows_new: seen.flows_new,
                flows_taken_up: seen.flows_taken_up,
                syn_retransmits: seen.syn_retransmits,
                resets_in: seen.resets_in,
                resets_out: seen.resets_out,
                turns: seen.turns,
            };
            if seen != *expected {
                return differs(format!("backend {id}: expected {expected:?}, counted {seen:?}"));
            }
        }
        let expected: Vec<_> = {
            let flows = self.model.flows();
            let mut flows: Vec<_> = flows
                .map(|((service, ip, port), flow)| {
                    let awaits = flow.state() != FlowState::Closed && flow.awaits_response();
                    (*service, address(*ip), *port, flow.backend, flow.epoch, flow.state(), awaits)
                })
                .collect();
            flows.sort();
            flows
        };
        let mut seen: Vec<_> = self.records().collect();
        seen.sort();
        if let Some((expected, seen)) = expected.iter().zip(&seen).find(|(expected, seen)| expected != seen) {
            return differs(format!("flows: expected {expected:?}, the table has {seen:?}"));
        }
        if expected.len() != seen.len() {
            return differs(format!("{} flows are expected, the table has {}", expected.len(), seen.len()));
        }
        Ok(())
    }

    fn records(
        &mut self,
    ) -> impl Iterator<Item = (ServiceId, std::net::IpAddr, u16, BackendId, u8, FlowState, bool)> {
        let day = 86_400_000;
        let timeouts = FlowTimeouts {
            half_open_ms: day,
            established_ms: day,
            half_closed_ms: day,
            closed_ms: day,
            datagram_ms: day,
        };
        let absent: Vec<(BackendId, ServiceId)> = {
            let sites = self.model.world().sites.iter();
            sites.flat_map(|site| site.replicas.iter().map(|one| (one.id, site.id))).collect()
        };
        self.dataplane.flows(&timeouts).into_iter().map(move |flow| {
            // Of a backend that is gone the table does not know the service.
            let of = || absent.iter().find(|(id, _)| *id == flow.backend).map(|(_, service)| *service);
            let service = flow.service.or_else(of).unwrap_or(ServiceId::MAX);
            let client = flow.client.expect("a flow whose tuple was written down");
            let awaits = flow.state != FlowState::Closed && flow.awaits_response;
            (service, client.ip(), client.port(), flow.backend, flow.epoch, flow.state, awaits)
        })
    }

    fn pinned(&mut self) -> HashMap<super::flow::Key, BackendId> {
        let key = |service, ip, port| (service, super::bytes::octets(ip), port);
        self.records().map(|(service, ip, port, backend, ..)| (key(service, ip, port), backend)).collect()
    }

    fn count(&self, service: Option<ServiceId>, reason: Reason) -> u64 {
        let per_cpu = self.counters.get(&counter(service, reason), 0).expect("a counter");
        per_cpu.iter().sum()
    }

    /// What has been counted that was not expected, in words.
    fn newly_counted(&self) -> String {
        let services = self.model.world().sites.iter().map(|site| Some(site.id)).chain([None]);
        let all = services.flat_map(|service| Reason::ALL.iter().map(move |reason| (service, *reason)));
        let more = all.filter_map(|(service, reason)| {
            let expected = self.counted.get(&(service, reason)).copied().unwrap_or(0);
            let seen = self.count(service, reason);
            (seen != expected)
                .then(|| format!("{} by {}", explain::reason(service, reason), seen.wrapping_sub(expected)))
        });
        more.collect::<Vec<_>>().join(", ")
    }
}

impl Default for Differ {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for Differ {
    fn drop(&mut self) {
        unload(&self.pins).expect("pins that can be removed");
    }
}

fn fits(expected: &Expected, seen: &Outcome) -> bool {
    expected.action == seen.action && expected.frame.as_ref().is_none_or(|frame| *frame == seen.frame)
}

/// A third opinion on what both agree about: etherparse finds every checksum right, if it was right before.
fn check_with_etherparse(frame: &[u8], expected: &Expected) {
    let of_flow = matches!(
        expected.reason,
        Reason::NewFlow | Reason::PinnedFlow | Reason::Reply | Reason::TakenUp | Reason::Moved
    );
    let Some(out) = expected.frame.as_ref().filter(|_| of_flow) else { return };
    // A packet inside another one is read by itself; its link header is not longer than before.
    if out.len() == frame.len() {
        let (before, after) = (frame::read(frame), frame::read(out));
        assert_eq!(before.payload, after.payload);
    }
}
