//! Which service and which backend has which id in the tables of a data plane that they share. Pure.
//!
//! What always holds:
//! - An id is given to another backend only when no flow is pinned to it any longer, so no flow ever changes its
//!   backend because a file has changed.
//! - One service knows an address by one id, under whatever name: answers are told by where they come from, so a
//!   second id would take those of the flows that the first one has.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;

use lb_common::{BACKENDS_MAX, BackendId, Forwarding, SERVICES_MAX, ServiceId};
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::config::{self, Protocol};
use crate::names::{BackendName, ServiceName};

/// Backends that there can be: 0 is none.
const BACKEND_IDS: u32 = BACKENDS_MAX - 1;

/// A service gets no id: the tables are full, or one of its addresses is another service's.
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
    /// Of a backend where another service has one.
    #[error(
        "service {service}: answers from {address}, where backend {backend} is, are those of service {holder}, which has \
         that backend, or flows there that are still open; a backend that moves from one service to another leaves the \
         first one in an earlier reload"
    )]
    Held {
        /// The service that gets none.
        service: ServiceName,
        /// Its backend.
        backend: BackendName,
        /// Where it is.
        address: SocketAddr,
        /// The other service.
        holder: ServiceName,
    },
}

/// The ids of a data plane.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Ids(BTreeMap<ServiceName, ServiceIds>);

/// The ids of one service.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "Written")]
pub(super) struct ServiceIds {
    /// The service's own.
    pub(super) id: ServiceId,
    /// Its group of ports, if it lends any.
    pub(super) snat_group: Option<u32>,
    /// Whose answers it rewrites; `None` if they do not pass, or if an earlier version has left that open.
    answers: Option<Answers>,
    /// Those of the backends that it was last to have.
    backends: BTreeMap<BackendName, BackendIds>,
    /// Those of backends that have left it or moved since, until they are given back.
    left: BTreeMap<BackendId, Left>,
}

/// Whose answers a service rewrites, and into whose.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Answers {
    vip: SocketAddr,
    protocol: Protocol,
}

/// The id of one backend.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct BackendIds {
    id: BackendId,
    address: SocketAddr,
}

/// An id that is kept for its last flows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Left {
    /// Whose it was.
    backend: BackendName,
    /// Where that was; `None` if an earlier version has left it.
    address: Option<SocketAddr>,
}

/// The ids of one service as they are written down, and as earlier versions have done it.
#[derive(Deserialize)]
struct Written {
    id: ServiceId,
    snat_group: Option<u32>,
    #[serde(default)]
    answers: Option<Answers>,
    backends: BTreeMap<BackendName, WrittenBackend>,
    #[serde(default)]
    left: BTreeMap<BackendId, Left>,
}

#[derive(Deserialize)]
struct WrittenBackend {
    id: BackendId,
    address: SocketAddr,
    /// Those that it had elsewhere.
    #[serde(default)]
    former: BTreeSet<BackendId>,
}

impl From<Written> for ServiceIds {
    fn from(written: Written) -> Self {
        let Written { id, snat_group, answers, backends, mut left } = written;
        let mut present = BTreeMap::new();
        for (name, WrittenBackend { id, address, former }) in backends {
            let moved = Left { backend: name.clone(), address: None };
            left.extend(former.into_iter().map(|id| (id, moved.clone())));
            present.insert(name, BackendIds { id, address });
        }
        Self { id, snat_group, answers, backends: present, left }
    }
}

impl ServiceIds {
    /// The ids of the backends as they are.
    pub(super) fn backends(&self) -> BTreeMap<BackendName, BackendId> {
        self.backends.iter().map(|(name, ids)| (name.clone(), ids.id)).collect()
    }

    /// Every id that flows of the service may be pinned to.
    pub(super) fn all(&self) -> impl Iterator<Item = BackendId> {
        self.backends.values().map(|ids| ids.id).chain(self.left.keys().copied())
    }

    /// Whether one of its backends is there, or was, and has its id still.
    fn holds(&self, address: SocketAddr) -> bool {
        let left = self.left.values().filter_map(|left| left.address);
        self.backends.values().map(|ids| ids.address).chain(left).any(|held| held == address)
    }

    /// Makes every id one that is left, which its service may take back.
    fn leave_all(&mut self) {
        for (backend, BackendIds { id, address }) in std::mem::take(&mut self.backends) {
            self.left.insert(id, Left { backend, address: Some(address) });
        }
    }

    /// The id by which an address is known, which from now on is not left any more.
    fn take_back(&mut self, address: SocketAddr) -> Option<BackendId> {
        let id = self.left.iter().find(|(_, left)| left.address == Some(address)).map(|(id, _)| *id)?;
        self.left.remove(&id);
        Some(id)
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
                answers: None,
                backends: BTreeMap::new(),
                left: BTreeMap::new(),
            },
        };
        if service.snat_ports.is_some() && ids.snat_group.is_none() {
            let taken: BTreeSet<u32> = self.0.values().filter_map(|other| other.snat_group).collect();
            let free = (0..snat_groups).find(|group| !taken.contains(group));
            let none = || NoId::SnatGroups { service: service.name.clone(), groups: snat_groups };
            ids.snat_group = Some(free.ok_or_else(none)?);
        }
        let passes = service.forwarding == Forwarding::Nat;
        ids.answers = passes.then_some(Answers { vip: service.vip, protocol: service.protocol });
        let mut taken: BTreeSet<BackendId> =
            self.0.values().chain([&ids]).flat_map(ServiceIds::all).collect();
        ids.leave_all();
        for backend in &service.backends {
            let address = backend.address;
            let id = if let Some(id) = ids.take_back(address) {
                id
            } else {
                self.ensure_free(&service.name, &ids, backend)?;
                let free = (1..BACKENDS_MAX as BackendId).find(|id| !taken.contains(id));
                free.ok_or_else(|| NoId::Backends(service.name.clone()))?
            };
            taken.insert(id);
            ids.backends.insert(backend.name.clone(), BackendIds { id, address });
        }
        self.0.insert(service.name.clone(), ids.clone());
        Ok(ids)
    }

    /// An error if answers from a backend's address are those of another service's flows.
    fn ensure_free(
        &self,
        service: &ServiceName,
        ids: &ServiceIds,
        backend: &config::Backend,
    ) -> Result<(), NoId> {
        let Some(own) = ids.answers else { return Ok(()) };
        // One at the same VIP is this service under an earlier name, whose clients come here from now on.
        let is_apart = |other: Answers| other.protocol == own.protocol && other.vip != own.vip;
        let holds = |other: &ServiceIds| other.answers.is_some_and(is_apart) && other.holds(backend.address);
        match self.0.iter().find(|(name, other)| *name != service && holds(other)) {
            None => Ok(()),
            Some((holder, _)) => Err(NoId::Held {
                service: service.clone(),
                backend: backend.name.clone(),
                address: backend.address,
                holder: holder.clone(),
            }),
        }
    }

    /// The services that have ids.
    pub(super) fn services(&self) -> impl Iterator<Item = &ServiceName> {
        self.0.keys()
    }

    /// The ids of a service that has some.
    pub(super) fn of(&self, service: &ServiceName) -> Option<&ServiceIds> {
        self.0.get(service)
    }

    /// What is left of backends that have gone from these services, or have moved. A service that is still becoming
    /// what it was last to be stands on some of that, and one that leaves takes all of its ids with it.
    pub(super) fn left_over(&self, settled: impl Fn(&ServiceName) -> bool) -> Vec<LeftOver> {
        let of_service = |(service, ids): (&ServiceName, &ServiceIds)| {
            let left_over = |(backend_id, left): (&BackendId, &Left)| LeftOver {
                service: service.clone(),
                service_id: ids.id,
                backend: left.backend.clone(),
                backend_id: *backend_id,
            };
            ids.left.iter().map(left_over).collect::<Vec<_>>()
        };
        self.0.iter().filter(|(service, _)| settled(service)).flat_map(of_service).collect()
    }

    /// Gives a backend's id back.
    pub(super) fn release_backend(&mut self, left: &LeftOver) {
        if let Some(ids) = self.0.get_mut(&left.service) {
            ids.left.remove(&left.backend_id);
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

/// A backend that has left a service, or its place.
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

    fn left(ids: &Ids, settled: bool) -> Vec<(String, BackendId)> {
        let over = ids.left_over(|_| settled).into_iter();
        over.map(|left| (left.backend.to_string(), left.backend_id)).collect()
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
        assert_eq!(backends(&ids.assign(&grown, 0).unwrap()), [("a".into(), 1), ("c".into(), 4)]);
        assert_eq!(left(&ids, true), [("b".into(), 2)]);
    }

    #[test]
    fn a_backend_that_moves_gets_another_id_and_its_old_one_is_left_over_until_it_is_released() {
        let mut ids = Ids::default();
        ids.assign(&service("shop", &[("a", "10.1.0.1:80")], ""), 0).unwrap();
        let moved = service("shop", &[("a", "10.9.9.9:80")], "");
        assert_eq!(backends(&ids.assign(&moved, 0).unwrap()), [("a".into(), 2)]);
        assert_eq!(left(&ids, true), [("a".into(), 1)]);
        // Who has not become that yet stands on the old one.
        assert_eq!(left(&ids, false), []);
        let over = ids.left_over(|_| true);
        ids.release_backend(&over[0]);
        assert_eq!(left(&ids, true), []);
        let again = ids.assign(&moved, 0).unwrap();
        assert_eq!(backends(&again), [("a".into(), 2)]);
    }

    #[test]
    fn an_address_keeps_its_id_whoever_is_there_for_as_long_as_that_has_flows() {
        let (x, y) = ("10.1.0.1:80", "10.1.0.2:80");
        let mut ids = Ids::default();
        let mut assign = |backends: &[(&str, &str)]| {
            let given = ids.assign(&service("shop", backends, ""), 0).unwrap();
            (self::backends(&given), left(&ids, true))
        };
        let named = |list: &[(&str, BackendId)]| -> Vec<(String, BackendId)> {
            list.iter().map(|(name, id)| ((*name).to_owned(), *id)).collect()
        };
        assert_eq!(assign(&[("a", x), ("b", y)]), (named(&[("a", 1), ("b", 2)]), vec![]));
        // Swapped, moved away, moved back, and under another name.
        assert_eq!(assign(&[("a", y), ("b", x)]), (named(&[("a", 2), ("b", 1)]), vec![]));
        let away = assign(&[("a", "10.9.9.9:80"), ("b", x)]);
        assert_eq!(away, (named(&[("a", 3), ("b", 1)]), named(&[("a", 2)])));
        assert_eq!(assign(&[("a", y), ("b", x)]), (named(&[("a", 2), ("b", 1)]), named(&[("a", 3)])));
        assert_eq!(assign(&[("web", y)]), (named(&[("web", 2)]), named(&[("b", 1), ("a", 3)])));
    }

    #[test]
    fn a_backend_moves_to_another_service_when_the_first_one_has_given_it_up() {
        let mut ids = Ids::default();
        ids.assign(&service("shop", &[("a", "10.1.0.1:80"), ("b", "10.1.0.2:80")], ""), 0).unwrap();
        let at = |name, vip, more: &str| {
            let mut other = service(name, &[("b", "10.1.0.2:80")], more);
            other.vip = vip;
            other
        };
        let (here, elsewhere) = ("10.0.0.1:80".parse().unwrap(), "10.0.0.2:80".parse().unwrap());
        let other = at("other", elsewhere, "");
        let refused = ids.assign(&other, 0).unwrap_err();
        assert!(matches!(&refused, NoId::Held { holder, .. } if holder.as_str() == "shop"), "{refused}");
        assert!(refused.to_string().contains("10.1.0.2:80, where backend b is"), "{refused}");
        assert!(ids.of(&other.name).is_none());
        ids.assign(&service("shop", &[("a", "10.1.0.1:80")], ""), 0).unwrap();
        assert!(matches!(ids.assign(&other, 0), Err(NoId::Held { .. })), "it has flows still");
        // Whose answers are told apart from theirs, or do not pass at all, does not have to wait.
        let datagrams = at("names", elsewhere, "protocol = \"udp\"\n[service.check]\ntype = \"tcp\"");
        ids.clone().assign(&datagrams, 0).unwrap();
        ids.clone().assign(&at("direct", elsewhere, "forwarding = \"dsr\""), 0).unwrap();
        ids.clone().assign(&at("renamed", here, ""), 0).unwrap();
        let over = ids.left_over(|_| true);
        ids.release_backend(&over[0]);
        assert_eq!(backends(&ids.assign(&other, 0).unwrap()), [("b".into(), 2)]);
    }

    #[test]
    fn ids_of_earlier_versions_are_read() {
        let written = r#"{"shop": {"id": 3, "snat_group": null, "backends": {
            "a": {"id": 5, "address": "10.1.0.1:80", "former": [1, 2]},
            "gone": {"id": 4, "address": "10.1.0.4:80", "former": []}}}}"#;
        let mut ids: Ids = serde_json::from_str(written).unwrap();
        let given = ids.assign(&service("shop", &[("a", "10.1.0.1:80"), ("b", "10.1.0.2:80")], ""), 0);
        assert_eq!(backends(&given.unwrap()), [("a".into(), 5), ("b".into(), 3)]);
        assert_eq!(left(&ids, true), [("a".into(), 1), ("a".into(), 2), ("gone".into(), 4)]);
        let text = serde_json::to_string(&ids).unwrap();
        assert_eq!(serde_json::from_str::<Ids>(&text).unwrap(), ids);
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
