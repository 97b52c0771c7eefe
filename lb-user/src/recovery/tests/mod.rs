//! Tests of the coordinator: sentences about what it does, a table of all it can meet, and a simulated world
//! full of faults whose every step is held against what must always be so.

mod broken;
mod budget;
mod changes;
mod dead;
mod failures;
mod hooks;
mod invariants;
mod known;
mod ladders;
mod maintenance;
mod manual;
mod pools;
mod resumption;
mod rules;
mod scenarios;
mod services;
mod simulation;
mod table;
mod verbs;
mod warm;
mod watch;
mod windows;
mod world;

use super::message::{Finding, Instance};
use super::policy::Policy;
use crate::names::BackendName;

fn name(text: &str) -> BackendName {
    text.parse().unwrap()
}

/// A life that nothing in the simulated world has.
fn instance(pid: u32) -> Instance {
    Instance { pid, start_ticks: 7 }
}

/// A small policy: a limit of 1000 bytes, and deadlines that a test need not wait long for.
fn policy() -> Policy {
    Policy {
        memory_limit_bytes: 1000,
        ready_deadline_ms: 5_000,
        drain_deadline_ms: 20_000,
        ..Policy::default()
    }
}

fn refused() -> Result<(), Finding> {
    Err(Finding::Refused)
}
