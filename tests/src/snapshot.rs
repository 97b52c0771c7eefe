//! Everything that pinned maps hold, read by other means than Baton's own: two snapshots are equal if nothing
//! was touched in between.

use std::collections::BTreeMap;
use std::path::Path;

use aya::Pod;
use aya::maps::{Array, Map, MapData, PerCpuArray};
use lb_common::bucket::{Bucket, LogHead, Tuple};
use lb_common::listeners::Place;
use lb_common::pool::Pool;
use lb_common::response::Times;
use lb_common::snat::Slot;
use lb_common::{Backend, BackendCounters, Service, Settings};
use zerocopy::{Immutable, IntoBytes};

/// Every byte of every map, by the map's name.
pub type Snapshot = BTreeMap<&'static str, Vec<u8>>;

/// Reads every map that is pinned in `pins`.
///
/// # Panics
///
/// Panics if a map is not there, or if another one is pinned beside those that are known here.
pub fn snapshot(pins: &Path) -> Snapshot {
    let snapshot = BTreeMap::from([
        ("TABLE_SETTINGS", array::<Settings>(pins, "TABLE_SETTINGS")),
        ("LISTENERS", array::<Place>(pins, "LISTENERS")),
        ("PORTS", array::<u64>(pins, "PORTS")),
        ("SERVICES", array::<Service>(pins, "SERVICES")),
        ("STEERING", array::<u64>(pins, "STEERING")),
        ("BACKENDS", array::<Backend>(pins, "BACKENDS")),
        ("BUCKETS", array::<Bucket>(pins, "BUCKETS")),
        ("TUPLES", array::<Tuple>(pins, "TUPLES")),
        ("TUPLE_LOG", array::<Tuple>(pins, "TUPLE_LOG")),
        ("TUPLE_LOG_HEADS", array::<LogHead>(pins, "TUPLE_LOG_HEADS")),
        ("SNAT_SLOTS", array::<Slot>(pins, "SNAT_SLOTS")),
        ("POOLS", array::<Pool>(pins, "POOLS")),
        ("OPEN_FLOWS", array::<u64>(pins, "OPEN_FLOWS")),
        ("TURNS", per_cpu::<u32>(pins, "TURNS")),
        ("RESPONSE_STARTS", array::<u64>(pins, "RESPONSE_STARTS")),
        ("RESPONSE_TIMES", per_cpu::<Times>(pins, "RESPONSE_TIMES")),
        ("REASON_COUNTERS", per_cpu::<u64>(pins, "REASON_COUNTERS")),
        ("BACKEND_COUNTERS", per_cpu::<BackendCounters>(pins, "BACKEND_COUNTERS")),
    ]);
    for entry in pins.read_dir().expect("a pin directory") {
        let name = entry.expect("an entry").file_name();
        let name = name.to_str().expect("a name in ASCII");
        assert!(name.starts_with("link") || snapshot.contains_key(name), "no snapshot of {name}");
    }
    snapshot
}

/// The maps that hold something else by now.
///
/// # Panics
///
/// As [`snapshot`].
pub fn touched_since(before: &Snapshot, pins: &Path) -> Vec<&'static str> {
    let now = snapshot(pins);
    now.into_iter().filter(|(name, bytes)| before[name] != *bytes).map(|(name, _)| name).collect()
}

fn open(pins: &Path, name: &str) -> MapData {
    MapData::from_pin(pins.join(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

fn array<T: Pod + IntoBytes + Immutable>(pins: &Path, name: &str) -> Vec<u8> {
    let map: Array<_, T> = Map::Array(open(pins, name)).try_into().expect("an array");
    map.iter().flat_map(|value| value.expect("a value").as_bytes().to_vec()).collect()
}

fn per_cpu<T: Pod + IntoBytes + Immutable>(pins: &Path, name: &str) -> Vec<u8> {
    let map: PerCpuArray<_, T> = Map::PerCpuArray(open(pins, name)).try_into().expect("a per-CPU array");
    map.iter().flat_map(|values| values.expect("values").as_bytes().to_vec()).collect()
}
