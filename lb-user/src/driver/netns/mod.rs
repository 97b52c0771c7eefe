//! The netns driver's network: three namespaces for one service on this host, made, verified, adopted and
//! removed.

pub mod topology;

pub use topology::{BackendSite, DEFAULT_POOL, End, Pair, Placement, Spec, Topology};
