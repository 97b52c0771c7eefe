//! `baton events`: what happened to a service.

use std::process::ExitCode;

use anyhow::{Result, anyhow, bail};
use clap::Args;

use super::out::{self, say};
use super::runtime;
use crate::api::client;
use crate::names::ServiceName;
use crate::paths::Roots;
use crate::recovery::event::Timed;
use crate::service;

/// Shows what happened: states, handovers, drains, restarts.
#[derive(Debug, Args)]
pub(super) struct EventsArgs {
    /// The service; may be left out if there is only one.
    #[arg(long)]
    name: Option<ServiceName>,
    /// Go on with what will happen, until Ctrl-C or the controller's end.
    #[arg(long)]
    follow: bool,
    /// Print one JSON object a line.
    #[arg(long)]
    json: bool,
}

impl EventsArgs {
    pub(super) fn run(self) -> Result<ExitCode> {
        let roots = Roots::default();
        let services = service::list(&roots)?;
        let name = match (self.name, &services[..]) {
            (Some(name), known) if known.contains(&name) => name,
            (Some(name), known) => bail!(super::unknown_service(&name, known)),
            (None, [only]) => only.clone(),
            (None, []) => bail!("no service is up; `baton up --help` says how to bring one up"),
            (None, many) => {
                let names: Vec<_> = many.iter().map(ToString::to_string).collect();
                bail!(super::UsageError(format!("say which service with --name: {}", names.join(", "))));
            }
        };
        let path = if self.follow { "/v1/events?follow=true" } else { "/v1/events" };
        let mut failure = None;
        let socket = roots.service(&name).socket();
        let lines = client::lines(&socket, path, |line| {
            match if self.json { Ok(line.to_owned()) } else { readable(line) } {
                Ok(text) => say!("{text}"),
                Err(error) => failure = Some(error),
            }
            failure.is_none() && out::is_read()
        });
        runtime()?.block_on(lines).map_err(|error| anyhow!("service {name}: {error}"))?;
        failure.map_or(Ok(ExitCode::SUCCESS), |error| Err(error.into()))
    }
}

fn readable(line: &str) -> serde_json::Result<String> {
    let timed: Timed = serde_json::from_str(line)?;
    let at = std::time::UNIX_EPOCH + std::time::Duration::from_millis(timed.unix_ms);
    Ok(format!("{} {}  {}", humantime::format_rfc3339_millis(at), timed.service, timed.event))
}
