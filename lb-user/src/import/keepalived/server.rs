//! `virtual_server` and its `real_server`s.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use lb_common::Forwarding;
use lb_common::pool::Policy;

use super::super::Notes;
use super::super::draft::{Draft, DraftBackend, DraftCheck, policy};
use super::super::words::{prefix, seconds};
use super::checker;
use super::timing::Timing;
use super::tree::Item;
use super::vips;
use crate::check::Check;
use crate::config::Protocol;

/// Directives of a virtual server that mean nothing to Baton, and why.
const NO_EQUIVALENT: [(&str, &str); 21] = [
    ("flag-1", "schedulers have no flags"),
    ("flag-2", "schedulers have no flags"),
    ("flag-3", "schedulers have no flags"),
    ("sh-port", "`sh` hashes addresses alone; `maglev` hashes ports, too"),
    ("sh-fallback", "a backend that is down is never chosen"),
    ("mh-port", "`maglev` hashes ports always"),
    ("mh-fallback", "a backend that is down is never chosen"),
    ("ops", "a conversation of datagrams stays together"),
    ("persistence_engine", "affinity is by the client's address"),
    ("ha_suspend", "checks run always"),
    ("smtp_alert", "Baton sends no mail; watch `baton events`"),
    ("omega", "a service outlives its controller, so nothing is announced when one ends"),
    ("quorum", "there is no quorum of a service"),
    ("hysteresis", "there is no quorum of a service"),
    ("quorum_up", "no command is run; watch `baton events`"),
    ("quorum_down", "no command is run; watch `baton events`"),
    ("ip_family", "a service has the family of its VIP"),
    ("sorry_server", "there is no server of last resort; while no backend is up, new flows are refused"),
    ("sorry_server_inhibit", "there is no server of last resort"),
    ("sorry_server_lvs_method", "there is no server of last resort"),
    ("ttl", "a tunnel copies what it carries"),
];

/// Directives of a real server that mean nothing to Baton, and why.
const NO_EQUIVALENT_OF_REAL: [(&str, &str); 5] = [
    ("notify_up", "no command is run; watch `baton events`"),
    ("notify_down", "no command is run; watch `baton events`"),
    ("lthreshold", "a full backend gets flows again as soon as one has ended"),
    ("smtp_alert", "Baton sends no mail; watch `baton events`"),
    ("snmp_name", "there is no SNMP"),
];

/// What a virtual server says before its real servers are read.
struct Settings {
    name: Option<String>,
    protocol: Protocol,
    policy: Policy,
    forwarding: Forwarding,
    affinity: Option<std::time::Duration>,
    prefix: Option<u8>,
    keep_dead: bool,
    timing: Timing,
}

/// The services that a virtual server is.
pub(super) fn draft(item: &Item, groups: &BTreeMap<&str, &Item>, notes: &mut Notes) -> Option<Draft> {
    let vips = vips_of(item, groups, notes);
    let (mut settings, reals) = settings(item, notes);
    if item.word(1) == "group" {
        settings.name = settings.name.or_else(|| Some(item.word(2).to_owned()));
    }
    let mut backends = Vec::new();
    let mut check: Option<DraftCheck> = None;
    for real in reals {
        let (backend, its_check) = backend(real, &mut settings, notes);
        match (&check, its_check) {
            (None, its_check) => check = its_check,
            (Some(first), Some(its)) if *first != its => {
                let why = "a service has one check for all its backends: that of the first one is taken";
                notes.add(real.line, real.shown(), why);
            }
            _ => {}
        }
        backends.extend(backend);
    }
    let check = check.unwrap_or_else(|| {
        notes.add(
            item.line,
            item.shown(),
            "none of its real servers has a check that could be kept: the port is asked",
        );
        checker::plain(settings.protocol, &settings.timing)
    });
    if vips.is_empty() {
        return None;
    }
    let Settings { name, protocol, policy, affinity, prefix, keep_dead, .. } = settings;
    let lines = item.line..=item.last;
    Some(Draft { lines, name, vips, protocol, policy, affinity, prefix, keep_dead, check, backends })
}

fn vips_of(item: &Item, groups: &BTreeMap<&str, &Item>, notes: &mut Notes) -> Vec<SocketAddr> {
    let own = |from| Item {
        words: item.words.get(from..).unwrap_or_default().to_vec(),
        block: None,
        ..item.clone()
    };
    if item.word(1) != "group" {
        return vips(&own(1), notes);
    }
    let Some(group) = groups.get(item.word(2)) else {
        notes.add(item.line, item.shown(), "left out: there is no such group");
        return Vec::new();
    };
    group.block().iter().flat_map(|line| vips(line, notes)).collect()
}

fn settings<'i>(server: &'i Item, notes: &mut Notes) -> (Settings, Vec<&'i Item>) {
    let mut settings = Settings {
        name: None,
        protocol: Protocol::Tcp,
        // As keepalived has it.
        policy: Policy::Wlc,
        forwarding: Forwarding::Nat,
        affinity: None,
        prefix: None,
        keep_dead: false,
        timing: Timing::default(),
    };
    let mut reals = Vec::new();
    for item in server.block() {
        match item.word(0) {
            "real_server" => reals.push(item),
            "inhibit_on_failure" => settings.keep_dead = item.is_on(),
            _ if settings.timing.take(item, notes) => {}
            _ => settings.take(item, notes),
        }
    }
    settings.timing.server_delay_loop = settings.timing.delay_loop;
    (settings, reals)
}

impl Settings {
    fn take(&mut self, item: &Item, notes: &mut Notes) {
        let mut say = |why: &str| notes.add(item.line, item.shown(), why);
        match item.word(0) {
            "lvs_sched" | "lb_algo" => {
                let (policy, why) = policy(item.word(1));
                self.policy = policy;
                if let Some(why) = why {
                    say(why);
                }
            }
            "lvs_method" | "lb_kind" => self.forwarding = forwarding(item, notes).unwrap_or(self.forwarding),
            "protocol" => match item.word(1).to_ascii_uppercase().as_str() {
                "TCP" => self.protocol = Protocol::Tcp,
                "UDP" => self.protocol = Protocol::Udp,
                _ => say("a service is TCP or UDP; TCP is taken"),
            },
            "persistence_timeout" => {
                // Without a number it is six minutes.
                let time = if item.words.len() == 1 { "360" } else { item.word(1) };
                self.affinity = seconds(time);
                if self.affinity.is_none() {
                    say("it is no number of seconds; left out");
                }
            }
            "persistence_granularity" | "granularity" => {
                self.prefix = prefix(item.word(1));
                if self.prefix.is_none() {
                    say("it is no netmask; left out");
                }
            }
            "snmp_name" => self.name = Some(item.rest()),
            name => {
                let known = NO_EQUIVALENT.iter().find(|(known, _)| *known == name);
                say(known.map_or("unknown directive", |(_, why)| why));
            }
        }
    }
}

/// What a way of forwarding is here; `None` if it is unknown.
fn forwarding(item: &Item, notes: &mut Notes) -> Option<Forwarding> {
    match item.word(1).to_ascii_uppercase().as_str() {
        "NAT" => Some(Forwarding::Nat),
        "DR" => Some(Forwarding::Dsr),
        "TUN" => {
            if !matches!(item.word(2), "" | "type") || !matches!(item.word(3), "" | "ipip") {
                notes.add(item.line, item.shown(), "of tunnels there is IP in IP alone, which is taken");
            }
            Some(Forwarding::Ipip)
        }
        _ => {
            notes.add(item.line, item.shown(), "unknown way of forwarding; left out");
            None
        }
    }
}

/// A real server: what it is as a backend, and how it is checked.
fn backend(
    real: &Item,
    settings: &mut Settings,
    notes: &mut Notes,
) -> (Option<DraftBackend>, Option<DraftCheck>) {
    let mut timing = settings.timing.clone();
    let mut way = settings.forwarding;
    let (mut weight, mut max_flows) = (1, 0);
    let mut checkers = Vec::new();
    for item in real.block() {
        let mut say = |why: &str| notes.add(item.line, item.shown(), why);
        match item.word(0) {
            "weight" => match item.word(1).parse() {
                Ok(number) => weight = number,
                Err(_) => say("it is no weight; 1 is taken"),
            },
            "uthreshold" => match item.word(1).parse() {
                Ok(number) => max_flows = number,
                Err(_) => say("it is no number; left out"),
            },
            "lvs_method" | "lb_kind" => way = forwarding(item, notes).unwrap_or(way),
            "inhibit_on_failure" => settings.keep_dead |= item.is_on(),
            _ if timing.take(item, notes) => {}
            _ if checker::is_checker(item) => checkers.push(item),
            name => {
                let known = NO_EQUIVALENT_OF_REAL.iter().find(|(known, _)| *known == name);
                notes.add(item.line, item.shown(), known.map_or("unknown directive", |(_, why)| *why));
            }
        }
    }
    let port = real.word(2).parse::<u16>().ok().filter(|port| *port != 0);
    let check = checker::check(&checkers, &timing, settings.protocol, port, notes);
    if let (
        Some((line, host)),
        Some(DraftCheck { what: Check::Tcp | Check::Udp(_) | Check::Script(_), .. }),
    ) = (&timing.virtualhost, &check)
    {
        notes.add(*line, format!("virtualhost {host}"), "only a check over HTTP names a host");
    }
    let Ok(address) = real.word(1).parse() else {
        notes.add(real.line, real.shown(), "left out: it has no address; names are not looked up");
        return (None, check);
    };
    let backend = DraftBackend {
        line: real.line,
        directive: real.shown(),
        address,
        port,
        forwarding: way,
        weight,
        max_flows,
    };
    (Some(backend), check)
}
