//! Baton keeps a service that ages always available: it hands new flows to a warm standby,
//! waits until every flow of the old backend has ended by itself, and only then restarts it.
//!
//! Decisions are pure (`fn step(&mut self, now, input) -> outputs`); a thin shell round them does the IO.

pub mod api;
mod atomic_file;
pub mod check;
pub mod cli;
pub mod clock;
pub mod config;
pub mod dataplane;
mod documents;
pub mod driver;
pub mod flow_counts;
pub mod import;
pub mod load;
pub mod names;
pub mod net;
mod outlet;
pub mod paths;
mod post;
pub mod probe;
mod program;
pub mod recovery;
mod roff;
pub mod service;
