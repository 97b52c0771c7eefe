//! How a flow gets its entry: the one place where entries change hands.
//!
//! What always holds:
//! - An entry changes hands by one compare-and-exchange on its id, so two CPUs never both have it and no
//!   packet sees half an entry.
//! - A flow has one entry: whoever claims one looks for another afterwards.
//! - A dry run changes nothing: it looks for room and takes none.
//! - A live flow's entry is never taken ([`Worth::Kept`]): a new flow that finds no room is served without.

use core::intrinsics::{AtomicOrdering, atomic_cxchg};

use lb_common::bucket::{ENTRIES, Entry, Fingerprint, Id, LINE};
use lb_common::flow::Worth;
use lb_common::{BackendId, FlowKey, Halves, Ticks};

use crate::flows::{self, Pinned, bucket, is_spilled};
use crate::verifier::hide;
use crate::{settings, tuples};

/// How often a claim that another CPU won is tried again.
const TRIES: u32 = 3;

/// What a flow is to be pinned to.
#[derive(Clone, Copy)]
pub(crate) struct Pin {
    pub(crate) backend: BackendId,
    pub(crate) epoch: u8,
    pub(crate) halves: Halves,
}

/// Records a flow; `None` if there is no room. Another CPU may have recorded the flow meanwhile, and then
/// its id is the answer.
#[inline(always)]
pub(crate) fn pin(key: &FlowKey, print: Fingerprint, pin: Pin, now: Ticks) -> Option<Id> {
    for _ in 0..TRIES {
        let place = room(print, now)?;
        let away = if place.bucket() == flows::home(print) { 0 } else { Id::AWAY };
        let id = Id::new(print.tag(), away, pin.backend, pin.epoch);
        if !settings::commits() {
            return Some(id);
        }
        if place.claim(id, pin.halves)? && !place.give_up_for_twin(print, id)? {
            tuples::log(key, place.slot(), print.tag());
            return Some(id);
        }
        if let Some(pinned) = flows::find_apart(print) {
            return Some(pinned.id);
        }
    }
    None
}

/// Pins a flow anew, in the same entry; `None` if another CPU changed the entry meanwhile.
#[inline(always)]
pub(crate) fn pin_anew(old: &Pinned, pin: Pin) -> Option<Id> {
    let seen = old.id.to_word();
    let id = Id::new(old.id.tag(), seen & Id::AWAY, pin.backend, pin.epoch);
    if !settings::commits() {
        return Some(id);
    }
    let entry = old.entry();
    // SAFETY: the entry lies within a map value, which lives as long as the program runs.
    unsafe {
        if !exchange(&raw mut (*entry).id, seen, seen & Id::MARKS | id.to_word()) {
            return None;
        }
        (&raw mut (*entry).halves).write_volatile(pin.halves.to_word());
    }
    Some(id)
}

/// An entry that may be taken, and what that would cost.
#[derive(Clone, Copy)]
struct Place {
    /// What it costs, and its slot in the lower half: the cheapest is the smallest.
    offer: u64,
    /// The entry as it was judged.
    seen: u64,
    shown: u64,
}

/// Nobody is there.
const FREE: u32 = 0;
/// Whoever was there has ended.
const ENDED: u32 = 1;
/// The dearest of all, which is not for sale. Unconfirmed flows lie between, the silent ones cheaper.
const KEPT: u32 = u32::MAX;

/// The best entry that may be taken.
#[inline(always)]
fn room(print: Fingerprint, now: Ticks) -> Option<Place> {
    let home = flows::home(print);
    let mut best = Place { offer: u64::MAX, seen: 0, shown: 0 };
    best_of(home, print.line(), now, &mut best)?;
    if best.price() > ENDED {
        best_of(flows::second(print), print.line(), now, &mut best)?;
        let marks = best.bucket() != home && settings::commits();
        if best.price() == KEPT || (marks && !mark_spilled(home)) {
            return None;
        }
    }
    Some(best)
}

impl Place {
    #[inline(always)]
    const fn price(&self) -> u32 {
        (self.offer >> 32) as u32
    }

    #[inline(always)]
    const fn slot(&self) -> u32 {
        self.offer as u32
    }

    #[inline(always)]
    const fn bucket(&self) -> u32 {
        self.slot() / ENTRIES as u32
    }

    /// Takes the entry; false if another CPU changed it meanwhile.
    #[inline(always)]
    fn claim(&self, id: Id, halves: Halves) -> Option<bool> {
        let entry = Pinned::at(self.slot())?.entry();
        let claimed = self.seen & Id::MARKS | id.to_word();
        // SAFETY: the entry lies within a map value, which lives as long as the program runs.
        unsafe {
            let (word, shown) = (&raw mut (*entry).id, &raw mut (*entry).halves);
            if !exchange(word, self.seen, claimed) {
                return Some(false);
            }
            // Whoever was there may have shown a packet since it was judged; then it gets its entry back.
            if shown.read_volatile() != self.shown && exchange(word, claimed, self.seen) {
                return Some(false);
            }
            shown.write_volatile(halves.to_word());
        }
        Some(true)
    }

    /// Frees the entry again if another CPU has given the flow another one meanwhile: it looked for the flow,
    /// as we did, before either had been written. Whoever sees the other's entry gives up its own.
    #[inline(always)]
    fn give_up_for_twin(&self, print: Fingerprint, id: Id) -> Option<bool> {
        if has_twin(print.to_word(), self.slot()) == 0 {
            return Some(false);
        }
        let entry = Pinned::at(self.slot())?.entry();
        let claimed = self.seen & Id::MARKS | id.to_word();
        // SAFETY: the entry lies within a map value. A mark that was set meanwhile stays, and so does the entry.
        Some(unsafe { exchange(&raw mut (*entry).id, claimed, self.seen & Id::MARKS) })
    }
}

/// Whether a flow has another entry than the one at `slot`; a function of its own, for the verifier's sake.
#[inline(never)]
#[unsafe(no_mangle)]
extern "C" fn has_twin(print: u64, slot: u32) -> u32 {
    let print = Fingerprint::from_word(print);
    let home = flows::home(print);
    let is_there = holds(home, print.tag(), slot);
    if is_there || !bucket(home).is_some_and(is_spilled) {
        return u32::from(is_there);
    }
    u32::from(holds(flows::second(print), print.tag() | Id::AWAY, slot))
}

/// Whether a bucket holds a name elsewhere than at `slot`.
#[inline(always)]
fn holds(index: u32, name: u64, slot: u32) -> bool {
    let Some(bucket) = bucket(index) else { return false };
    for place in 0..ENTRIES {
        // SAFETY: `place` is below the number of entries, and the bucket is a map value.
        let id = unsafe { (&raw const (*bucket.cast::<Entry>().add(place)).id).read_volatile() };
        if id & Id::NAME == name && index * ENTRIES as u32 + place as u32 != slot {
            return true;
        }
    }
    false
}

/// Looks for an entry of a bucket that is given up more easily than the best so far.
#[inline(always)]
fn best_of(index: u32, line: u32, now: Ticks, best: &mut Place) -> Option<()> {
    let first = bucket(index)?.cast::<Entry>();
    for step in 0..ENTRIES {
        let place = (step + (line as usize & 1) * LINE) & (ENTRIES - 1);
        // SAFETY: `place` is below the number of entries, and the bucket is a map value.
        let (seen, shown) = unsafe {
            let entry = first.add(place);
            ((&raw const (*entry).id).read_volatile(), (&raw const (*entry).halves).read_volatile())
        };
        let price = price_of(seen, shown, now.to_bits());
        if price < best.price() {
            // SAFETY: as above.
            let place = unsafe { hide(place as u64, first.cast()) } as u32 & (ENTRIES as u32 - 1);
            let offer = u64::from(price) << 32 | u64::from(index * ENTRIES as u32 + place);
            *best = Place { offer, seen, shown };
        }
        if price == FREE {
            break;
        }
    }
    Some(())
}

/// What it costs to take an entry with this id and these halves; a function of its own, so that its many
/// ways are verified once and not once an entry.
#[inline(never)]
#[unsafe(no_mangle)]
extern "C" fn price_of(id: u64, halves: u64, now: u32) -> u32 {
    if Id::from_word(id).is_free() {
        return FREE;
    }
    let (halves, now) = (Halves::from_word(halves), Ticks::from_bits(now));
    match halves.worth(now) {
        Worth::Ended => ENDED,
        Worth::Unconfirmed => KEPT - 1 - halves.idle(now),
        Worth::Kept => KEPT,
    }
}

/// Notes on a home bucket that one of its flows stands in its second one.
#[inline(always)]
fn mark_spilled(home: u32) -> bool {
    let Some(bucket) = bucket(home) else { return false };
    for _ in 0..TRIES {
        // SAFETY: the bucket is a map value.
        unsafe {
            let id = &raw mut (*bucket).entries[0].id;
            let seen = id.read_volatile();
            if seen & Id::MARKS == Id::SPILLED || exchange(id, seen, seen & !Id::MARKS | Id::SPILLED) {
                return true;
            }
        }
    }
    false
}

/// Whether the word was still `old` and is `new` by now.
///
/// # Safety
///
/// `word` must be valid and aligned.
#[inline(always)]
pub(crate) unsafe fn exchange(word: *mut u64, old: u64, new: u64) -> bool {
    const ORDERING: AtomicOrdering = AtomicOrdering::SeqCst;
    // SAFETY: by this function's contract.
    unsafe { atomic_cxchg::<u64, ORDERING, ORDERING>(word, old, new).1 }
}
