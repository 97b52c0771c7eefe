//! `baton ready`: take back a backend that is held out.

use std::process::ExitCode;

use anyhow::Result;
use clap::Args;

use super::operate::Wish;
use super::out::say;
use crate::names::{BackendName, ServiceName};

/// Takes back a backend that `baton drain` holds out, or ends its drain.
///
/// It serves or waits again as soon as it passes its checks; if its command has ended meanwhile, it is started.
#[derive(Debug, Args)]
pub(super) struct ReadyArgs {
    /// The service.
    #[arg(value_name = "SERVICE")]
    name: ServiceName,
    /// The backend.
    backend: BackendName,
    /// Only say what would be done, or why nothing would be.
    #[arg(long)]
    dry_run: bool,
}

impl ReadyArgs {
    pub(super) fn run(self) -> Result<ExitCode> {
        let backend = Some(&self.backend);
        let wish = Wish {
            service: &self.name,
            verb: "ready",
            backend,
            wait: None,
            dry_run: self.dry_run,
            in_window: false,
        };
        if wish.ask()?.is_some() {
            say!("backend {} of {} is no longer held out", self.backend, self.name);
        }
        Ok(ExitCode::SUCCESS)
    }
}
