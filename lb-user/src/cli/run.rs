//! `baton run`: the controller of all services of a configuration file.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Result;
use clap::Args;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;
use tokio::task::LocalSet;

use super::{UsageError, runtime};
use crate::config::{Config, Loaded};
use crate::names::PlaneName;
use crate::outlet;
use crate::paths::Roots;
use crate::service::{Fleet, FleetEnd, FleetError, FleetOptions};

/// Where packages put the configuration.
pub(super) const CONFIG_FILE: &str = "/etc/baton/baton.toml";
/// The data plane of a host that has one.
pub(super) const PLANE: &str = "host";

/// Serves all services of a configuration file until it is told to end.
///
/// SIGTERM and Ctrl-C end the controller and nothing else: programs, flows and backends go on, and the next
/// `baton run` takes them over; `baton unload` removes them. SIGHUP and `baton reload` read the file again;
/// services that have not changed do not notice, and a file that is not right changes nothing.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  baton config example > /etc/baton/baton.toml
  baton config check /etc/baton/baton.toml
  baton run")]
pub(super) struct RunArgs {
    /// The configuration.
    #[arg(long, value_name = "FILE", default_value = CONFIG_FILE)]
    config: PathBuf,
    /// Name of the data plane, where several network namespaces of one machine have one each.
    #[arg(long, value_name = "NAME", default_value = PLANE)]
    plane: PlaneName,
}

impl RunArgs {
    pub(super) fn run(self) -> Result<ExitCode> {
        let loaded = load(&self.config).map_err(UsageError)?;
        // How it logs stands in the file, so what is to be said of the file has to wait for that.
        super::init_log(loaded.config.controller.log_format, true);
        let config = warned(loaded);
        super::require_root("attaching XDP programs and restarting backends")?;
        let options = FleetOptions { plane: self.plane, reread: read, file: self.config };
        let tasks = LocalSet::new();
        match tasks.block_on(&runtime()?, serve(options, config))? {
            Ok(FleetEnd::Done) => Ok(ExitCode::SUCCESS),
            Ok(FleetEnd::Leaves) => leave(),
            Err(FleetError::Settings(message)) => Err(UsageError(message).into()),
            Err(error) => Err(error.into()),
        }
    }
}

/// Ends this process and nothing that it has ordered.
#[expect(clippy::disallowed_methods, reason = "what runs a command kills it when it is dropped")]
fn leave() -> ! {
    outlet::flush();
    std::process::exit(0)
}

/// The outer error is that signals cannot be heard.
async fn serve(options: FleetOptions, config: Config) -> Result<Result<FleetEnd, FleetError>> {
    let end = super::told_to_end()?;
    let mut hangup = signal(SignalKind::hangup())?;
    let (ask, reloads) = mpsc::channel(1);
    tokio::task::spawn_local(async move {
        while hangup.recv().await.is_some() {
            // One that is asked for and not done yet will read the same file.
            let _ = ask.try_send(());
        }
    });
    Ok(match Fleet::open(&Roots::default(), options, config).await {
        Ok(fleet) => fleet.run(reloads, end).await,
        Err(error) => Err(error),
    })
}

/// Reads a configuration again; warnings are logged, and what is wrong is one text.
fn read(file: &Path) -> Result<Config, String> {
    load(file).map(warned)
}

/// Reads a configuration; what is wrong is one text.
fn load(file: &Path) -> Result<Loaded, String> {
    Config::load(file)
        .map_err(|findings| findings.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))
}

/// Logs what is probably not meant like that.
fn warned(loaded: Loaded) -> Config {
    for warning in &loaded.warnings {
        tracing::warn!("{warning}");
    }
    loaded.config
}
