//! The address that load goes to: `http://HOST[:PORT][/PATH]`.

use std::io;
use std::net::{SocketAddr, ToSocketAddrs};
use std::str::FromStr;

use thiserror::Error;

/// Why a text is not an address for load, or why it leads nowhere.
#[derive(Debug, Error)]
pub enum UrlError {
    /// Not of the form that is understood.
    #[error("`{0}` is not a URL for load: use http://HOST[:PORT][/PATH]")]
    Form(String),
    /// The host has no address.
    #[error("cannot resolve `{host}`: {source}; check the name or give an address")]
    Resolve {
        /// The host of the URL.
        host: String,
        /// What the resolver said.
        source: io::Error,
    },
    /// The resolver answered without an address.
    #[error("`{0}` resolves to no address; check the name or give an address")]
    NoAddress(String),
}

/// A checked URL.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Url {
    /// What the `Host` header says: host, and port unless it is 80.
    pub authority: String,
    /// The host, without the brackets of an IPv6 address.
    pub host: String,
    /// The port, 80 unless it is given.
    pub port: u16,
    /// Path and query, `/` unless they are given.
    pub path: String,
}

impl Url {
    /// Asks the system's resolver and takes its first address; blocks for as long as the resolver does.
    pub fn resolve(&self) -> Result<SocketAddr, UrlError> {
        let addresses = (self.host.as_str(), self.port).to_socket_addrs();
        let mut addresses =
            addresses.map_err(|source| UrlError::Resolve { host: self.host.clone(), source })?;
        addresses.next().ok_or_else(|| UrlError::NoAddress(self.host.clone()))
    }
}

impl FromStr for Url {
    type Err = UrlError;

    fn from_str(text: &str) -> Result<Self, UrlError> {
        parse(text).ok_or_else(|| UrlError::Form(text.to_owned()))
    }
}

fn parse(text: &str) -> Option<Url> {
    let rest = text.strip_prefix("http://")?;
    let (authority, path) = match rest.find('/') {
        Some(slash) => rest.split_at(slash),
        None => (rest, "/"),
    };
    let (host, port) = split_authority(authority)?;
    let legal = |b: u8| b.is_ascii_alphanumeric() || b"-._:%".contains(&b);
    if host.is_empty() || port == 0 || !host.bytes().all(legal) || !path.bytes().all(|b| b.is_ascii_graphic())
    {
        return None;
    }
    Some(Url { authority: authority.to_owned(), host: host.to_owned(), port, path: path.to_owned() })
}

fn split_authority(authority: &str) -> Option<(&str, u16)> {
    let (host, port) = match authority.strip_prefix('[') {
        Some(bracketed) => {
            let (host, rest) = bracketed.split_once(']')?;
            (host, if rest.is_empty() { None } else { Some(rest.strip_prefix(':')?) })
        }
        None => match authority.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (authority, None),
        },
    };
    Some((host, port.map_or(Some(80), |port| port.parse().ok())?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn host_port_and_path_are_told_apart() {
        let parts = |text: &str| {
            let url: Url = text.parse().unwrap();
            (url.authority, url.host, url.port, url.path)
        };
        let owned = |a: &str, h: &str, port, path: &str| (a.to_owned(), h.to_owned(), port, path.to_owned());
        assert_eq!(parts("http://10.77.0.1:8080"), owned("10.77.0.1:8080", "10.77.0.1", 8080, "/"));
        assert_eq!(parts("http://web/a?b=c"), owned("web", "web", 80, "/a?b=c"));
        assert_eq!(parts("http://[fd77::1]:8/x"), owned("[fd77::1]:8", "fd77::1", 8, "/x"));
    }

    #[test]
    fn what_is_no_url_for_load_is_refused() {
        for bad in
            ["", "web", "https://web", "http://", "http://:80", "http://a:b", "http://a:0", "http://a b/"]
        {
            assert!(bad.parse::<Url>().is_err(), "{bad}");
        }
    }
}
