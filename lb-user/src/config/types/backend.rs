//! A backend, and who restarts it how.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use crate::driver::command::Higher;
use crate::names::BackendName;

/// A replica that serves a service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Backend {
    /// Its name.
    pub name: BackendName,
    /// Where it is reached; the port is not 0. Only with [`Driver::Process`] may the address be unspecified
    /// (`0.0.0.0`, `::`): Baton then gives its namespace one.
    pub address: SocketAddr,
    /// Its share of new flows, for policies that know weights (0 to 65,535; 0 means none).
    pub weight: u16,
    /// New flows go elsewhere while it has so many; `None` means no limit.
    pub max_flows: Option<u32>,
    /// How it is restarted.
    pub driver: Driver,
    /// The machine that it runs on, as the budget knows it.
    pub host: Option<String>,
}

/// How a backend is restarted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Driver {
    /// By somebody else: Baton drains it and says so.
    Manual,
    /// Baton starts it, in a network namespace of its own.
    Process(Process),
    /// By commands of the operator.
    Command(CommandDriver),
    /// By systemd, on this machine.
    Systemd {
        /// The unit's name, with its suffix.
        unit: String,
        /// How long systemd may take to stop it or to start it.
        timeout: Duration,
    },
}

/// A process that Baton starts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Process {
    /// Program and arguments; not empty.
    pub command: Vec<String>,
    /// Working directory; absolute.
    pub directory: PathBuf,
    /// Variables that it gets besides `BATON_SERVICE` and `BATON_BACKEND`, and besides the controller's.
    pub environment: BTreeMap<String, String>,
    /// Memory limit in bytes, if one is enforced.
    pub memory_max: Option<u64>,
}

/// Commands that restart a backend; each is a program with its arguments, and no shell sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CommandDriver {
    /// What is run.
    pub restart: Restart,
    /// File that holds the process id of the backend: it tells whether the backend lives and has been restarted.
    pub pid_file: Option<PathBuf>,
    /// How long a command may take.
    pub timeout: Duration,
    /// What is done if a graceful restart does not help.
    pub higher: Higher,
}

/// What restarts a backend.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Restart {
    /// Two commands.
    StopStart {
        /// Ends it, and returns when it has ended.
        stop: Vec<String>,
        /// Starts it, and returns when it runs.
        start: Vec<String>,
    },
    /// One that does both.
    Once(Vec<String>),
}

impl Backend {
    /// The memory limit that Baton enforces on it, in bytes, if it does.
    pub fn memory_max(&self) -> Option<u64> {
        match &self.driver {
            Driver::Process(process) => process.memory_max,
            _ => None,
        }
    }
}
