//! Name resolution inside a backend's namespace.
//!
//! A command there reads the host's `/etc/resolv.conf`. If that names only resolvers on the host's loopback
//! (systemd-resolved, dnsmasq), nobody answers in the namespace: it has a loopback of its own. Then a file
//! with the real upstream servers takes its place, mounted by whoever starts the command.

use std::fs;
use std::io;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};

use super::outcome::Warning;
use super::state::{StateError, io_error, remove_file, write_whole};
use crate::names::ServiceName;
use crate::paths::{Roots, ServicePaths};

/// What every program reads.
const HOST_FILE: &str = "/etc/resolv.conf";

/// Where local resolvers leave the servers that they ask themselves, in the order of trust.
const UPSTREAM_FILES: [&str; 5] = [
    "/run/systemd/resolve/resolv.conf",
    "/run/NetworkManager/no-stub-resolv.conf",
    "/run/NetworkManager/resolv.conf",
    "/run/dnsmasq/resolv.conf",
    "/run/resolvconf/resolv.conf",
];

/// How commands in the backends' namespaces find names.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NameService {
    /// To be mounted over `/etc/resolv.conf` for the command; `None` if the host's own file serves.
    pub file: Option<PathBuf>,
    /// What an operator should know.
    pub warning: Option<Warning>,
}

/// Finds out what commands need in place of the host's `/etc/resolv.conf`, and puts it into the run directory.
///
/// `given` is a file of the operator's choice, which is taken as it is.
pub fn resolv_conf_override(paths: &ServicePaths, given: Option<&Path>) -> Result<NameService, StateError> {
    if let Some(given) = given {
        let bytes = fs::read(given).map_err(io_error("read", given))?;
        return stored(paths, &bytes);
    }
    let host = read_or_empty(Path::new(HOST_FILE))?;
    let upstreams = UPSTREAM_FILES.iter().filter_map(|file| fs::read_to_string(file).ok());
    match decide(&host, upstreams) {
        Decision::HostServes => Ok(NameService::default()),
        Decision::Instead(text) => stored(paths, text.as_bytes()),
        Decision::Nobody => Ok(NameService { file: None, warning: Some(nobody()) }),
    }
}

/// Removes the file; true if there was one.
pub(super) fn forget(roots: &Roots, name: &ServiceName) -> Result<bool, StateError> {
    remove_file(&file(&roots.service(name)))
}

#[derive(Debug, PartialEq, Eq)]
enum Decision {
    HostServes,
    Instead(String),
    Nobody,
}

/// Decides between the host's file and the first upstream file with a server that a namespace can reach.
fn decide(host: &str, upstreams: impl Iterator<Item = String>) -> Decision {
    let servers = servers(host);
    let reachable: Vec<Ipv4Addr> = servers.iter().copied().filter_map(reachable).collect();
    if !servers.is_empty() && reachable.len() == servers.len() {
        return Decision::HostServes;
    }
    let mut choices = std::iter::once(host.to_owned()).chain(upstreams);
    let chosen = choices.find_map(|text| {
        let servers: Vec<Ipv4Addr> = self::servers(&text).into_iter().filter_map(self::reachable).collect();
        (!servers.is_empty()).then_some(servers)
    });
    chosen.map_or(Decision::Nobody, |servers| Decision::Instead(rewritten(host, &servers)))
}

/// The host's file with other servers; search domains and options stay.
fn rewritten(host: &str, servers: &[Ipv4Addr]) -> String {
    let servers = servers.iter().map(|server| format!("nameserver {server}\n"));
    let others = host.lines().filter(|line| {
        let word = line.split_whitespace().next().unwrap_or_default();
        word != "nameserver" && !word.is_empty() && !word.starts_with(['#', ';'])
    });
    servers.chain(others.map(|line| format!("{line}\n"))).collect()
}

fn servers(text: &str) -> Vec<&str> {
    let words = text.lines().map(|line| {
        let mut words = line.split_whitespace();
        (words.next(), words.next())
    });
    words.filter_map(|(key, server)| server.filter(|_| key == Some("nameserver"))).collect()
}

/// A namespace reaches IPv4 servers beyond its own loopback; it has no way out over IPv6.
fn reachable(server: &str) -> Option<Ipv4Addr> {
    server.parse().ok().filter(|address: &Ipv4Addr| !address.is_loopback() && !address.is_unspecified())
}

fn stored(paths: &ServicePaths, bytes: &[u8]) -> Result<NameService, StateError> {
    let file = file(paths);
    write_whole(&file, bytes)?;
    Ok(NameService { file: Some(file), warning: None })
}

fn file(paths: &ServicePaths) -> PathBuf {
    paths.run_dir().join("resolv.conf")
}

fn read_or_empty(path: &Path) -> Result<String, StateError> {
    match fs::read(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(String::new()),
        read => {
            read.map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).map_err(io_error("read", path))
        }
    }
}

fn nobody() -> Warning {
    Warning {
        what: format!("{HOST_FILE} names no server that the command can reach: it will not resolve names"),
        remedy: "name a reachable one with --resolv-conf FILE".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decided(host: &str, upstreams: &[&str]) -> Decision {
        decide(host, upstreams.iter().map(|text| (*text).to_owned()))
    }

    #[test]
    fn a_host_with_a_real_server_is_left_as_it_is() {
        assert_eq!(decided("search example.org\nnameserver 192.0.2.53\n", &[]), Decision::HostServes);
    }

    #[test]
    fn a_stub_is_replaced_by_its_upstreams_and_keeps_search_and_options() {
        let host = "# stub\nnameserver 127.0.0.53\noptions edns0 trust-ad\nsearch example.org\n";
        let upstream = "nameserver 192.0.2.53\nnameserver 198.51.100.53\nsearch elsewhere.example\n";
        let wanted =
            "nameserver 192.0.2.53\nnameserver 198.51.100.53\noptions edns0 trust-ad\nsearch example.org\n";
        assert_eq!(decided(host, &[upstream]), Decision::Instead(wanted.to_owned()));
    }

    #[test]
    fn a_real_server_beside_a_stub_serves_alone() {
        let host = "nameserver 127.0.0.1\nnameserver 192.0.2.53\n";
        assert_eq!(decided(host, &[]), Decision::Instead("nameserver 192.0.2.53\n".to_owned()));
    }

    #[test]
    fn servers_out_of_reach_are_nobody() {
        for host in ["", "nameserver 127.0.0.53", "nameserver ::1", "nameserver fe80::1%eth0", "nameserver"] {
            assert_eq!(decided(host, &["nameserver 127.0.0.1\n"]), Decision::Nobody, "{host}");
        }
    }
}
