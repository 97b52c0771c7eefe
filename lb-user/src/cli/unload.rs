//! `baton unload`: removes what a controller of many services has left.

use std::process::ExitCode;

use anyhow::Result;
use clap::Args;

use super::out::say;
use super::run::PLANE;
use super::runtime;
use crate::names::PlaneName;
use crate::paths::Roots;
use crate::service;

/// Ends all services that `baton run` has left, and removes their XDP programs, flows, processes and
/// namespaces.
///
/// The controller has to be ended first. Backends that Baton does not run itself go on, and get no packets from
/// Baton any longer; connections end. Reports of rejuvenations stay.
#[derive(Debug, Args)]
pub(super) struct UnloadArgs {
    /// Name of the data plane.
    #[arg(long, value_name = "NAME", default_value = PLANE)]
    plane: PlaneName,
}

impl UnloadArgs {
    pub(super) fn run(self) -> Result<ExitCode> {
        super::require_root("removing a data plane")?;
        let removed = runtime()?.block_on(service::unload(&Roots::default(), &self.plane))?;
        if removed.is_empty() {
            say!("nothing of data plane {} is left", self.plane);
        }
        for what in removed {
            say!("removed {what}");
        }
        Ok(ExitCode::SUCCESS)
    }
}
