//! `real = address[->address][:port] gate|masq|ipip [weight] ["request", "receive"] ["l:N"] ["u:N"]`.

use lb_common::Forwarding;

use super::super::Notes;
use super::super::draft::DraftBackend;
use super::super::words::{port as port_of, range, words};
use super::{Directive, address};

/// Most servers that one line stands for.
const RANGE_MOST: u128 = 64;

/// A real server, with the request that is for it alone.
pub(super) struct Real {
    pub(super) backend: DraftBackend,
    /// What is requested of it and has to come back.
    pub(super) asked: Option<(String, Option<String>)>,
}

/// The real servers that a line stands for.
pub(super) fn backends(given: &Directive, notes: &mut Notes) -> Vec<Real> {
    let directive = format!("real={}", given.value);
    let mut say = |why: &str| notes.add(given.line, directive.clone(), why);
    let Some(words) = words(&given.value.replace("\",", "\" ").replace(",\"", " \"")) else {
        say("left out: a quote is not closed");
        return Vec::new();
    };
    let mut words = words.iter().map(|word| word.trim_matches(',')).filter(|word| !word.is_empty());
    let Some((addresses, port)) = words.next().and_then(place) else {
        say("left out: write addresses and a port; names of hosts are not looked up");
        return Vec::new();
    };
    let mut forwarding = None;
    let mut weight = 1;
    let mut max_flows = 0;
    let mut texts = Vec::new();
    for word in words {
        match (word, word.parse::<u64>()) {
            ("gate", _) => forwarding = Some(Forwarding::Dsr),
            ("masq", _) => forwarding = Some(Forwarding::Nat),
            ("ipip", _) => forwarding = Some(Forwarding::Ipip),
            (_, Ok(number)) => weight = number,
            (word, _) => match (word.strip_prefix("u:"), word.strip_prefix("l:")) {
                (Some(upper), _) => match upper.parse() {
                    Ok(flows) => max_flows = flows,
                    Err(_) => say("the upper threshold is no number; left out"),
                },
                (_, Some(_)) => {
                    say(
                        "there is no lower threshold: a full backend gets flows again as soon as one has ended",
                    );
                }
                _ => texts.push(word.to_owned()),
            },
        }
    }
    let Some(forwarding) = forwarding else {
        say("left out: say `gate`, `masq` or `ipip`");
        return Vec::new();
    };
    let mut texts = texts.into_iter();
    let asked = texts.next().map(|request| (request, texts.next()));
    let real = |address| Real {
        backend: DraftBackend {
            line: given.line,
            directive: directive.clone(),
            address,
            port,
            forwarding,
            weight,
            max_flows,
        },
        asked: asked.clone(),
    };
    addresses.into_iter().map(real).collect()
}

/// Addresses and a port; no port, or 0, is that of the virtual server.
fn place(text: &str) -> Option<(Vec<std::net::IpAddr>, Option<u16>)> {
    // A bare address of IPv6 has colons of its own.
    let (addresses, port) = match text.rsplit_once(':') {
        Some(_) if address(text).is_some() => (text, None),
        Some((addresses, port)) => (addresses.trim_end_matches(':'), Some(port_of(port)?)),
        None => (text, None),
    };
    let addresses = match addresses.split_once("->") {
        Some((from, to)) => range(address(from.trim())?, address(to.trim())?, RANGE_MOST)?,
        None => vec![address(addresses)?],
    };
    Some((addresses, port.filter(|port| *port != 0)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_one_address_or_several_with_or_without_a_port() {
        let count = |text: &str| place(text).map(|(addresses, port)| (addresses.len(), port));
        assert_eq!(count("192.168.6.2:80"), Some((1, Some(80))));
        assert_eq!(count("192.168.6.2->192.168.6.7:80"), Some((6, Some(80))));
        assert_eq!(count("192.168.6.2"), Some((1, None)));
        assert_eq!(count("[2001:db8::4]:119"), Some((1, Some(119))));
        assert_eq!(count("2001:db8::4"), Some((1, None)));
        assert_eq!(
            (count("sql01->sql03:3306"), count("192.168.6.2:no-such-port"), count("10.0.0.1->10.0.9.1:80")),
            (None, None, None)
        );
    }

    #[test]
    fn everything_behind_the_place_is_read() {
        let given = Directive {
            line: 7,
            value: r#"10.0.0.1:80 masq 3 "index.html", "It works" "u:100" "l:50""#.to_owned(),
        };
        let mut notes = Notes::default();
        let reals = backends(&given, &mut notes);
        let real = &reals[0];
        assert_eq!((real.backend.weight, real.backend.max_flows), (3, 100));
        assert_eq!(real.asked, Some(("index.html".into(), Some("It works".into()))));
        assert_eq!(notes.0.len(), 1, "{notes:?}");
    }
}
