//! Durations, sizes, percentages, ranges and addresses, as people write them.
//!
//! Each function is told a text and answers with a value, or with what is wrong with it.

use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;
use std::time::Duration;

use super::finding::closest;
use super::types::Ceiling;
use crate::recovery::Jitter;

/// A limit of memory below this holds no program.
pub(super) const SIZE_LEAST: u64 = 4 << 20;
/// The days of the week, in the order of their bits in a window.
pub(super) const DAYS: [&str; 7] = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"];

/// What is wrong with a text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Problem {
    /// What is wrong, with the text itself.
    pub(super) message: String,
    /// What was probably meant, without quotes.
    pub(super) suggestion: Option<String>,
}

impl Problem {
    pub(super) fn new(message: impl Into<String>) -> Self {
        Self { message: message.into(), suggestion: None }
    }

    pub(super) fn suggest(mut self, suggestion: impl Into<String>) -> Self {
        self.suggestion = Some(suggestion.into());
        self
    }
}

/// A time such as `300ms`, `5m` or `1h 30m`.
pub(super) fn duration(text: &str, least: Duration, most: Duration) -> Result<Duration, Problem> {
    let Ok(time) = humantime::parse_duration(text) else {
        let problem = Problem::new(format!("`{text}` is no duration"));
        return Err(if is_number(text) { problem.suggest(format!("{text}s")) } else { problem });
    };
    if (least..=most).contains(&time) {
        Ok(time)
    } else {
        let how = if time < least { "short" } else { "long" };
        Err(Problem::new(format!("`{text}` is too {how}")))
    }
}

/// A number of bytes such as `512M` or `1GiB`; both mean powers of two, as operators of Linux expect.
pub(super) fn size(text: &str) -> Result<u64, Problem> {
    let bytes = parse_size::Config::new().with_binary().parse_size(text);
    match bytes {
        _ if is_number(text) => {
            Err(Problem::new(format!("`{text}` has no unit")).suggest(format!("{text}M")))
        }
        Ok(bytes) if bytes < SIZE_LEAST => {
            Err(Problem::new(format!("`{text}` is too little for any program")))
        }
        Ok(bytes) => Ok(bytes),
        Err(_) => Err(Problem::new(format!("`{text}` is no size"))),
    }
}

/// A number of bytes, or a percentage such as `80%`.
pub(super) fn ceiling(text: &str) -> Result<Ceiling, Problem> {
    let Some(number) = text.strip_suffix('%') else {
        return match size(text) {
            Ok(bytes) => Ok(Ceiling::Bytes(bytes)),
            Err(_) if is_number(text) => {
                Err(Problem::new(format!("`{text}` has no unit")).suggest(format!("{text}%")))
            }
            Err(problem) => Err(problem),
        };
    };
    match number.trim_end().parse() {
        Ok(percent @ 1..=100) => Ok(Ceiling::Percent(percent)),
        _ => Err(Problem::new(format!("`{text}` is no percentage from 1% to 100%"))),
    }
}

/// A percentage such as `50%`, of `least` or more.
pub(super) fn percentage(text: &str, least: u8) -> Result<u8, Problem> {
    let problem = || Problem::new(format!("`{text}` is no percentage from {least}% to 100%"));
    let Some(number) = text.strip_suffix('%') else {
        return Err(if is_number(text) { problem().suggest(format!("{text}%")) } else { problem() });
    };
    let percent = number.trim_end().parse().ok().filter(|percent| (least..=100).contains(percent));
    percent.ok_or_else(problem)
}

/// A percentage, or a time of at most so many milliseconds.
pub(super) fn jitter(text: &str, most_ms: u64) -> Result<Jitter, Problem> {
    if text.ends_with('%') || is_number(text) {
        return percentage(text, 0).map(Jitter::Percent);
    }
    let time = duration(text, Duration::ZERO, Duration::from_millis(most_ms))?;
    Ok(Jitter::Ms(u64::try_from(time.as_millis()).unwrap_or(most_ms)))
}

/// The bit of a day such as `mon` in a window.
pub(super) fn day(text: &str) -> Result<u8, Problem> {
    let bit = DAYS.iter().position(|day| *day == text);
    bit.map(|bit| 1 << bit).ok_or_else(|| {
        let suggestion = closest(text, DAYS).map(str::to_owned);
        Problem { message: format!("`{}` is no day", text.escape_debug()), suggestion }
    })
}

/// A time of day such as `02:30`, in minutes since midnight.
pub(super) fn time_of_day(text: &str) -> Result<u16, Problem> {
    let two = |text: &str| text.parse::<u16>().ok().filter(|_| text.len() == 2 && is_number(text));
    let parts = text.split_once(':').and_then(|(hour, minute)| Some((two(hour)?, two(minute)?)));
    if let Some((hour @ 0..24, minute @ 0..60)) = parts {
        return Ok(hour * 60 + minute);
    }
    let padded = format!("0{text}");
    let problem = Problem::new(format!("`{}` is no time of day", text.escape_debug()));
    Err(if text.len() == 4 && time_of_day(&padded).is_ok() { problem.suggest(padded) } else { problem })
}

/// Address and port, such as `192.0.2.1:80` or `[2001:db8::1]:80`.
pub(super) fn endpoint(text: &str) -> Result<SocketAddr, Problem> {
    match text.parse::<SocketAddr>() {
        Ok(address) if address.port() == 0 => Err(Problem::new(format!("`{text}` has port 0"))),
        Ok(SocketAddr::V6(address)) if address.ip().to_ipv4_mapped().is_some() => {
            let plain = SocketAddr::new(address.ip().to_canonical(), address.port());
            Err(Problem::new(format!("`{text}` is an IPv4 address, written as IPv6"))
                .suggest(plain.to_string()))
        }
        Ok(SocketAddr::V6(address)) if address.scope_id() != 0 => {
            Err(Problem::new(format!("`{text}` has a zone, which leads no packet")))
        }
        Ok(address) => Ok(address),
        Err(_) => Err(no_endpoint(text)),
    }
}

fn no_endpoint(text: &str) -> Problem {
    if let Ok(address) = text.trim_matches(['[', ']']).parse::<IpAddr>() {
        let with_port = SocketAddr::new(address, 80);
        return Problem::new(format!("`{text}` has no port")).suggest(with_port.to_string());
    }
    match text.rsplit_once(':') {
        Some((host, port)) if port.parse::<u16>().is_ok() => {
            if host.parse::<IpAddr>().is_ok() {
                return Problem::new(format!("`{text}` needs brackets")).suggest(format!("[{host}]:{port}"));
            }
            Problem::new(format!("`{host}` is no address; names are not looked up"))
        }
        _ => Problem::new(format!("`{text}` is no address with a port")),
    }
}

/// Two ports, such as `20000-29999`.
pub(super) fn ports(text: &str) -> Result<RangeInclusive<u16>, Problem> {
    let number = |text: &str| text.trim().parse::<u16>().ok().filter(|port| *port != 0);
    let bounds = text.split_once('-').and_then(|(low, high)| Some((number(low)?, number(high)?)));
    match bounds {
        Some((low, high)) if low <= high => Ok(low..=high),
        Some((low, high)) => {
            Err(Problem::new(format!("`{text}` ends before it begins")).suggest(format!("{high}-{low}")))
        }
        None => Err(Problem::new(format!("`{text}` is no range of ports"))),
    }
}

/// A status of HTTP or a range of them, such as `204`, `200-399` or `2xx`.
pub(super) fn statuses(text: &str) -> Result<RangeInclusive<u16>, Problem> {
    let number = |text: &str| text.trim().parse::<u16>().ok().filter(|status| (100..=999).contains(status));
    if let Some(class) = text.strip_suffix("xx").and_then(|digit| digit.parse::<u16>().ok())
        && (1..=5).contains(&class)
    {
        return Ok(class * 100..=class * 100 + 99);
    }
    let (low, high) = text.split_once('-').unwrap_or((text, text));
    match (number(low), number(high)) {
        (Some(low), Some(high)) if low <= high => Ok(low..=high),
        (Some(low), Some(high)) => {
            Err(Problem::new(format!("`{text}` ends before it begins")).suggest(format!("{high}-{low}")))
        }
        _ => Err(Problem::new(format!("`{text}` is no status from 100 to 999"))),
    }
}

/// A prefix length, such as `24` or `/24`.
pub(super) fn prefix(text: &str, most: u64) -> Result<u64, Problem> {
    match text.strip_prefix('/').unwrap_or(text).parse() {
        Ok(bits) if bits <= most => Ok(bits),
        _ => Err(Problem::new(format!("`{text}` is no prefix length"))),
    }
}

/// A size as people write it: with the largest unit that leaves an integer.
pub(super) fn show_size(bytes: u64) -> String {
    let units = [(1 << 30, "G"), (1 << 20, "M"), (1 << 10, "K")];
    match units.into_iter().find(|(unit, _)| bytes >= *unit && bytes.is_multiple_of(*unit)) {
        Some((unit, letter)) => format!("{}{letter}", bytes / unit),
        None => format!("{bytes}B"),
    }
}

fn is_number(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const DAY: Duration = Duration::from_hours(24);

    fn suggested<T>(result: Result<T, Problem>) -> Option<String> {
        result.err().and_then(|problem| problem.suggestion)
    }

    #[test]
    fn durations_have_units_and_bounds() {
        for (text, ms) in [("300ms", 300), ("5s", 5_000), ("1h 30m", 5_400_000), ("1day", 86_400_000)] {
            assert_eq!(duration(text, Duration::ZERO, DAY), Ok(Duration::from_millis(ms)));
        }
        assert_eq!(suggested(duration("5", Duration::ZERO, DAY)), Some("5s".into()));
        for bad in ["", "soon", "-5s", "25h", "1s 1"] {
            assert!(duration(bad, Duration::ZERO, DAY).is_err(), "{bad}");
        }
    }

    #[test]
    fn sizes_are_binary_and_ceilings_may_be_shares() {
        assert_eq!(size("512M"), Ok(512 << 20));
        assert_eq!(size("1GiB"), Ok(1 << 30));
        assert_eq!(suggested(size("512")), Some("512M".into()));
        assert!(size("1K").is_err() && size("much").is_err() && size("-1G").is_err());
        assert_eq!(ceiling("80%"), Ok(Ceiling::Percent(80)));
        assert_eq!(ceiling("80 %"), Ok(Ceiling::Percent(80)));
        assert_eq!(ceiling("400M"), Ok(Ceiling::Bytes(400 << 20)));
        assert_eq!(suggested(ceiling("80")), Some("80%".into()));
        assert!(ceiling("0%").is_err() && ceiling("101%").is_err() && ceiling("%").is_err());
    }

    #[test]
    fn an_endpoint_is_an_address_and_a_port() {
        assert!(endpoint("192.0.2.1:80").is_ok() && endpoint("[2001:db8::1]:80").is_ok());
        assert_eq!(suggested(endpoint("192.0.2.1")), Some("192.0.2.1:80".into()));
        assert_eq!(suggested(endpoint("2001:db8::1")), Some("[2001:db8::1]:80".into()));
        assert_eq!(suggested(endpoint("[::ffff:192.0.2.1]:8080")), Some("192.0.2.1:8080".into()));
        for bad in ["192.0.2.1:0", "shop:80", "192.0.2.1:99999", ":80", "", "[fe80::1%1]:80"] {
            assert!(endpoint(bad).is_err(), "{bad}");
        }
        assert!(endpoint("shop.example:80").unwrap_err().message.contains("not looked up"));
    }

    #[test]
    fn ranges_go_up() {
        assert_eq!(ports("20000-29999"), Ok(20_000..=29_999));
        assert_eq!(suggested(ports("9-5")), Some("5-9".into()));
        assert!(ports("0-5").is_err() && ports("80").is_err() && ports("1-65536").is_err());
        assert_eq!(statuses("204"), Ok(204..=204));
        assert_eq!(statuses("200-399"), Ok(200..=399));
        assert_eq!(statuses("2xx"), Ok(200..=299));
        assert_eq!(suggested(statuses("399-200")), Some("200-399".into()));
        assert!(statuses("20").is_err() && statuses("6xx").is_err() && statuses("ok").is_err());
        assert_eq!(prefix("/24", 32), Ok(24));
        assert!(prefix("33", 32).is_err() && prefix("24/", 32).is_err());
    }

    #[test]
    fn times_of_a_week_and_shares_are_written_as_people_do() {
        assert_eq!([day("mon"), day("sun")], [Ok(1), Ok(64)]);
        assert_eq!(suggested(day("fry")), Some("fri".into()));
        assert_eq!([time_of_day("00:00"), time_of_day("23:59")], [Ok(0), Ok(1_439)]);
        assert_eq!(suggested(time_of_day("2:30")), Some("02:30".into()));
        for bad in ["24:00", "02:60", "2", "", "02:3", "+2:30", "02:30:00"] {
            assert!(time_of_day(bad).is_err(), "{bad}");
        }
        assert_eq!([percentage("50%", 1), percentage("1 %", 1)], [Ok(50), Ok(1)]);
        assert_eq!(suggested(percentage("50", 1)), Some("50%".into()));
        assert!(percentage("0%", 1).is_err() && percentage("101%", 1).is_err());
        assert_eq!([jitter("10%", 0), jitter("2s", 5_000)], [Ok(Jitter::Percent(10)), Ok(Jitter::Ms(2_000))]);
        assert!(jitter("6s", 5_000).is_err() && jitter("much", 5_000).is_err());
    }

    proptest! {
        #[test]
        fn a_size_that_is_shown_is_read_again(bytes in SIZE_LEAST..u64::MAX / 2) {
            prop_assert_eq!(size(&show_size(bytes)), Ok(bytes));
            let whole = bytes >> 20 << 20;
            prop_assert_eq!(size(&show_size(whole)), Ok(whole));
        }

        #[test]
        fn no_text_is_too_strange(text in ".*") {
            let _ = duration(&text, Duration::ZERO, DAY);
            let _ = (size(&text), ceiling(&text), endpoint(&text), ports(&text));
            let _ = (statuses(&text), prefix(&text, 32), day(&text), time_of_day(&text), jitter(&text, 9));
        }
    }
}
