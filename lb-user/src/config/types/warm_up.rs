//! How a backend is warmed up.

use std::time::Duration;

use crate::check::Check;

/// Requests that a backend gets before it may get those of clients.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WarmUp {
    /// How many (1 to 100,000).
    pub requests: u32,
    /// What they are, in turn (1 or more): one [`Check::Tcp`], or a [`Check::Http`] for each path.
    pub what: Vec<Check>,
    /// So many are under way at the same time (1 to 1,000).
    pub concurrency: u32,
    /// One that takes longer has failed.
    pub timeout: Duration,
    /// How long all of them may take.
    pub deadline: Duration,
    /// So many percent have to succeed (1 to 100).
    pub pass_percent: u8,
}
