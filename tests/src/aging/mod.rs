//! A service that ages as real ones do, and its healthy twin.
//!
//! It leaks memory on requests, spends ever more of its time in a garbage collector as the heap fills, answers
//! 500 when nothing fits any more, and then dies. Nothing of this is played from a table: the leaked memory is
//! allocated and touched, and the collector walks all of it.
//!
//! What always holds: everything happens on one thread, so a collection stops the world; a request is logged
//! as executed exactly once, before any byte of its answer is sent; the twin runs the same code and leaks
//! nothing.

mod body;
mod executions;
mod fault;
mod heap;
mod options;
mod routes;
mod server;
mod size;

pub use heap::{Heap, HeapLimits, OutOfMemory};
pub use options::{LeakOn, Options};
pub use server::{End, serve};
pub use size::{Size, SizeError};
