//! `baton explain`: where a packet would go and why, answered by the program itself.

mod packet;
mod show;

use std::net::SocketAddr;
use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context, Result, anyhow};
use clap::Args;
use nix::net::if_::if_indextoname;

use super::UsageError;
use super::out::say;
use crate::dataplane::{Answer, Explainer};
use crate::names::ServiceName;
use crate::net::netns::{NetnsHandle, run_in};
use crate::paths::Roots;
use crate::service;

use packet::{Flags, Question, Transport};
use show::Explained;

/// Tells where a packet from a client would go at this moment, and why.
///
/// A copy of the program that steers the service is run on such a packet, with the real tables, and changes
/// nothing: no flow is pinned, nothing is counted and nothing is sent.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  baton explain --service shop --from 10.1.2.3:40001              where a new connection goes
  baton explain --service shop --from 10.1.2.3:40001 --flags ACK  where this one goes, if it is open")]
pub(super) struct ExplainArgs {
    /// The service that the packet is for.
    #[arg(long, alias = "name")]
    service: ServiceName,
    /// The client that it comes from.
    #[arg(long, value_name = "IP:PORT")]
    from: SocketAddr,
    /// Its TCP flags: SYN, ACK, FIN, RST, PSH and URG, joined by `|`, `,` or `+`.
    #[arg(long, default_value = "SYN", conflicts_with = "udp")]
    flags: Flags,
    /// It is a UDP datagram.
    #[arg(long)]
    udp: bool,
    /// Print one JSON object.
    #[arg(long)]
    json: bool,
}

impl ExplainArgs {
    pub(super) fn run(self) -> Result<ExitCode> {
        super::require_root("running the XDP program")?;
        let roots = Roots::default();
        let services = service::list(&roots)?;
        if !services.contains(&self.service) {
            return Err(UsageError(super::unknown_service(&self.service, &services)).into());
        }
        let explained = self.explain(&roots).with_context(|| format!("service {}", self.service))?;
        if self.json {
            say!("{}", serde_json::to_string_pretty(&explained)?);
        } else {
            say!("{explained}");
        }
        Ok(ExitCode::SUCCESS)
    }

    fn explain(&self, roots: &Roots) -> Result<Explained> {
        let paths = roots.service(&self.service);
        let registration = service::load_registration(&paths)?.ok_or_else(|| anyhow!("it has just gone"))?;
        service::ensure_layout(&registration.pinned(roots), &self.service)?;
        let vip = registration.vip;
        if self.from.is_ipv4() != vip.is_ipv4() {
            let message = format!("no client at {} can reach {vip}: one is IPv4, the other IPv6", self.from);
            return Err(UsageError(message).into());
        }
        let transport = if self.udp { Transport::Udp } else { Transport::Tcp(self.flags) };
        let question = Question { from: self.from, to: vip, transport };
        let mut explainer = Explainer::open(&registration.pins(roots))?;
        explainer.ensure_same()?;
        let answer = explainer.explain(&question.frame()?, self.from)?;
        let own = registration.plane.is_none().then(|| paths.balancer_netns());
        let interface = interface_name(own.as_deref(), &answer);
        Ok(Explained::new(&self.service, question, &answer, interface, &registration.names()))
    }
}

/// The name of the interface that the packet would leave by; only for people, so no failure.
fn interface_name(netns: Option<&Path>, answer: &Answer) -> Option<String> {
    let ifindex = answer.ifindex?;
    let netns = netns.map_or_else(NetnsHandle::own, NetnsHandle::open).ok()?;
    let name = run_in(&netns, || if_indextoname(ifindex)).ok()?.ok()?;
    name.into_string().ok()
}
