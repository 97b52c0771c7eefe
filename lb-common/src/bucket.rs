//! The flow table's layout: buckets of two cache lines, entries claimed by one compare-and-exchange.
//!
//! What always holds:
//! - A flow stands in its home bucket, or in its second one while the home bucket is marked
//!   ([`Id::SPILLED`]). In a bucket it is looked for in its own line first; at half load nearly all flows
//!   are found there, with one random memory access.
//! - [`Id`] names the flow (tag), where it goes (backend) and since when (epoch) in one word, so whoever
//!   sees an entry sees all of it.
//! - The second bucket follows from the first and the tag, and the first from the second: a scan finds out
//!   which marks are still needed without knowing any address.
//!
//! The arithmetic is here, the memory accesses are in the packet path and in the controller's scan.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::flow::FlowKey;
use crate::plain_data;
use crate::steer::BackendId;

/// Entries of a bucket.
pub const ENTRIES: usize = 8;
/// Entries of one cache line.
pub const LINE: usize = 4;

/// One flow in the table; an [`Id`] without a backend means that the entry is free.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Entry {
    /// The [`Id`].
    pub id: u64,
    /// The [`crate::flow::Halves`].
    pub halves: u64,
}

/// Two cache lines of entries.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C, align(128))]
pub struct Bucket {
    /// The entries; marks stand in the first one's id.
    pub entries: [Entry; ENTRIES],
}

const _: () = assert!(size_of::<Entry>() == 16 && size_of::<Bucket>() == 128);

/// Bytes of memory that a table takes for each flow that it is made for: two entries and two tuples.
pub const BYTES_PER_FLOW: usize = 2 * (size_of::<Entry>() + size_of::<Tuple>());

/// Smallest and largest number of flows that a table can be made for.
pub const FLOWS: core::ops::RangeInclusive<u32> = 1 << 10..=1 << 24;

/// Buckets of a table for this many flows: two entries for each, rounded up to a power of two.
pub const fn buckets_for(flows: u32) -> u32 {
    let (least, most) = (*FLOWS.start(), *FLOWS.end());
    let flows = if flows < least {
        least
    } else if flows > most {
        most
    } else {
        flows
    };
    (flows.div_ceil(ENTRIES as u32 / 2)).next_power_of_two()
}

/// Random multipliers of the fingerprint, made when the table is, and kept with it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct HashKeys(pub [u64; 6]);

impl HashKeys {
    /// A keyed hash of an address and one more word: multilinear, then mixed so that every bit depends on
    /// all. Without the keys nobody can choose addresses that collide.
    #[inline(always)]
    pub const fn hash(&self, address: [u32; 4], word: u32) -> u64 {
        let keys = &self.0;
        let mut sum = keys[5];
        sum = sum.wrapping_add(keys[0].wrapping_mul(address[0] as u64));
        sum = sum.wrapping_add(keys[1].wrapping_mul(address[1] as u64));
        sum = sum.wrapping_add(keys[2].wrapping_mul(address[2] as u64));
        sum = sum.wrapping_add(keys[3].wrapping_mul(address[3] as u64));
        sum = sum.wrapping_add(keys[4].wrapping_mul(word as u64));
        mix(sum)
    }
}

/// Spreads the good high bits of a multilinear sum over the whole word (murmur3's finaliser).
#[inline(always)]
const fn mix(mut sum: u64) -> u64 {
    sum ^= sum >> 33;
    sum = sum.wrapping_mul(0xff51_afd7_ed55_8ccd);
    sum ^ (sum >> 29)
}

/// Where a flow's entry is looked for, and how it is recognised there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(transparent)]
pub struct Fingerprint(u64);

impl Fingerprint {
    /// The fingerprint of a flow.
    #[inline(always)]
    pub const fn of(key: &FlowKey, keys: &HashKeys) -> Self {
        Self(keys.hash(key.client.words(), key.client_port as u32 | (key.service as u32) << 16))
    }

    /// As a plain number, all bits of which are good.
    #[inline(always)]
    pub const fn to_word(self) -> u64 {
        self.0
    }

    /// From [`Fingerprint::to_word`].
    #[inline(always)]
    pub const fn from_word(word: u64) -> Self {
        Self(word)
    }

    /// The tag: bits 21 to 63, as they stand in an [`Id`].
    #[inline(always)]
    pub const fn tag(self) -> u64 {
        self.0 & Id::TAG
    }

    /// The home bucket, before it is cut down to the table's size.
    #[inline(always)]
    pub const fn home(self) -> u32 {
        // The lowest 20 bits are in no tag; larger tables share bits with it, which costs it nothing.
        (self.0 & 0x000f_ffff) as u32 | ((self.0 >> 32) as u32 & 0xfff0_0000)
    }

    /// Which line of a bucket is looked at first, 0 or 1: a bit that is in neither tag nor home.
    #[inline(always)]
    pub const fn line(self) -> u32 {
        (self.0 >> 20) as u32 & 1
    }

    /// A number for choosing among backends, the same for every packet of the flow.
    #[inline(always)]
    pub const fn spread(self) -> u32 {
        (self.0 >> 32) as u32
    }
}

/// The second bucket of a flow with this tag whose home is `home`, and the home of one whose second is that.
#[inline(always)]
pub const fn across(home: u32, tag: u64, bucket_mask: u32) -> u32 {
    // The lowest bit always differs, so a bucket is never its own second.
    (home ^ ((tag >> 24) as u32 | 1)) & bucket_mask
}

/// The first word of an entry: marks, backend, epoch and tag.
///
/// ```text
///  63                           21 20      13 12         3   2      1        0
/// | tag of the fingerprint, 43   | epoch, 8 | backend, 10 | away | idle | spilled |
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Id(u64);

impl Id {
    /// On the first entry: flows of this bucket may stand in their second bucket.
    pub const SPILLED: u64 = 1;
    /// On the first entry: no flow has been put away from here since a scan set this mark.
    pub const SPILL_IDLE: u64 = 2;
    /// Both marks.
    pub const MARKS: u64 = Self::SPILLED | Self::SPILL_IDLE;
    /// This flow stands in its second bucket.
    pub const AWAY: u64 = 4;
    /// The bits of the tag.
    pub const TAG: u64 = !0 << 21;
    /// What tells a flow from others of its bucket.
    pub const NAME: u64 = Self::TAG | Self::AWAY;

    /// The id of a flow that is pinned to `backend`.
    #[inline(always)]
    pub const fn new(tag: u64, away: u64, backend: BackendId, epoch: u8) -> Self {
        Self(tag | (epoch as u64) << 13 | ((backend & 0x3ff) as u64) << 3 | away)
    }

    /// From the table.
    #[inline(always)]
    pub const fn from_word(word: u64) -> Self {
        Self(word)
    }

    /// As it stands in the table.
    #[inline(always)]
    pub const fn to_word(self) -> u64 {
        self.0
    }

    /// Whether the entry is free: only marks.
    #[inline(always)]
    pub const fn is_free(self) -> bool {
        self.0 & !Self::MARKS == 0
    }

    /// The backend.
    #[inline(always)]
    pub const fn backend(self) -> BackendId {
        (self.0 >> 3) as BackendId & 0x3ff
    }

    /// The same flow without a backend: its next packet is treated as one of a flow without an entry.
    #[must_use]
    pub const fn orphaned(self) -> Self {
        Self(self.0 & !(0x3ff << 3))
    }

    /// The epoch.
    #[inline(always)]
    pub const fn epoch(self) -> u8 {
        (self.0 >> 13) as u8
    }

    /// The tag.
    #[inline(always)]
    pub const fn tag(self) -> u64 {
        self.0 & Self::TAG
    }

    /// Whether the flow stands in its second bucket.
    #[inline(always)]
    pub const fn is_away(self) -> bool {
        self.0 & Self::AWAY != 0
    }
}

/// Who a flow is: logged once when it is pinned, and kept beside the table by user space.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Tuple {
    /// The flow.
    pub key: FlowKey,
    /// Its entry: bucket times [`ENTRIES`] plus the place in the bucket.
    pub slot: u32,
    /// Its tag, to tell whether the entry still belongs to it.
    pub tag: u64,
}

const _: () = assert!(size_of::<Tuple>() == 32);

/// How many tuples a CPU has logged since its ring was made, on a cache line of its own.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct LogHead {
    /// The count; the next tuple goes to this place, modulo the ring's length.
    pub count: u64,
    reserved: [u64; 7],
}

plain_data!(Entry, Bucket, HashKeys, Tuple, LogHead);

#[cfg(test)]
mod tests {
    extern crate std;

    use std::collections::HashMap;
    use std::vec;
    use std::vec::Vec;

    use proptest::prelude::*;

    use super::*;
    use crate::endpoint::Address;

    const KEYS: HashKeys = HashKeys([
        0x9e37_79b9_7f4a_7c15,
        0xbf58_476d_1ce4_e5b9,
        0x94d0_49bb_1331_11eb,
        0x2545_f491_4f6c_dd1d,
        0xd6e8_feb8_6659_fd93,
        0xa076_1d64_78bd_642f,
    ]);

    fn key(client: u32, port: u16) -> FlowKey {
        FlowKey { client: Address::from_v4_word(client.to_be()), client_port: port.to_be(), service: 3 }
    }

    proptest! {
        #[test]
        fn an_id_holds_its_parts(tag: u64, backend in 1..1024u16, epoch: u8, away: bool) {
            let tag = tag & Id::TAG;
            let id = Id::new(tag, if away { Id::AWAY } else { 0 }, backend, epoch);
            prop_assert_eq!((id.tag(), id.backend(), id.epoch(), id.is_away()), (tag, backend, epoch, away));
            prop_assert!(!id.is_free() && id.to_word() & Id::MARKS == 0);
        }

        #[test]
        fn the_way_to_the_second_bucket_leads_back(home: u32, tag: u64, shift in 1..22u32) {
            let mask = (1 << shift) - 1;
            let second = across(home & mask, tag, mask);
            prop_assert_ne!(second, home & mask);
            prop_assert_eq!(across(second, tag, mask), home & mask);
        }
    }

    #[test]
    fn a_table_has_two_entries_for_each_flow_and_no_slot_costs_more_than_128_bytes() {
        assert_eq!(buckets_for(1 << 20) * ENTRIES as u32, 1 << 21);
        assert_eq!(buckets_for(1_000_000), buckets_for(1 << 20));
        assert_eq!(buckets_for(0), buckets_for(1024));
        assert_eq!(buckets_for(u32::MAX), buckets_for(1 << 24));
        const { assert!(BYTES_PER_FLOW <= 128) };
    }

    /// FLOWTABLE: 0.03 % of the flows stay without an entry at half load, 0.6 % at 70 %.
    #[test]
    fn few_flows_find_no_room_at_half_load() {
        let buckets = buckets_for(1 << 16);
        let mask = buckets - 1;
        let left_out = |flows: u32| {
            let mut taken = vec![0u8; buckets as usize];
            (0..flows)
                .filter(|flow| {
                    let print =
                        Fingerprint::of(&key(0x0a00_0000 + flow / 50_000, (flow % 50_000) as u16), &KEYS);
                    let home = print.home() & mask;
                    let free = [home, across(home, print.tag(), mask)]
                        .into_iter()
                        .find(|bucket| taken[*bucket as usize] < ENTRIES as u8);
                    free.map(|bucket| taken[bucket as usize] += 1).is_none()
                })
                .count() as f64
                / f64::from(flows)
        };
        assert!(left_out(1 << 16) < 0.001, "{}", left_out(1 << 16));
        assert!(left_out((1 << 17) * 7 / 10) < 0.012, "{}", left_out((1 << 17) * 7 / 10));
    }

    #[test]
    fn the_fingerprints_of_neighbours_share_nothing() {
        let mut tags: HashMap<u64, u32> = HashMap::new();
        let mut lines = [0u32; 2];
        let mut bits: Vec<u32> = vec![0; 64];
        for flow in 0..100_000u32 {
            let print = Fingerprint::of(&key(0xc000_0200 + (flow >> 14), flow as u16 & 0x3fff), &KEYS);
            *tags.entry(print.tag()).or_default() += 1;
            lines[print.line() as usize] += 1;
            (0..64).for_each(|bit| bits[bit] += (print.0 >> bit) as u32 & 1);
        }
        assert_eq!(tags.len(), 100_000);
        assert!(lines.iter().all(|count| (49_000..51_000).contains(count)), "{lines:?}");
        assert!(bits.iter().all(|count| (49_000..51_000).contains(count)), "{bits:?}");
    }
}
