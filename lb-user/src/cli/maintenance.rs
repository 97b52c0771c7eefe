//! `baton maintenance`: leave a service or a backend to its operator.

use std::process::ExitCode;

use anyhow::Result;
use clap::{Args, ValueEnum};

use super::drain::hold_out;
use super::operate::OperateArgs;
use super::pause::at_once;
use super::ready::take_back;
use crate::names::{BackendName, ServiceName};

/// Leaves a service, or one backend, to its operator.
///
/// Without --backend the service is in maintenance until `off`, whoever restarts the controller meanwhile: nothing is
/// rejuvenated, nothing is restarted, and what dies stays dead. Checks go on, and new connections still go to whoever
/// passes them. A rejuvenation that is under way goes on to its end. It is done at once, also with --wait. With
/// --backend it is `baton drain` and `baton ready` of that backend.
#[derive(Debug, Args)]
pub(super) struct MaintenanceArgs {
    /// The service.
    #[arg(value_name = "SERVICE")]
    name: ServiceName,
    /// Whether it begins or ends.
    #[arg(value_enum)]
    switch: Switch,
    /// Only this backend.
    #[arg(long, value_name = "NAME")]
    backend: Option<BackendName>,
    #[command(flatten)]
    how: OperateArgs,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Switch {
    /// It begins.
    On,
    /// It is over.
    Off,
}

impl MaintenanceArgs {
    pub(super) fn run(self) -> Result<ExitCode> {
        let (name, how) = (&self.name, &self.how);
        match (&self.backend, self.switch) {
            (Some(backend), Switch::On) => hold_out(name, backend, how),
            (Some(backend), Switch::Off) => take_back(name, backend, how),
            (None, Switch::On) => {
                let message =
                    format!("service {name}: no automatic action until `baton maintenance {name} off`");
                at_once(name, "maintenance-on", how, message)
            }
            (None, Switch::Off) => {
                at_once(name, "maintenance-off", how, format!("service {name}: maintenance is over"))
            }
        }
    }
}
