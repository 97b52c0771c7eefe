//! `baton down`: takes down a service whose controller is gone, or ends the controller.

use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use clap::Args;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::out::say;
use super::runtime;
use crate::api::client;
use crate::api::status::ServiceStatus;
use crate::names::ServiceName;
use crate::paths::{Roots, ServicePaths};
use crate::service;

/// A controller that ends takes its service down within this.
const DEADLINE: Duration = Duration::from_mins(1);

/// Ends a service and removes all that it left: processes, namespaces, XDP programs, firewall rules.
#[derive(Debug, Args)]
pub(super) struct DownArgs {
    /// The service.
    #[arg(long)]
    name: ServiceName,
}

impl DownArgs {
    pub(super) fn run(self) -> Result<ExitCode> {
        super::require_root("removing a service")?;
        runtime()?.block_on(async {
            let roots = Roots::default();
            let paths = roots.service(&self.name);
            // A record that is damaged names nobody.
            let registration = service::load_registration(&paths).ok().flatten();
            if let Some(plane) = registration.and_then(|registration| registration.run_by) {
                bail!(
                    "service {name} is one of several that `baton run` serves: take it out of the configuration and \
                     `baton reload --plane {plane}`, or end all of them with `baton unload --plane {plane}`",
                    name = self.name
                );
            }
            if service::is_running(&paths) {
                end_controller(&paths, &self.name).await?;
            }
            let removed = service::remove(&roots, &self.name).await?;
            if removed.is_empty() {
                say!("nothing of service {} is left", self.name);
            }
            for what in removed {
                say!("removed {what}");
            }
            Ok(ExitCode::SUCCESS)
        })
    }
}

/// Tells the running controller to end, which takes the service down, and waits for that.
async fn end_controller(paths: &ServicePaths, name: &ServiceName) -> Result<()> {
    let status: ServiceStatus = client::get(&paths.socket(), "/v1/status").await?;
    let Some(pid) = status.controller else { return Ok(()) };
    kill(Pid::from_raw(pid.cast_signed()), Signal::SIGTERM)?;
    let deadline = Instant::now() + DEADLINE;
    while service::is_running(paths) {
        if Instant::now() > deadline {
            bail!("the controller of {name}, process {pid}, did not end within {} s", DEADLINE.as_secs());
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    say!("ended the controller of {name}, process {pid}");
    Ok(())
}
