//! `baton flows`: which client is pinned to which backend, read from the pinned flow table itself.
//!
//! No controller is asked, so it answers while none runs. Rows are written as they are found: a table of a
//! million flows needs no memory and begins to show at once.

mod filter;
mod show;

use std::io::{self, BufWriter, Write};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result, anyhow};
use clap::{Args, ValueEnum};

use super::UsageError;
use super::out::complain;
use crate::dataplane::{Clients, FlowRecord, FlowView};
use crate::names::{BackendName, ServiceName};
use crate::paths::Roots;
use crate::service::{self, BackendNames};

use filter::{Filter, Network, StateFilter};
use show::{Counts, Listing, Row};

/// Shows the flows of services: each with its client, its backend and what it is doing.
///
/// The flows are read from the pinned table, so this works while no controller runs. Filters add up: a flow
/// is shown if it passes all of them.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  baton flows --service shop --backend a --state awaiting-response
  baton flows --idle-over 1h --sort idle --limit 20
  baton flows --count --json")]
pub(super) struct FlowsArgs {
    /// Only this service [default: all].
    #[arg(long, alias = "name")]
    service: Option<ServiceName>,
    /// Only flows of this backend.
    #[arg(long)]
    backend: Option<BackendName>,
    /// Only flows in this state; may be given more than once.
    #[arg(long, value_enum)]
    state: Vec<StateFilter>,
    /// Only flows of clients with this address, or in this network.
    #[arg(long, value_name = "IP[/LEN]")]
    client: Option<Network>,
    /// Only flows without a packet for longer than this, as 90s or 2h.
    #[arg(long, value_name = "TIME", value_parser = humantime::parse_duration)]
    idle_over: Option<Duration>,
    /// Show the longest idle first, or clients in order of their addresses [default: the table's order].
    #[arg(long, value_enum, value_name = "BY")]
    sort: Option<Sort>,
    /// Show at most this many.
    #[arg(long, value_name = "N")]
    limit: Option<usize>,
    /// Count the flows of each backend by state instead of listing them.
    #[arg(long, conflicts_with_all = ["sort", "limit"])]
    count: bool,
    /// Print a JSON array, one object and one line a flow; with --count, one a backend.
    #[arg(long)]
    json: bool,
}

/// What a listing is sorted by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Sort {
    /// The longest idle first.
    Idle,
    /// Clients by address and port; those that are not known last.
    Client,
}

/// The table of one service, with the names that its flows are shown under.
struct Source {
    name: ServiceName,
    backends: BackendNames,
    view: FlowView,
    filter: Filter,
}

impl FlowsArgs {
    pub(super) fn run(self) -> Result<ExitCode> {
        super::require_root("reading pinned maps")?;
        let (mut sources, failures) = self.sources(&Roots::default())?;
        let mut out = BufWriter::with_capacity(1 << 16, io::stdout().lock());
        let shown = if self.count {
            self.show_counts(&mut sources, &mut out)
        } else {
            self.show_flows(&mut sources, &mut out)
        };
        match shown.and_then(|()| out.flush()) {
            // A reader that has gone, as `head` does, is a good end.
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {}
            result => result?,
        }
        for failure in &failures {
            complain!("baton: {failure:#}");
        }
        Ok(if failures.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }

    /// The tables to look at, and why others cannot be looked at.
    fn sources(&self, roots: &Roots) -> Result<(Vec<Source>, Vec<anyhow::Error>)> {
        let services = service::list(roots)?;
        if let Some(name) = self.service.as_ref().filter(|name| !services.contains(name)) {
            return Err(UsageError(super::unknown_service(name, &services)).into());
        }
        let wanted =
            services.into_iter().filter(|name| self.service.as_ref().is_none_or(|only| only == name));
        let (mut sources, mut failures, mut known) = (Vec::new(), Vec::new(), Vec::new());
        for name in wanted {
            match self.source(roots, name) {
                Ok(source) => {
                    known.extend(source.backends.iter().map(|(_, backend)| backend.clone()));
                    if self.backend.is_none() || source.filter.backend.is_some() {
                        sources.push(source);
                    }
                }
                Err(error) => failures.push(error),
            }
        }
        if let Some(backend) = self.backend.as_ref().filter(|backend| !known.contains(backend)) {
            known.sort();
            known.dedup();
            let known: Vec<_> = known.iter().map(ToString::to_string).collect();
            let message = format!("there is no backend `{backend}`; there are: {}", known.join(", "));
            // Of what could not be read nobody knows whether it has such a backend.
            if failures.is_empty() {
                return Err(UsageError(message).into());
            }
        }
        Ok((sources, failures))
    }

    fn source(&self, roots: &Roots, name: ServiceName) -> Result<Source> {
        let paths = roots.service(&name);
        let registration =
            service::load_registration(&paths)?.ok_or_else(|| anyhow!("service {name} has just gone"))?;
        service::ensure_layout(&registration.pinned(roots), &name)?;
        let view = FlowView::open(&registration.pins(roots)).with_context(|| format!("service {name}"))?;
        let backends = registration.names();
        let filter = Filter {
            backend: self.backend.as_ref().and_then(|backend| backends.id(backend)),
            states: self.state.clone(),
            client: self.client,
            idle_over: self.idle_over,
            service: registration.plane.is_some().then_some(registration.id),
            timeouts: registration.timeouts,
        };
        Ok(Source { name, backends, view, filter })
    }

    fn show_flows(&self, sources: &mut [Source], out: &mut impl Write) -> io::Result<()> {
        let limit = self.limit.unwrap_or(usize::MAX);
        let names: Vec<_> = sources.iter().map(|source| (&source.name, &source.backends)).collect();
        let mut listing = Listing::begin(out, self.json, &names)?;
        if let Some(sort) = self.sort {
            let mut rows: Vec<(usize, FlowRecord)> = Vec::new();
            for (index, source) in sources.iter_mut().enumerate() {
                rows.extend(source.filter.flows(&mut source.view, Clients::Named).map(|flow| (index, flow)));
            }
            arrange(&mut rows, sort);
            for (index, flow) in rows.into_iter().take(limit) {
                let Source { name, backends, .. } = &sources[index];
                listing.row(&Row::new(name, backends, &flow))?;
            }
            return listing.end();
        }
        let mut left = limit;
        for source in sources {
            let Source { name, backends, view, filter } = source;
            for flow in filter.flows(view, Clients::Named).take(left) {
                listing.row(&Row::new(name, backends, &flow))?;
                left -= 1;
            }
        }
        listing.end()
    }

    fn show_counts(&self, sources: &mut [Source], out: &mut impl Write) -> io::Result<()> {
        let mut counts = Counts::default();
        for source in sources {
            let clients = if self.client.is_some() { Clients::Named } else { Clients::LeftOut };
            let Source { name, backends, view, filter } = source;
            counts.add(name, backends, filter.backend, filter.flows(view, clients));
        }
        counts.show(out, self.json)
    }
}

fn arrange(rows: &mut [(usize, FlowRecord)], sort: Sort) {
    match sort {
        Sort::Idle => rows.sort_by_key(|(_, flow)| std::cmp::Reverse(flow.idle_ms)),
        Sort::Client => rows.sort_by_key(|(_, flow)| (flow.client.is_none(), flow.client)),
    }
}

#[cfg(test)]
mod tests {
    use lb_common::FlowState;

    use super::*;

    fn flow(client: Option<&str>, idle_ms: u64) -> (usize, FlowRecord) {
        let flow = FlowRecord {
            client: client.map(|client| client.parse().unwrap()),
            service: Some(0),
            backend: 1,
            epoch: 1,
            state: FlowState::Established,
            awaits_response: false,
            idle_ms,
        };
        (0, flow)
    }

    #[test]
    fn the_longest_idle_come_first_and_unknown_clients_last() {
        let mut rows = [flow(None, 5), flow(Some("10.0.0.2:9"), 1), flow(Some("10.0.0.2:10"), 7)];
        arrange(&mut rows, Sort::Idle);
        assert_eq!(rows.map(|(_, flow)| flow.idle_ms), [7, 5, 1]);
        arrange(&mut rows, Sort::Client);
        assert_eq!(rows.map(|(_, flow)| flow.idle_ms), [1, 7, 5]);
    }
}
