//! What goes wrong with a backend, and how it is made to.

use std::path::PathBuf;
use std::process::Command;

use baton::net::netns::{NetnsHandle, run_in};
use baton::paths::Roots;
use clap::ValueEnum;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

use crate::lab::{Client, Lab};

/// What goes wrong with a backend.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Fault {
    /// Its process is killed.
    Killed,
    /// Its process is stopped: the kernel still accepts connections in its name.
    Stopped,
    /// It accepts connections and never answers.
    Silent,
    /// It answers everything with 500.
    Error,
    /// It takes ten times as long as usual for everything.
    Slow,
    /// It does not listen any more, and its process lives.
    Closed,
    /// It resets every connection on which something is asked.
    Reset,
    /// The cable to its host is cut.
    Cut,
}

impl Fault {
    /// All of them.
    pub const ALL: [Self; 8] = [
        Self::Killed,
        Self::Stopped,
        Self::Silent,
        Self::Error,
        Self::Slow,
        Self::Closed,
        Self::Reset,
        Self::Cut,
    ];

    /// Its name in the figures.
    pub fn name(self) -> &'static str {
        match self {
            Self::Killed => "killed",
            Self::Stopped => "stopped",
            Self::Silent => "silent",
            Self::Error => "error",
            Self::Slow => "slow",
            Self::Closed => "closed",
            Self::Reset => "reset",
            Self::Cut => "cut",
        }
    }

    /// Makes it happen to a backend, as `baton status` describes that.
    pub fn strike(self, lab: &Lab, victim: &Value) {
        match self {
            Self::Killed => send(victim, Signal::SIGKILL),
            Self::Stopped => send(victim, Signal::SIGSTOP),
            Self::Silent | Self::Error | Self::Slow | Self::Closed | Self::Reset => self.tell(lab, victim),
            Self::Cut => set_link(lab, victim, "down"),
        }
    }

    /// Ends what would outlast a restart of the backend.
    pub fn mend(self, lab: &Lab, victim: &Value) {
        if self == Self::Cut {
            set_link(lab, victim, "up");
        }
    }

    fn tell(self, lab: &Lab, victim: &Value) {
        let address = victim["address"].as_str().and_then(|text| text.parse().ok());
        let address: std::net::SocketAddr = address.expect("a backend has an address");
        let mut client = Client::connect(&balancer(lab), address).expect("a backend that listens");
        let answer = client.get(&format!("/fault?mode={}", self.name())).expect("an answer");
        assert_eq!(answer.status, 200, "the service was started without --faults");
    }
}

fn send(victim: &Value, signal: Signal) {
    let pid = victim["pid"].as_u64().and_then(|pid| i32::try_from(pid).ok());
    kill(Pid::from_raw(pid.expect("a backend that runs")), signal).expect("a process");
}

fn balancer_file(lab: &Lab) -> PathBuf {
    Roots::default().service(&lab.name().parse().expect("a name")).balancer_netns()
}

fn balancer(lab: &Lab) -> NetnsHandle {
    NetnsHandle::open(&balancer_file(lab)).expect("the balancer's namespace")
}

/// The balancer's end of the cable; there it is called after the backend.
fn set_link(lab: &Lab, victim: &Value, state: &str) {
    let name = victim["name"].as_str().expect("a backend has a name");
    let set = || Command::new("ip").args(["link", "set", "dev", name, state]).status();
    let status = run_in(&balancer(lab), set).expect("the balancer's namespace").expect("ip");
    assert!(status.success(), "ip could not set {name} {state}");
}
