//! What a service is started with, kept in its run directory so that the next controller finds it.

use std::fs;
use std::io;
use std::net::SocketAddrV4;
use std::path::PathBuf;
use std::time::Duration;

use ipnet::Ipv4Net;
use serde::{Deserialize, Serialize};

use super::UpError;
use crate::check::Check;
use crate::dataplane::{FlowTimeouts, Mode};
use crate::driver::process::{Launch, write_document};
use crate::names::{BackendName, ServiceName};
use crate::paths::ServicePaths;
use crate::recovery::Policy;

/// How long a command may take to end after SIGTERM before it is killed.
pub(super) const STOP_GRACE: Duration = Duration::from_secs(10);

/// A service: what clients see, what is run, and how it is watched.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServiceSpec {
    /// Its name.
    pub name: ServiceName,
    /// Where clients reach it.
    pub vip: SocketAddrV4,
    /// The port that the command listens on in its own namespace.
    pub port: u16,
    /// Program and arguments.
    pub command: Vec<String>,
    /// Working directory of the command.
    pub directory: PathBuf,
    /// Environment of the command.
    pub environment: Vec<(String, String)>,
    /// Memory limit of each backend in bytes, if it is enforced.
    pub memory_max: Option<u64>,
    /// How a backend is checked.
    pub check: Check,
    /// Time between samples, in milliseconds (100 or more).
    pub probe_period_ms: u64,
    /// How the XDP program runs.
    pub mode: Mode,
    /// Where the service takes its own addresses from.
    pub pool: Ipv4Net,
    /// Stands over `/etc/resolv.conf` for the command.
    pub resolv_conf: Option<PathBuf>,
    /// When to rejuvenate and how long to wait.
    pub policy: Policy,
    /// How long silent flows are remembered.
    pub timeouts: FlowTimeouts,
    /// Flows that the table is made for ([`lb_common::bucket::FLOWS`]); by the machine's memory if not given.
    #[serde(default)]
    pub flow_table: Option<u32>,
}

impl ServiceSpec {
    /// An error if `new` would be another service under the same name.
    pub(super) fn ensure_same(&self, new: &Self) -> Result<(), UpError> {
        let facts = [
            ("VIP", self.vip.to_string(), new.vip.to_string()),
            ("port", self.port.to_string(), new.port.to_string()),
            ("command", self.command.join(" "), new.command.join(" ")),
        ];
        match facts.into_iter().find(|(_, left, wanted)| left != wanted) {
            Some((what, left, _)) => Err(UpError::Different { name: self.name.clone(), what, left }),
            None => Ok(()),
        }
    }

    /// What the shim of a backend is to run.
    pub(super) fn launch(&self, backend: &BackendName, netns: PathBuf) -> Launch {
        Launch {
            service: self.name.clone(),
            backend: backend.clone(),
            netns,
            command: self.command.clone(),
            directory: self.directory.clone(),
            environment: self.environment.clone(),
            resolv_conf: self.resolv_conf.clone(),
            cgroup_procs: None,
        }
    }
}

/// The service that was left under this name, if one was.
pub fn load(paths: &ServicePaths) -> Result<Option<ServiceSpec>, UpError> {
    let path = paths.spec();
    match fs::read(&path) {
        Ok(bytes) => serde_json::from_slice(&bytes).map(Some).map_err(|error| {
            UpError::files(&path)(io::Error::other(format!(
                "it is damaged ({error}); `baton down` removes what is left of the service"
            )))
        }),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(UpError::files(&path)(error)),
    }
}

/// Keeps the service for the next controller.
pub(super) fn store(paths: &ServicePaths, spec: &ServiceSpec) -> Result<(), UpError> {
    write_document(&paths.spec(), spec).map_err(UpError::files(&paths.spec()))
}
