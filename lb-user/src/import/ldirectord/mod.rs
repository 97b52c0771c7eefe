//! `ldirectord.cf` of the Linux Virtual Server project.
//!
//! A line is `directive = value`; lines that are indented belong to the `virtual` above them. A directive that
//! may stand in either place is the default of those in a virtual server.

mod check;
mod real;

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

use lb_common::pool::Policy;

use super::draft::{Draft, policy};
use super::words::{port, prefix, seconds};
use super::{ImportError, Imported, Notes, finish};
use crate::config::Protocol;

/// Directives of the whole file that mean nothing to Baton, and why.
const GLOBAL: [(&str, &str); 9] = [
    ("autoreload", "a file is read again on SIGHUP or `baton reload`"),
    ("callback", "the file is read again on SIGHUP or `baton reload`; copy it by what you copy files with"),
    ("logfile", "log lines go to standard error, for journald or whatever keeps it"),
    ("execute", "one controller serves all; import the other file, too"),
    ("supervised", "Baton stays in the foreground always"),
    ("fork", "checks run side by side always"),
    ("cleanstop", "a service outlives its controller, until it is taken down"),
    ("maintenancedir", "a backend is taken out by `baton drain`"),
    ("readdquiescent", "a backend that is out is known, and gets no new flows"),
];

/// Directives of either place that mean nothing to Baton, and why.
const EITHER: [(&str, &str); 8] = [
    ("fallback", "there is no server of last resort; while no backend is up, new flows are refused"),
    ("fallback6", "there is no server of last resort; while no backend is up, new flows are refused"),
    ("fallbackcommand", "no command is run when the last backend goes; watch `baton events`"),
    ("emailalert", "Baton sends no mail; watch `baton events`"),
    ("emailalertfrom", "Baton sends no mail"),
    ("emailalertfreq", "Baton sends no mail"),
    ("emailalertstatus", "Baton sends no mail"),
    ("smtp", "Baton sends no mail"),
];

/// Directives that say how to check or to steer; defaults if they stand before the first `virtual`.
const DEFAULTS: [&str; 6] =
    ["checktimeout", "negotiatetimeout", "checkinterval", "checkcount", "failurecount", "quiescent"];

/// A line of the file.
#[derive(Clone, Debug)]
struct Directive {
    line: usize,
    value: String,
}

/// A virtual server as it stands in the file: each directive at most once, but `real`.
struct Virtual {
    first: usize,
    last: usize,
    vip: String,
    reals: Vec<Directive>,
    settings: BTreeMap<String, Directive>,
}

/// Reads `text`; `file` names it in messages, `interfaces` carry its packets.
pub fn ldirectord(text: &str, file: &str, interfaces: &[String]) -> Result<Imported, ImportError> {
    let mut notes = Notes::default();
    let (virtuals, defaults) = read(text, &mut notes).map_err(|(line, message)| ImportError {
        file: file.to_owned(),
        line,
        message,
    })?;
    let drafts = virtuals.into_iter().filter_map(|server| draft(server, &defaults, &mut notes)).collect();
    Ok(finish(file, drafts, interfaces, &[], notes))
}

type Settings = BTreeMap<String, Directive>;

fn read(text: &str, notes: &mut Notes) -> Result<(Vec<Virtual>, Settings), (usize, String)> {
    let mut virtuals: Vec<Virtual> = Vec::new();
    let mut defaults = Settings::new();
    for (raw, line) in text.lines().zip(1..) {
        let content = uncommented(raw);
        if content.trim().is_empty() {
            continue;
        }
        let indented = content.starts_with([' ', '\t']);
        let Some((name, value)) = content.split_once('=') else {
            let shown = content.trim().escape_debug();
            return Err((line, format!("`{shown}` is no directive: write `name = value`")));
        };
        let (name, value) = (name.trim().to_ascii_lowercase(), value.trim().to_owned());
        let directive = Directive { line, value };
        match (name.as_str(), indented) {
            ("virtual" | "virtual6", false) => virtuals.push(Virtual {
                first: line,
                last: line,
                vip: directive.value,
                reals: Vec::new(),
                settings: Settings::new(),
            }),
            (_, true) => {
                let Some(server) = virtuals.last_mut() else {
                    return Err((line, format!("`{name}` is indented, but no `virtual` stands before it")));
                };
                server.last = line;
                if matches!(name.as_str(), "real" | "real6") {
                    server.reals.push(directive);
                } else {
                    replace(&mut server.settings, name, directive, notes);
                }
            }
            (name, false) if DEFAULTS.contains(&name) => {
                replace(&mut defaults, name.to_owned(), directive, notes);
            }
            (name, false) => {
                let known = GLOBAL.iter().chain(&EITHER).find(|(known, _)| *known == name);
                let why = known.map_or("unknown directive", |(_, why)| *why);
                notes.add(line, format!("{name}={}", directive.value), why);
            }
        }
    }
    Ok((virtuals, defaults))
}

/// A line without its comment; a `#` within quotes or a word begins none.
fn uncommented(line: &str) -> &str {
    let mut quoted = false;
    let mut before = ' ';
    for (at, c) in line.char_indices() {
        match c {
            '"' => quoted = !quoted,
            '#' if !quoted && before.is_whitespace() => return &line[..at],
            _ => {}
        }
        before = c;
    }
    line
}

fn replace(settings: &mut Settings, name: String, directive: Directive, notes: &mut Notes) {
    if let Some(earlier) = settings.get(&name) {
        let message = format!("it stands again in line {}, which counts", directive.line);
        notes.add(earlier.line, format!("{name}={}", earlier.value), message);
    }
    settings.insert(name, directive);
}

/// The settings of a virtual server, taken out one by one: what is left in the end is unknown.
struct Taken<'a> {
    own: Settings,
    defaults: &'a Settings,
}

impl Taken<'_> {
    fn own(&mut self, name: &str) -> Option<Directive> {
        self.own.remove(name)
    }

    /// Its own setting, or that of the file.
    fn any(&mut self, name: &str) -> Option<Directive> {
        self.own.remove(name).or_else(|| self.defaults.get(name).cloned())
    }

    /// The value without its quotes.
    fn text(&mut self, name: &str) -> Option<(usize, String)> {
        self.own(name).map(|directive| (directive.line, unquoted(&directive.value).to_owned()))
    }
}

fn unquoted(text: &str) -> &str {
    let inner = ['"', '\''].into_iter().find_map(|quote| text.strip_prefix(quote)?.strip_suffix(quote));
    inner.unwrap_or(text)
}

fn draft(server: Virtual, defaults: &Settings, notes: &mut Notes) -> Option<Draft> {
    let Virtual { first, last, vip, reals, settings } = server;
    let mut taken = Taken { own: settings, defaults };
    let Some(vip) = vip_of(&vip) else {
        let why = match vip.parse::<u32>() {
            Ok(_) => {
                "left out: firewall marks choose no service; make one for each VIP that the mark stands for"
            }
            Err(_) => "left out: write an address and a port; names of hosts are not looked up",
        };
        notes.add(first, format!("virtual={vip}"), why);
        return None;
    };
    let protocol = protocol(&mut taken, vip, notes);
    let policy = scheduler(&mut taken, notes);
    let affinity = taken.own("persistent").and_then(|given| {
        let time = seconds(&given.value);
        if time.is_none() {
            notes.add(
                given.line,
                format!("persistent={}", given.value),
                "it is no number of seconds; left out",
            );
        }
        time
    });
    let prefix = taken.own("netmask").and_then(|given| {
        let bits = prefix(&given.value);
        if bits.is_none() {
            notes.add(given.line, format!("netmask={}", given.value), "it is no netmask; left out");
        }
        bits
    });
    let keep_dead = quiescent(&mut taken, notes);
    let name = taken.text("servicename").map(|(_, name)| name);
    for (directive, why) in [
        ("comment", "comments are not kept"),
        ("ops", "a conversation of datagrams stays together"),
        ("monitorfile", "its findings are told by `baton events`"),
        ("cleanstop", "a service outlives its controller, until it is taken down"),
    ] {
        if let Some(given) = taken.own(directive) {
            notes.add(given.line, format!("{directive}={}", given.value), why);
        }
    }
    let backends: Vec<_> = reals.iter().flat_map(|given| real::backends(given, notes)).collect();
    let check = check::check(&mut taken, first, vip, protocol, &backends, notes);
    for (directive, why) in EITHER {
        if let Some(given) = taken.own(directive) {
            notes.add(given.line, format!("{directive}={}", given.value), why);
        }
    }
    for (directive, given) in taken.own {
        notes.add(given.line, format!("{directive}={}", given.value), "unknown directive");
    }
    Some(Draft {
        lines: first..=last,
        name,
        vips: vec![vip],
        protocol,
        policy,
        affinity,
        prefix,
        keep_dead,
        check,
        backends: backends.into_iter().map(|real| real.backend).collect(),
    })
}

/// An address and a port, which may be a name of /etc/services.
fn vip_of(text: &str) -> Option<SocketAddr> {
    let (host, given) = text.rsplit_once(':')?;
    if host.contains(':') && !host.starts_with('[') {
        // An address of IPv6 that has no port.
        return None;
    }
    Some(SocketAddr::new(address(host)?, port(given)?)).filter(|vip| vip.port() != 0)
}

fn protocol(taken: &mut Taken<'_>, vip: SocketAddr, notes: &mut Notes) -> Protocol {
    // As ldirectord itself has it.
    let usual = if vip.port() == 53 { Protocol::Udp } else { Protocol::Tcp };
    let Some(given) = taken.own("protocol") else { return usual };
    match given.value.as_str() {
        "tcp" => Protocol::Tcp,
        "udp" => Protocol::Udp,
        other => {
            notes.add(given.line, format!("protocol={other}"), "a service is `tcp` or `udp`");
            usual
        }
    }
}

fn scheduler(taken: &mut Taken<'_>, notes: &mut Notes) -> Policy {
    let Some(given) = taken.own("scheduler") else { return Policy::Wrr };
    let (policy, why) = policy(&given.value);
    if let Some(why) = why {
        notes.add(given.line, format!("scheduler={}", given.value), why);
    }
    policy
}

/// Whether flows of the dead are kept.
fn quiescent(taken: &mut Taken<'_>, notes: &mut Notes) -> bool {
    let Some(given) = taken.any("quiescent") else {
        let message = "it is set nowhere: `yes` is taken, as the manual has it, though version 4.12.0 does as with \
                       `no`; leave `dead_flows` out for that";
        notes.add(0, "quiescent", message);
        return true;
    };
    given.value.eq_ignore_ascii_case("yes")
}

/// An address, with brackets if it is one of IPv6.
fn address(text: &str) -> Option<IpAddr> {
    text.trim_start_matches('[').trim_end_matches(']').parse().ok()
}
