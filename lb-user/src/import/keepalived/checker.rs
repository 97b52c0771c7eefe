//! The checkers of a real server.

use std::ops::RangeInclusive;
use std::time::Duration;

use super::super::Notes;
use super::super::dns;
use super::super::draft::DraftCheck;
use super::super::words::{seconds, words};
use super::timing::Timing;
use super::tree::Item;
use crate::check::{BodyPattern, Check, HttpCheck, ScriptCheck, TlsCheck, UdpCheck};
use crate::config::Protocol;

/// Directives of checkers that mean nothing to Baton, and why.
const NO_EQUIVALENT: [(&str, &str); 22] = [
    ("connect_ip", "checks ask the address that flows go to"),
    ("bindto", "checks come from where clients' packets come"),
    ("bind_if", "checks come from where clients' packets come"),
    ("bind_port", "checks come from any port"),
    ("fwmark", "packets of checks carry no mark"),
    ("log_all_failures", "each failure is logged at level debug"),
    ("http_protocol", "checks speak HTTP/1.1"),
    ("fast_recovery", "checks that are undecided are asked again after `fast_interval`"),
    ("enable_sni", "it is always so: TLS names the host"),
    ("misc_dynamic", "a check changes no weight"),
    ("user", "scripts run as the controller does; use `runuser` in it"),
    ("helo_name", "Baton does not speak its protocol"),
    ("min_reply_length", "any length passes; write what has to come into `answer`"),
    ("max_reply_length", "any length passes; write what has to come into `answer`"),
    ("digest", "there are no digests of pages: write what has to be in it into `body`"),
    ("regex_no_match", "left out with its regex: a pattern has to match"),
    ("regex_stack", "patterns need no stack"),
    ("regex_min_offset", "the first 64 KiB are searched"),
    ("regex_max_offset", "the first 64 KiB are searched"),
    ("track_file", "no file is tracked"),
    ("dynamic", "a check changes no weight"),
    ("weight", "a check changes no weight"),
];

/// Checkers that there is no check for, and what is asked instead.
const NO_CHECK: [(&str, &str); 3] = [
    ("PING_CHECK", "there is no ping: the port is asked in its stead"),
    ("BFD_CHECK", "there is no BFD: the port is asked in its stead"),
    ("FILE_CHECK", "no file is tracked: the port is asked in its stead"),
];

/// Whether a directive is a checker.
pub(super) fn is_checker(item: &Item) -> bool {
    matches!(item.word(0), "HTTP_GET" | "SSL_GET") || item.word(0).ends_with("_CHECK")
}

/// Asks the port alone.
pub(super) fn plain(protocol: Protocol, timing: &Timing) -> DraftCheck {
    let what = match protocol {
        Protocol::Tcp => Check::Tcp,
        Protocol::Udp => Check::Udp(UdpCheck::default()),
    };
    timed(what, timing, 1, SOON)
}

/// How soon a failed check is repeated, if nobody says.
const SOON: Option<Duration> = Some(Duration::from_secs(1));
/// The same of those over HTTP.
const SOON_OVER_HTTP: Option<Duration> = Some(Duration::from_secs(3));

/// A check with its times; without a usual delay before a retry this is `delay_loop`.
fn timed(what: Check, timing: &Timing, usual_retry: u32, usual_delay: Option<Duration>) -> DraftCheck {
    DraftCheck {
        what,
        interval: timing.delay_loop,
        fast_interval: timing.delay_before_retry.or(usual_delay),
        timeout: timing.connect_timeout,
        fall: timing.retry.unwrap_or(usual_retry).saturating_add(1),
    }
}

/// The check that a real server's checkers are: the first that there is a check for.
pub(super) fn check(
    checkers: &[&Item],
    timing: &Timing,
    protocol: Protocol,
    port: Option<u16>,
    notes: &mut Notes,
) -> Option<DraftCheck> {
    let mut taken = None;
    for checker in checkers {
        if taken.is_some() {
            let why = "a service has one check: the first that can be made is taken";
            notes.add(checker.line, checker.shown(), why);
        } else {
            taken = one(checker, timing.clone(), protocol, port, notes);
        }
    }
    taken
}

fn one(
    checker: &Item,
    mut timing: Timing,
    protocol: Protocol,
    port: Option<u16>,
    notes: &mut Notes,
) -> Option<DraftCheck> {
    // What any checker may have comes first, so that what is left is its own.
    let own: Vec<&Item> = checker
        .block()
        .iter()
        .filter(|item| !timing.take(item, notes) && !common(item, port, notes))
        .collect();
    let name = checker.word(0);
    let mut own = Own { checker, items: own };
    let check = match name {
        "TCP_CHECK" => timed(Check::Tcp, &timing, 1, SOON),
        "HTTP_GET" => timed(Check::Http(own.http(None, &timing, notes)), &timing, 1, SOON_OVER_HTTP),
        "SSL_GET" => {
            let why = "certificates were not verified, so verify = false; better set `host` and leave it out";
            notes.add(checker.line, name, why);
            let tls = TlsCheck { verify: false, ..TlsCheck::default() };
            timed(Check::Http(own.http(Some(tls), &timing, notes)), &timing, 1, SOON_OVER_HTTP)
        }
        "SMTP_CHECK" => {
            let why = "Baton does not speak its protocol: the port has to accept a connection; a `script` may ask more";
            notes.add(checker.line, name, why);
            timed(Check::Tcp, &timing, 1, SOON)
        }
        "DNS_CHECK" => timed(own.dns(notes)?, &timing, 3, None),
        "UDP_CHECK" => timed(own.udp(notes), &timing, 1, SOON),
        "MISC_CHECK" => {
            // It connects to nothing; no time, or 0, is that between two checks of the virtual server.
            let given = own.value("misc_timeout").and_then(|item| seconds(item.word(1)));
            timing.connect_timeout = given.filter(|time| !time.is_zero()).unwrap_or(timing.server_delay_loop);
            timed(own.script(notes)?, &timing, 0, SOON)
        }
        _ => {
            let known = NO_CHECK.iter().find(|(known, _)| *known == name);
            notes.add(checker.line, name, known.map_or("unknown checker", |(_, why)| why));
            own.rest(notes);
            return known.map(|_| plain(protocol, &timing));
        }
    };
    own.rest(notes);
    Some(check)
}

/// Notes a directive that any checker may have and Baton has not.
fn common(item: &Item, port: Option<u16>, notes: &mut Notes) -> bool {
    if item.word(0) == "connect_port" {
        if port.is_none_or(|port| item.word(1) != port.to_string()) {
            let why = "checks ask the port that flows go to; for another one use a `script`";
            notes.add(item.line, item.shown(), why);
        }
        return true;
    }
    let known = NO_EQUIVALENT.iter().find(|(name, _)| *name == item.word(0));
    if let Some((_, why)) = known {
        notes.add(item.line, item.shown(), *why);
    }
    known.is_some()
}

/// The directives that only this checker has; what is not used is noted in the end.
struct Own<'i> {
    checker: &'i Item,
    items: Vec<&'i Item>,
}

impl<'i> Own<'i> {
    fn value(&mut self, name: &str) -> Option<&'i Item> {
        let at = self.items.iter().position(|item| item.word(0) == name)?;
        Some(self.items.remove(at))
    }

    fn rest(self, notes: &mut Notes) {
        for item in self.items {
            notes.add(item.line, item.shown(), "unknown directive");
        }
    }

    fn http(&mut self, tls: Option<TlsCheck>, timing: &Timing, notes: &mut Notes) -> HttpCheck {
        let mut http = HttpCheck { tls, status: vec![200..=299], ..HttpCheck::default() };
        let host = timing.virtualhost.as_ref().map(|(_, host)| host.clone());
        set(&mut http, |http| http.host = host);
        if let Some(url) = self.value("url") {
            one_url(&mut http, url, notes);
        }
        while let Some(url) = self.value("url") {
            let path = url.block().iter().find(|item| item.word(0) == "path").map_or("", |item| item.word(1));
            notes.add(url.line, format!("url {path}"), "a check asks for one page: the first is taken");
        }
        http
    }

    fn dns(&mut self, notes: &mut Notes) -> Option<Check> {
        let kind = self.value("type").map_or("SOA", |item| item.word(1));
        let name = self.value("name").map_or(".", |item| item.word(1));
        let Some(payload) = dns::query(name, kind) else {
            let shown = format!("DNS_CHECK {name} {kind}");
            notes.add(self.checker.line, shown, "left out: this question cannot be asked");
            return None;
        };
        Some(Check::Udp(UdpCheck { payload, answer: dns::ANSWER.parse().ok() }))
    }

    fn udp(&mut self, notes: &mut Notes) -> Check {
        let payload = self.value("payload").map_or_else(Vec::new, |item| {
            let bytes: Option<Vec<u8>> =
                hex(&item.rest()).into_iter().map(|(high, low)| Some(high? << 4 | low?)).collect();
            bytes.unwrap_or_else(|| {
                notes.add(item.line, item.shown(), "these are no bytes; none are sent");
                Vec::new()
            })
        });
        let answer = self.value("require_reply").map(|item| pattern_of(&hex(&item.rest())));
        let udp = Check::Udp(UdpCheck { payload, answer: answer.and_then(|pattern| pattern.parse().ok()) });
        if udp.validate().is_ok() { udp } else { Check::Udp(UdpCheck::default()) }
    }

    fn script(&mut self, notes: &mut Notes) -> Option<Check> {
        let Some(path) = self.value("misc_path") else {
            notes.add(self.checker.line, self.checker.word(0), "left out: it names no program");
            return None;
        };
        let command = words(&path.rest()).unwrap_or_default();
        let check = Check::Script(ScriptCheck { command });
        match check.validate() {
            Ok(()) => Some(check),
            Err(error) => {
                notes.add(path.line, path.shown(), format!("left out: {error}"));
                None
            }
        }
    }
}

/// Changes the check, unless it could not be made then.
fn set(http: &mut HttpCheck, change: impl FnOnce(&mut HttpCheck)) -> bool {
    let mut changed = http.clone();
    change(&mut changed);
    let good = Check::Http(changed.clone()).validate().is_ok();
    if good {
        *http = changed;
    }
    good
}

fn one_url(http: &mut HttpCheck, url: &Item, notes: &mut Notes) {
    let find = |name: &str| url.block().iter().find(|item| item.word(0) == name);
    let options = find("regex_options").map(Item::rest).unwrap_or_default();
    for item in url.block() {
        let good = match item.word(0) {
            "path" => set(http, |http| item.word(1).clone_into(&mut http.path)),
            "virtualhost" => set(http, |http| http.host = Some(item.word(1).to_owned())),
            "status_code" => {
                let ranges: Option<Vec<_>> = item.words.iter().skip(1).map(|word| status(word)).collect();
                ranges.is_some_and(|ranges| set(http, |http| http.status = ranges))
            }
            "regex" if find("regex_no_match").is_some() => true,
            "regex" => match format!("{}{}", flags(&options), item.rest()).parse::<BodyPattern>() {
                Ok(body) => set(http, |http| http.body = Some(body)),
                Err(_) => false,
            },
            "regex_options" => {
                let unknown = options.split_whitespace().filter(|option| flag(option).is_none());
                let unknown: Vec<_> = unknown.collect();
                if !unknown.is_empty() {
                    notes.add(item.line, item.shown(), format!("patterns have no {}", unknown.join(", ")));
                }
                true
            }
            _ => {
                if !common(item, None, notes) {
                    notes.add(item.line, item.shown(), "unknown directive");
                }
                true
            }
        };
        if !good {
            notes.add(item.line, item.shown(), "a check cannot have this; left out");
        }
    }
}

fn status(text: &str) -> Option<RangeInclusive<u16>> {
    let (low, high) = text.split_once('-').unwrap_or((text, text));
    Some(low.parse().ok()?..=high.parse().ok()?)
}

/// The letter that an option of PCRE is in a pattern.
fn flag(option: &str) -> Option<char> {
    Some(match option {
        "caseless" => 'i',
        "dotall" => 's',
        "multiline" => 'm',
        "extended" => 'x',
        "ungreedy" => 'U',
        _ => return None,
    })
}

fn flags(options: &str) -> String {
    let letters: String = options.split_whitespace().filter_map(flag).collect();
    if letters.is_empty() { letters } else { format!("(?{letters})") }
}

/// Two halves of a byte; `None` for a half that does not count.
type Halves = (Option<u8>, Option<u8>);

/// Bytes as keepalived writes them: words of hexadecimal digits, two a byte, the last of a word perhaps alone.
fn hex(text: &str) -> Vec<Halves> {
    let half = |c: char| c.to_digit(16).map(|digit| digit as u8);
    let mut bytes = Vec::new();
    for word in text.split_whitespace() {
        let digits: Vec<char> = word.chars().collect();
        bytes.extend(digits.chunks(2).map(|pair| match pair {
            [high, low] => (half(*high), half(*low)),
            [low] => (Some(0), half(*low)),
            _ => (None, None),
        }));
    }
    bytes
}

/// A pattern that bytes match if every half that counts is right.
fn pattern_of(bytes: &[Halves]) -> String {
    let byte = |(high, low): &Halves| match (high, low) {
        (Some(high), Some(low)) => format!("\\x{high:x}{low:x}"),
        (Some(high), None) => format!("[\\x{high:x}0-\\x{high:x}f]"),
        (None, Some(low)) => {
            let each: Vec<_> = (0..16).map(|high| format!("\\x{high:x}{low:x}")).collect();
            format!("[{}]", each.concat())
        }
        (None, None) => ".".to_owned(),
    };
    format!("(?s-u)^{}", bytes.iter().map(byte).collect::<String>())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_words_of_digits_with_halves_that_do_not_count() {
        let shown: Vec<_> = hex("Ab12f 3 x1").into_iter().collect();
        let whole = |byte: u8| (Some(byte >> 4), Some(byte & 15));
        assert_eq!(shown, [whole(0xab), whole(0x12), whole(0x0f), whole(3), (None, Some(1))]);
        let pattern: BodyPattern = pattern_of(&hex("ab xx 1x")).parse().unwrap();
        assert!(pattern.is_match(b"\xab\n\x1f..") && !pattern.is_match(b"\xabx\x2f"));
        assert!(pattern_of(&[]).parse::<BodyPattern>().unwrap().is_match(b"anything"));
    }
}
