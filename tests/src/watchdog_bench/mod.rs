//! How soon the watchdog finds what is wrong with a backend, and how soon clients are served again: faults made in
//! the lab, under load, with checks as they are for everybody.
//!
//! What always holds:
//! - A fault is known to the controller by nothing but its checks, the packet path and the end of the process.
//! - Times run from the moment at which the fault is made; what the controller did is timed by its own events.
//! - Requests are never retried, and each that failed is counted.
//!
//! `cargo xtask bench watchdog` builds what this needs, runs it as root and shows the figures.

#![expect(clippy::missing_panics_doc, reason = "a lab that does not come up ends the bench by a panic")]

mod busy;
mod events;
mod fault;
mod figures;
mod trial;

pub use busy::saturate;
pub use fault::Fault;
pub use figures::{FaultFigures, Figures, Quiet, Spread};
pub use trial::{Subject, Trial};
