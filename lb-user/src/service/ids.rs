//! Which service and which backend has which id in the tables of a data plane that they share. Pure.
//!
//! What always holds: an id is given to another backend only when no flow is pinned to it any longer, so no
//! flow ever changes its backend because a file has changed.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;

use lb_common::{BACKENDS_MAX, BackendId, SERVICES_MAX, ServiceId};
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::config;
use crate::names::{BackendName, ServiceName};

/// Backends that there can be: 0 is none.
const BACKEND_IDS: u32 = BACKENDS_MAX - 1;

/// The tables are full.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum NoId {
    /// Of services.
    #[error(
        "service {0}: a data plane has room for {SERVICES_MAX} services, those included whose last flows are still open"
    )]
    Services(ServiceName),
    /// Of backends.
    #[error(
        "service {0}: a data plane has room for {BACKEND_IDS} backends, those included whose last flows are still open"
    )]
    Backends(ServiceName),
    /// Of groups of ports.
    #[error(
        "service {service}: the data plane was made for {groups} services with `snat_ports`; `baton unload`, which \
         ends its connections, and a new start make it anew"
    )]
    SnatGroups {
        /// The service that gets none.
        service: ServiceName,
        /// How many there are.
        groups: u32,
    },
}

/// The ids of a data plane.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Ids(BTreeMap<ServiceName, ServiceIds>);

/// The ids of one service.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct ServiceIds {
    /// The service's own.
    pub(super) id: ServiceId,
    /// Its group of ports, if it lends any.
    pub(super) snat_group: Option<u32>,
    /// Its backends', those included that are no longer configured.
    backends: BTreeMap<BackendName, BackendIds>,
}

/// The id of one backend, and those that it had while it was elsewhere.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct BackendIds {
    id: BackendId,
    address: SocketAddr,
    former: BTreeSet<BackendId>,
}

impl ServiceIds {
    /// The ids of the backends as they are.
    pub(super) fn backends(&self) -> BTreeMap<BackendName, BackendId> {
        self.backends.iter().map(|(name, ids)| (name.clone(), ids.id)).collect()
    }

    /// Every id that flows of the service may be pinned to.
    pub(super) fn all(&self) -> impl Iterator<Item = BackendId> {
        self.backends.values().flat_map(|ids| ids.former.iter().copied().chain([ids.id]))
    }
}

impl Ids {
    /// The ids of a service, those it has kept and new ones where it has none.
    pub(super) fn assign(&mut self, service: &config::Service, snat_groups: u32) -> Result<ServiceIds, NoId> {
        let mut ids = match self.0.get(&service.name) {
            Some(ids) => ids.clone(),
            None => ServiceIds {
                id: self.free_service().ok_or_else(|| NoId::Services(service.name.clone()))?,
                snat_group: None,
                backends: BTreeMap::new(),
            },
        };
        if service.snat_ports.is_some() && ids.snat_group.is_none() {
            let taken: BTreeSet<u32> = self.0.values().filter_map(|other| other.snat_group).collect();
            let free = (0..snat_groups).find(|group| !taken.contains(group));
            let none = || NoId::SnatGroups { service: service.name.clone(), groups: snat_groups };
            ids.snat_group = Some(free.ok_or_else(none)?);
        }
        let mut taken: BTreeSet<BackendId> =
            self.0.values().chain([&ids]).flat_map(ServiceIds::all).collect();
        for backend in &service.backends {
            let known = ids.backends.get(&backend.name).cloned();
            if known.as_ref().is_some_and(|known| known.address == backend.address) {
                continue;
            }
            let all = 1..BACKENDS_MAX as BackendId;
            let free = all.into_iter().find(|id| !taken.contains(id));
            let id = free.ok_or_else(|| NoId::Backends(service.name.clone()))?;
            taken.insert(id);
            // Its old flows are where it was before.
            let former = known.map(|known| known.former.into_iter().chain([known.id]).collect());
            let former = former.unwrap_or_default();
            ids.backends.insert(backend.name.clone(), BackendIds { id, address: backend.address, former });
        }
        self.0.insert(service.name.clone(), ids.clone());
        Ok(ids)
    }

    /// The ids of a service that has some.
    pub(super) fn of(&self, service: &ServiceName) -> Option<&ServiceIds> {
        self.0.get(service)
    }

    /// Backends that have an id and are not wanted any longer, or not where they were.
    pub(super) fn left_over(&self, wanted: impl Fn(&ServiceName, &BackendName) -> bool) -> Vec<LeftOver> {
        let of_service = |(service, ids): (&ServiceName, &ServiceIds)| {
            let of_backend = |(name, backend): (&BackendName, &BackendIds)| {
                let present = Some(backend.id).filter(|_| !wanted(service, name));
                let left_over = |backend_id| LeftOver {
                    service: service.clone(),
                    service_id: ids.id,
                    backend: name.clone(),
                    backend_id,
                };
                backend.former.iter().copied().chain(present).map(left_over).collect::<Vec<_>>()
            };
            ids.backends.iter().flat_map(of_backend).collect::<Vec<_>>()
        };
        self.0.iter().flat_map(of_service).collect()
    }

    /// Gives a backend's id back.
    pub(super) fn release_backend(&mut self, left: &LeftOver) {
        let Some(ids) = self.0.get_mut(&left.service) else { return };
        let Some(backend) = ids.backends.get_mut(&left.backend) else { return };
        if !backend.former.remove(&left.backend_id) {
            ids.backends.remove(&left.backend);
        }
    }

    /// Gives a service's id back, and its backends'.
    pub(super) fn release(&mut self, service: &ServiceName) {
        self.0.remove(service);
    }

    fn free_service(&self) -> Option<ServiceId> {
        let taken: BTreeSet<ServiceId> = self.0.values().map(|ids| ids.id).collect();
        (0..SERVICES_MAX as ServiceId).find(|id| !taken.contains(id))
    }
}

/// A backend that has left the configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct LeftOver {
    pub(super) service: ServiceName,
    pub(super) service_id: ServiceId,
    pub(super) backend: BackendName,
    pub(super) backend_id: BackendId,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    fn service(name: &str, backends: &[(&str, &str)], more: &str) -> config::Service {
        let head = format!(
            "[data_plane]\ninterfaces = [\"eth0\"]\n[[service]]\nname = \"{name}\"\nvip = \"10.0.0.1:80\"\n{more}\n"
        );
        let backends = backends.iter().map(|(name, address)| {
            format!(
                "[[service.backend]]\nname = \"{name}\"\naddress = \"{address}\"\ndriver.type = \"manual\"\n"
            )
        });
        let text: String = std::iter::once(head).chain(backends).collect();
        Config::parse(&text, "test").expect("a configuration").config.services.remove(0)
    }

    fn backends(ids: &ServiceIds) -> Vec<(String, BackendId)> {
        ids.backends().into_iter().map(|(name, id)| (name.to_string(), id)).collect()
    }

    #[test]
    fn ids_stay_whatever_else_comes_and_goes() {
        let mut ids = Ids::default();
        let shop = service("shop", &[("a", "10.1.0.1:80"), ("b", "10.1.0.2:80")], "");
        let first = ids.assign(&shop, 0).unwrap();
        assert_eq!((first.id, backends(&first)), (0, vec![("a".into(), 1), ("b".into(), 2)]));
        let other = ids.assign(&service("other", &[("a", "10.1.0.3:80")], ""), 0).unwrap();
        assert_eq!((other.id, backends(&other)), (1, vec![("a".into(), 3)]));
        assert_eq!(ids.assign(&shop, 0).unwrap(), first);
        let grown = service("shop", &[("a", "10.1.0.1:80"), ("c", "10.1.0.4:80")], "");
        assert_eq!(backends(&ids.assign(&grown, 0).unwrap())[2], ("c".into(), 4));
    }

    #[test]
    fn a_backend_that_moves_gets_another_id_and_its_old_one_is_left_over_until_it_is_released() {
        let mut ids = Ids::default();
        ids.assign(&service("shop", &[("a", "10.1.0.1:80")], ""), 0).unwrap();
        let moved = service("shop", &[("a", "10.9.9.9:80")], "");
        assert_eq!(backends(&ids.assign(&moved, 0).unwrap()), [("a".into(), 2)]);
        let left = ids.left_over(|_, _| true);
        assert_eq!(left.iter().map(|left| left.backend_id).collect::<Vec<_>>(), [1]);
        ids.release_backend(&left[0]);
        assert_eq!((ids.left_over(|_, _| true), ids.left_over(|_, _| false).len()), (vec![], 1));
        let again = ids.assign(&moved, 0).unwrap();
        assert_eq!(backends(&again), [("a".into(), 2)]);
    }

    #[test]
    fn a_service_with_snat_gets_a_group_of_ports_of_its_own_while_there_are_any() {
        let mut ids = Ids::default();
        let snat = |name| service(name, &[("a", "10.1.0.1:80")], "snat_ports = \"20000-29999\"");
        assert_eq!(ids.assign(&snat("one"), 2).unwrap().snat_group, Some(0));
        assert_eq!(ids.assign(&snat("two"), 2).unwrap().snat_group, Some(1));
        assert!(matches!(ids.assign(&snat("three"), 2), Err(NoId::SnatGroups { groups: 2, .. })));
        ids.release(&"one".parse().unwrap());
        assert_eq!(ids.assign(&snat("three"), 2).unwrap().snat_group, Some(0));
    }
}
