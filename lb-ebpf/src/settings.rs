//! What the loader decided: constants to the verifier, which knows their values.

use aya_ebpf::btf_maps::Array;
use aya_ebpf::macros::btf_map;
use lb_common::Settings;
use lb_common::bucket::HashKeys;

/// The settings that the tables were made with; a later controller loads its programs with the same.
#[btf_map]
pub(crate) static TABLE_SETTINGS: Array<Settings, 1> = Array::new();

/// The loader writes the values that belong to the tables into the object before the kernel sees it.
#[unsafe(no_mangle)]
static SETTINGS: Settings = Settings::new(HashKeys([0; 6]), 0, 0, 0);

/// Not 0 in a program that only answers where a packet would go (`baton explain`) and leaves no trace.
#[unsafe(no_mangle)]
static DRY_RUN: u32 = 0;

/// Reads a field as the loader left it, which is not as the compiler sees it.
macro_rules! read {
    ($($field:tt)+) => {
        // SAFETY: a field of a static is valid to read.
        unsafe { (&raw const SETTINGS.$($field)+).read_volatile() }
    };
}

/// Multipliers of all hashes.
#[inline(always)]
pub(crate) fn keys() -> HashKeys {
    HashKeys([
        read!(keys.0[0]),
        read!(keys.0[1]),
        read!(keys.0[2]),
        read!(keys.0[3]),
        read!(keys.0[4]),
        read!(keys.0[5]),
    ])
}

/// Buckets of the flow table, less one.
#[inline(always)]
pub(crate) fn bucket_mask() -> u32 {
    read!(bucket_mask)
}

/// Places of each CPU's log of tuples, less one.
#[inline(always)]
pub(crate) fn log_mask() -> u32 {
    read!(log_mask)
}

/// Whether this program may change what outlives the packet.
#[inline(always)]
pub(crate) fn commits() -> bool {
    // SAFETY: a static is valid to read.
    unsafe { (&raw const DRY_RUN).read_volatile() == 0 }
}
