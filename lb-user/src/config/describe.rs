//! What a key takes, in words: for findings, the example and the reference alike.

use std::time::Duration;

use super::keys::Kind;

impl Kind {
    /// What it takes, with an article, as in "it takes …".
    pub(super) fn describe(&self) -> String {
        match self {
            Self::Flag => "`true` or `false`".into(),
            Self::Payload => "a text of at most 65507 bytes, with escapes such as `\\n` and `\\xff`".into(),
            Self::Name => "a name: 1 to 32 of a-z, 0-9 and `-`, starting with a letter".into(),
            Self::Choice(choices) => {
                let values: Vec<_> = choices.iter().map(|(value, _)| format!("`{value}`")).collect();
                format!("one of {}", values.join(", "))
            }
            Self::Count { least, most } => format!("an integer from {least} to {most}"),
            Self::Prefix { most } => format!("a prefix length from 0 to {most}"),
            Self::Duration { least, most } => {
                format!(
                    "a duration from {} to {}, such as `300ms`, `5s` or `2m`",
                    show_duration(*least),
                    show_duration(*most)
                )
            }
            Self::Size => "a size of `4M` or more, such as `512M` or `2GiB`".into(),
            Self::Ceiling => "a percentage such as `80%`, or a size such as `512M`".into(),
            Self::Endpoint => "an address and a port, such as `192.0.2.1:80` or `[2001:db8::1]:80`".into(),
            Self::Ports => "two ports from 1 to 65535, such as `20000-29999`".into(),
            Self::Path => "an absolute path".into(),
            Self::UrlPath => "a path that starts with `/`, as a request names it".into(),
            Self::UrlPaths => {
                "a path that starts with `/`, as a request names it, or a list of such paths".into()
            }
            Self::Method => "a method of HTTP such as `GET` or `HEAD`".into(),
            Self::Host => "a host name or address, with a port if it is not the usual one".into(),
            Self::Pattern => "a regular expression".into(),
            Self::Unit => "the name of a unit with its suffix, such as `shop.service`".into(),
            Self::Interfaces => "a list of interfaces, such as `[\"eth0\"]`".into(),
            Self::Arguments => {
                "a list: an absolute path and arguments, such as `[\"/bin/echo\", \"hi\"]`".into()
            }
            Self::Statuses => "a list of statuses and ranges, such as `[\"200-399\", 404, \"5xx\"]`".into(),
            Self::Headers => "a table of header fields, such as `{ Accept = \"text/html\" }`".into(),
            Self::Variables => "a table of variables, such as `{ LANG = \"C\" }`".into(),
            Self::Url => "a URL, such as `https://hooks.example.net/baton`".into(),
            Self::ServerUrl => "a URL of `http` or `https`, without a query".into(),
            Self::Group => "a group: letters, digits, `.` and `-`".into(),
            Self::Label => "a text of 1 to 253 visible characters".into(),
            Self::Days => "`daily`, or a list of `mon`, `tue`, `wed`, `thu`, `fri`, `sat`, `sun`".into(),
            Self::TimeOfDay => "a time from `00:00` to `23:59`".into(),
            Self::TimeZone => "a time zone of the IANA database, such as `Europe/Berlin` or `UTC`".into(),
            Self::Share => "an integer of 1 or more, or a percentage such as `50%`".into(),
            Self::Jitter { most } => {
                let most = show_duration(Duration::from_millis(*most));
                format!("a percentage such as `10%`, or a duration up to {most}, such as `2h`")
            }
        }
    }
}

/// A duration as people write it: with one unit if there is one that fits.
pub(crate) fn show_duration(time: Duration) -> String {
    let ms = time.as_millis();
    let units = [(86_400_000, "days"), (3_600_000, "h"), (60_000, "m"), (1_000, "s"), (1, "ms")];
    // A single day is better known as 24 hours.
    let fits = |unit: u128, name: &str| ms >= unit && ms.is_multiple_of(unit) && (name, ms) != ("days", unit);
    match units.into_iter().find(|(unit, name)| fits(*unit, name)) {
        Some((unit, name)) => format!("{}{name}", ms / unit),
        None => "0s".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_has_the_largest_unit_that_leaves_an_integer() {
        let shown = [0, 300, 1_000, 90_000, 5_400_000, 86_400_000, 86_400_000 * 7].map(|ms| {
            let shown = show_duration(Duration::from_millis(ms));
            assert_eq!(humantime::parse_duration(&shown), Ok(Duration::from_millis(ms)));
            shown
        });
        assert_eq!(shown, ["0s", "300ms", "1s", "90s", "90m", "24h", "7days"]);
    }
}
