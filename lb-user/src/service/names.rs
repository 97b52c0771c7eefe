//! Which backend of a service has which id in its tables.

use std::borrow::Cow;

use lb_common::BackendId;

use crate::driver::netns;
use crate::names::BackendName;

/// The backends of a service by id, in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BackendNames(Vec<(BackendId, BackendName)>);

/// The backends of every service that `baton up` makes: ids are given in order of the names, from 1 on.
pub fn backend_names() -> BackendNames {
    BackendNames((1..).zip(netns::backend_names()).collect())
}

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_backend_is_known_by_id_and_by_name() {
        let names = backend_names();
        assert_eq!((names.shown(1), names.shown(2), names.shown(3)), ("a".into(), "b".into(), "#3".into()));
        for (id, name) in names.iter() {
            assert_eq!((names.id(name), names.name(id)), (Some(id), Some(name)));
        }
        assert_eq!(names.id(&"c".parse().unwrap()), None);
    }
}
