//! Where new flows go, by name, put into the data plane and read back from it.

use std::collections::{BTreeMap, BTreeSet};

use lb_common::pool::{Candidate, Policy, identity_of};
use lb_common::steer::NO_BACKEND;
use lb_common::{BackendId, Endpoint, Steer};

use super::parts::{Parts, SERVICE};
use crate::names::BackendName;
use crate::recovery::Steering;

/// A backend's part of the new flows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Share {
    /// In proportion to the others' (0: none at all).
    pub(super) weight: u16,
    /// Open flows from which on it gets no new ones; 0 if there is no limit.
    pub(super) max_flows: u32,
}

impl Default for Share {
    fn default() -> Self {
        Self { weight: 1, max_flows: 0 }
    }
}

/// How new flows are spread when several backends are active.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Balancing {
    pub(super) policy: Policy,
    /// Backends that are not named have an equal share and no limit.
    pub(super) shares: BTreeMap<BackendName, Share>,
}

impl Default for Balancing {
    fn default() -> Self {
        Self { policy: Policy::Rr, shares: BTreeMap::new() }
    }
}

impl Parts {
    /// Where flows go, as the packet path has it at this moment.
    pub(super) fn steering(&self) -> Steering {
        let word = self.dataplane.steering(SERVICE);
        let name = |id| self.backends.iter().find(|(_, b)| b.id == id).map(|(name, _)| name.clone());
        let active = self.dataplane.active(SERVICE).into_iter().filter_map(name).collect();
        Steering { active, draining: name(word.draining), epoch: word.epoch }
    }

    /// The handover.
    pub(super) fn steer(&mut self, steering: &Steering) {
        let id = |name: &BackendName| self.backends.get(name).map_or(NO_BACKEND, |backend| backend.id);
        let draining = steering.draining.as_ref().map_or(NO_BACKEND, id);
        let active = match steering.active.len() {
            0 => NO_BACKEND,
            1 => steering.active.first().map_or(NO_BACKEND, id),
            _ => return self.spread(steering, draining),
        };
        self.dataplane.steer(SERVICE, Steer { active, draining, epoch: steering.epoch });
    }

    fn spread(&mut self, steering: &Steering, draining: BackendId) {
        let candidates: Vec<Candidate> =
            steering.active.iter().filter_map(|name| self.candidate(name)).collect();
        let wanted: BTreeSet<_> = candidates.iter().map(|one| one.backend).collect();
        let present: BTreeSet<_> = self.dataplane.active(SERVICE).into_iter().collect();
        if wanted == present {
            // Only who drains has changed.
            let word = self.dataplane.steering(SERVICE);
            return self.dataplane.steer(SERVICE, Steer { draining, ..word });
        }
        let policy = self.balancing.policy;
        if let Err(error) = self.dataplane.spread(SERVICE, policy, &candidates, draining) {
            tracing::error!(%error, "the pool could not be changed: new flows go where they went");
        }
    }

    /// A backend as a member of the pool, if it is to have new flows at all.
    fn candidate(&self, name: &BackendName) -> Option<Candidate> {
        let backend = self.backends.get(name)?;
        let share = self.balancing.shares.get(name).copied().unwrap_or_default();
        let endpoint = Endpoint::tcp(backend.address.into());
        let identity = identity_of(&endpoint);
        let candidate =
            Candidate { backend: backend.id, weight: share.weight, limit: share.max_flows, identity };
        Some(candidate).filter(|one| one.weight > 0)
    }
}
