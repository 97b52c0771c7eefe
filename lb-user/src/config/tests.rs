//! What a file that is right becomes.

use std::time::Duration;

use lb_common::Forwarding;
use lb_common::pool::Policy;
use proptest::prelude::*;

use super::keys::{Absence, Kind, ROOT};
use super::*;
use crate::check::{Check, HttpCheck, TlsCheck, UdpCheck};
use crate::dataplane::{FlowTimeouts, Mode};
use crate::recovery;

const SMALL: &str = r#"
[[service]]
name = "shop"
vip = "10.77.0.1:80"
[[service.backend]]
name = "a"
driver = { type = "process", command = ["/bin/shop"] }
[[service.backend]]
name = "b"
driver = { type = "process", command = ["/bin/shop"] }
"#;

fn parsed(text: &str) -> Config {
    let loaded =
        Config::parse(text, "baton.toml").unwrap_or_else(|found| panic!("{}", render(&found, false)));
    assert_eq!(loaded.warnings, []);
    loaded.config
}

#[test]
fn every_default_and_every_example_is_what_its_key_takes() {
    for section in ROOT.all() {
        for key in section.keys {
            let default = if let Absence::Default(default) = key.absence { default } else { key.example };
            for written in [default, key.example] {
                let value = toml::de::DeValue::parse(written).unwrap();
                value::read(&key.kind, &value)
                    .unwrap_or_else(|problems| panic!("{}.{}: {problems:?}", section.path, key.name));
            }
        }
    }
}

#[test]
fn defaults_are_those_of_the_code_that_they_are_for() {
    let config = parsed(SMALL);
    assert_eq!(config.controller, Controller { log_format: LogFormat::Text });
    assert_eq!(config.data_plane.timeouts, FlowTimeouts::default());
    assert_eq!((config.data_plane.xdp, config.data_plane.flow_table), (Mode::Native, None));
    let policy = recovery::Policy::default();
    let service = &config.services[0];
    let ms = |time: Duration| time.as_millis() as u64;
    let Rejuvenation { ceiling, ceiling_hits, ceiling_window, cooldown, observation, .. } =
        service.rejuvenation;
    assert_eq!(ceiling, Ceiling::Percent(policy.ceiling_percent));
    assert_eq!((ceiling_hits, ceiling_window), (policy.ceiling_hits, policy.ceiling_window));
    assert_eq!((ms(cooldown), ms(observation)), (policy.cooldown_ms, policy.observation_ms));
    assert_eq!(ms(service.rejuvenation.ready_timeout), policy.ready_deadline_ms);
    assert_eq!(ms(service.rejuvenation.retry), policy.retry_ms);
    assert_eq!(ms(service.drain.deadline), policy.drain_deadline_ms);
    assert_eq!(ms(service.drain.settle), policy.settle_ms);
    assert_eq!((service.check.rise, service.check.fall), (policy.rise, policy.fall));
    assert_eq!(ms(service.check.interval), policy.check_period_ms);
    assert_eq!(service.check.fast_interval, service.check.interval);
    let watch = service.check.watch;
    assert_eq!(watch, Watch::default());
    assert_eq!((watch.window, watch.fall_ignored), (policy.fall_window, policy.fall_ignored));
    assert_eq!((watch.shadow, service.rejuvenation.ceiling_shadow), (false, policy.shadow.ceiling));
    let ejection = watch.ejection;
    assert_eq!(ms(ejection.step), policy.ejection_step_ms);
    assert_eq!(
        (ms(ejection.most), ms(ejection.forget)),
        (policy.ejection_most_ms, policy.ejection_forget_ms)
    );
    assert_eq!((service.policy, service.forwarding), (Policy::ActiveStandby, Forwarding::Nat));
    assert_eq!(service.backends[0].address, "0.0.0.0:80".parse().unwrap());
}

#[test]
fn a_check_without_more_is_what_its_kind_defaults_to() {
    let check = |text: &str| {
        parsed(&SMALL.replace("[[service.backend]]\nname = \"a\"", text)).services[0].check.what.clone()
    };
    let with = |check: &str| format!("[service.check]\n{check}\n[[service.backend]]\nname = \"a\"");
    assert_eq!(check(&with("")), Check::Tcp);
    assert_eq!(check(&with("type = \"http\"")), Check::Http(HttpCheck::default()));
    let https = HttpCheck { tls: Some(TlsCheck::default()), ..HttpCheck::default() };
    assert_eq!(check(&with("type = \"https\"")), Check::Http(https));
    let udp = SMALL.replace("name = \"shop\"", "name = \"shop\"\nprotocol = \"udp\"");
    assert_eq!(parsed(&udp).services[0].check.what, Check::Udp(UdpCheck::default()));
}

#[test]
fn a_check_says_all_that_it_can() {
    let text = r#"
type = "https"
path = "/health?deep=1"
method = "HEAD"
host = "shop.example:8443"
headers = { X-Second = "2", Accept = "a" }
status = ["2xx", 304, "400-404"]
body = '^ok\b'
verify = false
expires_in = "14days"
interval = "2s"
fast_interval = "500ms"
"#;
    let service =
        SMALL.replacen("[[service.backend]]", &format!("[service.check]{text}\n[[service.backend]]"), 1);
    let check = parsed(&service).services[0].check.clone();
    let Check::Http(http) = check.what else { panic!("{check:?}") };
    assert_eq!(http.status, [200..=299, 304..=304, 400..=404]);
    assert_eq!(http.headers[0], ("X-Second".to_owned(), "2".to_owned()), "in the order of the file");
    assert_eq!(http.body.unwrap().as_str(), r"^ok\b");
    let day = Duration::from_hours(24);
    assert_eq!(http.tls, Some(TlsCheck { verify: false, ca_file: None, expires_in: Some(14 * day) }));
    assert_eq!((http.method.as_str(), http.host.as_deref()), ("HEAD", Some("shop.example:8443")));
    assert_eq!(check.fast_interval, Duration::from_millis(500));
}

#[test]
fn backends_of_other_machines_have_addresses_and_drivers() {
    let config = parsed(
        r#"
[data_plane]
interfaces = ["eth0", "bond0.100"]
xdp = "generic"
flow_table = 1_000_000
timeouts.established = "8h"

[[service]]
name = "dns"
vip = "[2001:db8::53]:53"
protocol = "udp"
forwarding = "ipip"
policy = "wlc"
affinity = "10m"
affinity_prefix_v6 = "/64"
affinity_at_drain = "break"
udp_drain = "pin"
tracking = "drain-only"
dead_flows = "keep"

[[service.backend]]
name = "one"
address = "192.0.2.1:53"
weight = 3
max_flows = 1000
driver = { type = "systemd", unit = "named.service" }

[[service.backend]]
name = "two"
address = "[2001:db8::2]:53"
driver = { type = "command", restart = ["/usr/bin/ssh", "two", "systemctl restart named"], timeout = "30s" }

[[service.backend]]
name = "three"
address = "192.0.2.3:53"
"#,
    );
    let service = &config.services[0];
    let time = Duration::from_mins(10);
    assert_eq!(
        service.affinity,
        Some(Affinity { time, prefix_v4: 32, prefix_v6: 64, at_drain: AtDrain::Break })
    );
    assert_eq!((service.udp_drain, service.tracking), (UdpDrain::Pin, Tracking::DrainOnly));
    assert_eq!((service.backends[0].weight, service.backends[0].max_flows), (3, Some(1000)));
    assert_eq!((service.backends[2].weight, service.backends[2].max_flows), (1, None));
    assert_eq!(service.backends[2].driver, Driver::Manual);
    let Driver::Command(command) = &service.backends[1].driver else { panic!() };
    assert!(matches!(&command.restart, Restart::Once(words) if words.len() == 3));
    assert_eq!(config.data_plane.flow_table, Some(1_000_000));
    assert_eq!(config.data_plane.timeouts.established_ms, 8 * 3_600_000);
}

#[test]
fn shares_of_memory_are_of_the_smallest_limit_that_is_enforced() {
    let limited = SMALL.replacen("[\"/bin/shop\"]", "[\"/bin/shop\"], memory_max = \"1G\"", 1);
    let limited = limited.replacen("[\"/bin/shop\"] }", "[\"/bin/shop\"], memory_max = \"512M\" }", 1);
    let service = parsed(&limited).services.remove(0);
    assert_eq!(service.memory_limit, Some(512 << 20));
    assert_eq!(service.rejuvenation.ceiling.bytes(512 << 20) >> 20, 255);
    assert_eq!(parsed(SMALL).services[0].memory_limit, None);
}

#[test]
fn what_is_allowed_and_not_meant_is_a_warning() {
    let single = SMALL.split_inclusive("[[service.backend]]").take(2).collect::<String>();
    let single = single.trim_end_matches("[[service.backend]]");
    let loaded = Config::parse(single, "baton.toml").unwrap();
    assert!(loaded.warnings[0].message.contains("never renewed"), "{:?}", loaded.warnings);
    let low = SMALL.replace("[\"/bin/shop\"]", "[\"/bin/shop\"], memory_max = \"100M\"");
    let high = low.replacen(
        "[[service.backend]]",
        "[service.rejuvenation]\nceiling = \"100M\"\n[[service.backend]]",
        1,
    );
    let loaded = Config::parse(&high, "baton.toml").unwrap();
    assert!(loaded.warnings[0].message.contains("not below the memory_max"), "{:?}", loaded.warnings);
    let longer = "check = { type = \"tcp\", ejection_step = \"10m\" }\nrecovery = { veto_retry = \"1h\" }\n";
    let loaded = Config::parse(
        &SMALL.replacen("[[service.backend]]", &format!("{longer}[[service.backend]]"), 1),
        "x",
    );
    let warnings: Vec<_> = loaded.unwrap().warnings.into_iter().map(|warning| warning.message).collect();
    assert!(warnings[0].starts_with("`ejection_step` is longer than `ejection_most`, "), "{warnings:?}");
    assert!(warnings[1].starts_with("`veto_retry` is longer than `veto_limit`, "), "{warnings:?}");
    let none =
        SMALL.replacen("[[service.backend]]", "recovery = { veto_limit = \"0s\" }\n[[service.backend]]", 1);
    assert_eq!(Config::parse(&none, "x").unwrap().warnings, []);
}

#[test]
fn a_file_without_services_is_right_and_warned_of() {
    let loaded = Config::parse("# Nothing yet.\n", "baton.toml").unwrap();
    assert!(loaded.config.services.is_empty());
    assert_eq!(loaded.warnings[0].message, "there is no service");
}

#[test]
fn a_file_that_cannot_be_read_is_one_finding() {
    let directory = tempfile::tempdir().unwrap();
    let missing = directory.path().join("baton.toml");
    let found = Config::load(&missing).unwrap_err();
    assert_eq!((found.len(), &found[0].place), (1, &None));
    assert!(found[0].to_string().contains("No such file"), "{}", found[0]);
    std::fs::write(&missing, b"[controller]\n# Gr\xfc\xdfe\n").unwrap();
    let found = Config::load(&missing).unwrap_err().remove(0);
    let place = found.place.clone().unwrap();
    assert_eq!((place.line, place.column, place.source.as_str()), (2, 5, "# Gr\u{fffd}\u{fffd}e"));
    assert!(found.to_string().contains("the byte 0xfc is no UTF-8"), "{found}");
    std::fs::write(&missing, SMALL).unwrap();
    assert_eq!(Config::load(&missing).unwrap().config, parsed(SMALL));
}

#[test]
fn choices_that_the_code_knows_are_the_choices_of_the_file() {
    let keys = ROOT.all().into_iter().flat_map(|section| section.keys);
    let policies = keys.filter(|key| key.name == "policy").find_map(|key| match key.kind {
        Kind::Choice(choices) => Some(choices),
        _ => None,
    });
    let names: Vec<_> = policies.unwrap().iter().map(|(name, _)| *name).collect();
    assert_eq!(names, Policy::ALL.map(Policy::name));
}

proptest! {
    /// Whatever stands in a file, it is read or refused, with places that exist.
    #[test]
    fn no_file_is_too_strange(lines in proptest::collection::vec(line(), 0..30)) {
        let text = lines.join("\n");
        match Config::parse(&text, "baton.toml") {
            Ok(loaded) => prop_assert!(loaded.warnings.iter().all(|finding| !finding.is_error())),
            Err(found) => {
                prop_assert!(found.iter().any(Finding::is_error));
                for finding in &found {
                    let place = finding.place.as_ref().unwrap();
                    prop_assert!(place.line <= text.lines().count().max(1) + 1);
                    prop_assert!(place.column <= place.source.chars().count() + 1);
                }
                let _ = render(&found, false);
            }
        }
    }
}

/// A line of a file, most often of one that is nearly right.
fn line() -> impl Strategy<Value = String> {
    let known: Vec<String> = SMALL.lines().chain(example().leak().lines()).map(uncommented).collect();
    let keys: Vec<_> = ROOT.all().into_iter().flat_map(|section| section.keys).map(|key| key.name).collect();
    prop_oneof![
        6 => proptest::sample::select(known),
        2 => (proptest::sample::select(keys), "[0-9a-z\"\\[\\]{}=%.é -]{0,12}").prop_map(|(key, value)| format!("{key} = {value}")),
        1 => ".{0,20}",
    ]
}

fn uncommented(line: &str) -> String {
    line.strip_prefix("# ").filter(|rest| rest.contains(" = ")).unwrap_or(line).to_owned()
}
