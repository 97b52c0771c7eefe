//! The flow table as user space sees it: scanned through a mapping while packets write to it.
//!
//! What always holds:
//! - An entry is freed by one compare-and-exchange on the id that was judged; one that shows a packet
//!   meanwhile is given back.
//! - A mark that sends lookups to second buckets is taken away only when two scans in a row have found
//!   nobody away from home, and no flow has been put away in between.
//! - A tuple counts only while its tag is the entry's.
//! - Whoever has mapped the table only to read it cannot change it: what changes it is not there.

use std::borrow::Borrow;
use std::net::SocketAddr;
use std::sync::atomic::Ordering;

use lb_common::bucket::{ENTRIES, Fingerprint, Id, LogHead, Tuple, across};
use lb_common::endpoint::TCP;
use lb_common::snat::{self, PORTS};
use lb_common::{Address, Endpoint, Flow, FlowKey, Halves, Settings, Ticks};
use zerocopy::transmute;

use super::mapping::{ReadWords, Words};

const WORDS_PER_BUCKET: usize = 2 * ENTRIES;
const WORDS_PER_TUPLE: usize = size_of::<Tuple>() / 8;
const WORDS_PER_HEAD: usize = size_of::<LogHead>() / 8;
const WORDS_PER_PORT: usize = size_of::<snat::Slot>() / 8;
/// A port is not taken back for this long after it was lent: 2 s.
const PORT_GRACE_TICKS: u32 = 2;

/// Buckets, tuples and the log of tuples; `W` says whether they may be written.
pub(super) struct FlowTable<W = Words> {
    buckets: W,
    tuples: W,
    log: W,
    heads: W,
    snat: W,
    settings: Settings,
    /// How many tuples of each CPU's log have been read.
    read: Vec<u64>,
}

/// An entry of the table that a flow has.
#[derive(Clone, Copy, Debug)]
pub(super) struct Slot {
    index: usize,
    id: u64,
    halves: u64,
}

/// The arrays that the table consists of, mapped.
pub(super) struct Mappings<W> {
    pub(super) buckets: W,
    pub(super) tuples: W,
    pub(super) log: W,
    pub(super) heads: W,
    pub(super) snat: W,
}

/// Who a flow is, as it lies in the log.
pub(super) type TupleWords = [u64; WORDS_PER_TUPLE];

impl FlowTable<Words> {
    /// What the table was made for.
    pub(super) fn settings(&self) -> &Settings {
        &self.settings
    }

    /// Words of each array for these settings: buckets, tuples, log, heads, lent ports.
    pub(super) fn words(settings: &Settings, cpus: u32) -> [usize; 5] {
        let buckets = settings.bucket_mask as usize + 1;
        let places = (settings.log_mask as usize + 1) * cpus as usize;
        [
            buckets * WORDS_PER_BUCKET,
            buckets * ENTRIES * WORDS_PER_TUPLE,
            places * WORDS_PER_TUPLE,
            cpus as usize * WORDS_PER_HEAD,
            (settings.snat_groups * PORTS).max(1) as usize * WORDS_PER_PORT,
        ]
    }

    /// Frees an entry unless its flow has shown a packet since the entry was read.
    pub(super) fn free(&self, slot: &Slot) -> bool {
        let word = slot.index * 2;
        let marks = slot.id & Id::MARKS;
        if !self.buckets.exchange(word, slot.id, marks) {
            return false;
        }
        // A packet that found the entry before it was freed may have written to it since.
        let silent = self.buckets.load(word + 1) == slot.halves;
        silent || !self.buckets.exchange(word, marks, slot.id)
    }

    /// Takes a flow from its backend, whatever it shows; false if its entry has changed since it was read.
    pub(super) fn orphan(&self, slot: &Slot) -> bool {
        let orphaned = Id::from_word(slot.id).orphaned().to_word();
        self.buckets.exchange(slot.index * 2, slot.id, orphaned)
    }

    /// Takes away marks that no flow needs any longer.
    pub(super) fn clear_marks(&self) {
        let mask = self.settings.bucket_mask;
        let mut has_away = vec![false; mask as usize + 1];
        for slot in self.slots() {
            let id = Id::from_word(slot.id);
            if id.is_away() {
                has_away[across((slot.index / ENTRIES) as u32, id.tag(), mask) as usize] = true;
            }
        }
        for (bucket, away) in has_away.into_iter().enumerate() {
            let word = bucket * WORDS_PER_BUCKET;
            let id = self.buckets.load(word);
            let cleared = match id & Id::MARKS {
                Id::SPILLED if !away => id | Id::SPILL_IDLE,
                Id::MARKS if !away => id & !Id::MARKS,
                _ => continue,
            };
            // Whoever changed the word meanwhile has the last say; the next scan tries again.
            self.buckets.exchange(word, id, cleared);
        }
    }

    /// Takes back the ports of flows that are gone; returns how many are still lent.
    pub(super) fn reclaim_ports(&self, now: Ticks) -> usize {
        let ports = self.settings.snat_groups as usize * PORTS as usize;
        let mut lent = 0;
        for first in (0..ports).map(|port| port * WORDS_PER_PORT) {
            let tag = self.snat.load(first);
            if tag == 0 {
                continue;
            }
            let words: [u64; 3] = std::array::from_fn(|word| self.snat.load(first + 1 + word));
            let (key, lent_at): (FlowKey, u32) = port_words(words);
            // A port is written down a moment after it was lent.
            let fresh = Ticks::from_bits(lent_at).until(now) < PORT_GRACE_TICKS;
            if fresh || self.holds(&key) || !self.snat.exchange(first, tag, 0) {
                lent += 1;
            }
        }
        lent
    }

    /// Whether a flow has an entry.
    fn holds(&self, key: &FlowKey) -> bool {
        let print = Fingerprint::of(key, &self.settings.keys);
        let mask = self.settings.bucket_mask;
        let home = print.home() & mask;
        [(home, print.tag()), (across(home, print.tag(), mask), print.tag() | Id::AWAY)].into_iter().any(
            |(bucket, name)| {
                let first = bucket as usize * WORDS_PER_BUCKET;
                (0..ENTRIES).any(|entry| self.buckets.load(first + 2 * entry) & Id::NAME == name)
            },
        )
    }

    /// Puts the tuples that were logged since the last call beside their entries.
    pub(super) fn absorb_log(&mut self) {
        self.read_log(|table, slot, tuple| {
            let first = slot * WORDS_PER_TUPLE;
            // The tag comes last: it makes the tuple count.
            for (word, value) in tuple.into_iter().enumerate() {
                table.tuples.store(first + word, value);
            }
        });
    }
}

impl<W: Borrow<ReadWords>> FlowTable<W> {
    pub(super) fn new(mappings: Mappings<W>, settings: Settings, cpus: u32) -> Self {
        let Mappings { buckets, tuples, log, heads, snat } = mappings;
        Self { buckets, tuples, log, heads, snat, settings, read: vec![0; cpus as usize] }
    }

    /// Entries that there are.
    pub(super) fn capacity(&self) -> usize {
        self.buckets.borrow().all().len() / 2
    }

    /// Every flow, closed ones included. Flows that come or go meanwhile may be seen or not.
    pub(super) fn slots(&self) -> impl Iterator<Item = Slot> {
        self.buckets.borrow().all().chunks_exact(2).enumerate().filter_map(|(index, entry)| {
            let id = entry[0].load(Ordering::Relaxed);
            if Id::from_word(id).is_free() {
                return None;
            }
            Some(Slot { index, id, halves: entry[1].load(Ordering::Relaxed) })
        })
    }

    /// Who the flow is, if its tuple has been put beside its entry.
    pub(super) fn client(&self, slot: &Slot) -> Option<SocketAddr> {
        let (tuples, first) = (self.tuples.borrow(), slot.index * WORDS_PER_TUPLE);
        slot.client(std::array::from_fn(|word| tuples.load(first + word)))
    }

    /// Gives to `keep` each tuple that was logged since the last call and whose flow is still there, with
    /// the place of its entry.
    pub(super) fn read_log(&mut self, mut keep: impl FnMut(&Self, usize, TupleWords)) {
        let places = u64::from(self.settings.log_mask) + 1;
        for cpu in 0..self.read.len() {
            let head = |table: &Self| table.heads.borrow().load(cpu * WORDS_PER_HEAD);
            let end = head(self);
            for count in self.read[cpu].max(end.saturating_sub(places))..end {
                let place = (cpu as u64 * places + (count & (places - 1))) as usize;
                let first = place * WORDS_PER_TUPLE;
                let tuple: TupleWords = std::array::from_fn(|word| self.log.borrow().load(first + word));
                // The place may have been written anew while it was read.
                let is_whole = head(self) < count + places;
                if let Some(slot) = self.slot_of(&tuple).filter(|_| is_whole) {
                    keep(self, slot, tuple);
                }
            }
            self.read[cpu] = end;
        }
    }

    /// The entry that a tuple belongs to, if it still does.
    fn slot_of(&self, tuple: &TupleWords) -> Option<usize> {
        let slot = (tuple[2] >> 32) as usize;
        let is_there =
            slot < self.capacity() && Id::from_word(self.buckets.borrow().load(slot * 2)).tag() == tuple[3];
        is_there.then_some(slot)
    }
}

/// The flow that a port was lent to, and when: the words behind the tag of [`lb_common::snat::Slot`].
fn port_words(words: [u64; 3]) -> (FlowKey, u32) {
    #[derive(zerocopy::FromBytes)]
    #[repr(C)]
    struct Rest {
        key: FlowKey,
        lent_at: u32,
    }
    let Rest { key, lent_at } = transmute!(words);
    (key, lent_at)
}

impl Slot {
    /// Its place in the table.
    pub(super) fn index(&self) -> usize {
        self.index
    }

    /// Who the flow is, if this is its tuple.
    pub(super) fn client(&self, tuple: TupleWords) -> Option<SocketAddr> {
        if tuple[3] != Id::from_word(self.id).tag() {
            return None;
        }
        let address: Address = transmute!([tuple[0], tuple[1]]);
        Some(Endpoint::from_wire(address, tuple[2] as u16, TCP).socket())
    }

    /// The flow as the entry tells it.
    pub(super) fn flow(&self) -> Flow {
        let id = Id::from_word(self.id);
        Flow { backend: id.backend(), epoch: id.epoch(), halves: Halves::from_word(self.halves) }
    }
}
