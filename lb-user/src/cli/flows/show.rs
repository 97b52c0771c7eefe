//! How flows are written out: rows as they come, or counts.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt::Display;
use std::io::{self, Write};
use std::net::SocketAddr;

use comfy_table::presets::NOTHING;
use comfy_table::{CellAlignment, Table};
use lb_common::{BackendId, FlowState};
use serde::Serialize;

use crate::dataplane::FlowRecord;
use crate::flow_counts::FlowCounts;
use crate::names::ServiceName;
use crate::service::BackendNames;

/// One flow as it is shown.
#[derive(Debug, Serialize)]
pub(super) struct Row<'a> {
    client: Option<SocketAddr>,
    service: &'a str,
    backend: Cow<'a, str>,
    state: &'static str,
    awaiting_response: bool,
    quiet: bool,
    idle_ms: u64,
    epoch: u8,
}

impl<'a> Row<'a> {
    pub(super) fn new(service: &'a ServiceName, backends: &'a BackendNames, flow: &FlowRecord) -> Self {
        Self {
            client: flow.client,
            service: service.as_str(),
            backend: backends.shown(flow.backend),
            state: flow.state.name(),
            awaiting_response: flow.awaits_response && flow.state != FlowState::Closed,
            quiet: flow.is_quiet(),
            idle_ms: flow.idle_ms,
            epoch: flow.epoch,
        }
    }

    fn activity(&self) -> &'static str {
        match (self.awaiting_response, self.quiet) {
            (true, _) => "awaiting-response",
            (_, true) => "quiet",
            _ => "-",
        }
    }
}

/// Rows on their way out.
pub(super) struct Listing<'a, W> {
    out: &'a mut W,
    json: bool,
    rows: u64,
    /// Of the columns for service and backend.
    widths: [usize; 2],
}

impl<'a, W: Write> Listing<'a, W> {
    /// Begins a listing in which these names may occur.
    pub(super) fn begin(
        out: &'a mut W,
        json: bool,
        names: &[(&ServiceName, &BackendNames)],
    ) -> io::Result<Self> {
        let service = names.iter().map(|(service, _)| service.as_str().len());
        let backend = names.iter().flat_map(|(_, names)| names.iter()).map(|(_, name)| name.as_str().len());
        let widths = [service.chain(["service".len()]).max(), backend.chain(["backend".len()]).max()]
            .map(Option::unwrap_or_default);
        let mut listing = Self { out, json, rows: 0, widths };
        if json {
            write!(listing.out, "[")?;
        } else {
            listing.line("client", "service", "backend", "state", "activity", "idle s", "epoch")?;
        }
        Ok(listing)
    }

    /// Writes one flow.
    pub(super) fn row(&mut self, row: &Row<'_>) -> io::Result<()> {
        self.rows += 1;
        if self.json {
            let before = if self.rows == 1 { "\n" } else { ",\n" };
            self.out.write_all(before.as_bytes())?;
            return Ok(serde_json::to_writer(&mut *self.out, row)?);
        }
        let client = row.client.map_or_else(|| "unknown".to_owned(), |client| client.to_string());
        let idle = format!("{}.{}", row.idle_ms / 1000, row.idle_ms % 1000 / 100);
        self.line(&client, row.service, &row.backend, row.state, row.activity(), &idle, row.epoch)
    }

    /// Ends the listing.
    pub(super) fn end(self) -> io::Result<()> {
        if self.json {
            writeln!(self.out, "{}]", if self.rows == 0 { "" } else { "\n" })?;
        }
        Ok(())
    }

    #[expect(clippy::too_many_arguments, reason = "one a column")]
    fn line(
        &mut self,
        client: &str,
        service: &str,
        backend: &str,
        state: &str,
        activity: &str,
        idle: &str,
        epoch: impl Display,
    ) -> io::Result<()> {
        let [service_width, backend_width] = self.widths;
        writeln!(
            self.out,
            "{client:<22} {service:<service_width$} {backend:<backend_width$} {state:<11} {activity:<17} \
             {idle:>8} {epoch:>5}"
        )
    }
}

/// Flows of each backend, counted.
#[derive(Debug, Default)]
pub(super) struct Counts<'a>(Vec<Count<'a>>);

#[derive(Debug, Serialize)]
struct Count<'a> {
    service: &'a str,
    backend: Cow<'a, str>,
    #[serde(flatten)]
    flows: FlowCounts,
    /// Closed ones too.
    total: u64,
}

impl<'a> Counts<'a> {
    /// Counts the flows of a service; a backend that is `wanted` has a line even if it has no flow.
    pub(super) fn add(
        &mut self,
        service: &'a ServiceName,
        backends: &'a BackendNames,
        wanted: Option<BackendId>,
        flows: impl Iterator<Item = FlowRecord>,
    ) {
        let is_wanted = |id: &BackendId| wanted.is_none_or(|only| only == *id);
        let mut counts: BTreeMap<BackendId, FlowCounts> = backends
            .iter()
            .map(|(id, _)| (id, FlowCounts::default()))
            .filter(|(id, _)| is_wanted(id))
            .collect();
        for flow in flows {
            counts.entry(flow.backend).or_default().add(flow.state, flow.awaits_response, flow.idle_ms);
        }
        self.0.extend(counts.into_iter().map(|(id, flows)| Count {
            service: service.as_str(),
            backend: backends.shown(id),
            flows,
            total: flows.open.total() + flows.closed,
        }));
    }

    /// Writes them out.
    pub(super) fn show(&self, out: &mut impl Write, json: bool) -> io::Result<()> {
        if json {
            serde_json::to_writer_pretty(&mut *out, &self.0)?;
            return writeln!(out);
        }
        let mut table = Table::new();
        table.load_preset(NOTHING).set_header([
            "service",
            "backend",
            "half-open",
            "established",
            "half-closed",
            "awaiting-response",
            "quiet",
            "closed",
            "total",
        ]);
        table.column_iter_mut().skip(2).for_each(|column| column.set_cell_alignment(CellAlignment::Right));
        for Count { service, backend, flows, total } in &self.0 {
            let open = &flows.open;
            let mut row = vec![(*service).to_owned(), backend.to_string()];
            row.extend(
                [
                    open.half_open,
                    open.established,
                    open.half_closed,
                    open.awaiting_response,
                    open.quiet,
                    flows.closed,
                    *total,
                ]
                .map(|count| count.to_string()),
            );
            table.add_row(row);
        }
        writeln!(out, "{}", table.trim_fmt())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn backend_names() -> BackendNames {
        [(1, "a"), (2, "b")].into_iter().map(|(id, name)| (id, name.parse().unwrap())).collect()
    }

    fn flow(client: Option<&str>, backend: BackendId) -> FlowRecord {
        FlowRecord {
            client: client.map(|client| client.parse().unwrap()),
            service: Some(0),
            backend,
            epoch: 4,
            state: FlowState::Established,
            awaits_response: true,
            idle_ms: 3222,
        }
    }

    fn listed(json: bool, flows: &[FlowRecord]) -> String {
        let (service, backends) = ("shop".parse().unwrap(), backend_names());
        let mut out = Vec::new();
        let mut listing = Listing::begin(&mut out, json, &[(&service, &backends)]).unwrap();
        for flow in flows {
            listing.row(&Row::new(&service, &backends, flow)).unwrap();
        }
        listing.end().unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn a_row_stands_under_its_header() {
        let text = listed(false, &[flow(Some("10.1.2.3:40001"), 1), flow(None, 9)]);
        let expected = "\
client                 service backend state       activity            idle s epoch
10.1.2.3:40001         shop    a       established awaiting-response      3.2     4
unknown                shop    #9      established awaiting-response      3.2     4
";
        assert_eq!(text, expected);
    }

    #[test]
    fn json_is_one_array_with_a_line_for_each_flow() {
        let text = listed(true, &[flow(Some("[fd00::1]:443"), 2), flow(None, 1)]);
        assert_eq!(text.lines().count(), 4);
        let parsed: Value = serde_json::from_str(&text).unwrap();
        let first = json!({
            "client": "[fd00::1]:443", "service": "shop", "backend": "b", "state": "established",
            "awaiting_response": true, "quiet": false, "idle_ms": 3222, "epoch": 4
        });
        assert_eq!(parsed[0], first);
        assert_eq!(parsed[1]["client"], Value::Null);
        assert_eq!(listed(true, &[]), "[]\n");
    }

    #[test]
    fn each_backend_is_counted_and_one_without_flows_too() {
        let (service, backends) = ("shop".parse().unwrap(), backend_names());
        let shown = |wanted: Option<BackendId>, flows: Vec<FlowRecord>| -> Value {
            let (mut counts, mut out) = (Counts::default(), Vec::new());
            counts.add(&service, &backends, wanted, flows.into_iter());
            counts.show(&mut out, true).unwrap();
            serde_json::from_slice(&out).unwrap()
        };
        let all = shown(None, vec![flow(None, 2), flow(None, 2)]);
        let totals: Vec<_> = all.as_array().unwrap().iter().map(|count| count["total"].clone()).collect();
        assert_eq!(totals, [0, 2]);
        assert_eq!(all[1]["awaiting_response"], 2);
        assert_eq!(shown(Some(2), vec![flow(None, 2)]).as_array().unwrap().len(), 1);
    }
}
