//! `baton status`: what every service is doing.

use std::process::ExitCode;

use anyhow::{Result, bail};
use clap::Args;
use comfy_table::presets::NOTHING;
use comfy_table::{CellAlignment, Table};
use futures::future::join_all;
use serde::Serialize;

use super::out::{complain, say};
use super::runtime;
use crate::api::client::{self, ClientError};
use crate::api::status::{BackendStatus, ServiceStatus};
use crate::clock::Now;
use crate::names::{BackendName, ServiceName};
use crate::paths::Roots;
use crate::service;

/// Shows services, their backends and flows.
///
/// Exit code 1 if a service is there whose controller does not run or does not answer; the others are shown all the
/// same.
#[derive(Debug, Args)]
pub(super) struct StatusArgs {
    /// Only this service.
    #[arg(long)]
    name: Option<ServiceName>,
    /// Print a JSON array, one object a service; one whose controller says nothing has `service` and `error` alone.
    #[arg(long)]
    json: bool,
    /// Print only the names of services, a line each, whether or not a controller runs.
    #[arg(long, short, conflicts_with_all = ["json", "pid"])]
    quiet: bool,
    /// Print only the process id of this backend of the service.
    #[arg(long, value_name = "BACKEND", requires = "name", conflicts_with = "json")]
    pid: Option<BackendName>,
}

impl StatusArgs {
    pub(super) fn run(self) -> Result<ExitCode> {
        let roots = Roots::default();
        let services = service::list(&roots)?;
        if let Some(name) = self.name.as_ref().filter(|name| !services.contains(name)) {
            bail!(super::unknown_service(name, &services));
        }
        if self.quiet {
            for name in &services {
                say!("{name}");
            }
            return Ok(ExitCode::SUCCESS);
        }
        let wanted = services.iter().filter(|name| self.name.as_ref().is_none_or(|only| only == *name));
        let entries = runtime()?.block_on(join_all(wanted.map(|name| entry(&roots, name))));
        let is_whole = !entries.iter().any(|entry| matches!(entry, Entry::Silent { .. }));
        if let (Some(backend), Some(Entry::Known(service))) = (&self.pid, entries.first()) {
            return print_pid(service, backend);
        }
        if self.json {
            say!("{}", serde_json::to_string_pretty(&entries)?);
        } else if entries.is_empty() {
            say!("no service is up; `baton up --help` and `baton run --help` say how to bring one up");
        }
        for entry in &entries {
            match entry {
                Entry::Known(status) if !self.json => print(status),
                Entry::Known(_) => {}
                Entry::Silent { service, error } => complain!("service {service}: {error}"),
            }
        }
        Ok(if is_whole { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }
}

/// What there is to be shown of a service.
#[derive(Serialize)]
#[serde(untagged)]
enum Entry {
    /// Its controller has answered.
    Known(Box<ServiceStatus>),
    /// Nothing is known, and why; others are shown all the same.
    Silent { service: ServiceName, error: String },
}

async fn entry(roots: &Roots, name: &ServiceName) -> Entry {
    let error = match client::get(&roots.service(name).socket(), "/v1/status").await {
        Ok(status) => return Entry::Known(Box::new(status)),
        Err(ClientError::NotRunning) => format!(
            "no controller is running; its backends go on, and the same `baton up` or `baton run` adopts them \
             (`baton down --name {name}` or `baton unload` removes them)"
        ),
        Err(error) => error.to_string(),
    };
    Entry::Silent { service: name.clone(), error }
}

fn print_pid(service: &ServiceStatus, backend: &BackendName) -> Result<ExitCode> {
    let known = service.backends.iter().find(|known| known.name == *backend);
    let Some(known) = known else { bail!("service {} has no backend `{backend}`", service.service) };
    let Some(pid) = known.pid else { bail!("no process of backend {backend} is known") };
    say!("{pid}");
    Ok(ExitCode::SUCCESS)
}

fn print(status: &ServiceStatus) {
    let controller = status.controller.unwrap_or_default();
    say!(
        "{} at {}: {} rejuvenations, {} handovers, controller {controller}",
        status.service,
        status.vip,
        status.rejuvenations,
        status.epoch
    );
    if status.paused {
        say!("  paused: no automatic rejuvenation until `baton resume {}`", status.service);
    }
    if status.maintenance {
        say!("  maintenance: no automatic action until `baton maintenance {} off`", status.service);
    }
    if let Some(waits) = &status.waits {
        say!("  {waits}");
    }
    match &status.window {
        Some(window) if window.open => say!("  window: rules may rejuvenate until {}", window.changes),
        Some(window) => say!("  window: rules may rejuvenate from {} on", window.changes),
        None => {}
    }
    if let Some(activity) = &status.activity {
        say!("  {activity}");
    }
    for line in &status.hooks {
        say!("  {line}");
    }
    let mut table = Table::new();
    table.load_preset(NOTHING).set_header([
        "  backend",
        "state",
        "address",
        "pid",
        "uptime",
        "memory",
        "open",
        "awaiting",
        "closed",
        "total",
    ]);
    for column in 3..10 {
        if let Some(column) = table.column_mut(column) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    for backend in &status.backends {
        table.add_row(row(backend));
    }
    say!("{table}");
    for note in status.backends.iter().filter_map(note) {
        say!("  {note}");
    }
    say!();
}

/// What is to be said of a backend beyond its line.
fn note(backend: &BackendStatus) -> Option<String> {
    let watch = &backend.watch;
    let mut notes = Vec::new();
    notes.extend(watch.finding.as_ref().map(|finding| format!("last check: {finding}")));
    if watch.stays_out_ms > 0 {
        let seconds = watch.stays_out_ms.div_ceil(1_000);
        notes.push(format!("failed {} times lately, stays out for {seconds} s", watch.ejections));
    }
    for (count, what) in [(watch.shadow_ejections, "taken out"), (watch.shadow_rejuvenations, "renewed")] {
        if count > 0 {
            notes.push(format!("would have been {what} {count} times"));
        }
    }
    notes.extend(watch.agent.as_ref().map(|agent| format!("agent: {agent}")));
    (!notes.is_empty()).then(|| format!("{}: {}", backend.name, notes.join("; ")))
}

fn row(backend: &BackendStatus) -> [String; 10] {
    let dash = || "-".to_owned();
    let now = Now::read().unix_ms;
    let uptime = backend.started_unix_ms.map(|started| {
        let seconds = now.saturating_sub(started) / 1000;
        humantime::format_duration(std::time::Duration::from_secs(seconds)).to_string()
    });
    let memory = backend.memory_rss_bytes.map(|bytes| {
        format!("{} MiB ({} %)", bytes >> 20, bytes.saturating_mul(100) / backend.memory_limit_bytes.max(1))
    });
    [
        format!("  {}", backend.name),
        match &backend.recovery {
            Some(recovery) => format!("{} ({recovery})", backend.state),
            None => backend.state.clone(),
        },
        backend.address.to_string(),
        backend.pid.map_or_else(dash, |pid| pid.to_string()),
        uptime.unwrap_or_else(dash),
        memory.unwrap_or_else(dash),
        backend.flows.open.total().to_string(),
        backend.flows.open.awaiting_response.to_string(),
        backend.flows.closed.to_string(),
        backend.flows_total.to_string(),
    ]
}
