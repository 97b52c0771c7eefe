//! What the service is told on its command line.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, ValueEnum};

use super::heap::HeapLimits;
use super::size::Size;

/// Requests that leak.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LeakOn {
    /// Those of `/work`.
    Work,
    /// Those of paths that do not exist.
    Missing,
}

/// How the service listens and how it ages.
#[derive(Args, Clone, Debug)]
pub struct Options {
    /// Address to listen on
    #[arg(long, value_name = "ADDRESS:PORT", default_value = "0.0.0.0:8080")]
    pub listen: SocketAddr,
    /// Most memory that may be live
    #[arg(long, value_name = "SIZE", default_value = "96MiB")]
    pub heap_max: Size,
    /// Memory that each leaking request leaks
    #[arg(long, value_name = "SIZE", default_value = "16KiB")]
    pub leak: Size,
    /// Memory that each request uses and gives back
    #[arg(long, value_name = "SIZE", default_value = "256KiB")]
    pub garbage: Size,
    /// Share of the headroom after which the collector runs
    #[arg(long, value_name = "PERCENT", default_value_t = 50, value_parser = clap::value_parser!(u64).range(1..=100))]
    pub collect_after: u64,
    /// Requests that leak
    #[arg(long, value_name = "KIND", value_delimiter = ',', default_value = "work")]
    pub leak_on: Vec<LeakOn>,
    /// Requests that are answered 500 when memory is exhausted, before the process dies
    #[arg(long, value_name = "COUNT", default_value_t = 50)]
    pub last_answers: u32,
    /// Leak nothing: the healthy twin
    #[arg(long)]
    pub healthy: bool,
    /// File to which each executed request adds a line
    #[arg(long, value_name = "FILE")]
    pub execution_log: Option<PathBuf>,
    /// Time before the service listens, as services need to start
    #[arg(long, value_name = "TIME", default_value = "0s", value_parser = humantime::parse_duration)]
    pub startup_delay: Duration,
    /// Time that each request takes besides its work
    #[arg(long, value_name = "TIME", default_value = "0s", value_parser = humantime::parse_duration)]
    pub latency: Duration,
    /// Let `/fault?mode=silent|error|slow|closed|reset` break the service, which only a test's should
    #[arg(long)]
    pub faults: bool,
    /// Name of this instance, sent with every answer
    #[arg(long, value_name = "NAME", env = "BATON_BACKEND", default_value = "-")]
    pub backend: String,
}

impl Options {
    /// The limits of the heap.
    pub(crate) fn limits(&self) -> HeapLimits {
        HeapLimits { max_bytes: self.heap_max.0, factor_percent: self.collect_after }
    }

    /// Bytes that one request of this kind leaks.
    pub(crate) fn leak_bytes(&self, kind: LeakOn) -> u64 {
        if self.healthy || !self.leak_on.contains(&kind) { 0 } else { self.leak.0 }
    }
}
