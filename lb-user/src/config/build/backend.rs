//! From `[[service.backend]]` to a [`Backend`].

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use lb_common::Forwarding;

use super::super::finding::Findings;
use super::super::read::Fields;
use super::super::types::{Backend, CommandDriver, Driver, Process, Restart};
use super::service::forwarding;
use crate::driver::command::Higher;

/// How long a command of the operator's may take unless it is said.
const COMMAND_TIMEOUT: Duration = Duration::from_mins(1);
/// How long systemd may take: units have limits of their own, which are to come first.
const SYSTEMD_TIMEOUT: Duration = Duration::from_mins(2);

/// The backend that `fields` is, of the service that `service` is.
pub(super) fn backend(service: &Fields, fields: &Fields, findings: &mut Findings<'_>) -> Option<Backend> {
    let driver = fields.table("driver").and_then(|table| driver(table, findings));
    let address = address(service, fields, findings);
    Some(Backend {
        name: fields.text("name")?.parse().ok()?,
        address: address?,
        weight: fields.count("weight")?,
        max_flows: Some(fields.count("max_flows")?).filter(|flows| *flows != 0),
        driver: driver?,
        host: fields.text("host").map(str::to_owned),
    })
}

/// Whether Baton starts it; `None` if that cannot be told.
pub(super) fn is_process(backend: &Fields) -> Option<bool> {
    Some(backend.table("driver")?.text("type")? == "process")
}

fn address(service: &Fields, fields: &Fields, findings: &mut Findings<'_>) -> Option<SocketAddr> {
    let process = is_process(fields)?;
    let vip = service.endpoint("vip");
    let Some(span) = fields.written("address") else {
        if !process {
            let help = "it takes an address and a port; only a process that Baton starts may leave it out";
            findings.error(&fields.span, "`address` is missing in [[service.backend]]", help);
            return None;
        }
        return vip.map(|vip| SocketAddr::new(unspecified(vip.ip()), vip.port()));
    };
    let address = fields.endpoint("address")?;
    if process && !address.ip().is_unspecified() {
        let own = SocketAddr::new(unspecified(address.ip()), address.port());
        let message = format!("`{address}` would not be the address of this process");
        findings.error(&span, message, format!("Baton gives it an address: write `{own}`"));
        return Some(address);
    }
    if address.ip().is_unspecified() && !process {
        let message = format!("`{address}` is no address of a backend");
        findings.error(&span, message, "only a process that Baton starts may leave it to Baton");
    } else if address.ip().is_multicast() {
        findings.error(&span, format!("`{address}` is a multicast address"), "it takes that of one machine");
    }
    let (Some(vip), Some(forwarding)) = (vip, forwarding(service)) else { return Some(address) };
    let mode = service.text("forwarding").unwrap_or_default();
    if address == vip {
        let help = "give the address that the backend itself has";
        findings.error(&span, format!("`{address}` is the VIP itself"), help);
    } else if forwarding != Forwarding::Ipip && address.is_ipv4() != vip.is_ipv4() {
        let family = if vip.is_ipv4() { "IPv4" } else { "IPv6" };
        let message = format!("`{address}` is not reached from the VIP `{vip}` by forwarding = \"{mode}\"");
        findings.error(&span, message, format!("use {family}, or forwarding = \"ipip\""));
    } else if forwarding != Forwarding::Nat && address.port() != vip.port() {
        let message = format!("port {} is not that of the VIP, {}", address.port(), vip.port());
        let help = format!("forwarding = \"{mode}\" leaves ports alone: let the backend listen on the VIP's");
        findings.error(&span, message, help);
    }
    Some(address)
}

fn unspecified(like: IpAddr) -> IpAddr {
    match like {
        IpAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        IpAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    }
}

fn driver(fields: &Fields, findings: &mut Findings<'_>) -> Option<Driver> {
    Some(match fields.text("type")? {
        "process" => Driver::Process(Process {
            command: fields.texts("command")?.to_vec(),
            directory: fields.path("directory")?,
            environment: fields.pairs("environment")?.iter().cloned().collect(),
            memory_max: fields.bytes("memory_max"),
        }),
        "command" => {
            let restart = restart(fields, findings);
            Driver::Command(CommandDriver {
                restart: restart?,
                pid_file: fields.path("pid_file"),
                timeout: fields.duration("timeout").unwrap_or(COMMAND_TIMEOUT),
                higher: higher(fields),
            })
        }
        "systemd" => Driver::Systemd {
            unit: fields.text("unit")?.to_owned(),
            timeout: fields.duration("timeout").unwrap_or(SYSTEMD_TIMEOUT),
        },
        _ => Driver::Manual,
    })
}

/// What is done if a graceful restart does not help.
fn higher(fields: &Fields) -> Higher {
    let command = |key: &str| fields.texts(key).map(<[String]>::to_vec);
    Higher {
        kill: command("kill"),
        reboot: command("reboot"),
        recreate: command("recreate"),
        boot_id: command("boot_id"),
    }
}

/// Either `restart`, or both `stop` and `start`.
fn restart(fields: &Fields, findings: &mut Findings<'_>) -> Option<Restart> {
    let help = "give `restart`, or both `stop` and `start`";
    let written = ["restart", "stop", "start"].map(|key| fields.written(key));
    let mut no = |span: &_, message: &str| {
        findings.error(span, message, help);
        None
    };
    let argv = |key: &str| fields.texts(key).map(<[String]>::to_vec);
    match written {
        [Some(_), None, None] => argv("restart").map(Restart::Once),
        [None, Some(_), Some(_)] => Some(Restart::StopStart { stop: argv("stop")?, start: argv("start")? }),
        [None, None, None] => no(&fields.span, "no command is given"),
        [Some(_), Some(span), _] => no(&span, "`stop` is beside `restart`"),
        [Some(_), None, Some(span)] => no(&span, "`start` is beside `restart`"),
        [None, Some(span), None] => no(&span, "`stop` is without `start`"),
        [None, None, Some(span)] => no(&span, "`start` is without `stop`"),
    }
}
