//! Lets packets of services cross the host: which interfaces had to be made to forward, for whom, and how
//! they were before.
//!
//! What always holds: an interface is recorded before it is switched on and forgotten after it is switched
//! off, so a crash leaves a record too many, never a switch that nobody remembers. Interfaces that the host
//! itself lets forward are never touched.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::outcome::StepError;
use super::state::{StateError, read_json, remove_file, write_json};
use crate::names::ServiceName;
use crate::net::sysctl;
use crate::paths::Roots;

/// The interfaces that Baton made to forward.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Record {
    interfaces: BTreeMap<String, Switched>,
}

/// One interface that did not forward before.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Switched {
    /// The services that need it.
    users: BTreeSet<ServiceName>,
    /// True if the host forwarded in general, and this interface was an exception.
    host_forwarded: bool,
}

/// Makes interfaces forward for a service.
///
/// Returns those that would not forward without Baton: what they let through has to stay limited to services.
pub(super) fn acquire(
    roots: &Roots,
    service: &ServiceName,
    interfaces: &[String],
) -> Result<BTreeSet<String>, StepError> {
    let host_forwards = sysctl::read("ipv4/conf/all/forwarding")? == "1";
    let mut off = BTreeSet::new();
    for ifname in interfaces {
        if sysctl::read(&key(ifname))? == "0" {
            off.insert(ifname.clone());
        }
    }
    let before = load(roots)?;
    let record = before.clone().with(service, interfaces, &off, host_forwards);
    if record != before {
        save(roots, &record)?;
    }
    for ifname in &off {
        sysctl::write(&key(ifname), "1")?;
    }
    Ok(record.used_by(service))
}

/// Switches off what only this service needed; returns those interfaces.
pub(super) fn release(roots: &Roots, service: &ServiceName) -> Result<Vec<String>, StepError> {
    let before = load(roots)?;
    let (record, unused) = before.clone().without(service);
    for ifname in &unused {
        sysctl::write_if_present(&key(ifname), "0")?;
    }
    if record.interfaces.is_empty() {
        remove_file(&file(roots))?;
    } else if record != before {
        save(roots, &record)?;
    }
    Ok(unused)
}

impl Record {
    /// Adds a service as a user of `interfaces`, of which `off` do not forward yet.
    fn with(
        mut self,
        service: &ServiceName,
        interfaces: &[String],
        off: &BTreeSet<String>,
        host_forwards: bool,
    ) -> Self {
        // The host has been made a router since: that is its own choice now, and not ours to limit or undo.
        self.interfaces.retain(|_, switched| switched.host_forwarded || !host_forwards);
        for ifname in interfaces {
            if off.contains(ifname) {
                let fresh = || Switched { users: BTreeSet::new(), host_forwarded: host_forwards };
                self.interfaces.entry(ifname.clone()).or_insert_with(fresh);
            }
            if let Some(switched) = self.interfaces.get_mut(ifname) {
                switched.users.insert(service.clone());
            }
        }
        self
    }

    /// Takes a service out; also returns the interfaces that nobody needs any more.
    fn without(mut self, service: &ServiceName) -> (Self, Vec<String>) {
        for switched in self.interfaces.values_mut() {
            switched.users.remove(service);
        }
        let (used, unused): (BTreeMap<_, _>, BTreeMap<_, _>) =
            self.interfaces.into_iter().partition(|(_, switched)| !switched.users.is_empty());
        (Self { interfaces: used }, unused.into_keys().collect())
    }

    fn used_by(&self, service: &ServiceName) -> BTreeSet<String> {
        let used = self.interfaces.iter().filter(|(_, switched)| switched.users.contains(service));
        used.map(|(ifname, _)| ifname.clone()).collect()
    }
}

fn key(ifname: &str) -> String {
    sysctl::ipv4_conf(ifname, "forwarding")
}

fn file(roots: &Roots) -> PathBuf {
    // The dot keeps it apart from the directory of any service.
    roots.run.join("forwarding.json")
}

fn load(roots: &Roots) -> Result<Record, StateError> {
    Ok(read_json(&file(roots))?.unwrap_or_default())
}

fn save(roots: &Roots, record: &Record) -> Result<(), StateError> {
    write_json(&file(roots), record)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> ServiceName {
        text.parse().unwrap()
    }

    fn lan() -> Vec<String> {
        vec!["eth0".into(), "eth1".into()]
    }

    fn all_off() -> BTreeSet<String> {
        lan().into_iter().collect()
    }

    #[test]
    fn an_interface_is_given_back_by_the_last_service_that_needs_it() {
        let one = Record::default().with(&name("one"), &lan(), &all_off(), false);
        let both = one.with(&name("two"), &lan(), &BTreeSet::new(), false);
        let (left, unused) = both.without(&name("one"));
        assert_eq!(unused, [""; 0]);
        let (left, unused) = left.without(&name("two"));
        assert_eq!(unused, lan());
        assert_eq!(left, Record::default());
    }

    #[test]
    fn an_interface_that_forwards_already_is_not_ours() {
        let off = BTreeSet::from(["eth1".to_owned()]);
        let record = Record::default().with(&name("one"), &lan(), &off, true);
        assert_eq!(record.used_by(&name("one")), off);
    }

    #[test]
    fn a_host_that_becomes_a_router_later_keeps_its_forwarding() {
        let record = Record::default().with(&name("one"), &lan(), &all_off(), false);
        let adopted = record.with(&name("one"), &lan(), &BTreeSet::new(), true);
        assert_eq!(adopted.without(&name("one")).1, [""; 0]);
    }

    #[test]
    fn an_exception_on_a_router_stays_ours_to_undo() {
        let record = Record::default().with(&name("one"), &lan(), &all_off(), true);
        let adopted = record.with(&name("one"), &lan(), &BTreeSet::new(), true);
        assert_eq!(adopted.without(&name("one")).1, lan());
    }

    #[test]
    fn taking_out_a_service_that_needs_nothing_changes_nothing() {
        let record = Record::default().with(&name("one"), &lan(), &all_off(), false);
        let (left, unused) = record.clone().without(&name("two"));
        assert_eq!((left, unused), (record, vec![]));
    }
}
