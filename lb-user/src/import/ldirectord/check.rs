//! The checks of ldirectord: what is asked, of which service, how often.

use std::net::SocketAddr;
use std::time::Duration;

use super::super::Notes;
use super::super::dns;
use super::super::draft::DraftCheck;
use super::super::words::{seconds, words};
use super::real::Real;
use super::{Directive, Taken, unquoted};
use crate::check::{Check, HttpCheck, ScriptCheck, TlsCheck, UdpCheck};
use crate::config::Protocol;

/// Which service is asked at a port, if nobody says.
const SERVICES: [(u16, &str); 19] = [
    (21, "ftp"),
    (25, "smtp"),
    (53, "dns"),
    (80, "http"),
    (110, "pop"),
    (119, "nntp"),
    (143, "imap"),
    (389, "ldap"),
    (443, "https"),
    (587, "submission"),
    (636, "ldaps"),
    (993, "imaps"),
    (995, "pops"),
    (1521, "oracle"),
    (1812, "radius"),
    (3128, "http_proxy"),
    (3306, "mysql"),
    (5432, "pgsql"),
    (5060, "sip"),
];

/// What is said of servers that were up without being asked.
const NO_CHECK: &str = "there is no service without a check: the port is asked";

/// A setting where it stands.
type Given = Option<(usize, String)>;

/// The check of a virtual server.
pub(super) fn check(
    taken: &mut Taken<'_>,
    line: usize,
    vip: SocketAddr,
    protocol: Protocol,
    reals: &[Real],
    notes: &mut Notes,
) -> DraftCheck {
    let kind =
        taken.own("checktype").map_or((line, "negotiate".to_owned()), |given| (given.line, given.value));
    let service = taken.own("service").map_or_else(
        || {
            let usual = SERVICES.iter().find(|(port, _)| *port == vip.port());
            (line, usual.map_or("none", |(_, service)| *service).to_owned())
        },
        |given| (given.line, given.value),
    );
    let mut asked = Asked {
        request: taken.text("request"),
        receive: taken.text("receive"),
        host: taken.text("virtualhost"),
        method: taken.text("httpmethod"),
        command: taken.text("checkcommand"),
    };
    asked.take_from_reals(reals, notes);
    let negotiate = matches!(kind.1.as_str(), "negotiate") || kind.1.parse::<u32>().is_ok();
    let what = what(&kind, &service, vip, protocol, &mut asked, notes);
    asked.rest(notes);
    for secret in ["login", "passwd", "database", "secret"] {
        if let Some(given) = taken.own(secret) {
            // Whatever it is, it is not repeated in a file that others may read.
            notes.add(given.line, format!("{secret}=…"), "no check logs in");
        }
    }
    if let Some(given) = taken.own("checkport")
        && reals.iter().any(|real| real.backend.port.unwrap_or(vip.port()).to_string() != given.value)
    {
        let why = "checks ask the port that flows go to; for another one use a `script`";
        notes.add(given.line, format!("checkport={}", given.value), why);
    }
    if let Some(given) = taken.any("checkcount") {
        notes.add(given.line, format!("checkcount={}", given.value), "it is taken as one; see `fall`");
    }
    let interval = taken.any("checkinterval").and_then(|given| time("checkinterval", &given, notes));
    DraftCheck {
        what,
        interval: interval.unwrap_or(Duration::from_secs(10)),
        fast_interval: None,
        timeout: timeout(taken, negotiate, notes),
        fall: fall(taken, notes),
    }
}

/// One of two directives, each the default of the other: either of the virtual server's own comes before those of
/// the file.
fn timeout(taken: &mut Taken<'_>, negotiate: bool, notes: &mut Notes) -> Duration {
    let (names, usual) = if negotiate {
        (["negotiatetimeout", "checktimeout"], Duration::from_secs(30))
    } else {
        (["checktimeout", "negotiatetimeout"], Duration::from_secs(5))
    };
    let own = names.map(|name| (name, taken.own(name)));
    let of_file = names.map(|name| (name, taken.defaults.get(name).cloned()));
    // All are read, so that none that is wrong goes without a note.
    let times: Vec<_> =
        own.into_iter().chain(of_file).filter_map(|(name, given)| time(name, &given?, notes)).collect();
    times.first().copied().unwrap_or(usual)
}

fn time(name: &str, given: &Directive, notes: &mut Notes) -> Option<Duration> {
    let time = seconds(&given.value);
    if time.is_none() {
        notes.add(given.line, format!("{name}={}", given.value), "it is no number of seconds; left out");
    }
    time
}

fn fall(taken: &mut Taken<'_>, notes: &mut Notes) -> u32 {
    let Some(given) = taken.any("failurecount") else { return 1 };
    given.value.parse().unwrap_or_else(|_| {
        notes.add(given.line, format!("failurecount={}", given.value), "it is no number; 1 is taken");
        1
    })
}

/// What a check may ask with; what it does not use is noted in the end.
struct Asked {
    request: Given,
    receive: Given,
    host: Given,
    method: Given,
    command: Given,
}

impl Asked {
    /// Real servers may have requests of their own, with what has to come back; a service has one for all.
    fn take_from_reals(&mut self, reals: &[Real], notes: &mut Notes) {
        let of_service = (self.request.clone(), self.receive.clone());
        let asked_of = |real: &Real| {
            let Some((request, receive)) = &real.asked else { return of_service.clone() };
            let here = |text: &String| (real.backend.line, text.clone());
            (Some(here(request)), receive.as_ref().map(here).or_else(|| of_service.1.clone()))
        };
        if self.request.is_none()
            && let Some(first) = reals.iter().find(|real| real.asked.is_some())
        {
            (self.request, self.receive) = asked_of(first);
        }
        for real in reals {
            let (request, receive) = asked_of(real);
            if !is_same(&request, &self.request, "/") || !is_same(&receive, &self.receive, "") {
                let why = "a service has one check for all its backends: the first request is taken, with what has to \
                           come back";
                notes.add(real.backend.line, real.backend.directive.clone(), why);
            }
        }
    }

    fn rest(self, notes: &mut Notes) {
        let Self { request, receive, host, method, command } = self;
        for (name, given) in [
            ("request", request),
            ("receive", receive),
            ("virtualhost", host),
            ("httpmethod", method),
            ("checkcommand", command),
        ] {
            if let Some((line, value)) = given {
                notes.add(line, format!("{name}={value}"), "the check that is taken does not use it");
            }
        }
    }
}

/// Whether two settings say the same, wherever they stand; `usual` is what none says.
fn is_same(one: &Given, other: &Given, usual: &str) -> bool {
    let said = |given: &Given| given.as_ref().map_or(usual, |(_, text)| text.as_str()).to_owned();
    said(one) == said(other)
}

fn what(
    (line, kind): &(usize, String),
    service: &(usize, String),
    vip: SocketAddr,
    protocol: Protocol,
    asked: &mut Asked,
    notes: &mut Notes,
) -> Check {
    let plain = match protocol {
        Protocol::Tcp => Check::Tcp,
        Protocol::Udp => Check::Udp(UdpCheck::default()),
    };
    let mut say = |why: &str| notes.add(*line, format!("checktype={kind}"), why);
    match kind.as_str() {
        "negotiate" => negotiate(service, plain, asked, notes),
        "connect" if protocol == Protocol::Tcp => plain,
        "connect" | "ping" => {
            say("there is no ping: the port is asked in its stead");
            plain
        }
        "on" => {
            say(NO_CHECK);
            plain
        }
        "off" => {
            say("it is on here: take the service out, or give its backends weight = 0");
            plain
        }
        "external" | "external-perl" => {
            if kind == "external-perl" {
                say("the command is run as a program");
            }
            let command = asked.command.take();
            script(command, vip, notes).unwrap_or(plain)
        }
        number if number.parse::<u32>().is_ok() => {
            say("every check negotiates");
            negotiate(service, plain, asked, notes)
        }
        _ => {
            say("unknown type; the port is asked");
            plain
        }
    }
}

fn negotiate((line, service): &(usize, String), plain: Check, asked: &mut Asked, notes: &mut Notes) -> Check {
    let mut say = |why: &str| notes.add(*line, format!("service={service}"), why);
    match service.as_str() {
        "http" | "https" => {
            say("redirects were followed, and are not here: let `path` name the page that they lead to");
            let tls = (service == "https").then(|| {
                say("certificates were not verified, so verify = false; better set `host` and leave it out");
                TlsCheck { verify: false, ..TlsCheck::default() }
            });
            Check::Http(http(tls, asked, notes))
        }
        "dns" if matches!(plain, Check::Udp(_)) => {
            let (line, name) = asked.request.take().unwrap_or((*line, ".".to_owned()));
            let Some(payload) = dns::query(&name, "A") else {
                notes.add(line, format!("request={name}"), "it is no name that can be asked for");
                return plain;
            };
            if let Some((line, receive)) = asked.receive.take() {
                let why = "any answer without an error passes, whatever addresses are in it";
                notes.add(line, format!("receive={receive}"), why);
            }
            Check::Udp(UdpCheck { payload, answer: dns::ANSWER.parse().ok() })
        }
        "none" => {
            say(NO_CHECK);
            plain
        }
        _ if matches!(plain, Check::Udp(_)) => {
            say("Baton does not speak its protocol: an empty datagram is sent, and only a refusal fails");
            plain
        }
        _ => {
            say(
                "Baton does not speak its protocol: the port has to accept a connection; a `script` may ask more",
            );
            plain
        }
    }
}

fn http(tls: Option<TlsCheck>, asked: &mut Asked, notes: &mut Notes) -> HttpCheck {
    let mut http = HttpCheck { tls, status: vec![200..=299], ..HttpCheck::default() };
    if let Some((line, host)) = asked.host.take() {
        http.host = accepted(HttpCheck { host: Some(host.clone()), ..http.clone() }).and_then(|it| it.host);
        if http.host.is_none() {
            notes.add(line, format!("virtualhost={host}"), "it is no host; left out");
        }
    }
    if let Some((line, request)) = asked.request.take() {
        let path = match request.split_once("://").map(|(_, rest)| rest.split_once('/').unwrap_or((rest, "")))
        {
            Some((host, path)) => {
                let why = format!("checks ask the backend itself, not `{host}`: only the path is taken");
                notes.add(line, format!("request={request}"), why);
                format!("/{path}")
            }
            None => format!("/{}", request.trim_start_matches('/')),
        };
        match accepted(HttpCheck { path, ..HttpCheck::default() }) {
            Some(good) => http.path = good.path,
            None => notes.add(line, format!("request={request}"), "it is no path; `/` is taken"),
        }
    }
    if let Some((line, method)) = asked.method.take() {
        match accepted(HttpCheck { method: method.to_uppercase(), ..HttpCheck::default() }) {
            Some(good) => http.method = good.method,
            None => notes.add(line, format!("httpmethod={method}"), "it is no method; GET is taken"),
        }
    }
    if let Some((line, receive)) = asked.receive.take() {
        match receive.parse() {
            Ok(body) => http.body = Some(body),
            Err(error) => notes.add(line, format!("receive={receive}"), format!("left out: {error}")),
        }
    }
    http
}

/// The check, if it can be made.
fn accepted(http: HttpCheck) -> Option<HttpCheck> {
    Check::Http(http.clone()).validate().is_ok().then_some(http)
}

/// The command with the virtual server's address and port, as ldirectord gives them.
fn script(command: Option<(usize, String)>, vip: SocketAddr, notes: &mut Notes) -> Option<Check> {
    let (line, command) = command?;
    let directive = format!("checkcommand={command}");
    let mut command = words(unquoted(&command)).unwrap_or_default();
    command.extend([vip.ip().to_string(), vip.port().to_string()]);
    let check = Check::Script(ScriptCheck { command });
    if let Err(error) = check.validate() {
        notes.add(line, directive, format!("left out: {error}"));
        return None;
    }
    let why = "address and port of the backend are not its third and fourth argument, but in BATON_ADDRESS and BATON_PORT";
    notes.add(line, directive, why);
    Some(check)
}
