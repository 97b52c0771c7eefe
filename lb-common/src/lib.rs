//! What Baton's kernel and user space share: map keys and values, flow states, checksum arithmetic.
//!
//! Everything here is pure and runs on both sides, so whatever can be wrong is tested on the host.
//! Layouts are `#[repr(C)]` without padding; [`LAYOUT_VERSION`] changes whenever one of them does.

#![no_std]

pub mod affinity;
pub mod answer;
#[cfg(feature = "bench")]
pub mod bench;
pub mod bucket;
pub mod checksum;
pub mod endpoint;
pub mod explanation;
pub mod flow;
pub mod listeners;
pub mod pool;
pub mod reason;
pub mod response;
pub mod snat;
pub mod steer;
pub mod tables;

pub use endpoint::{Address, Endpoint};
pub use explanation::Explanation;
pub use flow::{Flow, FlowKey, FlowState, Half, Halves, Ticks};
pub use listeners::Listener;
pub use reason::Reason;
pub use steer::{BackendId, ServiceId, Steer};
pub use tables::{Backend, BackendCounters, BackendState, Forwarding, NextHop, Service, Settings};

/// Version of the map layouts: pins of another version are never adopted.
pub const LAYOUT_VERSION: u32 = 2;

/// Services that one loaded program can hold; ids run from 0 to this, exclusive.
pub const SERVICES_MAX: u32 = 64;

/// Backends that one loaded program can hold; ids run from 1 to this, exclusive, and 0 stands for none.
pub const BACKENDS_MAX: u32 = 1024;

/// Marks a map type as plain data for aya, which may then copy it between user space and the kernel.
macro_rules! plain_data {
    ($($name:ty),+ $(,)?) => {
        $(
            // SAFETY: zerocopy has proved that the type has no padding and that every bit pattern is legal.
            #[cfg(feature = "user")]
            #[expect(unsafe_code, reason = "aya's marker trait is unsafe to implement")]
            unsafe impl aya::Pod for $name {}
        )+
    };
}
pub(crate) use plain_data;
