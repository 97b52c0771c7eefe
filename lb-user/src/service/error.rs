//! What can go wrong with a service as a whole.

use std::io;
use std::path::{Path, PathBuf};

use lb_common::LAYOUT_VERSION;
use thiserror::Error;

use crate::dataplane::{AttachError, OpenError, TableError};
use crate::driver::netns;
use crate::driver::process::{CgroupError, StopError};
use crate::names::ServiceName;

/// Why a service could not be brought up, or did not stay up.
#[derive(Debug, Error)]
pub enum UpError {
    /// Another controller has it.
    #[error(
        "a controller of service `{0}` is running: `baton status` shows it, `--name` chooses another name"
    )]
    Running(ServiceName),
    /// It was left with other settings.
    #[error(
        "service `{name}` is still there from an earlier `baton up`, with another {what} ({left}): \
         repeat that command to adopt it, or remove it with `baton down --name {name}`"
    )]
    Different {
        /// The service.
        name: ServiceName,
        /// The setting that differs.
        what: &'static str,
        /// What it was left with.
        left: String,
    },
    /// Another version of Baton serves it.
    #[error(
        "service `{name}` is served by another version of Baton: its data plane in {pins} has layout {layout}, \
         and this version, of layout {LAYOUT_VERSION}, cannot take over its flows. It was left running, \
         untouched. Go on with the version that started it, or end it, and the connections that it has, with \
         `baton down --name {name}` and start it anew"
    )]
    ForeignLayout {
        /// The service.
        name: ServiceName,
        /// The layout of its maps.
        layout: u32,
        /// Where they are pinned.
        pins: PathBuf,
    },
    /// A setting cannot work.
    #[error("{0}")]
    Settings(String),
    /// The command ended, or does not answer, before the service was ever up.
    #[error("{0}")]
    NeverReady(String),
    /// The journal can be read by now.
    #[error("the journal can be read by now, but {0}")]
    Journal(String),
    /// Files of Baton's own.
    #[error("{path}: {source}")]
    Files {
        /// The file or directory.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// What the host lacks.
    #[error(transparent)]
    Preflight(#[from] netns::PreflightError),
    /// The network.
    #[error(transparent)]
    Create(#[from] netns::CreateError),
    /// The network that was left.
    #[error(transparent)]
    Adopt(#[from] netns::AdoptError),
    /// The network that was to be removed.
    #[error(transparent)]
    Remove(#[from] netns::RemoveError),
    /// What the network driver keeps.
    #[error(transparent)]
    State(#[from] netns::StateError),
    /// A namespace.
    #[error(transparent)]
    Netns(#[from] crate::net::netns::NetnsError),
    /// The data plane.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// A table of the data plane.
    #[error(transparent)]
    Table(#[from] TableError),
    /// Attaching.
    #[error(transparent)]
    Attach(#[from] AttachError),
    /// The memory limit.
    #[error(transparent)]
    Cgroup(#[from] CgroupError),
    /// A process that does not end.
    #[error(transparent)]
    Stop(#[from] StopError),
}

impl UpError {
    pub(super) fn files(path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Files { path, source }
    }

    /// Whether the settings are at fault rather than the host or the command.
    pub fn is_usage(&self) -> bool {
        matches!(self, Self::Settings(_) | Self::Different { .. })
    }
}
