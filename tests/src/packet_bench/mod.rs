//! What a packet costs: Baton's program and two floors, run by the kernel on frames of many flows.
//!
//! What always holds:
//! - A figure is net: what the program and the maker of frames take, less what the maker takes before a
//!   program that does nothing. The frame is made anew before each run.
//! - Flows are visited in scrambled order, and all cases are measured in every round, one after the other.
//! - Before a case is measured, the counters have shown that its frames meet what its name says.
//!
//! `cargo xtask bench packet` builds what this needs, runs it as root and judges the figures.

mod cases;
mod floors;
mod frames;
mod harness;
mod measure;
mod report;
mod services;
mod stats;
mod worlds;

pub use cases::{CASES, Case, Subject, by_names};
pub use measure::{Plan, measure};
pub use report::{Absent, Figures, Machine, Measured, Report};
