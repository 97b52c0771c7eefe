//! Windows of the civil week in which rules may rejuvenate.
//!
//! A window begins at a civil time of its zone and lasts for a length that clocks measure, whatever civil time
//! does meanwhile. A beginning that a change of clocks skips comes as much later as the clocks go forward; of a
//! beginning that comes twice the first counts.

use std::fmt;

use jiff::civil::{Date, Time, Weekday};
use jiff::tz::TimeZone;
use jiff::{Timestamp, ToSpan};
use serde::{Deserialize, Serialize};

/// The longest window, in milliseconds: one that always is open is none.
pub const LENGTH_MAX_MS: u64 = 24 * 60 * 60 * 1_000;
/// Every day of the week, as [`Window::days`] has them.
pub const DAILY: u8 = 0b111_1111;

/// Days that are looked ahead for the next beginning: a week, and one because clocks may hide some of it.
const DAYS_AHEAD: i32 = 8;

/// A time zone: one of the IANA database by its name, or the machine's by whatever is known of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Written", into = "Written")]
pub struct Zone {
    /// Empty if it has none.
    name: String,
    zone: TimeZone,
}

impl Zone {
    /// The zone that this machine is set to; UTC, and a warning, if that is not known.
    pub fn of_system() -> Self {
        let zone = TimeZone::system();
        if zone.is_unknown() {
            tracing::warn!(
                "the time zone of this machine is not known: windows without `time_zone` are those of UTC"
            );
        }
        Self::of(zone)
    }

    /// A zone may be known by its rules alone, as of `TZ=JST-9` or of an /etc/localtime that is a copy.
    fn of(zone: TimeZone) -> Self {
        match zone.iana_name() {
            _ if zone.is_unknown() => Self { name: "UTC".to_owned(), zone: TimeZone::UTC },
            Some(name) => Self { name: name.to_owned(), zone: zone.clone() },
            None => Self { name: String::new(), zone },
        }
    }
}

/// A zone as it is written down: by its name, and the machine's own that has none by nothing.
#[derive(Serialize, Deserialize)]
struct Written(String);

impl TryFrom<Written> for Zone {
    type Error = String;

    fn try_from(Written(name): Written) -> Result<Self, String> {
        if name.is_empty() { Ok(Self::of_system()) } else { name.try_into() }
    }
}

impl From<Zone> for Written {
    fn from(zone: Zone) -> Self {
        Self(zone.name)
    }
}

impl TryFrom<String> for Zone {
    type Error = String;

    fn try_from(name: String) -> Result<Self, String> {
        match TimeZone::get(&name) {
            Ok(zone) => Ok(Self { name, zone }),
            Err(_) => Err(format!("`{}` is no time zone", name.escape_debug())),
        }
    }
}

/// A part of the week, over and over.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Window {
    /// The days on which it begins: bit 0 is Monday, bit 6 Sunday.
    pub days: u8,
    /// When it begins, in minutes of the civil day (0 to 1,439).
    pub start_minute: u16,
    /// How long it lasts, in milliseconds (up to [`LENGTH_MAX_MS`]); beyond midnight, too.
    pub length_ms: u64,
    /// Whose civil time that is.
    pub zone: Zone,
}

/// One time that a window is open.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Opening {
    /// When it begins, in milliseconds since 1970-01-01 UTC.
    pub from_unix_ms: u64,
    /// When it ends, in milliseconds since 1970-01-01 UTC.
    pub until_unix_ms: u64,
}

impl Window {
    /// The opening that lasts at this moment, or else the next one; `None` beyond the calendar's end.
    pub fn opening(&self, unix_ms: u64) -> Option<Opening> {
        let now = Timestamp::from_millisecond(i64::try_from(unix_ms).ok()?).ok()?;
        let today = now.to_zoned_datetime(self.zone.zone.clone()).date();
        // Yesterday's may wrap midnight, and last for a day.
        let days = (-2..=DAYS_AHEAD).filter_map(|days| today.checked_add(days.days()).ok());
        let openings = days.filter(|day| self.begins_on(*day)).filter_map(|day| self.opening_of(day));
        openings.filter(|opening| opening.until_unix_ms > unix_ms).min()
    }

    fn begins_on(&self, day: Date) -> bool {
        self.days & weekday_bit(day.weekday()) != 0
    }

    fn opening_of(&self, day: Date) -> Option<Opening> {
        let minute = i8::try_from(self.start_minute % 60).ok()?;
        let hour = i8::try_from(self.start_minute / 60).ok()?;
        let start = day.to_datetime(Time::new(hour, minute, 0, 0).ok()?);
        let start = self.zone.zone.to_zoned_datetime(start).ok()?;
        let from_unix_ms = u64::try_from(start.timestamp().as_millisecond()).ok()?;
        Some(Opening { from_unix_ms, until_unix_ms: from_unix_ms.saturating_add(self.length_ms) })
    }

    /// A moment in the window's civil time, for people.
    pub fn show(&self, unix_ms: u64) -> String {
        let moment = i64::try_from(unix_ms).ok().and_then(|ms| Timestamp::from_millisecond(ms).ok());
        moment.map_or_else(String::new, |moment| {
            let civil = moment.to_zoned_datetime(self.zone.zone.clone());
            let name = match self.zone.name.as_str() {
                // The abbreviation that is used at that moment.
                "" => civil.strftime("%Z").to_string(),
                name => name.to_owned(),
            };
            format!("{} {name}", civil.strftime("%a %Y-%m-%d %H:%M"))
        })
    }
}

/// The bit of a day in [`Window::days`].
pub fn weekday_bit(day: Weekday) -> u8 {
    1 << day.to_monday_zero_offset()
}

/// What windows say to a moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Openness {
    /// There is no window, so rules may rejuvenate at all times.
    Always,
    /// They may.
    Open {
        /// The opening that lasts.
        opening: Opening,
        /// When it ends, for people.
        until: String,
    },
    /// They may not.
    Closed {
        /// The next opening; none beyond the calendar's end.
        next: Option<Opening>,
        /// When it begins, for people.
        when: String,
    },
}

/// What these windows say to a moment: they are open if any of them is, or if there is none.
pub fn openness(windows: &[Window], unix_ms: u64) -> Openness {
    if windows.is_empty() {
        return Openness::Always;
    }
    let openings = windows.iter().filter_map(|window| Some((window.opening(unix_ms)?, window)));
    match openings.min_by_key(|(opening, _)| *opening) {
        Some((opening, window)) if opening.from_unix_ms <= unix_ms => {
            Openness::Open { opening, until: window.show(opening.until_unix_ms) }
        }
        Some((opening, window)) => {
            Openness::Closed { next: Some(opening), when: window.show(opening.from_unix_ms) }
        }
        None => Openness::Closed { next: None, when: "never".to_owned() },
    }
}

impl fmt::Display for Zone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const HOUR_MS: u64 = 3_600_000;
    const MINUTE_MS: u64 = 60_000;

    fn zone(name: &str) -> Zone {
        name.to_owned().try_into().unwrap()
    }

    fn window(days: u8, start_minute: u16, hours: u64) -> Window {
        Window { days, start_minute, length_ms: hours * HOUR_MS, zone: zone("Europe/Berlin") }
    }

    /// Milliseconds of a moment such as `2026-03-29T01:30Z`.
    fn at(text: &str) -> u64 {
        text.parse::<Timestamp>().unwrap().as_millisecond().cast_unsigned()
    }

    fn is_open(window: &Window, text: &str) -> bool {
        matches!(openness(std::slice::from_ref(window), at(text)), Openness::Open { .. })
    }

    #[test]
    fn a_window_is_open_from_its_beginning_to_its_end_in_its_own_zone() {
        let nightly = window(DAILY, 120, 4);
        // In winter Berlin is an hour ahead of UTC, in summer two.
        for (moment, open) in [
            ("2026-01-10T00:59:59Z", false),
            ("2026-01-10T01:00:00Z", true),
            ("2026-01-10T04:59:59Z", true),
            ("2026-01-10T05:00:00Z", false),
            ("2026-07-10T00:00:00Z", true),
            ("2026-07-10T04:00:00Z", false),
        ] {
            assert_eq!(is_open(&nightly, moment), open, "{moment}");
        }
    }

    #[test]
    fn a_window_belongs_to_the_day_on_which_it_begins_also_beyond_midnight() {
        // Saturdays from 22:00 to Sundays 06:00; 2026-01-10 is a Saturday.
        let weekend = window(weekday_bit(Weekday::Saturday), 22 * 60, 8);
        assert!(!is_open(&weekend, "2026-01-10T20:59:00Z"));
        assert!(is_open(&weekend, "2026-01-10T21:00:00Z"));
        assert!(is_open(&weekend, "2026-01-11T04:59:00Z"));
        assert!(!is_open(&weekend, "2026-01-11T05:00:00Z"));
        assert!(!is_open(&weekend, "2026-01-11T21:00:00Z"), "Sunday begins none");
        assert_eq!(
            weekend.opening(at("2026-01-11T05:00:00Z")).unwrap().from_unix_ms,
            at("2026-01-17T21:00:00Z")
        );
    }

    #[test]
    fn a_beginning_that_clocks_skip_comes_later_and_the_length_stays() {
        // On 2026-03-29 Berlin goes from 02:00 to 03:00, so 02:30 is not there, and 03:30 is 01:30 in UTC.
        let opening = window(DAILY, 150, 4).opening(at("2026-03-29T00:00:00Z")).unwrap();
        assert_eq!(opening.from_unix_ms, at("2026-03-29T01:30:00Z"));
        assert_eq!(opening.until_unix_ms, at("2026-03-29T05:30:00Z"));
    }

    #[test]
    fn of_a_beginning_that_comes_twice_the_first_counts() {
        // On 2026-10-25 Berlin goes from 03:00 back to 02:00, so 02:30 comes twice: at 00:30 and 01:30 in UTC.
        let once = window(DAILY, 150, 1);
        let opening = once.opening(at("2026-10-25T00:00:00Z")).unwrap();
        assert_eq!(opening.from_unix_ms, at("2026-10-25T00:30:00Z"));
        assert!(!is_open(&once, "2026-10-25T01:30:00Z"), "it does not open twice");
        assert_eq!(once.opening(opening.until_unix_ms).unwrap().from_unix_ms, at("2026-10-26T01:30:00Z"));
    }

    #[test]
    fn of_several_windows_the_one_that_opens_first_is_waited_for() {
        let windows =
            [window(weekday_bit(Weekday::Sunday), 120, 1), window(weekday_bit(Weekday::Monday), 120, 1)];
        let Openness::Closed { next, when } = openness(&windows, at("2026-01-11T12:00:00Z")) else {
            panic!("it is open")
        };
        assert_eq!(next.unwrap().from_unix_ms, at("2026-01-12T01:00:00Z"));
        assert_eq!(when, "Mon 2026-01-12 02:00 Europe/Berlin");
        assert_eq!(openness(&[], 0), Openness::Always);
    }

    #[test]
    fn a_zone_without_a_name_is_kept_by_its_rules() {
        let tokyo = Zone::of(TimeZone::posix("JST-9").unwrap());
        let nightly = Window { zone: tokyo, ..window(DAILY, 120, 4) };
        assert!(is_open(&nightly, "2026-01-10T17:00:00Z") && !is_open(&nightly, "2026-01-10T02:00:00Z"));
        assert_eq!(nightly.show(at("2026-01-10T17:00:00Z")), "Sun 2026-01-11 02:00 JST");
        assert_eq!(Zone::of(TimeZone::unknown()), zone("UTC"));
        let copied = TimeZone::get("Asia/Tokyo").unwrap();
        assert_eq!(Zone::of(copied).to_string(), "Asia/Tokyo");
    }

    #[test]
    fn a_window_is_read_as_it_was_written_and_a_zone_has_to_exist() {
        let window = window(DAILY, 120, 4);
        let text = serde_json::to_string(&window).unwrap();
        assert_eq!(serde_json::from_str::<Window>(&text).unwrap(), window);
        assert!(serde_json::from_str::<Window>(&text.replace("Berlin", "Bonn")).is_err());
        for bad in ["Europe/Bonn", "JST-9", ""] {
            assert!(Zone::try_from(bad.to_owned()).is_err(), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn an_opening_lies_ahead_and_within_it_the_window_is_open(
            unix_ms in 0u64..4_000_000_000_000,
            days in 1u8..=DAILY,
            start_minute in 0u16..1_440,
            length_minutes in 1u64..=1_440,
            zone_index in 0usize..4,
        ) {
            let zone = zone(["Europe/Berlin", "America/St_Johns", "Australia/Lord_Howe", "UTC"][zone_index]);
            let window = Window { days, start_minute, length_ms: length_minutes * MINUTE_MS, zone };
            let opening = window.opening(unix_ms).unwrap();
            prop_assert!(opening.until_unix_ms > unix_ms);
            prop_assert_eq!(opening.until_unix_ms - opening.from_unix_ms, window.length_ms);
            let inside = opening.from_unix_ms.max(unix_ms);
            let is_open = matches!(openness(std::slice::from_ref(&window), inside), Openness::Open { .. });
            prop_assert!(is_open);
            // A week and a day, and what clocks may do.
            prop_assert!(opening.from_unix_ms.saturating_sub(unix_ms) <= 8 * 24 * HOUR_MS);
        }
    }
}
