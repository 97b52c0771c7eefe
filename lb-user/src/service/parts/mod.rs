//! The parts of a service that outlive its controller, made or found: network, data plane, processes.

mod own;
mod shared;

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use lb_common::pool::{self, Candidate, identity_of};
use lb_common::steer::NO_BACKEND;
use lb_common::{Backend, BackendId, BackendState, Endpoint, Forwarding, NextHop, ServiceId, Steer};
use tokio::sync::watch;
use tokio::time::timeout;

use super::UpError;
use super::definition::entry;
use super::plane::Plane;
use super::warm_up::ClientWay;
use crate::clock::Now;
use crate::config;
use crate::dataplane::Mode;
use crate::driver::Driver;
use crate::names::BackendName;
use crate::net::hops::Hops;
use crate::net::netns::{self, NetnsHandle};
use crate::net::{local_towards, unspecified};
use crate::recovery::{Policy, Steering};

pub(super) use own::{Owned, bare_driver, open as open_own};
pub(super) use shared::{Place, open as open_shared};

/// The next hops of a fresh network are known within this; later they are followed.
const HOPS_DEADLINE: Duration = Duration::from_secs(2);

/// One backend.
pub(super) struct BackendParts {
    pub(super) id: BackendId,
    pub(super) address: SocketAddr,
    pub(super) weight: u16,
    /// Open flows from which on it gets no new ones; 0 if there is no limit.
    pub(super) max_flows: u32,
    pub(super) driver: Driver,
}

/// What outlives the controller.
pub(super) struct Parts {
    pub(super) plane: Plane,
    pub(super) id: ServiceId,
    /// Where checks are sent from.
    pub(super) origin: Arc<NetnsHandle>,
    pub(super) backends: BTreeMap<BackendName, BackendParts>,
    pub(super) hops: watch::Receiver<Hops>,
    /// How clients of this host come, if their connections can be led to a backend of our choice.
    pub(super) client_way: Option<ClientWay>,
    /// The next hops that are in the tables.
    applied: Hops,
    /// Where replies to clients go; `None` leaves each of them to the stack.
    uplink: Option<IpAddr>,
    mode: Mode,
    forwarding: Forwarding,
    protocol: u8,
    snat_group: u32,
    /// How new flows are spread; `None` if one backend gets all.
    spread: Option<pool::Policy>,
}

impl Parts {
    /// The names of the backends.
    pub(super) fn names(&self) -> BTreeSet<BackendName> {
        self.backends.keys().cloned().collect()
    }

    /// A policy with the steps that there are to bring each of the backends back.
    pub(super) fn with_ladders(&self, policy: Policy) -> Policy {
        let ladder = |(name, backend): (&BackendName, &BackendParts)| (name.clone(), backend.driver.ladder());
        Policy { ladders: self.backends.iter().map(ladder).collect(), ..policy }
    }

    /// Waits until frames can be sent to everybody, but not for long.
    async fn wait_for_hops(&mut self) {
        // Without them packets take the way through the stack; nothing is lost by going on.
        if timeout(HOPS_DEADLINE, self.hops.wait_for(Hops::all_resolved)).await.is_err() {
            for (target, why) in self.hops.borrow().unresolved() {
                tracing::warn!(
                    "{}: {why}; packets go through the stack until the next hop is known",
                    self.describe(target)
                );
            }
        }
    }

    /// Makes the service and its backends known to the packet path.
    fn fill_tables(&mut self, service: &config::Service) -> Result<(), UpError> {
        let hops = self.hops.borrow().clone();
        let mut tables = self.plane.tables();
        tables.set_service(self.id, &entry(service, self.uplink_hop(&hops), self.snat_group))?;
        for parts in self.backends.values() {
            let endpoint = Endpoint::new(parts.address, self.protocol);
            let hop = self.next_hop(&hops, parts.address.ip());
            let backend = Backend::new(endpoint, hop, self.local_towards(parts.address).into())
                .with_forwarding(self.forwarding);
            tables.set_backend(self.id, parts.id, &backend)?;
        }
        drop(tables);
        self.applied = hops;
        Ok(())
    }

    /// The balancer's own address on the way to another; the unspecified one if no way is known.
    fn local_towards(&self, address: SocketAddr) -> IpAddr {
        match netns::inside(&self.origin, || local_towards(address)) {
            Ok(Ok(local)) => local,
            Ok(Err(_)) | Err(_) => unspecified(address),
        }
    }

    fn uplink_hop(&self, hops: &Hops) -> NextHop {
        self.uplink.map_or_else(NextHop::default, |uplink| self.next_hop(hops, uplink))
    }

    /// The next hop to an address, as the packet path is to know it.
    fn next_hop(&self, hops: &Hops, address: IpAddr) -> NextHop {
        let hop = hops.next_hop(address);
        match self.mode {
            Mode::Native => hop,
            // The stack hands over what it has put together of several packets and will take apart again, so
            // lengths mean nothing.
            Mode::Generic => NextHop { mtu: 0, ..hop },
        }
    }

    /// Brings the tables up to date with the next hops as they are now.
    pub(super) fn refresh_hops(&mut self) -> Result<(), UpError> {
        let hops = self.hops.borrow_and_update().clone();
        let mut tables = self.plane.tables();
        for parts in self.backends.values() {
            let (hop, local) = (self.next_hop(&hops, parts.address.ip()), self.local_towards(parts.address));
            tables.set_backend_way(parts.id, hop, local.into())?;
        }
        tables.set_uplink(self.id, self.uplink_hop(&hops))?;
        drop(tables);
        for change in hops.changes_since(&self.applied) {
            let whom = self.describe(change.target);
            if change.is_loss() {
                tracing::warn!("{whom}: {change}");
            } else {
                tracing::info!("{whom}: {change}");
            }
        }
        self.applied = hops;
        Ok(())
    }

    /// An address of the network, in the words of an operator.
    fn describe(&self, address: IpAddr) -> String {
        let backend = self.backends.iter().find(|(_, parts)| parts.address.ip() == address);
        backend.map_or_else(|| "uplink".to_owned(), |(name, _)| format!("backend {name}"))
    }

    /// Where flows go, by name, as the packet path has it at this moment.
    pub(super) fn steering(&self) -> Steering {
        let tables = self.plane.tables();
        let word = tables.steering(self.id);
        let name = |id| self.backends.iter().find(|(_, b)| b.id == id).map(|(name, _)| name.clone());
        let active = tables.active(self.id).into_iter().filter_map(name).collect();
        Steering { active, draining: name(word.draining), epoch: word.epoch }
    }

    /// The handover.
    pub(super) fn steer(&self, steering: &Steering) {
        let find = |name: &BackendName| self.backends.get(name);
        let draining = steering.draining.as_ref().and_then(find).map_or(NO_BACKEND, |backend| backend.id);
        let candidates: Vec<_> = steering.active.iter().filter_map(find).map(|b| self.candidate(b)).collect();
        let mut tables = self.plane.tables();
        let Some(policy) = self.spread.filter(|_| !candidates.is_empty()) else {
            let active = candidates.first().map_or(NO_BACKEND, |one| one.backend);
            tables.steer(self.id, Steer { active, draining, epoch: steering.epoch });
            return;
        };
        if let Err(error) = tables.spread_in(self.id, policy, &candidates, draining, steering.epoch) {
            tracing::error!(%error, "the pool could not be changed: new flows go where they went");
        }
    }

    /// Lets the service get no new flows; those it has go on.
    pub(super) fn close(&self) {
        self.plane.tables().close(self.id);
    }

    /// Open flows of all backends.
    pub(super) fn open_flows(&self, now: Now) -> u64 {
        let counts = self.plane.counts(now);
        self.backends.values().map(|backend| counts[usize::from(backend.id)].open.total()).sum()
    }

    fn candidate(&self, backend: &BackendParts) -> Candidate {
        Candidate {
            backend: backend.id,
            weight: backend.weight,
            limit: backend.max_flows,
            identity: identity_of(&Endpoint::new(backend.address, self.protocol)),
        }
    }

    /// Says what becomes of packets that are pinned to a backend.
    pub(super) fn set_backend_state(&self, name: &BackendName, state: BackendState) {
        let Some(id) = self.backends.get(name).map(|backend| backend.id) else { return };
        if let Err(error) = self.plane.tables().set_backend_state(id, state) {
            tracing::error!(backend = %name, %error, "the state of the backend could not be written");
        }
    }
}
