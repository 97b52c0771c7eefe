//! What has changed from one configuration to the next, and what that means for traffic.
//!
//! Services are the same if their names are, and so are the backends of a service. Whatever is not named here
//! keeps its state: a reload touches nothing that did not change.

use std::fmt;

use super::types::{Backend, Budget, Config, DataPlane, Driver, Process, Service, ServiceCheck, Watch};
use crate::names::{BackendName, ServiceName};

/// One thing that has changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// What it is about.
    pub subject: Subject,
    /// What has become of it.
    pub what: What,
    /// What that takes.
    pub effect: Effect,
}

/// What a change is about.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Subject {
    /// The controller.
    Controller,
    /// The data plane.
    DataPlane,
    /// The budget.
    Budget,
    /// A service.
    Service(ServiceName),
    /// How the backends of a service are checked.
    Check(ServiceName),
    /// A backend of a service.
    Backend(ServiceName, BackendName),
}

/// What has become of the subject of a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum What {
    /// It was not there before.
    Added,
    /// It is not there any more.
    Removed,
    /// Another value of this key; of a table if its keys change together.
    Changed(&'static str),
}

/// What a change takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Effect {
    /// It is done while traffic runs, and no flow notices.
    InPlace,
    /// The backend goes on as it is, and is started otherwise the next time.
    NextStart,
    /// The backend is another one now: the old one is drained and taken out, the new one comes in as if added.
    NewBackend,
    /// The service is another one now: its flows end with the old one.
    NewService,
    /// It cannot be done while the controller runs.
    Refused,
}

impl Effect {
    /// What it means, for people.
    pub fn describe(self) -> &'static str {
        match self {
            Self::InPlace => "in place",
            Self::NextStart => "from the backend's next start on",
            Self::NewBackend => "the old backend is drained, the new one added",
            Self::NewService => "the service is made anew, and its flows end",
            Self::Refused => "refused: it takes a restart of the controller",
        }
    }
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.subject {
            Subject::Controller => f.write_str("controller")?,
            Subject::DataPlane => f.write_str("data plane")?,
            Subject::Budget => f.write_str("budget")?,
            Subject::Service(service) => write!(f, "service {service}")?,
            Subject::Check(service) => write!(f, "check of service {service}")?,
            Subject::Backend(service, backend) => write!(f, "backend {backend} of service {service}")?,
        }
        match self.what {
            What::Added => f.write_str(": added"),
            What::Removed => f.write_str(": removed"),
            What::Changed(key) => write!(f, ": other `{key}` ({})", self.effect.describe()),
        }
    }
}

/// All that has changed from `old` to `new`: first what is gone, then what is different, then what is new, so
/// that a VIP or a name that moved is free before it is taken.
pub fn changes(old: &Config, new: &Config) -> Vec<Change> {
    let mut changes = Vec::new();
    if old.controller != new.controller {
        changes.push(changed(&Subject::Controller, "log_format", Effect::Refused));
    }
    data_plane(&old.data_plane, &new.data_plane, &mut changes);
    budget(&old.budget, &new.budget, &mut changes);
    let named = |services: &[Service], name: &ServiceName| services.iter().position(|one| one.name == *name);
    for service in &old.services {
        match named(&new.services, &service.name) {
            Some(index) => self::service(service, &new.services[index], &mut changes),
            None => changes.push(Change {
                subject: Subject::Service(service.name.clone()),
                what: What::Removed,
                effect: Effect::InPlace,
            }),
        }
    }
    let added = new.services.iter().filter(|service| named(&old.services, &service.name).is_none());
    changes.extend(added.map(|service| Change {
        subject: Subject::Service(service.name.clone()),
        what: What::Added,
        effect: Effect::InPlace,
    }));
    changes.sort_by_key(|change| match change.what {
        What::Removed => 0,
        What::Changed(_) => 1,
        What::Added => 2,
    });
    changes
}

fn changed(subject: &Subject, key: &'static str, effect: Effect) -> Change {
    Change { subject: subject.clone(), what: What::Changed(key), effect }
}

/// A change for each key that is marked as different.
fn note<const N: usize>(
    subject: &Subject,
    keys: [(&'static str, bool, Effect); N],
    changes: &mut Vec<Change>,
) {
    let different = keys.into_iter().filter(|(_, different, _)| *different);
    changes.extend(different.map(|(key, _, effect)| changed(subject, key, effect)));
}

// Each of the following takes its old part to pieces, so that a new field is not forgotten here.

fn data_plane(old: &DataPlane, new: &DataPlane, changes: &mut Vec<Change>) {
    let DataPlane { interfaces, xdp, replies, flow_table, timeouts } = old;
    let keys = [
        ("interfaces", *interfaces != new.interfaces, Effect::InPlace),
        ("xdp", *xdp != new.xdp, Effect::Refused),
        ("replies", *replies != new.replies, Effect::Refused),
        ("flow_table", *flow_table != new.flow_table, Effect::Refused),
        ("timeouts", *timeouts != new.timeouts, Effect::InPlace),
    ];
    note(&Subject::DataPlane, keys, changes);
}

fn budget(old: &Budget, new: &Budget, changes: &mut Vec<Change>) {
    let Budget { rejuvenations, per_host, fleet_lock } = old;
    let keys = [
        ("rejuvenations", *rejuvenations != new.rejuvenations, Effect::InPlace),
        ("per_host", *per_host != new.per_host, Effect::InPlace),
        // What is held under the old settings is given back by whoever starts next.
        ("fleet_lock", *fleet_lock != new.fleet_lock, Effect::Refused),
    ];
    note(&Subject::Budget, keys, changes);
}

fn service(old: &Service, new: &Service, changes: &mut Vec<Change>) {
    let Service {
        name,
        vip,
        protocol,
        forwarding,
        snat_ports,
        policy,
        affinity,
        udp_drain,
        tracking,
        dead_flows,
        memory_limit,
        check,
        drain,
        rejuvenation,
        warm_up,
        backends,
        recovery,
        hooks,
        min_active,
    } = old;
    // From one active backend to many, or back, is another way of steering.
    let other_steering = policy.has_pool() != new.policy.has_pool();
    let steering = if other_steering { Effect::NewService } else { Effect::InPlace };
    let keys = [
        ("vip", *vip != new.vip, Effect::NewService),
        ("protocol", *protocol != new.protocol, Effect::NewService),
        ("forwarding", *forwarding != new.forwarding, Effect::NewService),
        ("snat_ports", *snat_ports != new.snat_ports, Effect::NewService),
        ("policy", *policy != new.policy, steering),
        ("affinity", *affinity != new.affinity, Effect::InPlace),
        ("udp_drain", *udp_drain != new.udp_drain, Effect::InPlace),
        ("tracking", *tracking != new.tracking, Effect::InPlace),
        ("dead_flows", *dead_flows != new.dead_flows, Effect::InPlace),
        ("memory_limit", *memory_limit != new.memory_limit, Effect::InPlace),
        ("drain", *drain != new.drain, Effect::InPlace),
        ("rejuvenation", *rejuvenation != new.rejuvenation, Effect::InPlace),
        ("warm_up", *warm_up != new.warm_up, Effect::InPlace),
        ("recovery", *recovery != new.recovery, Effect::InPlace),
        ("hook", *hooks != new.hooks, Effect::InPlace),
        ("min_active", *min_active != new.min_active, Effect::InPlace),
    ];
    note(&Subject::Service(name.clone()), keys, changes);
    self::check(name, check, &new.check, changes);
    self::backends(name, backends, &new.backends, changes);
}

fn check(service: &ServiceName, old: &ServiceCheck, new: &ServiceCheck, changes: &mut Vec<Change>) {
    let ServiceCheck { what, interval, fast_interval, timeout, rise, fall, watch } = old;
    let Watch { window, fall_ignored, slow, ejection, shadow, agent } = watch;
    let keys = [
        ("type", *what != new.what, Effect::InPlace),
        ("interval", *interval != new.interval, Effect::InPlace),
        ("fast_interval", *fast_interval != new.fast_interval, Effect::InPlace),
        ("timeout", *timeout != new.timeout, Effect::InPlace),
        ("rise", *rise != new.rise, Effect::InPlace),
        ("fall", *fall != new.fall, Effect::InPlace),
        ("fall_window", *window != new.watch.window, Effect::InPlace),
        ("fall_ignored", *fall_ignored != new.watch.fall_ignored, Effect::InPlace),
        ("slow_factor", *slow != new.watch.slow, Effect::InPlace),
        ("ejection_step", *ejection != new.watch.ejection, Effect::InPlace),
        ("shadow", *shadow != new.watch.shadow, Effect::InPlace),
        ("agent_port", *agent != new.watch.agent, Effect::InPlace),
    ];
    note(&Subject::Check(service.clone()), keys, changes);
}

fn backends(service: &ServiceName, old: &[Backend], new: &[Backend], changes: &mut Vec<Change>) {
    let subject = |backend: &Backend| Subject::Backend(service.clone(), backend.name.clone());
    let of = |backends: &[Backend], name: &BackendName| backends.iter().position(|one| one.name == *name);
    for backend in old {
        match of(new, &backend.name) {
            Some(index) => self::backend(&subject(backend), backend, &new[index], changes),
            None => changes.push(Change {
                subject: subject(backend),
                what: What::Removed,
                effect: Effect::InPlace,
            }),
        }
    }
    let added = new.iter().filter(|backend| of(old, &backend.name).is_none());
    changes.extend(added.map(|backend| Change {
        subject: subject(backend),
        what: What::Added,
        effect: Effect::InPlace,
    }));
}

fn backend(subject: &Subject, old: &Backend, new: &Backend, changes: &mut Vec<Change>) {
    let Backend { name: _, address, weight, max_flows, driver, host } = old;
    let keys = [
        ("address", *address != new.address, Effect::NewBackend),
        ("weight", *weight != new.weight, Effect::InPlace),
        ("max_flows", *max_flows != new.max_flows, Effect::InPlace),
        ("host", *host != new.host, Effect::InPlace),
    ];
    note(subject, keys, changes);
    match (driver, &new.driver) {
        (Driver::Process(old), Driver::Process(new)) => process(subject, old, new, changes),
        // Who restarts it from outside may change at any time; who runs it may not.
        (Driver::Process(_), _) | (_, Driver::Process(_)) => {
            changes.push(changed(subject, "driver", Effect::NewBackend));
        }
        (old, new) if old != new => changes.push(changed(subject, "driver", Effect::InPlace)),
        _ => {}
    }
}

fn process(subject: &Subject, old: &Process, new: &Process, changes: &mut Vec<Change>) {
    let Process { command, directory, environment, memory_max } = old;
    let keys = [
        ("driver.command", *command != new.command, Effect::NextStart),
        ("driver.directory", *directory != new.directory, Effect::NextStart),
        ("driver.environment", *environment != new.environment, Effect::NextStart),
        ("driver.memory_max", *memory_max != new.memory_max, Effect::NextStart),
    ];
    note(subject, keys, changes);
}

#[cfg(test)]
mod tests {
    use super::*;

    const OLD: &str = r#"
[data_plane]
interfaces = ["eth0"]

[[service]]
name = "shop"
vip = "192.0.2.10:80"
[[service.backend]]
name = "a"
address = "10.0.0.11:80"
[[service.backend]]
name = "b"
address = "10.0.0.21:80"

[[service]]
name = "local"
vip = "192.0.2.13:80"
[[service.backend]]
name = "x"
driver = { type = "process", command = ["/bin/shop"] }
[[service.backend]]
name = "y"
driver = { type = "process", command = ["/bin/shop"] }

[[service]]
name = "gone"
vip = "192.0.2.11:80"
[[service.backend]]
name = "a"
address = "10.0.0.11:81"
"#;

    fn config(text: &str) -> Config {
        Config::parse(text, "baton.toml").unwrap().config
    }

    /// What changes if `from` is replaced by `to` in the file.
    fn shown(edits: &[(&str, &str)]) -> Vec<String> {
        let mut text = OLD.to_owned();
        for (from, to) in edits {
            assert!(text.contains(from), "{from}");
            text = text.replacen(from, to, 1);
        }
        changes(&config(OLD), &config(&text)).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn the_same_file_changes_nothing() {
        assert_eq!(shown(&[]), [""; 0]);
        assert_eq!(shown(&[("[data_plane]", "# Another comment.\n[data_plane]\nxdp = \"native\"")]), [""; 0]);
    }

    #[test]
    fn what_is_steered_otherwise_is_a_new_service_and_the_rest_is_not() {
        assert_eq!(
            shown(&[("192.0.2.10:80", "192.0.2.12:80")]),
            ["service shop: other `vip` (the service is made anew, and its flows end)"]
        );
        let policy = |text: &str| config(&OLD.replacen("\n[[service.backend]]", text, 1));
        let (one, many, other) = (
            config(OLD),
            policy("\npolicy = \"rr\"\n[[service.backend]]"),
            policy("\npolicy = \"sh\"\n[[service.backend]]"),
        );
        assert_eq!(changes(&one, &many)[0].effect, Effect::NewService);
        assert_eq!(changes(&many, &other)[0].effect, Effect::InPlace);
        assert_eq!(changes(&many, &other).len(), 1);
        let drain = "\n[service.drain]\ndeadline = \"5m\"\n[service.check]\nrise = 5\n[[service.backend]]";
        assert_eq!(
            shown(&[("\n[[service.backend]]", drain)]),
            ["service shop: other `drain` (in place)", "check of service shop: other `rise` (in place)"]
        );
    }

    #[test]
    fn backends_are_known_by_their_names() {
        assert_eq!(
            shown(&[("10.0.0.11:80", "10.0.0.12:80")]),
            ["backend a of service shop: other `address` (the old backend is drained, the new one added)"]
        );
        assert_eq!(
            shown(&[("[\"/bin/shop\"]", "[\"/bin/shop\", \"--fast\"]")]),
            ["backend x of service local: other `driver.command` (from the backend's next start on)"]
        );
        assert_eq!(
            shown(&[("name = \"a\"", "name = \"c\"")]),
            ["backend a of service shop: removed", "backend c of service shop: added"]
        );
        let unit = "10.0.0.11:80\"\ndriver = { type = \"systemd\", unit = \"shop.service\" }";
        assert_eq!(
            shown(&[("10.0.0.11:80\"", unit)]),
            ["backend a of service shop: other `driver` (in place)"]
        );
    }

    #[test]
    fn what_is_gone_comes_before_what_is_new() {
        assert_eq!(
            shown(&[("\"gone\"", "\"new\""), ("interfaces = [\"eth0\"]", "interfaces = [\"eth1\"]")]),
            ["service gone: removed", "data plane: other `interfaces` (in place)", "service new: added"]
        );
    }

    #[test]
    fn a_budget_changes_in_place_and_the_lock_of_a_site_does_not() {
        let budget = "[budget]\nrejuvenations = 2\nper_host = 1\n[data_plane]";
        let host = "10.0.0.11:80\"\nhost = \"hall-1\"";
        let window =
            "\n[[service.rejuvenation.window]]\nstart = \"02:00\"\nlength = \"4h\"\n[[service.backend]]";
        assert_eq!(
            shown(&[("[data_plane]", budget), ("10.0.0.11:80\"", host), ("\n[[service.backend]]", window)]),
            [
                "budget: other `rejuvenations` (in place)",
                "budget: other `per_host` (in place)",
                "service shop: other `rejuvenation` (in place)",
                "backend a of service shop: other `host` (in place)"
            ]
        );
        let lock = "[budget.fleet_lock]\nurl = \"https://192.0.2.1\"\n[data_plane]";
        assert_eq!(
            shown(&[("[data_plane]", lock)]),
            ["budget: other `fleet_lock` (refused: it takes a restart of the controller)"]
        );
    }

    #[test]
    fn who_is_trusted_to_be_a_server_is_compared_too() {
        let hook = "\n[[service.hook]]\non = \"on-failure\"\nwebhook = \"https://192.0.2.2\"\n";
        let lock = "[budget.fleet_lock]\nurl = \"https://192.0.2.1\"\n";
        let file = |ca_file: &str| {
            let text =
                OLD.replacen("\n[[service.backend]]", &format!("{hook}{ca_file}[[service.backend]]"), 1);
            config(&format!("{lock}{ca_file}{text}"))
        };
        let changed = changes(&file(""), &file("ca_file = \"/etc/ca.pem\"\n"));
        let changed: Vec<_> = changed.iter().map(ToString::to_string).collect();
        assert_eq!(
            changed,
            [
                "budget: other `fleet_lock` (refused: it takes a restart of the controller)",
                "service shop: other `hook` (in place)"
            ]
        );
    }

    #[test]
    fn what_only_a_restart_brings_is_refused() {
        assert_eq!(
            shown(&[(
                "[data_plane]",
                "[controller]\nlog_format = \"json\"\n[data_plane]\nflow_table = 65536"
            )]),
            [
                "controller: other `log_format` (refused: it takes a restart of the controller)",
                "data plane: other `flow_table` (refused: it takes a restart of the controller)"
            ]
        );
    }
}
