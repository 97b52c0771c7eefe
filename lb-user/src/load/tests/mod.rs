//! The load generator against real sockets on loopback.

mod causes;
mod connections;
mod figures;
mod open_loop;
mod server;

use std::net::SocketAddr;
use std::time::Duration;

use super::{Outcome, Plan, Report, RequestKind, run};

/// `count` requests at 100 a second, of these kinds.
fn plan(target: SocketAddr, count: u32, kinds: &[&str]) -> Plan {
    let mut plan = Plan::new(target);
    plan.kinds = kinds.iter().map(|spec| spec.parse::<RequestKind>().unwrap()).collect();
    plan.duration = Duration::from_millis(10) * count;
    plan.timeout = Duration::from_secs(5);
    plan.connect_timeout = Duration::from_millis(300);
    plan.max_connections = 200;
    plan.run = "test".to_owned();
    plan
}

async fn run_quietly(plan: &Plan) -> Report {
    run(plan, &mut ()).await.unwrap()
}

fn outcomes(report: &Report) -> Vec<Outcome> {
    report.records.iter().map(|record| record.outcome).collect()
}
