//! Values of what is planned: times of the week, shares, and who takes the lock of a site.

use std::ops::Range;

use toml::Spanned;
use toml::de::DeValue;

use super::keys::Kind;
use super::types::Share;
use super::units::{self, Problem};
use super::value::{Problems, Value, is_url, not_a_text};
use crate::recovery::window::{DAILY, Zone};

/// Longest name of a machine.
const LABEL_MAX: usize = 253;

/// What a text means to a key of these kinds; any other takes it as it is.
pub(super) fn of_text(kind: &Kind, text: &str) -> Result<Value, Problem> {
    let is = |right: bool, what: &str| {
        let wrong = || Problem::new(format!("`{}` is {what}", text.escape_debug()));
        right.then(|| Value::Text(text.to_owned())).ok_or_else(wrong)
    };
    match kind {
        Kind::ServerUrl => is(is_url(text) && !text.contains(['?', '#']), "no URL of a server"),
        Kind::Group => {
            let legal = |byte: u8| byte.is_ascii_alphanumeric() || b".-".contains(&byte);
            is(!text.is_empty() && text.bytes().all(legal), "no group")
        }
        Kind::Label => {
            let fits = (1..=LABEL_MAX).contains(&text.len());
            is(fits && text.bytes().all(|byte| byte.is_ascii_graphic()), "no such text")
        }
        Kind::Days if text == "daily" => Ok(Value::Count(DAILY.into())),
        Kind::Days => is(false, "no list of days").map_err(|problem| match units::day(text) {
            Ok(_) => problem.suggest(format!("[\"{text}\"]")),
            Err(_) => problem,
        }),
        Kind::TimeOfDay => units::time_of_day(text).map(|minute| Value::Count(minute.into())),
        Kind::TimeZone => match Zone::try_from(text.to_owned()) {
            Ok(_) => is(true, ""),
            Err(message) => Err(Problem::new(message)),
        },
        Kind::Share => units::percentage(text, 1).map(|percent| Value::Share(Share::Percent(percent))),
        Kind::Jitter { most } => units::jitter(text, *most).map(Value::Jitter),
        _ => is(true, ""),
    }
}

/// A list of days, as the bits of a window.
pub(super) fn days(items: &[Spanned<DeValue<'_>>], whole: Range<usize>) -> Result<Value, Problems> {
    let mut bits = 0;
    let mut problems = Vec::new();
    for item in items {
        let day = match item.get_ref() {
            DeValue::String(text) => units::day(text),
            other => Err(not_a_text(other)),
        };
        match day {
            Ok(bit) => bits |= u64::from(bit),
            Err(problem) => problems.push((item.span(), problem)),
        }
    }
    if items.is_empty() {
        problems.push((whole, Problem::new("on no day it would begin")));
    }
    if problems.is_empty() { Ok(Value::Count(bits)) } else { Err(problems) }
}
