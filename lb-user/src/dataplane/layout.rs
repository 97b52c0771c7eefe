//! What every map must look like: pinned maps of another shape are refused, never reinterpreted.

use std::fs;
use std::io;
use std::path::Path;

use aya::maps::{MapInfo, MapType};
use lb_common::reason::REASONS;
use lb_common::{
    BACKENDS_MAX, Backend, BackendCounters, Endpoint, FLOWS_MAX, Flow, FlowKey, Owner, SERVICES_MAX, Service,
};

use super::OpenError;

/// One map as the kernel reports it.
pub(super) struct Layout {
    pub(super) name: &'static str,
    map_type: MapType,
    key: usize,
    value: usize,
    entries: u32,
    flags: u32,
}

const NO_PREALLOC: u32 = 1;
const MMAPABLE: u32 = 1 << 10;

const fn map(
    name: &'static str,
    map_type: MapType,
    sizes: (usize, usize),
    entries: u32,
    flags: u32,
) -> Layout {
    Layout { name, map_type, key: sizes.0, value: sizes.1, entries, flags }
}

/// Every map of the object.
pub(super) const MAPS: &[Layout] = &[
    map("SERVICE_IDS", MapType::Hash, (size_of::<Endpoint>(), 4), SERVICES_MAX, 0),
    map("SERVICES", MapType::Array, (4, size_of::<Service>()), SERVICES_MAX, 0),
    map("STEERING", MapType::Array, (4, 8), SERVICES_MAX, MMAPABLE),
    map("BACKENDS", MapType::Array, (4, size_of::<Backend>()), BACKENDS_MAX, 0),
    map("OWNERS", MapType::Hash, (size_of::<Endpoint>(), size_of::<Owner>()), BACKENDS_MAX, 0),
    map("FLOWS", MapType::Hash, (size_of::<FlowKey>(), size_of::<Flow>()), FLOWS_MAX, NO_PREALLOC),
    map("REASON_COUNTERS", MapType::PerCpuArray, (4, 8), REASONS, 0),
    map("BACKEND_COUNTERS", MapType::PerCpuArray, (4, size_of::<BackendCounters>()), BACKENDS_MAX, 0),
];

/// Whether maps are pinned in `pins`; an error if one of them is not what this build expects.
pub(super) fn verify_pins(pins: &Path) -> Result<bool, OpenError> {
    let mut found = false;
    for expected in MAPS {
        let path = pins.join(expected.name);
        match fs::symlink_metadata(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            _ => found = true,
        }
        let info =
            MapInfo::from_pin(&path).map_err(|source| OpenError::Map { name: expected.name, source })?;
        if let Some(difference) = expected.difference(&info) {
            return Err(OpenError::Layout { path, difference });
        }
    }
    Ok(found)
}

impl Layout {
    fn difference(&self, info: &MapInfo) -> Option<String> {
        let facts = [
            ("type", self.map_type as u32, info.map_type().map_or(0, |t| t as u32)),
            ("key size", self.key as u32, info.key_size()),
            ("value size", self.value as u32, info.value_size()),
            ("entries", self.entries, info.max_entries()),
            ("flags", self.flags, info.map_flags()),
        ];
        facts
            .iter()
            .find(|(_, expected, found)| expected != found)
            .map(|(what, expected, found)| format!("{what} is {found} where {expected} is expected"))
    }
}
