//! The compiled XDP programs, embedded at build time.

/// The ELF object that `build.rs` made, aligned as the parser wants it.
pub(super) static BYTES: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/baton-xdp"));
