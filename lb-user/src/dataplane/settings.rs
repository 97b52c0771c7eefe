//! How large the tables are made, and with which hash keys.

use std::io;

use lb_common::bucket::{BYTES_PER_FLOW, ENTRIES, FLOWS, HashKeys, buckets_for};
use lb_common::{SERVICES_MAX, Settings};
use rand::TryRngCore;
use rand::rngs::OsRng;

/// Tuples that each CPU's log holds: 4 MB a CPU, a second of 130,000 new flows.
const LOG_PLACES: u32 = 1 << 17;
/// The part of the machine's memory that a table takes by default.
const MEMORY_SHARE: u64 = 256;
/// Flows that a table is made for by default, at least and at most.
const DEFAULT_FLOWS: std::ops::RangeInclusive<u64> = 1 << 16..=1 << 20;

/// How large the tables of a data plane are made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sizes {
    /// Flows that the flow table is made for ([`FLOWS`]).
    pub flows: u32,
    /// Services that may have `snat`, up to [`lb_common::SERVICES_MAX`]; each takes 2 MiB.
    pub snat_services: u32,
}

impl From<u32> for Sizes {
    /// Tables for this many flows, without `snat`.
    fn from(flows: u32) -> Self {
        Self { flows, snat_services: 0 }
    }
}

/// New settings for tables of these sizes.
pub(super) fn draw(sizes: Sizes) -> io::Result<Settings> {
    let Sizes { flows, snat_services } = sizes;
    let mut keys = [0u64; 6];
    for key in &mut keys {
        // Odd multipliers lose nothing.
        *key = OsRng.try_next_u64().map_err(io::Error::other)? | 1;
    }
    let log_places = LOG_PLACES.min(flows.clamp(*FLOWS.start(), *FLOWS.end()).next_power_of_two());
    Ok(Settings::new(HashKeys(keys), buckets_for(flows) - 1, log_places - 1, snat_services.min(SERVICES_MAX)))
}

/// Flows that a table is made for if nobody says: by the machine's memory, 65,536 to 1,048,576.
pub fn default_flows() -> u32 {
    use procfs::Current;
    let memory = procfs::Meminfo::current().map_or(0, |memory| memory.mem_total);
    let flows = memory / MEMORY_SHARE / BYTES_PER_FLOW as u64;
    flows.clamp(*DEFAULT_FLOWS.start(), *DEFAULT_FLOWS.end()) as u32
}

/// Flows that a table which is asked to hold `flows` is made for: it has a power of two of buckets.
pub fn flows_in_table(flows: u32) -> u32 {
    buckets_for(flows) * (ENTRIES as u32 / 2)
}

/// CPUs that there can be: each has its own log.
pub(super) fn cpus() -> u32 {
    aya::util::nr_cpus().map_or(1, |cpus| cpus as u32)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_table_has_its_own_keys_and_none_is_zero() {
        let (one, other) = (draw((1 << 16).into()).unwrap(), draw((1 << 16).into()).unwrap());
        assert_ne!(one.keys, other.keys);
        assert!(one.keys.0.iter().all(|key| *key != 0));
    }

    #[test]
    fn a_table_is_made_for_at_least_the_flows_that_were_asked_for() {
        for flows in [1_000, 1_024, 1_025, 1_000_000, 1 << 24] {
            let made_for = flows_in_table(flows);
            assert!(made_for >= flows && flows_in_table(made_for) == made_for, "{flows}");
        }
    }

    #[test]
    fn the_default_table_is_a_small_part_of_memory() {
        assert!(DEFAULT_FLOWS.contains(&u64::from(default_flows())));
    }
}
