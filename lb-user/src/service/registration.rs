//! What is written down of a service in its run directory: for the next controller, and for everybody who
//! looks at the service without asking its controller.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;

use lb_common::{BackendId, LAYOUT_VERSION, ServiceId};
use serde::{Deserialize, Serialize};

use super::UpError;
use crate::check::Check;
use crate::config::{self, Driver, Protocol};
use crate::dataplane::FlowTimeouts;
use crate::documents;
use crate::names::{BackendName, PlaneName, ServiceName};
use crate::paths::{Roots, ServicePaths};

/// A service that is there.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Registration {
    /// Its name.
    pub name: ServiceName,
    /// Where clients reach it.
    pub vip: SocketAddr,
    /// The protocol of its flows.
    pub protocol: Protocol,
    /// Its id in the tables.
    pub id: ServiceId,
    /// The data plane that it shares with others; `None` if it has one of its own, in a namespace of its own.
    pub plane: Option<PlaneName>,
    /// The controller that runs it with others, by its data plane; `None` if it has a controller of its own.
    pub run_by: Option<PlaneName>,
    /// How its backends are checked.
    pub check: Check,
    /// How long silent flows are remembered.
    pub timeouts: FlowTimeouts,
    /// Stands over `/etc/resolv.conf` for its commands.
    pub resolv_conf: Option<PathBuf>,
    /// Its backends.
    pub backends: BTreeMap<BackendName, RegisteredBackend>,
}

/// A backend that is there.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RegisteredBackend {
    /// Its id in the tables.
    pub id: BackendId,
    /// Where it listens.
    pub address: SocketAddr,
    /// The command that Baton runs, if it does.
    pub command: Vec<String>,
}

impl Registration {
    /// What is to be written down of a service whose backends have these ids.
    pub(super) fn of(
        service: &config::Service,
        id: ServiceId,
        backends: &BTreeMap<BackendName, BackendId>,
        timeouts: &FlowTimeouts,
    ) -> Self {
        let registered = |backend: &config::Backend| {
            let command = match &backend.driver {
                Driver::Process(process) => process.command.clone(),
                _ => Vec::new(),
            };
            let id = backends.get(&backend.name).copied().unwrap_or_default();
            (backend.name.clone(), RegisteredBackend { id, address: backend.address, command })
        };
        Self {
            name: service.name.clone(),
            vip: service.vip,
            protocol: service.protocol,
            id,
            plane: None,
            run_by: None,
            check: service.check.what.clone(),
            timeouts: timeouts.clone(),
            resolv_conf: None,
            backends: service.backends.iter().map(registered).collect(),
        }
    }

    /// The backends of a service that were known where they are now.
    pub(super) fn known(&self, service: &config::Service) -> BTreeSet<BackendName> {
        let is_known = |backend: &&config::Backend| {
            self.backends.get(&backend.name).is_some_and(|left| left.address == backend.address)
        };
        service.backends.iter().filter(is_known).map(|backend| backend.name.clone()).collect()
    }

    /// An error if `new` would be another service under the same name.
    ///
    /// `commands` says whether its command may not differ either.
    pub(super) fn ensure_same(&self, new: &Self, commands: bool) -> Result<(), UpError> {
        let port = |of: &Self| of.backends.values().next().map(|backend| backend.address.port().to_string());
        let command = |of: &Self| of.backends.values().next().map(|backend| backend.command.join(" "));
        let names = |of: &Self| of.backends.keys().map(ToString::to_string).collect::<Vec<_>>().join(", ");
        let facts = [
            ("VIP", Some(self.vip.to_string()), Some(new.vip.to_string())),
            ("port", port(self), port(new)),
            ("command", command(self).filter(|_| commands), command(new).filter(|_| commands)),
            ("set of backends", Some(names(self)), Some(names(new))),
        ];
        match facts.into_iter().find(|(_, left, wanted)| left != wanted) {
            Some((what, left, _)) => {
                Err(UpError::Different { name: self.name.clone(), what, left: left.unwrap_or_default() })
            }
            None => Ok(()),
        }
    }

    /// Where its maps are pinned.
    pub fn pins(&self, roots: &Roots) -> PathBuf {
        match &self.plane {
            Some(plane) => roots.plane(plane).pins(LAYOUT_VERSION),
            None => roots.service(&self.name).pins(LAYOUT_VERSION),
        }
    }

    /// What is pinned of it, by layout version, in order.
    pub fn pinned(&self, roots: &Roots) -> Vec<(u32, PathBuf)> {
        match &self.plane {
            Some(plane) => roots.plane(plane).pinned(),
            None => roots.service(&self.name).pinned(),
        }
    }

    /// The names of its backends by their ids.
    pub fn names(&self) -> BackendNames {
        let mut names: Vec<_> = self.backends.iter().map(|(name, b)| (b.id, name.clone())).collect();
        names.sort();
        BackendNames(names)
    }
}

/// The service that was left under this name, if one was.
pub fn load(paths: &ServicePaths) -> Result<Option<Registration>, UpError> {
    let path = paths.registration();
    match fs::read(&path) {
        Ok(bytes) => serde_json::from_slice(&bytes).map(Some).map_err(|error| {
            UpError::files(&path)(io::Error::other(format!(
                "it is damaged ({error}); `baton down` removes what is left of the service"
            )))
        }),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(UpError::files(&path)(error)),
    }
}

/// Keeps the service for the next controller.
pub(super) fn store(paths: &ServicePaths, registration: &Registration) -> Result<(), UpError> {
    documents::write(&paths.registration(), registration).map_err(UpError::files(&paths.registration()))
}

/// The backends of a service by id, in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BackendNames(Vec<(BackendId, BackendName)>);

impl BackendNames {
    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = (BackendId, &BackendName)> {
        self.0.iter().map(|(id, name)| (*id, name))
    }

    /// The id of a backend.
    pub fn id(&self, backend: &BackendName) -> Option<BackendId> {
        self.iter().find(|(_, name)| *name == backend).map(|(id, _)| id)
    }

    /// The name of a backend.
    pub fn name(&self, id: BackendId) -> Option<&BackendName> {
        self.iter().find(|(known, _)| *known == id).map(|(_, name)| name)
    }

    /// The name for people, or `#` and the id if it has none.
    pub fn shown(&self, id: BackendId) -> Cow<'_, str> {
        self.name(id).map_or_else(|| format!("#{id}").into(), |name| name.as_str().into())
    }
}

impl FromIterator<(BackendId, BackendName)> for BackendNames {
    fn from_iter<I: IntoIterator<Item = (BackendId, BackendName)>>(names: I) -> Self {
        let mut names: Vec<_> = names.into_iter().collect();
        names.sort();
        Self(names)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_backend_is_known_by_id_and_by_name() {
        let names: BackendNames =
            [(2, "b"), (1, "a")].map(|(id, name)| (id, name.parse().unwrap())).into_iter().collect();
        assert_eq!((names.shown(1), names.shown(2), names.shown(3)), ("a".into(), "b".into(), "#3".into()));
        for (id, name) in names.iter() {
            assert_eq!((names.id(name), names.name(id)), (Some(id), Some(name)));
        }
        assert_eq!(names.id(&"c".parse().unwrap()), None);
    }
}
