//! `cargo xtask demo`: the same load against a service that ages, left alone, restarted by a plain
//! supervisor, and under Baton.
//!
//! What always holds: the three scenarios get the same requests at the same times; whatever the demo started
//! is gone when it ends, also after an error or Ctrl-C.

mod child;
mod interrupt;
mod load;
mod memory;
mod outcome;
mod progress;
mod ready;
mod supervisor;
mod under_baton;
mod venv;
mod workload;

use std::env;
use std::fmt;
use std::fs::{self, File};
use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::Duration;

use anyhow::{Context, Result};
use clap::{Args, ValueEnum};
use serde::Serialize;

use self::interrupt::Interrupt;
use self::load::LoadPlan;
use self::outcome::{Document, Outcome};
use self::progress::Progress;
use self::supervisor::{Policy, Supervisor};
use self::under_baton::UnderBaton;
use self::workload::{Programs, ServiceKind, Workload};

/// A release build from nothing, the eBPF programs included, on a small machine.
const BUILD_LIMIT: Duration = Duration::from_hours(1);

/// Options of `cargo xtask demo`.
#[derive(Args, Debug)]
pub(crate) struct DemoArgs {
    /// Seconds that each scenario takes
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u64).range(1..=86_400))]
    seconds: u64,
    /// The service that ages
    #[arg(long, value_enum, default_value_t = ServiceKind::Aging)]
    service: ServiceKind,
    /// Requests a second
    #[arg(long, default_value_t = 500, value_parser = clap::value_parser!(u32).range(10..=20_000))]
    rate: u32,
    /// Write the figures and all drain reports to this file
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Run only these scenarios
    #[arg(long, value_enum, value_delimiter = ',', default_values_t = Scenario::ALL)]
    only: Vec<Scenario>,
    /// Everything is built; set when the demo runs itself again as root
    #[arg(long, hide = true)]
    built: bool,
}

/// Where things are.
#[derive(Clone, Debug)]
pub(crate) struct DemoPaths {
    /// The root of the source tree.
    pub(crate) workspace: PathBuf,
    /// Cargo's target directory.
    pub(crate) target: PathBuf,
}

/// Who looks after the service.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "lowercase")]
enum Scenario {
    /// Nobody
    Alone,
    /// A plain supervisor that restarts it in place
    Restart,
    /// Baton
    Baton,
}

/// What all scenarios share.
struct Demo<'a> {
    args: &'a DemoArgs,
    baton: PathBuf,
    directory: PathBuf,
    workload: Workload,
    interrupt: Interrupt,
}

/// Builds what is needed and runs the scenarios. Exits with 1 if a request was lost under Baton.
///
/// Namespaces and XDP take root: otherwise everything is built first, as the user who asked, and
/// `run_as_root` is called with the argument to add when this program runs itself again as root.
pub(crate) fn run(
    args: &DemoArgs,
    paths: &DemoPaths,
    run_as_root: impl FnOnce(&str) -> Result<ExitCode>,
) -> Result<ExitCode> {
    if !args.built {
        build(&paths.workspace)?;
    }
    let directory = paths.target.join("demo");
    fs::create_dir_all(&directory).with_context(|| format!("create {}", directory.display()))?;
    let programs = programs(args.service, paths, &directory)?;
    if !nix::unistd::geteuid().is_root() {
        return run_as_root("--built");
    }
    let demo = Demo {
        args,
        baton: paths.target.join("release/baton"),
        directory,
        workload: Workload::new(args.service, programs, args.rate),
        interrupt: Interrupt::listen()?,
    };
    demo.run()
}

impl Demo<'_> {
    fn run(&self) -> Result<ExitCode> {
        println!(
            "{} requests a second, {} s a scenario, restart or rejuvenation at {} MiB of {} MiB",
            self.args.rate,
            self.args.seconds,
            self.workload.ceiling_bytes() >> 20,
            self.workload.limit_mib(),
        );
        let mut outcomes = Vec::new();
        let mut finished = Ok(());
        for scenario in &self.args.only {
            match self.scenario(*scenario).with_context(|| format!("scenario {scenario}")) {
                Ok(outcome) => outcomes.push(outcome),
                Err(error) => {
                    finished = Err(error);
                    break;
                }
            }
        }
        if !outcomes.is_empty() {
            println!("{}", outcome::table(&outcomes));
        }
        finished?;
        if let Some(path) = &self.args.json {
            let document = serde_json::to_string_pretty(&Document { scenarios: &outcomes })?;
            fs::write(path, document + "\n").with_context(|| format!("write {}", path.display()))?;
        }
        if outcomes.iter().any(Outcome::proves_nothing) {
            eprintln!("warning: the time was too short for a rejuvenation; use more --seconds");
        }
        let broken = outcomes.iter().any(Outcome::breaks_the_promise);
        Ok(if broken { ExitCode::FAILURE } else { ExitCode::SUCCESS })
    }

    fn scenario(&self, scenario: Scenario) -> Result<Outcome> {
        let progress = Progress::new(scenario, self.args.seconds);
        let executions = self.file(scenario, "executed");
        remove_if_there(&executions)?;
        let outcome = match scenario {
            Scenario::Alone => {
                let policy = Policy::LeaveAlone { limit_bytes: self.workload.limit_bytes() };
                self.supervised(scenario, policy, &executions, &progress)
            }
            Scenario::Restart => {
                let policy = Policy::Restart { ceiling_bytes: self.workload.ceiling_bytes() };
                self.supervised(scenario, policy, &executions, &progress)
            }
            Scenario::Baton => self.under_baton(&executions, &progress),
        };
        progress.finish();
        outcome
    }

    fn supervised(
        &self,
        scenario: Scenario,
        policy: Policy,
        executions: &Path,
        progress: &Progress,
    ) -> Result<Outcome> {
        let address = free_address()?;
        let command = self.workload.command(&address.ip().to_string(), address.port(), executions);
        let log = self.create(scenario, "log")?;
        let service = Supervisor::start(command, policy, &log)?;
        ready::wait_until_ready(&self.interrupt, || Ok(ready::is_healthy(address)))
            .with_context(|| format!("see {}", self.file(scenario, "log").display()))?;
        let summary = self.load(scenario, address, executions)?.run(&self.interrupt, |tick| {
            let mib = service.resident_bytes() >> 20;
            progress.show(tick, &format!("{mib} MiB  {} restarts", service.restarts()));
        })?;
        Ok(Outcome::new(scenario, summary, service.restarts(), Vec::new()))
    }

    fn under_baton(&self, executions: &Path, progress: &Progress) -> Result<Outcome> {
        let scenario = Scenario::Baton;
        let command = self.workload.command("0.0.0.0", UnderBaton::PORT, executions);
        let log = self.file(scenario, "log");
        let mut service = UnderBaton::start(&self.baton, &command, self.workload.limit_mib(), &log)?;
        service.wait_until_ready(&self.interrupt)?;
        let load = self.load(scenario, UnderBaton::address()?, executions)?;
        let summary = load.run(&self.interrupt, |tick| {
            progress.show(tick, &format!("{} rejuvenations", service.rejuvenations()));
        })?;
        let reports = service.reports()?;
        service.stop()?;
        Ok(Outcome::under_baton(summary, reports))
    }

    fn load<'a>(
        &'a self,
        scenario: Scenario,
        target: SocketAddr,
        executions: &'a Path,
    ) -> Result<LoadPlan<'a>> {
        Ok(LoadPlan {
            baton: &self.baton,
            target: target.to_string(),
            rate: self.args.rate,
            seconds: self.args.seconds,
            requests: self.workload.requests(),
            executions,
            summary: self.file(scenario, "load.json"),
            log: self.create(scenario, "load.txt")?,
        })
    }

    /// A file of one scenario, kept for whoever wants to look closer.
    fn file(&self, scenario: Scenario, what: &str) -> PathBuf {
        self.directory.join(format!("{scenario}.{what}"))
    }

    fn create(&self, scenario: Scenario, what: &str) -> Result<File> {
        let path = self.file(scenario, what);
        File::create(&path).with_context(|| format!("create {}", path.display()))
    }
}

impl Scenario {
    /// In the order in which they run.
    const ALL: [Self; 3] = [Self::Alone, Self::Restart, Self::Baton];
}

impl fmt::Display for Scenario {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Alone => "alone",
            Self::Restart => "restart",
            Self::Baton => "baton",
        })
    }
}

fn build(workspace: &Path) -> Result<()> {
    let mut cargo = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.args(["build", "--release", "--package", "lb-user", "--package", "baton-tests", "--bins"]);
    child::run(cargo.current_dir(workspace), BUILD_LIMIT).context("build Baton and the aging service")
}

fn programs(service: ServiceKind, paths: &DemoPaths, directory: &Path) -> Result<Programs> {
    let sources = paths.workspace.join("tests/services/aiohttp");
    let environment = directory.join("aiohttp-venv");
    let python = match service {
        ServiceKind::Aging => environment.join("bin/python"),
        ServiceKind::Aiohttp => venv::prepare(&environment, &sources.join("requirements.txt"))?,
    };
    Ok(Programs {
        aging: paths.target.join("release/aging-service"),
        python,
        script: sources.join("service.py"),
    })
}

/// An address of this host that nobody uses; nobody else is likely to take it before the service does.
fn free_address() -> Result<SocketAddr> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("look for a free port")?;
    listener.local_addr().context("look for a free port")
}

fn remove_if_there(path: &Path) -> Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("remove {}", path.display()))
        }
        _ => Ok(()),
    }
}
