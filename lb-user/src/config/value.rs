//! A value of a key: from TOML to what the key takes.

use std::net::SocketAddr;
use std::ops::{Range, RangeInclusive};
use std::time::Duration;

use http::uri::{Authority, PathAndQuery};
use http::{HeaderName, HeaderValue, Method, Uri};
use toml::Spanned;
use toml::de::DeValue;

use super::finding::closest;
use super::keys::Kind;
use super::types::{Ceiling, Share};
use super::units::{self, Problem};
use super::weekly;
use crate::check::{BodyPattern, PAYLOAD_MAX, payload};
use crate::names::ServiceName;
use crate::recovery::Jitter;

/// Longest name of an interface.
const INTERFACE_MAX: usize = 15;

/// A value that its key takes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Value {
    Flag(bool),
    Text(String),
    Count(u64),
    Duration(Duration),
    Bytes(u64),
    Ceiling(Ceiling),
    Endpoint(SocketAddr),
    Ports(RangeInclusive<u16>),
    Texts(Vec<String>),
    Statuses(Vec<RangeInclusive<u16>>),
    Pairs(Vec<(String, String)>),
    Share(Share),
    Jitter(Jitter),
}

/// What is wrong at which bytes of the file.
pub(super) type Problems = Vec<(Range<usize>, Problem)>;

/// What `value` means to a key of this kind, or all that is wrong with it.
pub(super) fn read(kind: &Kind, value: &Spanned<DeValue<'_>>) -> Result<Value, Problems> {
    let at = |problem| vec![(value.span(), problem)];
    let wrong_type = || at(wrong_type(kind, value.get_ref()));
    match (kind, value.get_ref()) {
        (Kind::Flag, DeValue::Boolean(flag)) => Ok(Value::Flag(*flag)),
        (Kind::Count { .. } | Kind::Prefix { .. }, DeValue::Integer(number)) => {
            let number = u64::from_str_radix(number.as_str(), number.radix()).ok();
            count(kind, number, value.get_ref()).map(Value::Count).map_err(at)
        }
        (Kind::Interfaces, DeValue::Array(items)) => texts(items, interface).map(Value::Texts),
        (Kind::UrlPaths, DeValue::Array(items)) => url_paths(items, value.span()).map(Value::Texts),
        (Kind::UrlPaths, DeValue::String(text)) => {
            url_path(text).map(|()| Value::Texts(vec![text.clone().into_owned()])).map_err(at)
        }
        (Kind::Arguments, DeValue::Array(items)) => {
            let Some((program, arguments)) = items.split_first() else {
                return Err(at(Problem::new("no program is named")));
            };
            let program = texts(std::slice::from_ref(program), absolute);
            both(program, texts(arguments, |_| Ok(()))).map(Value::Texts)
        }
        (Kind::Share, DeValue::Integer(number)) => {
            let number = u64::from_str_radix(number.as_str(), number.radix()).ok();
            let count = count(&Kind::Count { least: 1, most: u32::MAX.into() }, number, value.get_ref());
            count.map(|count| Value::Share(Share::Count(count as u32))).map_err(at)
        }
        (Kind::Days, DeValue::Array(items)) => weekly::days(items, value.span()),
        (Kind::Statuses, DeValue::Array(items)) => statuses(items, value.span()),
        (Kind::Headers | Kind::Variables, DeValue::Table(table)) => {
            let mut pairs = Vec::new();
            let mut problems = Vec::new();
            for (name, item) in table {
                match pair(kind, name.get_ref(), item.get_ref()) {
                    Ok(pair) => pairs.push((name.span().start, pair)),
                    Err(problem) => problems.push((item.span(), problem)),
                }
            }
            pairs.sort_by_key(|(at, _)| *at);
            let pairs = pairs.into_iter().map(|(_, pair)| pair).collect();
            if problems.is_empty() { Ok(Value::Pairs(pairs)) } else { Err(problems) }
        }
        (
            Kind::Flag
            | Kind::Count { .. }
            | Kind::Interfaces
            | Kind::Arguments
            | Kind::Statuses
            | Kind::Headers
            | Kind::Variables,
            _,
        ) => Err(wrong_type()),
        (_, DeValue::String(text)) => of_text(kind, text).map_err(at),
        _ => Err(wrong_type()),
    }
}

/// What a text means to a key that takes one.
fn of_text(kind: &Kind, text: &str) -> Result<Value, Problem> {
    let plain = || Value::Text(text.to_owned());
    let is = |right: bool, what: &str| {
        if right { Ok(plain()) } else { Err(Problem::new(format!("`{}` is {what}", text.escape_debug()))) }
    };
    match kind {
        Kind::Name => match text.parse::<ServiceName>() {
            Ok(_) => Ok(plain()),
            Err(_) => is(false, "no name"),
        },
        Kind::Choice(choices) => {
            if choices.iter().any(|(choice, _)| *choice == text) {
                return Ok(plain());
            }
            let suggestion = closest(text, choices.iter().map(|(choice, _)| *choice)).map(str::to_owned);
            Err(Problem { message: format!("unknown value `{}`", text.escape_debug()), suggestion })
        }
        Kind::Prefix { most } => units::prefix(text, *most).map(Value::Count),
        Kind::Duration { least, most } => units::duration(text, *least, *most).map(Value::Duration),
        Kind::Size => units::size(text).map(Value::Bytes),
        Kind::Ceiling => units::ceiling(text).map(Value::Ceiling),
        Kind::Endpoint => units::endpoint(text).map(Value::Endpoint),
        Kind::Ports => units::ports(text).map(Value::Ports),
        Kind::Path => absolute(text).map(|()| plain()),
        Kind::UrlPath => url_path(text).map(|()| plain()),
        Kind::Method => {
            // Methods are known by their case, and all that anybody uses are in capitals.
            let legal =
                |text: &str| text.parse::<Method>().is_ok() && !text.contains(|c: char| c.is_lowercase());
            match is(legal(text), "no method") {
                Err(problem) if legal(&text.to_uppercase()) => Err(problem.suggest(text.to_uppercase())),
                result => result,
            }
        }
        Kind::Host => {
            let legal = text.parse::<Authority>().is_ok_and(|host| !host.as_str().contains('@'));
            is(legal, "no host")
        }
        Kind::Url => is(is_url(text), "no URL of HTTP"),
        Kind::Pattern => match text.parse::<BodyPattern>() {
            Ok(_) => Ok(plain()),
            Err(error) => Err(Problem::new(error.to_string())),
        },
        Kind::Payload => match payload::parse(text) {
            Ok(bytes) if bytes.len() <= PAYLOAD_MAX => Ok(plain()),
            Ok(bytes) => Err(Problem::new(format!("{} bytes are more than a datagram carries", bytes.len()))),
            Err(error) => Err(Problem::new(error.to_string())),
        },
        Kind::Unit => {
            let legal = |byte: u8| byte.is_ascii_alphanumeric() || b"-._:@\\".contains(&byte);
            let right =
                text.rsplit_once('.').is_some_and(|(name, suffix)| !name.is_empty() && !suffix.is_empty());
            match is(right && text.bytes().all(legal), "no unit") {
                Err(problem) if !text.is_empty() && text.bytes().all(legal) => {
                    Err(problem.suggest(format!("{text}.service")))
                }
                result => result,
            }
        }
        kind => weekly::of_text(kind, text),
    }
}

/// The lists one after the other, or the problems of both.
fn both(
    one: Result<Vec<String>, Problems>,
    other: Result<Vec<String>, Problems>,
) -> Result<Vec<String>, Problems> {
    match (one, other) {
        (Ok(one), Ok(other)) => Ok([one, other].concat()),
        (one, other) => Err([one.err(), other.err()].into_iter().flatten().flatten().collect()),
    }
}

/// Whether a request can be sent there. Credentials belong to no file that others read.
pub(super) fn is_url(text: &str) -> bool {
    text.parse::<Uri>().is_ok_and(|uri| {
        let host =
            uri.authority().is_some_and(|host| !host.host().is_empty() && !host.as_str().contains('@'));
        host && matches!(uri.scheme_str(), Some("http" | "https"))
    })
}

fn absolute(path: &str) -> Result<(), Problem> {
    if path.starts_with('/') && !path.contains('\0') {
        Ok(())
    } else {
        Err(Problem::new(format!("`{}` is no absolute path", path.escape_debug())))
    }
}

fn url_path(text: &str) -> Result<(), Problem> {
    if text.starts_with('/') && text.parse::<PathAndQuery>().is_ok() {
        Ok(())
    } else {
        Err(Problem::new(format!("`{}` is no path of a request", text.escape_debug())))
    }
}

/// Whether an interface of Linux can be called so.
pub(crate) fn is_interface(name: &str) -> bool {
    let legal = |c: char| c.is_ascii_graphic() && c != '/' && c != ':';
    !matches!(name, "" | "." | "..") && name.len() <= INTERFACE_MAX && name.chars().all(legal)
}

fn interface(name: &str) -> Result<(), Problem> {
    if is_interface(name) {
        Ok(())
    } else {
        Err(Problem::new(format!("`{}` cannot be an interface", name.escape_debug())))
    }
}

fn count(kind: &Kind, number: Option<u64>, written: &DeValue<'_>) -> Result<u64, Problem> {
    let (least, most) = match kind {
        Kind::Count { least, most } => (*least, *most),
        Kind::Prefix { most } => (0, *most),
        _ => (0, u64::MAX),
    };
    number
        .filter(|number| (least..=most).contains(number))
        .ok_or_else(|| Problem::new(format!("`{}` is out of range", show(written))))
}

/// A list of texts, each judged by `judge`.
fn texts(
    items: &[Spanned<DeValue<'_>>],
    judge: impl Fn(&str) -> Result<(), Problem>,
) -> Result<Vec<String>, Problems> {
    let mut texts = Vec::new();
    let mut problems = Vec::new();
    for item in items {
        match item.get_ref() {
            DeValue::String(text) if text.contains('\0') => {
                problems.push((item.span(), Problem::new("a text here cannot hold a zero byte")));
            }
            DeValue::String(text) => match judge(text) {
                Ok(()) => texts.push(text.clone().into_owned()),
                Err(problem) => problems.push((item.span(), problem)),
            },
            other => problems.push((item.span(), not_a_text(other))),
        }
    }
    if problems.is_empty() { Ok(texts) } else { Err(problems) }
}

/// Paths that take turns: one at least, and none twice, which would only look as if it were asked for more often.
fn url_paths(items: &[Spanned<DeValue<'_>>], whole: Range<usize>) -> Result<Vec<String>, Problems> {
    if items.is_empty() {
        return Err(vec![(whole, Problem::new("no path would be requested"))]);
    }
    let paths = texts(items, url_path)?;
    let is_again = |(number, path): &(usize, &String)| paths[..*number].contains(path);
    let problem = |path: &str| Problem::new(format!("`{}` is in the list twice", path.escape_debug()));
    let again = paths.iter().enumerate().filter(is_again);
    let again: Problems = again.map(|(number, path)| (items[number].span(), problem(path))).collect();
    if again.is_empty() { Ok(paths) } else { Err(again) }
}

fn statuses(items: &[Spanned<DeValue<'_>>], whole: Range<usize>) -> Result<Value, Problems> {
    let mut ranges = Vec::new();
    let mut problems = Vec::new();
    for item in items {
        let range = match item.get_ref() {
            DeValue::String(text) => units::statuses(text),
            DeValue::Integer(number) => units::statuses(number.as_str()),
            other => Err(Problem::new(format!("{} is no status", named(other)))),
        };
        match range {
            Ok(range) => ranges.push(range),
            Err(problem) => problems.push((item.span(), problem)),
        }
    }
    if items.is_empty() {
        problems.push((whole, Problem::new("no status would be right")));
    }
    if problems.is_empty() { Ok(Value::Statuses(ranges)) } else { Err(problems) }
}

/// A header field or a variable.
fn pair(kind: &Kind, name: &str, value: &DeValue<'_>) -> Result<(String, String), Problem> {
    let DeValue::String(text) = value else { return Err(not_a_text(value)) };
    let legal = if matches!(kind, Kind::Headers) {
        HeaderName::try_from(name).is_ok() && HeaderValue::try_from(&**text).is_ok()
    } else {
        !name.is_empty() && !name.contains(['=', '\0']) && !text.contains('\0')
    };
    if legal {
        Ok((name.to_owned(), text.clone().into_owned()))
    } else {
        let what = if matches!(kind, Kind::Headers) { "header field" } else { "variable" };
        let shown = format!("{name}: {text}");
        Err(Problem::new(format!("`{}` cannot be a {what}", shown.escape_debug())))
    }
}

pub(super) fn not_a_text(value: &DeValue<'_>) -> Problem {
    Problem::new(format!("{} is no text", named(value))).suggest(format!("\"{}\"", show(value)))
}

fn wrong_type(kind: &Kind, value: &DeValue<'_>) -> Problem {
    let problem = Problem::new(format!("{} does not fit here", named(value)));
    match (kind, value) {
        (Kind::Duration { .. }, DeValue::Integer(number)) => problem.suggest(format!("\"{number}s\"")),
        (Kind::Size, DeValue::Integer(number)) => problem.suggest(format!("\"{number}M\"")),
        (Kind::Ceiling, DeValue::Integer(number)) => problem.suggest(format!("\"{number}%\"")),
        (Kind::Count { .. }, DeValue::String(text)) if text.parse::<u64>().is_ok() => {
            problem.suggest(text.clone())
        }
        (Kind::Flag, DeValue::String(text)) if matches!(&**text, "true" | "false") => {
            problem.suggest(text.clone())
        }
        (Kind::Interfaces | Kind::Statuses, DeValue::String(text)) => {
            problem.suggest(format!("[\"{text}\"]"))
        }
        (Kind::Arguments, DeValue::String(text)) => {
            let words: Vec<_> = text.split_whitespace().map(|word| format!("\"{word}\"")).collect();
            problem.suggest(format!("[{}]", words.join(", ")))
        }
        _ => problem,
    }
}

/// A value with the name of its type.
fn named(value: &DeValue<'_>) -> String {
    match value {
        DeValue::String(text) => format!("the text `{}`", text.escape_debug()),
        DeValue::Integer(_) => format!("the integer `{}`", show(value)),
        DeValue::Float(_) => format!("the number `{}`", show(value)),
        DeValue::Boolean(flag) => format!("`{flag}`"),
        DeValue::Datetime(_) => "a date".to_owned(),
        DeValue::Array(_) => "a list".to_owned(),
        DeValue::Table(_) => "a table".to_owned(),
    }
}

fn show(value: &DeValue<'_>) -> String {
    match value {
        DeValue::Integer(number) => number.to_string(),
        DeValue::Float(number) => number.as_str().to_owned(),
        DeValue::Boolean(flag) => flag.to_string(),
        _ => String::new(),
    }
}
