//! `baton shim`: not for people; see [`crate::driver::process::shim`].

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;

use crate::driver::process::shim;

/// The parent of one backend's command.
#[derive(Debug, Args)]
pub(super) struct ShimArgs {
    /// The backend's directory.
    dir: PathBuf,
}

impl ShimArgs {
    pub(super) fn run(&self) -> ExitCode {
        shim::main(&self.dir)
    }
}
