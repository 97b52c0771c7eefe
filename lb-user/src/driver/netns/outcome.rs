//! What the driver's operations come to: results, warnings and errors, each with what to do.

use std::fmt;

use thiserror::Error;

use super::place::PlaceError;
use super::state::StateError;
use super::survey::SurveyError;
use super::topology::Topology;
use crate::names::ServiceName;
use crate::net::netlink::NetlinkError;
use crate::net::netns::NetnsError;
use crate::net::nft::NftError;
use crate::net::offload::OffloadError;
use crate::net::sysctl::SysctlError;

/// A network that is ready to carry traffic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ready {
    /// The network.
    pub topology: Topology,
    /// What had to be put right when it was adopted, in words; empty for a fresh one.
    pub repaired: Vec<String>,
    /// What an operator should know.
    pub warnings: Vec<Warning>,
}

/// Something that an operator should know and can put right.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Warning {
    /// What is amiss, and what follows from it.
    pub what: String,
    /// What helps.
    pub remedy: String,
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}; {}", self.what, self.remedy)
    }
}

/// What a removal found and removed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Removed {
    /// Each thing removed, in words and in order; empty if there was nothing.
    pub what: Vec<String>,
}

/// Why one step failed.
#[derive(Debug, Error)]
pub enum StepError {
    /// A namespace.
    #[error(transparent)]
    Netns(#[from] NetnsError),
    /// A link, address, route or neighbour.
    #[error(transparent)]
    Netlink(#[from] NetlinkError),
    /// The nftables table.
    #[error(transparent)]
    Nft(#[from] NftError),
    /// A kernel setting.
    #[error(transparent)]
    Sysctl(#[from] SysctlError),
    /// A checksum offload.
    #[error(transparent)]
    Offload(#[from] OffloadError),
    /// The driver's own files.
    #[error(transparent)]
    State(#[from] StateError),
    /// The host could not be looked at.
    #[error(transparent)]
    Survey(#[from] SurveyError),
    /// An interface is not what was recorded.
    #[error("interface {ifname} {fault}")]
    Interface {
        /// The interface.
        ifname: String,
        /// What is wrong with it.
        fault: &'static str,
    },
}

/// Why a network could not be made; whatever had been made of it is removed again.
#[derive(Debug, Error)]
pub enum CreateError {
    /// There is no place for it.
    #[error(transparent)]
    Place(#[from] PlaceError),
    /// A step failed.
    #[error("cannot {step}: {source}")]
    Step {
        /// What was being done.
        step: &'static str,
        /// Why it failed.
        source: StepError,
    },
    /// A step failed, and clearing up failed too.
    #[error("{first}; {leftovers}")]
    NotUndone {
        /// What failed first.
        first: Box<CreateError>,
        /// What is left.
        leftovers: RemoveError,
    },
}

/// Why a network could not be adopted.
#[derive(Debug, Error)]
pub enum AdoptError {
    /// There is none.
    #[error("service {0} has no network on this host; `baton up` makes one")]
    Unknown(ServiceName),
    /// What is there cannot be put right without disturbing traffic.
    #[error(
        "the network of service {name} is broken ({source}); `baton down --name {name}`, then `baton up` again"
    )]
    Broken {
        /// The service.
        name: ServiceName,
        /// What is wrong.
        source: StepError,
    },
}

/// Why a network could not be removed wholly.
#[derive(Debug, Error)]
#[error("service {name} leaves something behind: {}; try `baton down --name {name}` again", list(.problems))]
pub struct RemoveError {
    /// The service.
    pub name: ServiceName,
    /// Each step that failed; the others were done.
    pub problems: Vec<StepError>,
    /// What was removed all the same.
    pub removed: Removed,
}

fn list(problems: &[StepError]) -> String {
    problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
}
