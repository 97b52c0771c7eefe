//! `baton maintenance`: leave a service or a backend to its operator.

use std::process::ExitCode;

use anyhow::Result;
use clap::{Args, ValueEnum};

use super::operate::{WaitArgs, Wish, print};
use super::out::say;
use crate::names::{BackendName, ServiceName};
use crate::recovery::report::Report;

/// Leaves a service, or one backend, to its operator.
///
/// Without --backend the service is in maintenance until `off`, whoever restarts the controller meanwhile: nothing is
/// rejuvenated, nothing is restarted, and what dies stays dead. Checks go on, and new connections still go to whoever
/// passes them. A rejuvenation that is under way goes on to its end. With --backend it is `baton drain` and `baton
/// ready` of that backend.
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
    wait: WaitArgs,
    /// Only say what would be done, or why nothing would be.
    #[arg(long, conflicts_with = "wait")]
    dry_run: bool,
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
        let verb = match (&self.backend, self.switch) {
            (Some(_), Switch::On) => "drain",
            (Some(_), Switch::Off) => "ready",
            (None, Switch::On) => "maintenance-on",
            (None, Switch::Off) => "maintenance-off",
        };
        let wish = Wish {
            service: &self.name,
            verb,
            backend: self.backend.as_ref(),
            wait: self.wait.wait.then_some(self.wait.timeout),
            dry_run: self.dry_run,
            in_window: false,
        };
        let Some(done) = wish.ask()? else { return Ok(ExitCode::SUCCESS) };
        match &done.report {
            _ if self.wait.json => say!("{}", serde_json::to_string_pretty(&done.report)?),
            Some(report) => print(report),
            None => say!("{}", self.said()),
        }
        // Without a report there was nothing to drain.
        let clean = done.report.as_deref().is_none_or(Report::is_clean);
        Ok(if clean { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }

    fn said(&self) -> String {
        let name = &self.name;
        match (&self.backend, self.switch) {
            (None, Switch::On) => {
                format!("service {name}: no automatic action until `baton maintenance {name} off`")
            }
            (None, Switch::Off) => format!("service {name}: maintenance is over"),
            (Some(backend), Switch::On) if self.wait.wait => {
                format!("backend {backend} of {name} is held out")
            }
            (Some(backend), Switch::On) => {
                format!("begun; `baton wait {name} --backend {backend} --for state=maintenance` waits for it")
            }
            (Some(backend), Switch::Off) => format!("backend {backend} of {name} is no longer held out"),
        }
    }
}
