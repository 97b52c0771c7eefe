//! Services that have left the configuration: they get no new flows, and are removed when their last flow has
//! ended or their drain deadline has passed.

use std::collections::BTreeSet;
use std::time::Duration;

use super::super::definition::millis;
use super::super::parts::Parts;
use super::super::{UpError, forget, registration, remove};
use super::shared::SharedPlane;
use super::{Fleet, FleetError};
use crate::clock::Now;
use crate::names::ServiceName;

/// A service that left while no controller ran has so long: its own deadline is not known any more.
const DEADLINE: Duration = Duration::from_mins(1);

/// A service that leaves.
pub(super) struct Leaving {
    deadline: Now,
    network: Network,
}

/// Where its packets are steered.
enum Network {
    /// In the data plane that services share.
    Shared,
    /// In one of its own, which is known unless the service left while no controller ran.
    Own(Option<Box<Parts>>),
}

impl Fleet {
    /// Lets go of a service that this controller has run until now.
    pub(super) fn let_go(&mut self, name: ServiceName, drain: Option<Duration>, parts: Option<Parts>) {
        self.budget.forget(&name);
        let is_shared = self.shared.as_ref().is_some_and(|shared| shared.knows(&name));
        let network = if is_shared { Network::Shared } else { Network::Own(parts.map(Box::new)) };
        match &network {
            Network::Own(Some(parts)) => parts.close(),
            _ => self.shared.iter().for_each(|shared| shared.close(&name)),
        }
        tracing::info!(service = %name, "left the configuration: it gets no new flows and drains");
        let deadline = Now::read().plus_ms(millis(drain.unwrap_or(DEADLINE)));
        self.leaving.insert(name, Leaving { deadline, network });
    }

    /// Lets go of every service that an earlier run of this controller has left and that is no longer wanted; what
    /// cannot be read is said, and keeps nothing else from its turn.
    pub(super) fn let_go_of_the_rest(&mut self) -> Vec<String> {
        let there = match super::super::list(&self.roots) {
            Ok(there) => there,
            Err(error) => {
                let error = UpError::files(self.roots.services())(error);
                tracing::error!("{error}; what was left of other services stays as it is");
                return vec![error.to_string()];
            }
        };
        let mut failures = Vec::new();
        let steered: BTreeSet<ServiceName> = self.shared.iter().flat_map(SharedPlane::services).collect();
        let all: BTreeSet<ServiceName> = there.into_iter().chain(steered.iter().cloned()).collect();
        for name in all {
            let is_wanted = self.config.services.iter().any(|service| service.name == name);
            let is_ending = self.leaving.contains_key(&name) || self.ending.contains_key(&name);
            if is_wanted || is_ending {
                continue;
            }
            match registration::load(&self.roots.service(&name)) {
                Ok(Some(left)) if left.run_by.as_ref() == Some(&self.options.plane) => {
                    self.let_go(name, None, None);
                }
                // Its packets are steered here, whatever has become of its files.
                Ok(None) | Err(_) if steered.contains(&name) => self.let_go(name, None, None),
                Ok(_) => {}
                Err(error) => {
                    // Whose it is nobody knows, so it is not touched.
                    tracing::error!(service = %name, "{error}; what is left of it stays as it is");
                    failures.push(format!("service {name}: {error}"));
                }
            }
        }
        failures
    }

    /// Removes those that leave and have no flows left, or no time. One that cannot be removed leaves still, and
    /// keeps no other from it.
    pub(super) async fn see_off(&mut self, now: Now) -> Result<(), FleetError> {
        let mut result = Ok(());
        let names: Vec<ServiceName> = self.leaving.keys().cloned().collect();
        for name in names {
            let Some(leaving) = self.leaving.get(&name) else { continue };
            let open = match (&leaving.network, &self.shared) {
                (Network::Shared, Some(shared)) => shared.open_flows(&name, now),
                (Network::Own(Some(parts)), _) => parts.open_flows(now),
                // Nobody can look any more.
                _ => 0,
            };
            if open > 0 && now.boot_ms < leaving.deadline.boot_ms {
                continue;
            }
            if open > 0 {
                tracing::warn!(service = %name, open, "its drain deadline has passed: what is open is cut");
            }
            match self.remove(&name).await {
                Ok(()) => tracing::info!(service = %name, "removed"),
                Err(error) => result = Err(error),
            }
        }
        result
    }

    async fn remove(&mut self, name: &ServiceName) -> Result<(), FleetError> {
        self.taken_up.remove(name);
        let Some(leaving) = self.leaving.get_mut(name) else { return Ok(()) };
        match (&mut leaving.network, &mut self.shared) {
            (Network::Shared, Some(shared)) => {
                shared.remove(name)?;
                forget(&self.roots.service(name))?;
            }
            (Network::Shared, None) => forget(&self.roots.service(name))?,
            (Network::Own(parts), _) => {
                // Maps are mapped no longer when their pins go.
                drop(parts.take());
                remove(&self.roots, name).await?;
            }
        }
        self.leaving.remove(name);
        Ok(())
    }
}
