//! What every map must look like: pinned maps of another shape are refused, never reinterpreted.

use std::fs;
use std::io;
use std::path::Path;

use aya::maps::{Array, Map, MapData, MapError, MapInfo, MapType};
use lb_common::bucket::{Bucket, ENTRIES, LogHead, Tuple};
use lb_common::listeners::{PLACES, PORT_WORDS, Place};
use lb_common::pool::{POOLS_MAX, Pool};
use lb_common::reason::COUNTERS;
use lb_common::response::{STARTS, Times};
use lb_common::snat::{PORTS, Slot};
use lb_common::{BACKENDS_MAX, Backend, BackendCounters, SERVICES_MAX, Service, Settings};

use super::{OpenError, settings};

/// One map as the kernel reports it.
pub(super) struct Layout {
    pub(super) name: &'static str,
    map_type: MapType,
    value: usize,
    entries: Entries,
    flags: u32,
}

/// How many entries a map has.
enum Entries {
    Always(u32),
    Buckets,
    Slots,
    LogPlaces,
    Cpus,
    SnatSlots,
}

const MMAPABLE: u32 = 1 << 10;

const fn map(name: &'static str, map_type: MapType, value: usize, entries: Entries, flags: u32) -> Layout {
    Layout { name, map_type, value, entries, flags }
}

/// The map that tells how large the others are.
const SETTINGS: &str = "TABLE_SETTINGS";

/// Every map that is pinned; all are arrays.
pub(super) const MAPS: &[Layout] = {
    use Entries::{Always, Buckets, Cpus, LogPlaces, Slots, SnatSlots};
    use MapType::{Array, PerCpuArray};
    &[
        map(SETTINGS, Array, size_of::<Settings>(), Always(1), 0),
        map("LISTENERS", Array, size_of::<Place>(), Always(PLACES), MMAPABLE),
        map("PORTS", Array, 8, Always(PORT_WORDS), MMAPABLE),
        map("SERVICES", Array, size_of::<Service>(), Always(SERVICES_MAX), 0),
        map("STEERING", Array, 8, Always(SERVICES_MAX), MMAPABLE),
        map("BACKENDS", Array, size_of::<Backend>(), Always(BACKENDS_MAX), MMAPABLE),
        map("BUCKETS", Array, size_of::<Bucket>(), Buckets, MMAPABLE),
        map("TUPLES", Array, size_of::<Tuple>(), Slots, MMAPABLE),
        map("TUPLE_LOG", Array, size_of::<Tuple>(), LogPlaces, MMAPABLE),
        map("TUPLE_LOG_HEADS", Array, size_of::<LogHead>(), Cpus, MMAPABLE),
        map("SNAT_SLOTS", Array, size_of::<Slot>(), SnatSlots, MMAPABLE),
        map("POOLS", Array, size_of::<Pool>(), Always(POOLS_MAX), 0),
        map("OPEN_FLOWS", Array, 8, Always(BACKENDS_MAX), MMAPABLE),
        map("TURNS", PerCpuArray, 4, Always(SERVICES_MAX), 0),
        map("RESPONSE_STARTS", Array, 8, Always(STARTS), 0),
        map("RESPONSE_TIMES", PerCpuArray, size_of::<Times>(), Always(BACKENDS_MAX), 0),
        map("REASON_COUNTERS", PerCpuArray, 8, Always(COUNTERS), 0),
        map("BACKEND_COUNTERS", PerCpuArray, size_of::<BackendCounters>(), Always(BACKENDS_MAX), 0),
    ]
};

/// The settings of the tables that are pinned in `pins`, if there are any; an error if one of the maps is
/// not what this build expects.
///
/// Tables that were never finished are taken away: nothing was attached to them yet.
pub(super) fn verify_pins(pins: &Path) -> Result<Option<Settings>, OpenError> {
    let settings = read_pins(pins)?;
    if settings.is_none() {
        discard(pins)?;
    }
    Ok(settings)
}

/// The same, and nothing is changed.
pub(super) fn read_pins(pins: &Path) -> Result<Option<Settings>, OpenError> {
    let Some(settings) = pinned_settings(pins)? else { return Ok(None) };
    for expected in MAPS {
        let path = pins.join(expected.name);
        let info =
            MapInfo::from_pin(&path).map_err(|source| OpenError::Map { name: expected.name, source })?;
        if let Some(difference) = expected.difference(&info, &settings) {
            return Err(OpenError::Layout { path, difference });
        }
    }
    Ok(Some(settings))
}

/// The settings that were kept with the tables; `None` if the tables are not there or not finished.
fn pinned_settings(pins: &Path) -> Result<Option<Settings>, OpenError> {
    let path = pins.join(SETTINGS);
    let failed = |source| OpenError::Map { name: SETTINGS, source };
    match fs::symlink_metadata(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        _ => {}
    }
    let info = MapInfo::from_pin(&path).map_err(failed)?;
    let expected = &MAPS[0];
    if let Some(difference) = expected.difference(&info, &Settings::default()) {
        return Err(OpenError::Layout { path, difference });
    }
    let read = || -> Result<Settings, MapError> {
        let kept: Array<_, Settings> = Map::Array(MapData::from_pin(&path)?).try_into()?;
        kept.get(&0, 0)
    };
    let settings = read().map_err(failed)?;
    Ok(Some(settings).filter(|settings| *settings != Settings::default()))
}

fn discard(pins: &Path) -> Result<(), OpenError> {
    let failed = |source| OpenError::PinDirectory { path: pins.to_owned(), source };
    for entry in fs::read_dir(pins).map_err(failed)? {
        fs::remove_file(entry.map_err(failed)?.path()).map_err(failed)?;
    }
    Ok(())
}

impl Layout {
    /// How many entries the map has under these settings.
    pub(super) fn entries(&self, settings: &Settings) -> u32 {
        let buckets = settings.bucket_mask + 1;
        match self.entries {
            Entries::Always(entries) => entries,
            Entries::Buckets => buckets,
            Entries::Slots => buckets * ENTRIES as u32,
            Entries::LogPlaces => (settings.log_mask + 1) * settings::cpus(),
            Entries::Cpus => settings::cpus(),
            // An array has at least one entry.
            Entries::SnatSlots => (settings.snat_groups * PORTS).max(1),
        }
    }

    fn difference(&self, info: &MapInfo, settings: &Settings) -> Option<String> {
        let facts = [
            ("type", self.map_type as u32, info.map_type().map_or(0, |t| t as u32)),
            ("key size", 4, info.key_size()),
            ("value size", self.value as u32, info.value_size()),
            ("entries", self.entries(settings), info.max_entries()),
            ("flags", self.flags, info.map_flags()),
        ];
        facts
            .iter()
            .find(|(_, expected, found)| expected != found)
            .map(|(what, expected, found)| format!("{what} is {found} where {expected} is expected"))
    }
}
