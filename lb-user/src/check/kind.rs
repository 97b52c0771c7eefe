//! What a check is: its kind, and the fields of each kind with their defaults.

use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

use http::uri::{Authority, PathAndQuery};
use http::{HeaderName, HeaderValue, Method};
use serde::{Deserialize, Deserializer, Serialize};
use thiserror::Error;

use super::pattern::BodyPattern;
use super::{payload, tls};

/// Statuses of HTTP that pass if nothing else is said.
pub const GOOD_STATUS: RangeInclusive<u16> = 200..=399;

/// A UDP datagram carries no more than this over IPv4, in bytes; over IPv6 a little more would fit.
pub const PAYLOAD_MAX: usize = 65_507;

/// How to find out whether a backend answers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Check {
    /// The port accepts a connection.
    Tcp,
    /// A request over HTTP/1.1, or over HTTPS, is answered as it should be.
    Http(HttpCheck),
    /// A datagram is answered, or at least not refused.
    Udp(UdpCheck),
    /// A command of the operator's finds out.
    Script(ScriptCheck),
}

/// A request and the answers to it that pass.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct HttpCheck {
    /// TLS under the request; plain HTTP if absent (the default).
    pub tls: Option<TlsCheck>,
    /// The method (default `GET`).
    pub method: String,
    /// What is asked for, with a leading slash and perhaps a query (default `/`).
    pub path: String,
    /// The `Host` header, and the name that TLS asks for and verifies; may carry a port, which TLS leaves out.
    /// By default the backend's address and port.
    pub host: Option<String>,
    /// More headers, name and value, in this order.
    pub headers: Vec<(String, String)>,
    /// The statuses that pass, each from 100 to 999 (default 200 to 399).
    #[serde(deserialize_with = "one_or_many")]
    pub status: Vec<RangeInclusive<u16>>,
    /// What the first 64 KiB of the body must match, if anything.
    pub body: Option<BodyPattern>,
}

impl Default for HttpCheck {
    fn default() -> Self {
        Self {
            tls: None,
            method: "GET".to_owned(),
            path: "/".to_owned(),
            host: None,
            headers: Vec::new(),
            status: vec![GOOD_STATUS],
            body: None,
        }
    }
}

/// What is expected of a backend's certificate.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct TlsCheck {
    /// Whether the certificate must be valid for the name and signed by an authority that is trusted
    /// (default). Without it any certificate passes, and only `expires_in` is looked at.
    pub verify: bool,
    /// PEM file with the authorities that are trusted, read anew for each check; by default the system's,
    /// read once.
    pub ca_file: Option<PathBuf>,
    /// A certificate that ends sooner than this is a finding; by default one that has ended, by `verify`.
    pub expires_in: Option<Duration>,
}

impl Default for TlsCheck {
    fn default() -> Self {
        Self { verify: true, ca_file: None, expires_in: None }
    }
}

/// A datagram and what becomes of it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct UdpCheck {
    /// What is sent: at most [`PAYLOAD_MAX`] bytes; none is an empty datagram. Written as text with escapes
    /// ([`payload`]).
    #[serde(with = "payload")]
    pub payload: Vec<u8>,
    /// What the answer must match. Without it no answer is wanted: only "port unreachable" is a failure, and
    /// silence, for as long as the check may take, passes.
    #[serde(default)]
    pub answer: Option<BodyPattern>,
}

/// A command whose exit status is the answer: 0 passes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ScriptCheck {
    /// Program, by its absolute path, and its arguments; no shell reads them.
    pub command: Vec<String>,
}

/// Why a check cannot be made as it is set.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum CheckError {
    /// The text names no kind.
    #[error(
        "`{0}` is no check: use `tcp`, `http:/PATH` or `http://HOST/PATH`, the same with `https`, `udp:TEXT`, or \
         `script:/PATH`"
    )]
    Kind(String),
    /// The method has letters that HTTP does not allow.
    #[error("`{0}` is no HTTP method: use one such as `GET` or `HEAD`")]
    Method(String),
    /// What is asked for is no path.
    #[error("`{0}` is no path of HTTP: begin it with `/`, and write `%20` for a space")]
    Path(String),
    /// The host is no host.
    #[error("`{0}` is no host of HTTP: use a name or an address, perhaps with `:PORT`")]
    Host(String),
    /// A header cannot be sent.
    #[error(
        "`{0}` is no header of HTTP: use letters, digits and `-` in its name, and no line end in its value"
    )]
    Header(String),
    /// The connection and the length of the message are the check's own affair.
    #[error("header `{0}` is set by the check itself: leave it out (for `host` there is a field of its own)")]
    OwnHeader(String),
    /// No status could ever pass.
    #[error("no status passes: give at least one from 100 to 999, lower end first, such as `200-399`")]
    Status,
    /// The datagram is too long.
    #[error("a datagram of {0} bytes cannot be sent: give at most {PAYLOAD_MAX}")]
    PayloadLength(usize),
    /// The text of a datagram breaks off or has an unknown escape.
    #[error(transparent)]
    Payload(#[from] payload::PayloadError),
    /// Nothing to run, or it would be looked for in a search path.
    #[error("`{0}` is no program: give its path from `/` on")]
    Program(String),
}

/// Headers that [`HttpCheck::headers`] must leave alone.
const OWN_HEADERS: [&str; 4] = ["host", "connection", "content-length", "transfer-encoding"];

impl Check {
    /// Whether the check can be made at all; whether it passes is another question.
    pub fn validate(&self) -> Result<(), CheckError> {
        match self {
            Self::Http(http) => http.validate(),
            Self::Udp(udp) if udp.payload.len() > PAYLOAD_MAX => {
                Err(CheckError::PayloadLength(udp.payload.len()))
            }
            Self::Tcp | Self::Udp(_) => Ok(()),
            Self::Script(script) => match script.command.first() {
                Some(program)
                    if program.starts_with('/') && !script.command.iter().any(|w| w.contains('\0')) =>
                {
                    Ok(())
                }
                program => Err(CheckError::Program(program.cloned().unwrap_or_default())),
            },
        }
    }
}

impl HttpCheck {
    fn validate(&self) -> Result<(), CheckError> {
        if self.method.parse::<Method>().is_err() {
            return Err(CheckError::Method(self.method.clone()));
        }
        if !self.path.starts_with('/') || self.path.parse::<PathAndQuery>().is_err() {
            return Err(CheckError::Path(self.path.clone()));
        }
        if let Some(host) = &self.host {
            let is_host = host.parse::<Authority>().is_ok_and(|host| !host.as_str().contains('@'));
            if !is_host || self.tls.is_some() && tls::server_name(host).is_none() {
                return Err(CheckError::Host(host.clone()));
            }
        }
        for (name, value) in &self.headers {
            if OWN_HEADERS.iter().any(|own| name.eq_ignore_ascii_case(own)) {
                return Err(CheckError::OwnHeader(name.clone()));
            }
            if HeaderName::try_from(name).is_err() || HeaderValue::try_from(value).is_err() {
                return Err(CheckError::Header(format!("{name}: {value}")));
            }
        }
        let sound =
            |range: &RangeInclusive<u16>| !range.is_empty() && *range.start() >= 100 && *range.end() < 1000;
        if self.status.is_empty() || !self.status.iter().all(sound) {
            return Err(CheckError::Status);
        }
        Ok(())
    }

    /// Whether this status passes.
    pub(super) fn wants(&self, status: u16) -> bool {
        self.status.iter().any(|range| range.contains(&status))
    }
}

/// Several ranges, or the one that earlier versions kept.
fn one_or_many<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<RangeInclusive<u16>>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Ranges {
        Many(Vec<RangeInclusive<u16>>),
        One(RangeInclusive<u16>),
    }
    Ok(match Ranges::deserialize(from)? {
        Ranges::Many(ranges) => ranges,
        Ranges::One(range) => vec![range],
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn http(change: impl FnOnce(&mut HttpCheck)) -> Result<(), CheckError> {
        let mut check = HttpCheck::default();
        change(&mut check);
        Check::Http(check).validate()
    }

    #[test]
    fn what_could_never_be_asked_is_found_beforehand() {
        assert_eq!(http(|_| {}), Ok(()));
        assert_eq!(http(|check| check.method = "PROPFIND".into()), Ok(()));
        assert_eq!(http(|check| check.host = Some("[fd77::1]:80".into())), Ok(()));
        assert_eq!(http(|check| check.headers = vec![("X-Probe".into(), "a: b".into())]), Ok(()));
        let header = |name: &str, value: &str| vec![(name.to_owned(), value.to_owned())];
        for (found, kind) in [
            (http(|check| check.method = "GE T".into()), CheckError::Method("GE T".into())),
            (http(|check| check.method = String::new()), CheckError::Method(String::new())),
            (http(|check| check.path = "health".into()), CheckError::Path("health".into())),
            (http(|check| check.path = "/a b".into()), CheckError::Path("/a b".into())),
            (http(|check| check.host = Some("a/b".into())), CheckError::Host("a/b".into())),
            (http(|check| check.headers = header("a b", "c")), CheckError::Header("a b: c".into())),
            (http(|check| check.headers = header("a", "b\nc")), CheckError::Header("a: b\nc".into())),
            (http(|check| check.headers = header("Host", "x")), CheckError::OwnHeader("Host".into())),
            (http(|check| check.status = vec![]), CheckError::Status),
            (http(|check| check.status = vec![200..=204, 0..=99]), CheckError::Status),
            (http(|check| check.status = vec![204..=1000]), CheckError::Status),
        ] {
            assert_eq!(found, Err(kind));
        }
        let script = |command: &[&str]| {
            Check::Script(ScriptCheck { command: command.iter().map(ToString::to_string).collect() })
                .validate()
        };
        assert_eq!(script(&["/bin/true", "x"]), Ok(()));
        assert!(script(&[]).is_err() && script(&["true"]).is_err() && script(&["/bin/true", "\0"]).is_err());
    }

    #[test]
    fn what_an_earlier_version_kept_is_still_read() {
        let kept = r#"{"http":{"path":"/health","status":{"start":200,"end":299}}}"#;
        let check = HttpCheck { path: "/health".into(), status: vec![200..=299], ..HttpCheck::default() };
        assert_eq!(serde_json::from_str::<Check>(kept).unwrap(), Check::Http(check));
        assert_eq!(serde_json::from_str::<Check>(r#""tcp""#).unwrap(), Check::Tcp);
    }

    #[test]
    fn every_field_comes_back_from_what_is_kept() {
        let tls = TlsCheck {
            verify: false,
            ca_file: Some("/etc/ca.pem".into()),
            expires_in: Some(Duration::from_hours(24)),
        };
        let http = HttpCheck {
            tls: Some(tls),
            method: "POST".into(),
            path: "/x".into(),
            host: Some("shop".into()),
            headers: vec![("a".into(), "b".into())],
            status: vec![200..=204, 301..=301],
            body: Some("ok$".parse().unwrap()),
        };
        let udp = UdpCheck { payload: b"\x00ping\n".to_vec(), answer: Some("pong".parse().unwrap()) };
        for check in [Check::Http(http), Check::Udp(udp)] {
            let kept = serde_json::to_string(&check).unwrap();
            assert_eq!(serde_json::from_str::<Check>(&kept).unwrap(), check);
        }
    }
}
