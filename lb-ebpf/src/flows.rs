//! The flow table as a packet of a known flow sees it. Its layout is [`lb_common::bucket`]; how a flow gets
//! into it is in [`crate::pin`].
//!
//! What always holds:
//! - Each direction writes its own half, one aligned store.
//! - An entry lies within a map value, and map values live as long as the program runs.

use aya_ebpf::bindings::BPF_F_MMAPABLE;
use aya_ebpf::btf_maps::Array;
use aya_ebpf::helpers::generated::bpf_ktime_get_coarse_ns;
use aya_ebpf::macros::btf_map;
use lb_common::bucket::{Bucket, ENTRIES, Entry, Fingerprint, Id, LINE, across};
use lb_common::{FlowKey, Half, Halves, Ticks};

use crate::settings;
use crate::verifier::hide;

/// The loader sets how many there are. User space maps the array, scans it and frees what has ended.
#[btf_map]
static BUCKETS: Array<Bucket, 1, { BPF_F_MMAPABLE as usize }> = Array::new();

/// The entry of a flow.
#[derive(Clone, Copy)]
pub(crate) struct Pinned {
    entry: *mut Entry,
    /// The id under which it was found.
    pub(crate) id: Id,
    /// Its place in the table.
    pub(crate) slot: u32,
}

/// The time of flow entries.
#[inline(always)]
pub(crate) fn now() -> Ticks {
    // SAFETY: the helper takes nothing and only reads a clock.
    Ticks::from_ns(unsafe { bpf_ktime_get_coarse_ns() })
}

/// The fingerprint of a flow in this table.
#[inline(always)]
pub(crate) fn fingerprint(key: &FlowKey) -> Fingerprint {
    Fingerprint::of(key, &settings::keys())
}

/// Number of a flow's home bucket.
#[inline(always)]
pub(crate) fn home(print: Fingerprint) -> u32 {
    print.home() & settings::bucket_mask()
}

/// Number of the bucket that the flow stands in if its home is full.
#[inline(always)]
pub(crate) fn second(print: Fingerprint) -> u32 {
    across(home(print), print.tag(), settings::bucket_mask())
}

/// A bucket by its number.
#[inline(always)]
pub(crate) fn bucket(index: u32) -> Option<*mut Bucket> {
    BUCKETS.get_ptr_mut(index & settings::bucket_mask())
}

/// The entry of a flow.
#[inline(always)]
pub(crate) fn find(print: Fingerprint) -> Option<Pinned> {
    let mut index = home(print);
    let mut there = bucket(index)?;
    let mut place = seek(there, print.line(), print.tag());
    if place == NOWHERE {
        if !is_spilled(there) {
            return None;
        }
        index = second(print);
        there = bucket(index)?;
        place = seek(there, print.line(), print.tag() | Id::AWAY);
        if place == NOWHERE {
            return None;
        }
    }
    // SAFETY: `place` is below the number of entries, and the bucket is a map value.
    unsafe {
        let line = there.cast::<Entry>().add((print.line() as usize & 1) * LINE);
        let place = hide(place, line.cast()) as u32 & (ENTRIES as u32 - 1);
        let entry = there.cast::<Entry>().add(place as usize);
        let id = Id::from_word((&raw const (*entry).id).read_volatile());
        // Whoever gives up a twin, or frees what has ended, may have done so since it was found.
        if id.tag() != print.tag() {
            return None;
        }
        Some(Pinned { entry, id, slot: index * ENTRIES as u32 + place })
    }
}

/// The same for what is done once a flow: by a function of its own, which is verified once.
#[inline(always)]
pub(crate) fn find_apart(print: Fingerprint) -> Option<Pinned> {
    let slot = find_slot(print.to_word());
    if slot == NO_SLOT { None } else { Pinned::of(print, slot) }
}

/// No entry has this place.
const NO_SLOT: u32 = u32::MAX;

#[inline(never)]
#[unsafe(no_mangle)]
extern "C" fn find_slot(print: u64) -> u32 {
    find(Fingerprint::from_word(print)).map_or(NO_SLOT, |found| found.slot)
}

/// Whether flows of this bucket may stand in their second one.
#[inline(always)]
pub(crate) fn is_spilled(bucket: *mut Bucket) -> bool {
    // SAFETY: the bucket is a map value.
    unsafe { (&raw const (*bucket).entries[0].id).read_volatile() & Id::SPILLED != 0 }
}

/// [`seek`] has found nothing.
const NOWHERE: u64 = ENTRIES as u64;

/// The place of a name in a bucket; the flow's own line is looked at first.
#[inline(always)]
fn seek(bucket: *mut Bucket, line: u32, name: u64) -> u64 {
    let place = seek_in_line(bucket, line, name);
    if place == NOWHERE { seek_in_line(bucket, line ^ 1, name) } else { place }
}

#[inline(always)]
fn seek_in_line(bucket: *mut Bucket, line: u32, name: u64) -> u64 {
    let first = (line as usize & 1) * LINE;
    for step in 0..LINE {
        // SAFETY: a line is half of a bucket, and the bucket is a map value.
        let id = unsafe { (&raw const (*bucket.cast::<Entry>().add(first).add(step)).id).read_volatile() };
        if id & Id::NAME == name {
            return (first + step) as u64;
        }
    }
    NOWHERE
}

impl Pinned {
    /// The entry at a place that [`find`] gave.
    #[inline(always)]
    pub(crate) fn at(slot: u32) -> Option<Self> {
        let bucket = bucket(slot / ENTRIES as u32)?;
        // SAFETY: the place is below the number of entries, and the bucket is a map value.
        unsafe {
            let entry = bucket.cast::<Entry>().add(slot as usize & (ENTRIES - 1));
            Some(Self { entry, id: Id::from_word((&raw const (*entry).id).read_volatile()), slot })
        }
    }

    /// The entry of a flow at the place where it was a moment ago; `None` if it is another's by now, or
    /// nobody's.
    #[inline(always)]
    pub(crate) fn of(print: Fingerprint, slot: u32) -> Option<Self> {
        Self::at(slot).filter(|found| found.id.tag() == print.tag())
    }

    /// The entry itself.
    #[inline(always)]
    pub(crate) const fn entry(&self) -> *mut Entry {
        self.entry
    }

    /// What the flow has shown.
    #[inline(always)]
    pub(crate) fn halves(&self) -> Halves {
        // SAFETY: the entry lies within a map value.
        Halves::from_word(unsafe { (&raw const (*self.entry).halves).read_volatile() })
    }

    /// Writes what the client's packets have shown, if it is news: the two directions of a flow share a cache
    /// line, which goes from CPU to CPU at each store.
    #[inline(always)]
    pub(crate) fn set_client(&self, half: Half) {
        if settings::commits() && self.halves().client != half {
            // SAFETY: as above; the client's half is the first of the word's two.
            unsafe { (&raw mut (*self.entry).halves).cast::<u32>().write_volatile(half.to_bits()) };
        }
    }

    /// Writes what the backend's packets have shown, if it is news.
    #[inline(always)]
    pub(crate) fn set_server(&self, half: Half) {
        if settings::commits() && self.halves().server != half {
            // SAFETY: as above; the server's half is the second of the word's two.
            unsafe { (&raw mut (*self.entry).halves).cast::<u32>().add(1).write_volatile(half.to_bits()) };
        }
    }
}
