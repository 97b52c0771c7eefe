//! Deciding when to hand over and driving a rejuvenation to its end.
//!
//! [`Coordinator`] is a pure state machine: it is told the time and what happened, and answers with what to
//! do. Its shell does the IO, in the order given, and makes each [`Output::Journal`] durable before it
//! goes on to the outputs after it.

mod backend;
pub mod budget;
mod coordinator;
mod cycle;
mod ejections;
pub mod event;
mod evidence;
pub mod fleet_lock;
mod gate;
pub mod hook;
pub mod journal;
mod ladder;
mod message;
mod policy;
pub mod report;
#[cfg(test)]
mod tests;
mod warm_up;
pub mod window;

pub use backend::State;
pub use coordinator::{Coordinator, Standing};
pub use ladder::{Evidence, Rung, Step, StepProof, StepReport};
pub use message::{CutFlow, Finding, Input, Instance, Output, RequestId, Steering};
pub use policy::{Jitter, Policy, ShadowRules, Stragglers};
pub use warm_up::{Through, WarmUp};
