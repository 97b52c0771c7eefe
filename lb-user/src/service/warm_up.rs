//! Warms backends up: Baton's own requests go to one that no client may reach yet.
//!
//! Where clients of this host reach the VIP through the packet path, so do these requests: each connection is pinned to
//! the backend before it is opened. Elsewhere the controller's own packets never come in by an interface that the
//! packet path watches, and the requests go straight to the backend, as its checks do.

use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use futures::stream::{self, StreamExt};
use lb_common::{BackendId, LAYOUT_VERSION, ServiceId};
use tokio::time::timeout;

use super::definition::{counts_open, millis, sees_turns};
use super::runtime::Runtime;
use crate::check::{self, Check};
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
    let sent = send_in_turn(plan, |check| send_one(check, plan.timeout, way)).await;
    WarmUp {
        through: match way {
            Way::DataPath { .. } => Through::DataPath,
            Way::Direct { .. } => Through::Direct,
        },
        ok: sent.ok,
        failed: u64::from(plan.requests).saturating_sub(sent.ok),
        took_ms: Now::read().ms_since(begun).min(millis(plan.deadline)),
        first_failure: sent.first_failure,
    }
}

/// What came of requests.
#[derive(Debug, Default, PartialEq, Eq)]
struct Sent {
    ok: u64,
    first_failure: Option<String>,
}

/// Sends all requests of a plan, what they are in turn; those that are not answered at its deadline are given up.
async fn send_in_turn<'p, F>(plan: &'p config::WarmUp, send: impl Fn(&'p Check) -> F) -> Sent
where
    F: Future<Output = Result<(), Finding>>,
{
    let check_of = |number: usize| &plan.what[number % plan.what.len()];
    let requests = stream::iter(0..plan.requests as usize).map(|number| {
        let request = send(check_of(number));
        async move { (number, request.await) }
    });
    let mut results = pin!(requests.buffer_unordered(plan.concurrency as usize));
    let (mut sent, mut is_answered) = (Sent::default(), vec![false; plan.requests as usize]);
    let all = async {
        while let Some((number, result)) = results.next().await {
            is_answered[number] = true;
            match result {
                Ok(()) => sent.ok += 1,
                Err(finding) => {
                    sent.first_failure.get_or_insert_with(|| failure(check_of(number), &finding.to_string()));
                }
            }
        }
    };
    if timeout(plan.deadline, all).await.is_err() {
        // They begin in order, so the earliest of those without an answer has been under way.
        let earliest = is_answered.iter().position(|is_answered| !is_answered);
        let late = earliest.map(|number| failure(check_of(number), "not answered within `deadline`"));
        sent.first_failure = sent.first_failure.or(late);
    }
    sent
}

/// What a request met, after the path that it asked for.
fn failure(check: &Check, met: &str) -> String {
    match check {
        Check::Http(http) => format!("{}: {met}", http.path),
        _ => met.to_owned(),
    }
}

async fn send_one(check: &Check, limit: Duration, way: &Way) -> Result<(), Finding> {
    match way {
        Way::Direct { origin, address } => check::run(check, origin, *address, limit).await,
        Way::DataPath { way, vip, service, backend, epoch } => {
            let pin = |client| way.pinner.pin(client, *service, *backend, *epoch);
            check::run_pinned(check, &way.netns, *vip, limit, pin).await
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::future::pending;

    use super::*;
    use crate::check::HttpCheck;

    fn plan(requests: u32, paths: &[&str]) -> config::WarmUp {
        let request = |path: &&str| HttpCheck { path: (*path).to_owned(), ..HttpCheck::default() };
        config::WarmUp {
            requests,
            what: paths.iter().map(|path| Check::Http(request(path))).collect(),
            concurrency: 3,
            timeout: Duration::from_mins(1),
            deadline: Duration::from_mins(1),
            pass_percent: 100,
        }
    }

    fn path(check: &Check) -> &str {
        let Check::Http(http) = check else { panic!("{check:?}") };
        &http.path
    }

    #[tokio::test]
    async fn paths_take_turns_until_all_requests_are_sent() {
        let (plan, asked) = (plan(7, &["/a", "/b", "/c"]), RefCell::new(Vec::new()));
        let sent = send_in_turn(&plan, |check| {
            asked.borrow_mut().push(path(check));
            async { Ok(()) }
        });
        assert_eq!(sent.await, Sent { ok: 7, first_failure: None });
        assert_eq!(asked.into_inner(), ["/a", "/b", "/c", "/a", "/b", "/c", "/a"]);
    }

    #[tokio::test]
    async fn the_first_failure_says_which_path_failed() {
        let plan = plan(6, &["/a", "/b", "/c"]);
        let sent = send_in_turn(&plan, async |check| match path(check) {
            "/b" => Err(Finding::WrongAnswer("status 500".to_owned())),
            _ => Ok(()),
        });
        let first_failure = Some("/b: wrong answer: status 500".to_owned());
        assert_eq!(sent.await, Sent { ok: 4, first_failure });
        let plan = config::WarmUp { what: vec![Check::Tcp], ..plan };
        let sent = send_in_turn(&plan, async |_| Err(Finding::Refused)).await;
        assert_eq!(sent, Sent { ok: 0, first_failure: Some("connection refused".to_owned()) });
    }

    #[tokio::test]
    async fn at_the_deadline_the_earliest_request_without_an_answer_is_named() {
        let plan = config::WarmUp { deadline: Duration::from_millis(50), ..plan(6, &["/a", "/b", "/c"]) };
        let sent = send_in_turn(&plan, async |check| match path(check) {
            "/a" => Ok(()),
            _ => pending().await,
        });
        let first_failure = Some("/b: not answered within `deadline`".to_owned());
        assert_eq!(sent.await, Sent { ok: 2, first_failure });
    }
}
