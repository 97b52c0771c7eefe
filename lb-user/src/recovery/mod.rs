//! Deciding when to hand over and driving a rejuvenation to its end.
//!
//! [`Coordinator`] is a pure state machine: it is told the time and what happened, and answers with what to
//! do. Its shell does the IO, in the order given, and makes each [`Output::Journal`] durable before it
//! goes on to the outputs after it.

mod backend;
mod coordinator;
mod cycle;
pub mod event;
pub mod journal;
mod message;
mod policy;
pub mod report;
#[cfg(test)]
mod tests;
mod warm_up;

pub use backend::State;
pub use coordinator::Coordinator;
pub use message::{CutFlow, Finding, Input, Instance, Output, RequestId, Steering};
pub use policy::{Policy, Stragglers};
pub use warm_up::{Through, WarmUp};
