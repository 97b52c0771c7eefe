//! Texts that are parted into words, numbers and addresses, as both kinds of files write them.

use std::fs;
use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

/// The words of a line; quotes of either kind keep spaces and are taken off. `None` if a quote has no end.
pub(super) fn words(text: &str) -> Option<Vec<String>> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut quote = None;
    for c in text.chars() {
        match (quote, c) {
            (Some(open), c) if c == open => quote = None,
            (None, '"' | '\'') => {
                quote = Some(c);
                word.get_or_insert_default();
            }
            (None, c) if c.is_whitespace() => words.extend(word.take()),
            (_, c) => word.get_or_insert_default().push(c),
        }
    }
    words.extend(word);
    quote.is_none().then_some(words)
}

/// A time in seconds, perhaps with a fraction.
pub(super) fn seconds(text: &str) -> Option<Duration> {
    let seconds: f64 = text.parse().ok()?;
    Duration::try_from_secs_f64(seconds).ok().filter(|time| *time <= Duration::from_hours(24 * 365))
}

/// How many bits a netmask has, or a prefix length.
pub(super) fn prefix(text: &str) -> Option<u8> {
    if let Ok(mask) = text.parse::<Ipv4Addr>() {
        let bits = mask.to_bits();
        let ones = bits.leading_ones();
        return (bits.count_ones() == ones).then_some(ones as u8);
    }
    text.parse().ok().filter(|bits| *bits <= 128)
}

/// The addresses from one to another, both included; `None` if they are no range, or of more than `most`.
pub(super) fn range(from: IpAddr, to: IpAddr, most: u128) -> Option<Vec<IpAddr>> {
    let count = |from: u128, to: u128| to.checked_sub(from).filter(|more| *more < most);
    match (from, to) {
        (IpAddr::V4(from), IpAddr::V4(to)) => {
            let (from, to) = (from.to_bits(), to.to_bits());
            count(from.into(), to.into())?;
            Some((from..=to).map(|bits| Ipv4Addr::from_bits(bits).into()).collect())
        }
        (IpAddr::V6(from), IpAddr::V6(to)) => {
            let (from, to) = (from.to_bits(), to.to_bits());
            count(from, to)?;
            Some((from..=to).map(|bits| std::net::Ipv6Addr::from_bits(bits).into()).collect())
        }
        _ => None,
    }
}

/// Where names of ports stand.
const SERVICES: &str = "/etc/services";

/// A port by its number, or by its name as this machine knows it.
pub(super) fn port(text: &str) -> Option<u16> {
    text.parse().ok().or_else(|| port_in(&fs::read_to_string(SERVICES).ok()?, text))
}

/// The port of this name, or alias, in a text such as /etc/services.
fn port_in(services: &str, name: &str) -> Option<u16> {
    services.lines().find_map(|line| {
        let mut words = line.split('#').next()?.split_whitespace();
        let (official, port) = (words.next()?, words.next()?);
        let is_it = official == name || words.any(|alias| alias == name);
        port.split_once('/').filter(|_| is_it)?.0.parse().ok()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quotes_keep_words_together() {
        assert_eq!(words("real=1 gate \"a b\" 'c'").unwrap(), ["real=1", "gate", "a b", "c"]);
        assert_eq!(words("\"\"").unwrap(), [""]);
        assert_eq!(words("\"open"), None);
        assert_eq!(words("  ").unwrap(), [""; 0]);
    }

    #[test]
    fn ports_have_numbers_names_and_aliases() {
        let services = "# http 1/tcp\nhttp 80/tcp www # WorldWideWeb\nhttp 80/udp\n\nbroken\n";
        assert_eq!((port_in(services, "http"), port_in(services, "www")), (Some(80), Some(80)));
        assert_eq!((port_in(services, "broken"), port_in(services, "#")), (None, None));
        assert_eq!((port("8080"), port("no-such-port"), port("")), (Some(8080), None, None));
    }

    #[test]
    fn masks_have_their_ones_in_front() {
        assert_eq!(prefix("255.255.255.0"), Some(24));
        assert_eq!(prefix("0.0.0.0"), Some(0));
        assert_eq!((prefix("64"), prefix("255.0.255.0"), prefix("129")), (Some(64), None, None));
    }

    #[test]
    fn ranges_are_counted_before_they_are_made() {
        let address = |text: &str| text.parse().unwrap();
        assert_eq!(range(address("10.0.0.1"), address("10.0.0.3"), 64).unwrap().len(), 3);
        assert_eq!(range(address("10.0.0.3"), address("10.0.0.1"), 64), None);
        assert_eq!(range(address("::"), address("ffff::"), 64), None);
        assert_eq!(range(address("::1"), address("10.0.0.1"), 64), None);
        assert_eq!(seconds("0.5"), Some(Duration::from_millis(500)));
        assert_eq!((seconds("-1"), seconds("x"), seconds("1e300")), (None, None, None));
    }
}
