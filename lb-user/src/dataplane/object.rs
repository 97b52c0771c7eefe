//! The compiled XDP programs, embedded at build time, and how they are made ready for the kernel.

use std::path::Path;

use aya::{Ebpf, EbpfLoader};
use lb_common::Settings;

use super::{OpenError, layout, open_error};

/// The ELF object that `build.rs` made, aligned as the parser wants it.
static BYTES: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/baton-xdp"));

/// Whether a program may change what outlives a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Traces {
    /// It may: it carries traffic.
    Left,
    /// It may not: it only tells what it would do.
    None,
}

/// The embedded object on the maps that are pinned in `pins`; those that are missing are made.
pub(super) fn load(pins: &Path, settings: &Settings, traces: Traces) -> Result<Ebpf, OpenError> {
    let mut loader = EbpfLoader::new();
    loader.override_global("SETTINGS", settings, true);
    let dry_run = u32::from(traces == Traces::None);
    loader.override_global("DRY_RUN", &dry_run, true);
    for expected in layout::MAPS {
        loader.map_pin_path(expected.name, pins.join(expected.name));
        loader.map_max_entries(expected.name, expected.entries(settings));
    }
    loader.load(BYTES).map_err(open_error)
}
