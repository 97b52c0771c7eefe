//! From the tables of a file to a [`Config`], with what only several keys together show to be wrong.
//!
//! A builder returns `None` only if there is a finding; it finds all that it can before it gives up.

mod backend;
mod budget;
mod check;
mod recovery;
mod service;
mod together;
mod warm_up;

use super::finding::Findings;
use super::read::Fields;
use super::types::{Config, Controller, DataPlane, LogFormat, Replies, Service};
use crate::dataplane::{FlowTimeouts, Mode};

/// The configuration that `file` is.
pub(super) fn config(file: &Fields, findings: &mut Findings<'_>) -> Option<Config> {
    let tables = file.tables("service")?;
    if tables.is_empty() {
        let help = "add a [[service]], as `baton config example` shows";
        findings.warning(&file.span, "there is no service", help);
    }
    together::services(file, tables, findings);
    // Each in turn, so that what is wrong with one hides nothing of the next.
    let services: Vec<Option<Service>> =
        tables.iter().map(|table| service::service(table, findings)).collect();
    budget::hosts_are_named(file, &services, findings);
    let budget = file.table("budget").and_then(|table| budget::budget(table, findings));
    Some(Config {
        controller: controller(file.table("controller")?)?,
        data_plane: data_plane(file.table("data_plane")?)?,
        services: services.into_iter().collect::<Option<_>>()?,
        budget: budget?,
    })
}

fn controller(fields: &Fields) -> Option<Controller> {
    let log_format = match fields.text("log_format")? {
        "json" => LogFormat::Json,
        _ => LogFormat::Text,
    };
    Some(Controller { log_format })
}

fn data_plane(fields: &Fields) -> Option<DataPlane> {
    let timeouts = fields.table("timeouts")?;
    Some(DataPlane {
        interfaces: fields.texts("interfaces")?.to_vec(),
        xdp: match fields.text("xdp")? {
            "generic" => Mode::Generic,
            _ => Mode::Native,
        },
        replies: match fields.text("replies")? {
            "stack" => Replies::Stack,
            _ => Replies::Gateway,
        },
        flow_table: fields.count("flow_table"),
        timeouts: FlowTimeouts {
            half_open_ms: timeouts.millis("half_open")?,
            established_ms: timeouts.millis("established")?,
            half_closed_ms: timeouts.millis("half_closed")?,
            closed_ms: timeouts.millis("closed")?,
            datagram_ms: timeouts.millis("datagram")?,
        },
    })
}
