//! A virtual server of another balancer, in the words of Baton, and what is left of it once it has to fit.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;
use std::time::Duration;

use lb_common::pool::{MEMBERS_MAX, Policy};
use lb_common::{BACKENDS_MAX, Forwarding, SERVICES_MAX};

use super::Notes;
use crate::check::Check;
use crate::config::Protocol;

/// Longest affinity that there is.
const AFFINITY_MAX: Duration = Duration::from_hours(39);
/// Bounds of the times of a check.
const TIMES: RangeInclusive<Duration> = Duration::from_millis(10)..=Duration::from_hours(1);
/// Longest name.
const NAME_MAX: usize = 32;

/// A virtual server, for one or several VIPs.
#[derive(Clone, Debug)]
pub(super) struct Draft {
    /// The lines of the old file that it comes from.
    pub(super) lines: RangeInclusive<usize>,
    /// What to call it, if it says.
    pub(super) name: Option<String>,
    pub(super) vips: Vec<SocketAddr>,
    pub(super) protocol: Protocol,
    pub(super) policy: Policy,
    /// How long a client stays with its backend.
    pub(super) affinity: Option<Duration>,
    /// Bits of a client's address that count, of 32 or 128.
    pub(super) prefix: Option<u8>,
    /// Flows of a dead backend are left alone.
    pub(super) keep_dead: bool,
    pub(super) check: DraftCheck,
    pub(super) backends: Vec<DraftBackend>,
}

/// How it is checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct DraftCheck {
    pub(super) what: Check,
    pub(super) interval: Duration,
    pub(super) fast_interval: Option<Duration>,
    pub(super) timeout: Duration,
    pub(super) fall: u32,
}

/// A real server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct DraftBackend {
    pub(super) line: usize,
    /// What stands there.
    pub(super) directive: String,
    pub(super) address: IpAddr,
    /// Its port; the VIP's if it names none.
    pub(super) port: Option<u16>,
    pub(super) forwarding: Forwarding,
    pub(super) weight: u64,
    pub(super) max_flows: u64,
}

/// A service that passes the check of a configuration.
#[derive(Clone, Debug)]
pub(super) struct Settled {
    pub(super) lines: RangeInclusive<usize>,
    pub(super) name: String,
    pub(super) vip: SocketAddr,
    pub(super) protocol: Protocol,
    pub(super) forwarding: Forwarding,
    pub(super) policy: Policy,
    pub(super) affinity: Option<Duration>,
    pub(super) prefix: Option<u8>,
    pub(super) keep_dead: bool,
    pub(super) check: DraftCheck,
    pub(super) backends: Vec<SettledBackend>,
}

/// A backend of such a service.
#[derive(Clone, Debug)]
pub(super) struct SettledBackend {
    pub(super) name: String,
    pub(super) address: SocketAddr,
    pub(super) weight: u16,
    pub(super) max_flows: u32,
}

/// The services that the drafts can be; what does not fit is left out, with a note.
pub(super) fn settle(drafts: Vec<Draft>, notes: &mut Notes) -> Vec<Settled> {
    let mut services: Vec<Settled> = Vec::new();
    let mut names = BTreeSet::new();
    let mut backends = 0;
    for draft in drafts {
        let canonical = |vip: &SocketAddr| SocketAddr::new(vip.ip().to_canonical(), vip.port());
        for vip in &draft.vips.iter().map(canonical).collect::<Vec<_>>() {
            let line = *draft.lines.start();
            let mut leave_out = |why: String| notes.add(line, vip.to_string(), format!("left out: {why}"));
            if services.len() == SERVICES_MAX as usize {
                leave_out(format!("a controller has at most {SERVICES_MAX} services"));
                continue;
            }
            if services.iter().any(|other| (other.vip, other.protocol) == (*vip, draft.protocol)) {
                leave_out("another service of the same protocol has this VIP".into());
                continue;
            }
            if vip.ip().is_unspecified() || vip.ip().is_multicast() || vip.ip().is_loopback() {
                leave_out("this is no address that clients reach".into());
                continue;
            }
            let Some(mut service) = service(&draft, *vip, &services, notes) else { continue };
            let room = (BACKENDS_MAX as usize - 1).saturating_sub(backends).min(MEMBERS_MAX);
            if service.backends.len() > room {
                let message = format!("only {room} of {} backends fit", service.backends.len());
                notes.add(line, vip.to_string(), message);
                service.backends.truncate(room);
            }
            if service.backends.is_empty() {
                continue;
            }
            backends += service.backends.len();
            service.name = unique(&service.name, &mut names);
            services.push(service);
        }
    }
    services
}

fn service(draft: &Draft, vip: SocketAddr, others: &[Settled], notes: &mut Notes) -> Option<Settled> {
    let line = *draft.lines.start();
    let Some(first) = draft.backends.first() else {
        notes.add(line, vip.to_string(), "left out: none of its real servers could be kept");
        return None;
    };
    let forwarding = first.forwarding;
    let backends = fitting(draft, vip, forwarding, others, notes);
    if backends.is_empty() {
        notes.add(line, vip.to_string(), "left out: none of its real servers could be kept");
        return None;
    }
    if backends.iter().all(|backend| backend.weight == 0) {
        notes.add(line, vip.to_string(), "left out: none of its real servers has a weight");
        return None;
    }
    // No time means no affinity to both of them.
    let affinity = draft.affinity.filter(|time| !time.is_zero()).map(|time| {
        if time > AFFINITY_MAX {
            notes.add(line, vip.to_string(), "affinity lasts 39 hours at most");
        }
        time.clamp(Duration::from_secs(1), AFFINITY_MAX)
    });
    if draft.prefix.is_some() && affinity.is_none() {
        notes.add(line, vip.to_string(), "a netmask means nothing without affinity; left out");
    }
    Some(Settled {
        lines: draft.lines.clone(),
        name: draft.name.as_deref().and_then(name_of).unwrap_or_else(|| {
            let protocol = if draft.protocol == Protocol::Tcp { "tcp" } else { "udp" };
            format!("{protocol}-{}", vip.port())
        }),
        vip,
        protocol: draft.protocol,
        forwarding,
        policy: draft.policy,
        affinity,
        prefix: draft.prefix.filter(|_| affinity.is_some()).map(|bits| bits.min(bits_of(vip.ip()))),
        keep_dead: draft.keep_dead,
        check: within_bounds(draft.check.clone()),
        backends,
    })
}

/// The real servers that can be backends of this VIP.
fn fitting(
    draft: &Draft,
    vip: SocketAddr,
    forwarding: Forwarding,
    others: &[Settled],
    notes: &mut Notes,
) -> Vec<SettledBackend> {
    let mut backends: Vec<SettledBackend> = Vec::new();
    for real in &draft.backends {
        let mut say = |message: &str| notes.add(real.line, real.directive.clone(), message);
        let real = &DraftBackend { address: real.address.to_canonical(), ..real.clone() };
        let port = real.port.unwrap_or(vip.port());
        if real.forwarding != forwarding {
            say("a service has one way of forwarding: that of its first real server is taken");
        }
        if real.address.is_loopback() || real.address.is_unspecified() || real.address.is_multicast() {
            say("left out: no packet is forwarded to this address; run it on an address of its own");
            continue;
        }
        if forwarding != Forwarding::Ipip && real.address.is_ipv4() != vip.is_ipv4() {
            say("left out: only `ipip` leads from one family of addresses to the other");
            continue;
        }
        let port = if forwarding == Forwarding::Nat {
            port
        } else {
            if port != vip.port() {
                say("the port of the VIP is taken: this way of forwarding leaves ports alone");
            }
            vip.port()
        };
        let address = SocketAddr::new(real.address, port);
        if address == vip {
            say("left out: it is the VIP itself");
            continue;
        }
        if backends.iter().any(|other| other.address == address) {
            say("left out: the service has this backend already");
            continue;
        }
        let has_it = |other: &Settled| other.backends.iter().any(|backend| backend.address == address);
        let is_nat =
            |other: &Settled| other.forwarding == Forwarding::Nat && other.protocol == draft.protocol;
        if forwarding == Forwarding::Nat && others.iter().any(|other| is_nat(other) && has_it(other)) {
            say(
                "left out: it serves another VIP already, and with `nat` its replies must tell which: use another \
                 port, or `dsr`",
            );
            continue;
        }
        if real.weight > u64::from(u16::MAX) {
            say("a weight is at most 65535");
        }
        backends.push(SettledBackend {
            name: format!("b{}", backends.len() + 1),
            address,
            weight: u16::try_from(real.weight).unwrap_or(u16::MAX),
            max_flows: u32::try_from(real.max_flows).unwrap_or(0),
        });
    }
    backends
}

fn within_bounds(mut check: DraftCheck) -> DraftCheck {
    let fit = |time: Duration| time.clamp(*TIMES.start(), *TIMES.end());
    check.interval = fit(check.interval);
    check.timeout = fit(check.timeout);
    check.fast_interval = check.fast_interval.map(|time| fit(time).min(check.interval));
    check.fall = check.fall.clamp(1, 1000);
    check
}

fn bits_of(address: IpAddr) -> u8 {
    if address.is_ipv4() { 32 } else { 128 }
}

/// A name made of any text; `None` if nothing of it can be part of one.
fn name_of(text: &str) -> Option<String> {
    let legal = |c: char| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '-' };
    let mut name: String = text.chars().map(legal).take(NAME_MAX).collect();
    while name.contains("--") {
        name = name.replace("--", "-");
    }
    let name = name.trim_matches('-').trim_start_matches(|c: char| !c.is_ascii_lowercase());
    (!name.is_empty()).then(|| name.to_owned())
}

/// The name, with a number if it is taken.
fn unique(name: &str, taken: &mut BTreeSet<String>) -> String {
    let numbered = |number: usize| {
        let suffix = if number == 1 { String::new() } else { format!("-{number}") };
        let kept = name.len().min(NAME_MAX - suffix.len());
        format!("{}{suffix}", &name[..kept])
    };
    // There are fewer names than services and VIPs, and these are few.
    let free = (1..=taken.len() + 1).map(numbered).find(|name| !taken.contains(name)).unwrap_or_default();
    taken.insert(free.clone());
    free
}

/// The policy that a scheduler of LVS is, or the nearest one and why it is only that.
pub(super) fn policy(scheduler: &str) -> (Policy, Option<&'static str>) {
    match scheduler {
        "rr" => (Policy::Rr, None),
        "wrr" => (Policy::Wrr, None),
        "lc" => (Policy::Lc, None),
        "wlc" => (Policy::Wlc, None),
        "sh" => (Policy::Sh, None),
        "mh" => (Policy::Maglev, None),
        "fo" => (Policy::Fo, None),
        "twos" => (Policy::Random2, None),
        "sed" | "nq" => (Policy::Wlc, Some("`wlc` is the nearest: it counts open flows in the same way")),
        "ovf" => (
            Policy::Fo,
            Some("`fo` is the nearest: give each backend a `max_flows` beyond which it overflows"),
        ),
        "dh" | "lblc" | "lblcr" => {
            (Policy::Wlc, Some("`wlc` is taken: this scheduler is for caches that serve many addresses"))
        }
        _ => (Policy::Wlc, Some("unknown scheduler; `wlc` is taken")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_made_of_any_text_and_are_unique() {
        assert_eq!(name_of("Web Site (main)").as_deref(), Some("web-site-main"));
        assert_eq!(name_of("10.0.0.1"), None);
        assert_eq!(name_of("1st"), Some("st".into()));
        let mut taken = BTreeSet::new();
        let long = "a".repeat(NAME_MAX);
        let names: Vec<_> = (0..12).map(|_| unique(&long, &mut taken)).collect();
        assert!(names.iter().all(|name| name.parse::<crate::names::ServiceName>().is_ok()));
        assert_eq!((names[0].as_str(), &names[10][29..]), (long.as_str(), "-11"));
    }
}
