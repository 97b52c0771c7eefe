//! Reads a request kind from text such as `name=short,path=/work,weight=8,mode=close,expect=200`.
//!
//! Every key appears at most once and every message names the key and what it allows. A value cannot hold a
//! comma; a path that needs one writes `%2C`.

use std::collections::BTreeMap;
use std::str::FromStr;
use std::time::Duration;

use thiserror::Error;

use super::kind::{BodyCheck, IdCheck, Mode, RequestKind};

/// The keys that a request kind has, in the order in which messages list them.
const KEYS: [&str; 14] = [
    "name", "path", "method", "weight", "mode", "requests", "idle", "expect", "timeout", "upload", "length",
    "check", "id", "logged",
];
const METHODS: [&str; 7] = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"];
const MAX_WEIGHT: u32 = 1_000_000;
const MAX_NAME: usize = 32;
/// A body is checked by its checksum, which is computed over all of it before the run starts.
const MAX_BODY_BYTES: u64 = 1 << 30;
const DEFAULT_REQUESTS: u32 = 100;
const DEFAULT_IDLE: Duration = Duration::from_secs(5);
const MAX_WAIT: Duration = Duration::from_hours(24);

/// Why a text is not a request kind.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum SpecError {
    /// A part without `=`.
    #[error("`{0}` is not of the form key=value")]
    NotAPair(String),
    /// A key that a request kind does not have.
    #[error("`{0}` is not a key of a request: use {keys}", keys = KEYS.join(", "))]
    UnknownKey(String),
    /// A key that is given more than once.
    #[error("`{0}` is given twice")]
    Twice(String),
    /// The name is missing.
    #[error("a request needs a name: add name=NAME")]
    NoName,
    /// A value that its key does not allow.
    #[error("`{value}` is not allowed for {key}: use {allowed}")]
    Value {
        /// The key.
        key: &'static str,
        /// What was given.
        value: String,
        /// What is allowed, in words.
        allowed: String,
    },
    /// A key that only makes sense together with something else.
    #[error("{key} has no effect without {needs}")]
    Needs {
        /// The key that was given.
        key: &'static str,
        /// What it needs.
        needs: &'static str,
    },
}

impl FromStr for RequestKind {
    type Err = SpecError;

    fn from_str(text: &str) -> Result<Self, SpecError> {
        let pairs = Pairs::split(text)?;
        let name = pairs.0.get("name").copied().ok_or(SpecError::NoName)?;
        let mut kind = Self::get(name, "/");
        pairs.check("name", format!("1 to {MAX_NAME} of a-z, A-Z, 0-9, `_`, `-` and `.`"), legal_name)?;
        if let Some(path) = pairs.check("path", "an absolute path such as /work?size=1".into(), legal_path)? {
            path.clone_into(&mut kind.path);
        }
        kind.upload = pairs.parse("upload", size_words(), parse_size)?;
        if kind.upload.is_some() {
            "POST".clone_into(&mut kind.method);
        }
        if let Some(method) = pairs.check("method", METHODS.join(", "), |m| METHODS.contains(&m))? {
            method.clone_into(&mut kind.method);
        }
        let weight =
            pairs.parse("weight", format!("1 to {MAX_WEIGHT}"), |text| within(text, 1, MAX_WEIGHT))?;
        kind.weight = weight.unwrap_or(kind.weight);
        kind.mode = pairs.mode()?;
        let expect =
            pairs.parse("expect", "a status from 200 to 599".into(), |text| within(text, 200, 599))?;
        kind.expect = expect.unwrap_or(kind.expect);
        kind.timeout = pairs.parse("timeout", wait_words(), parse_wait)?;
        kind.length = pairs.parse("length", size_words(), parse_size)?;
        kind.check =
            pairs.parse("check", "any, id, crc32 or receipt".into(), parse_check)?.unwrap_or_default();
        kind.id = pairs.parse("id", "required, present or ignored".into(), parse_id)?.unwrap_or_default();
        kind.logged = pairs.parse("logged", "yes or no".into(), parse_bool)?.unwrap_or(kind.logged);
        if kind.check == BodyCheck::Receipt && kind.upload.is_none() {
            return Err(SpecError::Needs { key: "check=receipt", needs: "upload=SIZE" });
        }
        Ok(kind)
    }
}

/// The pairs of one text; keys are known and unique.
struct Pairs<'a>(BTreeMap<&'a str, &'a str>);

impl<'a> Pairs<'a> {
    fn split(text: &'a str) -> Result<Self, SpecError> {
        let mut pairs = BTreeMap::new();
        for part in text.split(',').map(str::trim).filter(|part| !part.is_empty()) {
            let (key, value) = part.split_once('=').ok_or_else(|| SpecError::NotAPair(part.to_owned()))?;
            if !KEYS.contains(&key) {
                return Err(SpecError::UnknownKey(key.to_owned()));
            }
            if pairs.insert(key, value).is_some() {
                return Err(SpecError::Twice(key.to_owned()));
            }
        }
        Ok(Self(pairs))
    }

    fn parse<T>(
        &self,
        key: &'static str,
        allowed: String,
        parse: impl FnOnce(&'a str) -> Option<T>,
    ) -> Result<Option<T>, SpecError> {
        let Some(value) = self.0.get(key) else { return Ok(None) };
        match parse(value) {
            Some(parsed) => Ok(Some(parsed)),
            None => Err(SpecError::Value { key, value: (*value).to_owned(), allowed }),
        }
    }

    fn check(
        &self,
        key: &'static str,
        allowed: String,
        legal: impl FnOnce(&str) -> bool,
    ) -> Result<Option<&'a str>, SpecError> {
        self.parse(key, allowed, |value| legal(value).then_some(value))
    }

    fn mode(&self) -> Result<Mode, SpecError> {
        let legal = |mode: &str| ["close", "keep-alive"].contains(&mode);
        let mode = self.check("mode", "close or keep-alive".into(), legal)?;
        let requests = self.parse("requests", "1 to 1000000".into(), |text| within(text, 1, 1_000_000))?;
        let idle = self.parse("idle", wait_words(), parse_wait)?;
        if mode == Some("keep-alive") {
            let requests = requests.unwrap_or(DEFAULT_REQUESTS);
            return Ok(Mode::KeepAlive { requests, idle: idle.unwrap_or(DEFAULT_IDLE) });
        }
        if requests.is_some() {
            return Err(SpecError::Needs { key: "requests", needs: "mode=keep-alive" });
        }
        if idle.is_some() {
            return Err(SpecError::Needs { key: "idle", needs: "mode=keep-alive" });
        }
        Ok(Mode::Close)
    }
}

fn legal_name(name: &str) -> bool {
    let legal = |c: char| c.is_ascii_alphanumeric() || "_-.".contains(c);
    (1..=MAX_NAME).contains(&name.len()) && name.chars().all(legal)
}

fn legal_path(path: &str) -> bool {
    path.starts_with('/') && path.bytes().all(|b| b.is_ascii_graphic())
}

fn within<T: FromStr + PartialOrd>(text: &str, low: T, high: T) -> Option<T> {
    text.parse().ok().filter(|value| (low..=high).contains(value))
}

fn size_words() -> String {
    "bytes up to 1g, such as 300, 64k or 8m".to_owned()
}

fn parse_size(text: &str) -> Option<u64> {
    let digits = text.trim_end_matches(['k', 'm', 'g', 'K', 'M', 'G']);
    let shift = match &text[digits.len()..] {
        "" => 0,
        "k" | "K" => 10,
        "m" | "M" => 20,
        "g" | "G" => 30,
        _ => return None,
    };
    let units = digits.parse::<u64>().ok()?;
    units.checked_mul(1 << shift).filter(|&bytes| bytes <= MAX_BODY_BYTES)
}

fn wait_words() -> String {
    "a time up to 24h, such as 300ms or 5s".to_owned()
}

fn parse_wait(text: &str) -> Option<Duration> {
    humantime::parse_duration(text).ok().filter(|wait| !wait.is_zero() && *wait <= MAX_WAIT)
}

fn parse_check(text: &str) -> Option<BodyCheck> {
    match text {
        "any" => Some(BodyCheck::Any),
        "id" => Some(BodyCheck::Id),
        "crc32" => Some(BodyCheck::Crc32),
        "receipt" => Some(BodyCheck::Receipt),
        _ => None,
    }
}

fn parse_id(text: &str) -> Option<IdCheck> {
    match text {
        "required" => Some(IdCheck::Required),
        "present" => Some(IdCheck::IfPresent),
        "ignored" => Some(IdCheck::Ignored),
        _ => None,
    }
}

fn parse_bool(text: &str) -> Option<bool> {
    match text {
        "yes" => Some(true),
        "no" => Some(false),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_enough() {
        assert_eq!("name=x".parse(), Ok(RequestKind::get("x", "/")));
    }

    #[test]
    fn every_key_is_read() {
        let text = "name=up,path=/up?a=b,weight=8,mode=keep-alive,requests=50,idle=2s,expect=404,\
                    timeout=300ms,upload=64k,length=12,check=receipt,id=required,logged=no";
        let kind: RequestKind = text.parse().unwrap();
        let expected = RequestKind {
            name: "up".into(),
            method: "POST".into(),
            path: "/up?a=b".into(),
            weight: 8,
            mode: Mode::KeepAlive { requests: 50, idle: Duration::from_secs(2) },
            expect: 404,
            timeout: Some(Duration::from_millis(300)),
            upload: Some(65536),
            length: Some(12),
            check: BodyCheck::Receipt,
            id: IdCheck::Required,
            logged: false,
        };
        assert_eq!(kind, expected);
    }

    #[test]
    fn every_mistake_names_the_key_and_what_is_allowed() {
        let cases = [
            ("path=/x", "a request needs a name: add name=NAME"),
            ("name=a,path", "`path` is not of the form key=value"),
            ("name=a,name=b", "`name` is given twice"),
            ("name=a,mode=fast", "`fast` is not allowed for mode: use close or keep-alive"),
            ("name=a,weight=0", "`0` is not allowed for weight: use 1 to 1000000"),
            ("name=a,expect=99", "`99` is not allowed for expect: use a status from 200 to 599"),
            ("name=a,path=x", "`x` is not allowed for path: use an absolute path such as /work?size=1"),
            (
                "name=a,length=2x",
                "`2x` is not allowed for length: use bytes up to 1g, such as 300, 64k or 8m",
            ),
            (
                "name=a,length=2g",
                "`2g` is not allowed for length: use bytes up to 1g, such as 300, 64k or 8m",
            ),
            (
                "name=a,timeout=0s",
                "`0s` is not allowed for timeout: use a time up to 24h, such as 300ms or 5s",
            ),
            ("name=a,requests=5", "requests has no effect without mode=keep-alive"),
            ("name=a,check=receipt", "check=receipt has no effect without upload=SIZE"),
        ];
        for (text, message) in cases {
            assert_eq!(text.parse::<RequestKind>().unwrap_err().to_string(), message, "{text}");
        }
        let unknown = "name=a,wieght=1".parse::<RequestKind>().unwrap_err().to_string();
        assert!(
            unknown.starts_with("`wieght` is not a key of a request: use name, path, method"),
            "{unknown}"
        );
    }
}
