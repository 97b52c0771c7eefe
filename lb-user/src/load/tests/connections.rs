//! How connections are opened, kept, closed and bounded.

use std::collections::BTreeSet;
use std::time::Duration;

use super::server::Server;
use super::{outcomes, plan, run_quietly};
use crate::load::Outcome;

#[tokio::test]
async fn one_request_a_connection_opens_one_for_each() {
    let server = Server::start().await;
    let report = run_quietly(&plan(server.address, 10, &["name=x,path=/ok"])).await;
    assert_eq!(report.summary.failed, 0);
    assert_eq!(report.summary.connections.opened, 10);
}

#[tokio::test]
async fn a_kept_connection_carries_as_many_requests_as_it_may() {
    let server = Server::start().await;
    let kind = "name=x,path=/ok,mode=keep-alive,requests=4";
    let report = run_quietly(&plan(server.address, 12, &[kind])).await;
    assert_eq!(report.summary.failed, 0);
    let carried_by: Vec<_> = report.records.iter().filter_map(|record| record.connection).collect();
    assert_eq!(carried_by, [1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3]);
    let opening: Vec<_> = report.records.iter().map(|record| record.connected_us.is_some()).collect();
    assert_eq!(opening.iter().filter(|opened| **opened).count(), 3);
}

#[tokio::test]
async fn an_idle_connection_that_the_server_closes_is_no_failure() {
    let server = Server::start().await;
    let kind = "name=x,path=/closes-after/3,mode=keep-alive";
    let report = run_quietly(&plan(server.address, 12, &[kind])).await;
    assert_eq!(outcomes(&report), [Outcome::Ok; 12]);
    let connections = report.summary.connections;
    assert_eq!(connections.opened, 4);
    // The last one may end together with the run.
    assert!((3..=4).contains(&connections.closed_idle), "{connections:?}");
}

#[tokio::test]
async fn an_idle_connection_that_the_server_resets_is_no_failure_but_is_told() {
    let server = Server::start().await;
    let mut plan = plan(server.address, 20, &["name=x,path=/resets-idle,mode=keep-alive"]);
    plan.rate = 20.0;
    plan.duration = Duration::from_millis(250);
    let report = run_quietly(&plan).await;
    assert_eq!(outcomes(&report), [Outcome::Ok; 5]);
    assert!(report.summary.connections.reset_idle >= 4, "{:?}", report.summary.connections);
}

#[tokio::test]
async fn an_idle_connection_is_closed_after_its_time() {
    let server = Server::start().await;
    let mut plan = plan(server.address, 3, &["name=x,path=/ok,mode=keep-alive,idle=50ms"]);
    plan.rate = 3.0;
    plan.duration = Duration::from_millis(990);
    let report = run_quietly(&plan).await;
    assert_eq!(outcomes(&report), [Outcome::Ok; 3]);
    assert_eq!((report.summary.connections.opened, report.summary.connections.expired_idle), (3, 2));
}

#[tokio::test]
async fn a_request_opens_a_connection_if_all_kept_ones_are_busy() {
    let server = Server::start().await;
    let report = run_quietly(&plan(server.address, 10, &["name=x,path=/trickle/300,mode=keep-alive"])).await;
    assert_eq!(outcomes(&report), [Outcome::Ok; 10]);
    let used: BTreeSet<_> = report.records.iter().filter_map(|record| record.connection).collect();
    assert_eq!(used.len(), 10);
    assert_eq!(report.summary.connections.peak, 10);
}

#[tokio::test]
async fn a_request_that_finds_no_connection_free_is_recorded_not_dropped() {
    let server = Server::start().await;
    let mut plan = plan(server.address, 10, &["name=x,path=/hang,timeout=400ms"]);
    plan.max_connections = 2;
    let report = run_quietly(&plan).await;
    let mut expected = [Outcome::NoConnection; 10];
    expected[..2].fill(Outcome::Timeout);
    assert_eq!(outcomes(&report), expected);
}

#[tokio::test]
async fn an_idle_connection_makes_room_for_a_request_that_needs_its_own() {
    let server = Server::start().await;
    let kinds = ["name=kept,path=/ok,mode=keep-alive", "name=own,path=/ok"];
    let mut plan = plan(server.address, 30, &kinds);
    plan.max_connections = 1;
    let report = run_quietly(&plan).await;
    assert_eq!(outcomes(&report), [Outcome::Ok; 30]);
    assert!(report.summary.connections.expired_idle > 0, "{:?}", report.summary.connections);
}
