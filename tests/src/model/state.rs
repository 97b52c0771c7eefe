//! What the model remembers between packets, and what the controller can change.

use std::collections::{BTreeMap, HashMap};

use lb_common::pool::Policy;
use lb_common::{BackendId, BackendState, NextHop, ServiceId};

use super::bytes::Octets;
use super::flow::{Flow, Key};
use super::world::{Replica, Site, World};

/// Where the new flows of a service go.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Steering {
    /// One backend, or 0.
    pub active: BackendId,
    /// The pool that counts instead: which of the service's two.
    pub from_pool: Option<usize>,
    /// What old flows without entry go to, or 0.
    pub draining: BackendId,
    /// Counts changes.
    pub epoch: u32,
}

/// One of a pool.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Member {
    /// The backend.
    pub backend: BackendId,
    /// Its share; 1 if the policy has none.
    pub weight: u16,
    /// Open flows from which on it gets no new ones; 0 for no limit.
    pub limit: u32,
}

/// Backends that new flows are spread over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Pool {
    /// How.
    pub policy: Policy,
    /// Those that take part.
    pub members: Vec<Member>,
    /// Which of all pools it is: a hash leads to the same member as long as the pool is the same.
    pub serial: u64,
}

/// A backend as it is at the moment.
#[derive(Clone, Copy, Debug)]
pub(super) struct Backend {
    /// Whether it takes packets.
    pub state: BackendState,
    /// Where its frames go.
    pub hop: NextHop,
}

/// Counters of a backend, as `lb_common::BackendCounters` documents them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[expect(missing_docs, reason = "named and documented as in `BackendCounters`")]
pub struct Tally {
    pub packets_in: u64,
    pub bytes_in: u64,
    pub packets_out: u64,
    pub bytes_out: u64,
    pub flows_new: u64,
    pub flows_taken_up: u64,
    pub syn_retransmits: u64,
    pub resets_in: u64,
    pub resets_out: u64,
    pub turns: u64,
}

impl Tally {
    /// Adds another one.
    pub(super) fn add(&mut self, other: &Self) {
        self.packets_in += other.packets_in;
        self.bytes_in += other.bytes_in;
        self.packets_out += other.packets_out;
        self.bytes_out += other.bytes_out;
        self.flows_new += other.flows_new;
        self.flows_taken_up += other.flows_taken_up;
        self.syn_retransmits += other.syn_retransmits;
        self.resets_in += other.resets_in;
        self.resets_out += other.resets_out;
        self.turns += other.turns;
    }
}

/// What a flow's hash led to: pool, and the part of the client that the policy hashes.
pub(super) type HashedTo = (u64, Octets, Option<u16>);

/// The model.
#[derive(Clone, Debug)]
pub struct Model {
    pub(super) world: World,
    pub(super) flows: HashMap<Key, Flow>,
    pub(super) leases: HashMap<(ServiceId, Octets), BackendId>,
    /// Ports that are lent, and to whom.
    pub(super) lent: HashMap<(ServiceId, u16), Key>,
    pub(super) backends: BTreeMap<BackendId, Backend>,
    pub(super) uplinks: Vec<NextHop>,
    pub(super) steering: Vec<Steering>,
    /// Two a service: the one in use, and what was there before.
    pub(super) pools: Vec<[Option<Pool>; 2]>,
    pub(super) hashed: HashMap<HashedTo, BackendId>,
    /// Open flows as they come and go, where a service has them counted.
    pub(super) open: HashMap<BackendId, i64>,
    pub(super) tallies: BTreeMap<BackendId, Tally>,
    serial: u64,
}

impl Model {
    /// A model to which nothing has happened: no service has an active backend.
    pub fn new(world: World) -> Self {
        let mut backends = BTreeMap::new();
        for site in &world.sites {
            for replica in &site.replicas {
                let fresh = Backend { state: BackendState::Present, hop: site.hop(replica) };
                backends.insert(replica.id, fresh);
            }
        }
        let services = world.sites.len();
        Self {
            flows: HashMap::new(),
            leases: HashMap::new(),
            lent: HashMap::new(),
            tallies: backends.keys().map(|id| (*id, Tally::default())).collect(),
            backends,
            uplinks: world.sites.iter().map(Site::uplink).collect(),
            steering: vec![Steering::default(); services],
            pools: vec![[None, None]; services],
            hashed: HashMap::new(),
            open: HashMap::new(),
            serial: 0,
            world,
        }
    }

    /// The services.
    pub fn world(&self) -> &World {
        &self.world
    }

    /// The flow of this name.
    pub fn flow(&self, key: &Key) -> Option<&Flow> {
        self.flows.get(key)
    }

    /// All flows.
    pub fn flows(&self) -> impl Iterator<Item = (&Key, &Flow)> {
        self.flows.iter()
    }

    /// What has been counted for each backend.
    pub fn tallies(&self) -> impl Iterator<Item = (BackendId, &Tally)> {
        self.tallies.iter().map(|(id, tally)| (*id, tally))
    }

    /// The port that a flow was lent.
    pub fn port_of(&self, key: &Key) -> Option<u16> {
        self.lent.iter().find(|(_, holder)| *holder == key).map(|((_, port), _)| *port)
    }

    /// Where flows of a service go.
    pub fn steering(&self, service: ServiceId) -> Steering {
        self.steering[usize::from(service)]
    }

    /// Steers to one backend; the epoch is one more.
    pub fn steer(&mut self, service: ServiceId, active: BackendId, draining: BackendId) -> u32 {
        let steering = &mut self.steering[usize::from(service)];
        *steering = Steering { active, from_pool: None, draining, epoch: steering.epoch.wrapping_add(1) };
        steering.epoch
    }

    /// Spreads new flows over a pool.
    pub fn spread(&mut self, service: ServiceId, policy: Policy, members: Vec<Member>, draining: BackendId) {
        self.serial += 1;
        let steering = &mut self.steering[usize::from(service)];
        // The place that is not in use is filled; the first if none is.
        let place = steering.from_pool.map_or(0, |used| 1 - used);
        self.pools[usize::from(service)][place] = Some(Pool { policy, members, serial: self.serial });
        let epoch = steering.epoch.wrapping_add(1);
        *steering = Steering { active: 0, from_pool: Some(place), draining, epoch };
    }

    /// Changes what becomes of a backend's packets.
    pub fn set_state(&mut self, backend: BackendId, state: BackendState) {
        if let Some(backend) = self.backends.get_mut(&backend) {
            backend.state = state;
        }
    }

    /// Changes where a backend's frames go.
    pub fn set_hop(&mut self, backend: BackendId, hop: NextHop) {
        if let Some(backend) = self.backends.get_mut(&backend) {
            backend.hop = hop;
        }
    }

    /// Changes where replies of a service go.
    pub fn set_uplink(&mut self, service: ServiceId, uplink: NextHop) {
        self.uplinks[usize::from(service)] = uplink;
    }

    /// A backend that packets may be sent to.
    pub(super) fn present(&self, id: BackendId) -> bool {
        self.backends.get(&id).is_some_and(|backend| backend.state == BackendState::Present)
    }

    /// A backend as it was set up and as it is.
    pub(super) fn backend(&self, id: BackendId) -> (&Site, &Replica, Backend) {
        let (site, replica) = self.world.replica(id).expect("a backend of this world");
        (site, replica, self.backends[&id])
    }
}
