//! The command line: one file a subcommand, each thin over the library.
//!
//! Exit codes, for every subcommand: 0 done, 1 it failed, was refused, something was lost, or the controller did not
//! say what came of it, 2 wrong use or settings, 3 not over in the time that was given.

mod attach;
mod check;
mod config;
mod cut;
mod detach;
mod down;
mod drain;
mod events;
mod explain;
mod flows;
mod import;
mod load;
mod maintenance;
mod man;
mod operate;
mod out;
mod pause;
mod ready;
mod rejuvenate;
mod reload;
mod run;
mod shim;
mod status;
mod unload;
mod up;
mod wait;

use std::io::IsTerminal;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result, anyhow, ensure};
use clap::{Parser, Subcommand};
use nix::unistd::Uid;
use thiserror::Error;
use tokio::runtime::Runtime;
use tokio::signal::unix::{SignalKind, signal};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::writer::BoxMakeWriter;

use crate::api::client::ClientError;
use crate::config::LogFormat;
use crate::names::ServiceName;
use crate::outlet;
use crate::paths::Roots;
use crate::service;

/// Keeps services that age always available.
///
/// Baton runs two replicas of a service, hands new flows to the warm one before the other fails, waits
/// until every flow of the old one has ended by itself, and only then restarts it.
#[derive(Debug, Parser)]
#[command(name = "baton", version, max_term_width = 100, propagate_version = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Up(Box<up::UpArgs>),
    Run(run::RunArgs),
    Reload(reload::ReloadArgs),
    Unload(unload::UnloadArgs),
    Down(down::DownArgs),
    Status(status::StatusArgs),
    Rejuvenate(rejuvenate::RejuvenateArgs),
    Cut(cut::CutArgs),
    Drain(drain::DrainArgs),
    Ready(ready::ReadyArgs),
    Pause(pause::PauseArgs),
    Resume(pause::ResumeArgs),
    Maintenance(maintenance::MaintenanceArgs),
    Wait(wait::WaitForArgs),
    Events(events::EventsArgs),
    Flows(flows::FlowsArgs),
    Explain(explain::ExplainArgs),
    Check(Box<check::CheckArgs>),
    Load(Box<load::LoadArgs>),
    Config(config::ConfigArgs),
    Import(import::ImportArgs),
    Attach(attach::AttachArgs),
    Detach(detach::DetachArgs),
    Completions(man::CompletionsArgs),
    #[command(hide = true)]
    Man(man::ManArgs),
    #[command(hide = true)]
    Shim(shim::ShimArgs),
}

/// Settings that cannot work: ends with exit code 2, as wrong flags do.
#[derive(Debug, Error)]
#[error("{0}")]
pub(crate) struct UsageError(pub(crate) String);

/// What was waited for did not come in time: ends with exit code 3.
#[derive(Debug, Error)]
#[error("{0}")]
pub(crate) struct TimedOut(pub(crate) String);

/// Runs the command line of this process.
pub fn run() -> ExitCode {
    let cli = Cli::parse();
    let controls = matches!(cli.command, Command::Up(_) | Command::Run(_));
    if controls {
        outlet::open();
    }
    if !matches!(cli.command, Command::Run(_)) {
        init_log(LogFormat::Text, controls);
    }
    let result = match cli.command {
        Command::Up(args) => args.run(),
        Command::Run(args) => args.run(),
        Command::Reload(args) => args.run(),
        Command::Unload(args) => args.run(),
        Command::Down(args) => args.run(),
        Command::Status(args) => args.run(),
        Command::Rejuvenate(args) => args.run(),
        Command::Cut(args) => args.run(),
        Command::Drain(args) => args.run(),
        Command::Ready(args) => args.run(),
        Command::Pause(args) => args.run(),
        Command::Resume(args) => args.run(),
        Command::Maintenance(args) => args.run(),
        Command::Wait(args) => args.run(),
        Command::Events(args) => args.run(),
        Command::Flows(args) => args.run(),
        Command::Explain(args) => args.run(),
        Command::Check(args) => args.run(),
        Command::Load(args) => args.run(),
        Command::Config(args) => args.run(),
        Command::Import(args) => args.run(),
        Command::Attach(args) => args.run(),
        Command::Detach(args) => args.run(),
        Command::Completions(args) => Ok(args.run()),
        Command::Man(args) => args.run(),
        Command::Shim(args) => Ok(args.run()),
    };
    let code = result.unwrap_or_else(|error| {
        if controls {
            outlet::errors().line(&format!("baton: {error:#}"));
        } else {
            out::complain!("baton: {error:#}");
        }
        exit_code(&error)
    });
    outlet::flush();
    out::finish(code)
}

fn exit_code(error: &anyhow::Error) -> ExitCode {
    if error.is::<UsageError>() {
        ExitCode::from(2)
    } else if error.is::<TimedOut>() {
        ExitCode::from(3)
    } else {
        ExitCode::FAILURE
    }
}

/// Logs go to standard error; `RUST_LOG` chooses what (default: info of Baton, warnings of the rest). A controller
/// waits for nobody who reads them.
fn init_log(format: LogFormat, controls: bool) {
    let to = if controls {
        BoxMakeWriter::new(|| outlet::errors().clone())
    } else {
        BoxMakeWriter::new(std::io::stderr)
    };
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("warn,baton=info"));
    let log = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(to)
        .with_ansi(std::io::stderr().is_terminal())
        .with_target(false);
    match format {
        LogFormat::Text => log.init(),
        LogFormat::Json => log.json().init(),
    }
}

/// The runtime of a command: one thread is plenty for a controller.
fn runtime() -> Result<Runtime> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("the runtime cannot be started")
}

/// Ends when this process is told to end, by SIGTERM or Ctrl-C.
fn told_to_end() -> Result<impl Future<Output = ()>> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    })
}

/// An error unless this process may do `what`.
fn require_root(what: &str) -> Result<()> {
    ensure!(Uid::effective().is_root(), "{what} needs root: run it with sudo");
    Ok(())
}

/// Where the controller of a service listens; an error if there is no such service.
fn socket_of(name: &ServiceName) -> Result<PathBuf> {
    let roots = Roots::default();
    let services = service::list(&roots)?;
    if !services.contains(name) {
        return Err(anyhow!(unknown_service(name, &services)));
    }
    Ok(roots.service(name).socket())
}

/// Why a controller has not done what it was asked for.
fn not_done(name: &ServiceName, error: ClientError) -> anyhow::Error {
    match error {
        ClientError::NotRunning => anyhow!(
            "service {name}: no controller is running; the same `baton up` takes the service up again"
        ),
        error => anyhow!("service {name}: {error}"),
    }
}

/// Says that there is no such service, and which there are.
fn unknown_service(name: &ServiceName, known: &[ServiceName]) -> String {
    if known.is_empty() {
        return format!("there is no service `{name}`: none is up");
    }
    let names: Vec<_> = known.iter().map(ToString::to_string).collect();
    format!("there is no service `{name}`; up are: {}", names.join(", "))
}
