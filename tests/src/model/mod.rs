//! A reference model of the packet path: slow, and plain enough to be believed.
//!
//! It says what becomes of a frame, from the documentation and the RFCs alone: it shares names with `lb-common`
//! (reasons, states, steering) and no logic. Checksums are summed anew, flows stand in a map. What the program is free
//! to choose (the port that it lends, the backend that a hash names) is a constraint here: the model accepts what was
//! chosen if it may be chosen, and holds the program to it from then on.
//!
//! - [`World`]: the services that both serve.
//! - [`parse`], [`flow`], [`rewrite`], [`Model`]: the model.
//! - [`recipe`], [`history`], [`generate`]: packets and what happens between them, as data that can be kept and replayed.
//! - [`Differ`]: runs both and compares.
//! - [`shrink`], [`corpus`], [`fuzz`]: the shortest history that shows something, and those that are kept.
//!
//! Time does not pass here: a history takes far less than the shortest timeout, so ageing is no part of it. Tables
//! never fill up either; `packets_flood` is about that.

pub mod bytes;
pub mod corpus;
mod differ;
mod error;
mod explain;
mod fate;
pub mod flow;
pub mod fuzz;
pub mod generate;
pub mod history;
pub mod parse;
mod path;
mod pools;
pub mod recipe;
mod reply;
pub mod rewrite;
pub mod shrink;
mod state;
pub mod world;

pub use differ::{Differ, Difference, Ran};
pub use fate::{Expected, Fate};
pub use state::{Model, Tally};
pub use world::World;
