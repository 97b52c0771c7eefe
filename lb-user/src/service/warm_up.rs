//! Warms backends up: Baton's own requests go to one that no client may reach yet.
//!
//! Where clients of this host reach the VIP through the packet path, so do these requests: each connection is pinned to
//! the backend before it is opened. Elsewhere the controller's own packets never come in by an interface that the
//! packet path watches, and the requests go straight to the backend, as its checks do.

use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;

use futures::stream::{self, StreamExt};
use lb_common::{BackendId, LAYOUT_VERSION, ServiceId};
use tokio::time::timeout;

use super::definition::{counts_open, millis, sees_turns};
use super::runtime::Runtime;
use crate::check;
use crate::clock::Now;
use crate::config;
use crate::dataplane::FlowPinner;
use crate::names::BackendName;
use crate::net::netns::NetnsHandle;
use crate::paths::ServicePaths;
use crate::recovery::{Finding, Input, Instance, Through, WarmUp};

/// Where clients of this host stand, and how their connections are pinned.
#[derive(Clone)]
pub(super) struct ClientWay {
    netns: Arc<NetnsHandle>,
    pinner: Arc<FlowPinner>,
}

/// The way of one backend's requests.
enum Way {
    /// That of a client.
    DataPath { way: ClientWay, vip: SocketAddr, service: ServiceId, backend: BackendId, epoch: u32 },
    /// That of a check.
    Direct { origin: Arc<NetnsHandle>, address: SocketAddr },
}

impl ClientWay {
    /// The way of clients of this host to a service with a network of its own; `None` if a connection cannot be led to
    /// a backend of our choice on it.
    pub(super) fn of(service: &config::Service, paths: &ServicePaths) -> Option<Self> {
        let pins_hold = sees_turns(service) && service.snat_ports.is_none() && !counts_open(service);
        service.warm_up.as_ref().filter(|_| pins_hold)?;
        let netns = NetnsHandle::own().map_err(|error| error.to_string());
        let pinner = FlowPinner::open(&paths.pins(LAYOUT_VERSION)).map_err(|error| error.to_string());
        match netns.and_then(|netns| Ok(Self { netns: Arc::new(netns), pinner: Arc::new(pinner?) })) {
            Ok(way) => Some(way),
            Err(error) => {
                tracing::warn!(%error, "backends are warmed up directly, not through the data path");
                None
            }
        }
    }
}

impl Runtime {
    /// Sends a backend the requests of its warm-up.
    pub(super) fn warm_up(&mut self, backend: BackendName, instance: Instance) {
        let Some(parts) = self.parts.backends.get(&backend) else { return };
        let Some(plan) = self.service.warm_up.clone() else { return };
        let way = match &self.parts.client_way {
            Some(way) => Way::DataPath {
                way: way.clone(),
                vip: self.service.vip,
                service: self.parts.id,
                backend: parts.id,
                epoch: self.coordinator.steering().epoch,
            },
            None => Way::Direct { origin: Arc::clone(&self.parts.origin), address: parts.address },
        };
        let reporter = self.reporter.clone();
        // Those that have ended need no longer be kept.
        while self.warm_ups.try_join_next().is_some() {}
        self.warm_ups.spawn(async move {
            let result = send_all(&plan, &way).await;
            // A runtime that has ended needs no report.
            let _ = reporter.send(Input::WarmedUp { backend, instance, result }).await;
        });
    }
}

async fn send_all(plan: &config::WarmUp, way: &Way) -> WarmUp {
    let begun = Now::read();
    let requests = stream::iter(0..plan.requests).map(|_| send_one(plan, way));
    let mut results = pin!(requests.buffer_unordered(plan.concurrency as usize));
    let (mut ok, mut first_failure) = (0, None);
    let all = async {
        while let Some(result) = results.next().await {
            match result {
                Ok(()) => ok += 1,
                Err(finding) => {
                    first_failure.get_or_insert(finding.to_string());
                }
            }
        }
    };
    if timeout(plan.deadline, all).await.is_err() {
        first_failure.get_or_insert_with(|| "not all were answered in time".to_owned());
    }
    WarmUp {
        through: match way {
            Way::DataPath { .. } => Through::DataPath,
            Way::Direct { .. } => Through::Direct,
        },
        ok,
        failed: u64::from(plan.requests).saturating_sub(ok),
        took_ms: Now::read().ms_since(begun).min(millis(plan.deadline)),
        first_failure,
    }
}

async fn send_one(plan: &config::WarmUp, way: &Way) -> Result<(), Finding> {
    match way {
        Way::Direct { origin, address } => check::run(&plan.what, origin, *address, plan.timeout).await,
        Way::DataPath { way, vip, service, backend, epoch } => {
            let pin = |client| way.pinner.pin(client, *service, *backend, *epoch);
            check::run_pinned(&plan.what, &way.netns, *vip, plan.timeout, pin).await
        }
    }
}
