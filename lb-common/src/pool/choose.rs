//! The choice of a backend for a new flow, as the packet path makes it.
//!
//! What always holds:
//! - A member at its limit is not chosen; there is no choice only if all members are at their limits.
//! - No division and no index that can panic. A loop carries nothing on by which it indexes, and one that
//!   compares does not end early: the verifier would follow every path by itself (a place carried round from
//!   a random start made 630,000 instructions of 11,000).
//!
//! Loads are compared as fractions, open flows by weight, by multiplying crosswise.

use super::{MEMBERS_MAX, Policy, Pool, Slot};
use crate::steer::{BackendId, NO_BACKEND};

/// What a choice may ask of its surroundings; each policy asks for what it needs and for nothing else.
pub trait Circumstances {
    /// A number that is one greater each time it is asked for the same service, modulo 2^32. Each CPU may
    /// count by itself, best from a start of its own, so that CPUs do not move in step.
    fn turn(&self) -> u32;
    /// A hash of the client's address.
    fn address_hash(&self) -> u32;
    /// A hash of the client's address and port.
    fn flow_hash(&self) -> u32;
    /// A random number; a keyed hash of the flow, all 64 bits of which are good, is as random as it needs.
    fn random(&self) -> u64;
    /// Flows that are open at this backend.
    fn open_flows(&self, backend: BackendId) -> u32;
}

/// Slots that a policy with a table tries before it looks at all members.
const PROBES: u32 = 4;

/// The backend for a new flow; `None` if all members are at their limits or there is none.
#[inline(always)]
pub fn choose(pool: &Pool, circumstances: &impl Circumstances) -> Option<BackendId> {
    if pool.len == 0 {
        return None;
    }
    let policy = pool.policy()?;
    let number = match policy {
        Policy::ActiveStandby => return None,
        Policy::Fo => return some(first_with_room(pool, circumstances)),
        Policy::Rr | Policy::Wrr | Policy::Lc | Policy::Wlc => u64::from(circumstances.turn()),
        Policy::Sh => u64::from(circumstances.address_hash()),
        Policy::Maglev => u64::from(circumstances.flow_hash()),
        Policy::Random2 => circumstances.random(),
    };
    let slot = match policy {
        Policy::Rr | Policy::Wrr | Policy::Lc | Policy::Wlc => pool.slot_by_turn(number as u32),
        _ => pool.slot_by_hash(number as u32),
    };
    let found = match policy {
        Policy::Rr | Policy::Wrr | Policy::Sh | Policy::Maglev => {
            with_room(pool, slot, number as u32, circumstances)
        }
        Policy::Random2 => less_loaded(pool, slot, other(pool, slot, number), circumstances),
        Policy::ActiveStandby | Policy::Fo | Policy::Lc | Policy::Wlc => NO_BACKEND,
    };
    some(if found == NO_BACKEND { least_loaded(pool, slot, circumstances) } else { found })
}

#[inline(always)]
const fn some(backend: BackendId) -> Option<BackendId> {
    if backend == NO_BACKEND { None } else { Some(backend) }
}

/// The slot's backend if it has room, else that of one of the slots that follow from `number` in a
/// sequence of its own, so that what a full member cannot take is spread over all others by weight.
#[inline(always)]
fn with_room(pool: &Pool, slot: Slot, number: u32, circumstances: &impl Circumstances) -> BackendId {
    let (mut slot, mut number) = (slot, number);
    for _ in 0..PROBES {
        if has_room(pool, slot, circumstances) {
            return slot.backend();
        }
        // One step of a linear congruential generator of full period; its high bits, which count, are good.
        number = number.wrapping_mul(0x915f_77f5).wrapping_add(0x3c6e_f35f);
        slot = pool.slot_by_hash(number);
    }
    NO_BACKEND
}

/// A second slot for a random number, of another member than the first if one is near.
#[inline(always)]
fn other(pool: &Pool, first: Slot, random: u64) -> Slot {
    let position = pool.position_by_hash((random >> 32) as u32);
    let slot = pool.slot(position);
    if slot.index() != first.index() {
        return slot;
    }
    let next = position + 1;
    pool.slot(if next < pool.period { next } else { 0 })
}

/// The less loaded of two slots' members that has room.
#[inline(always)]
fn less_loaded(pool: &Pool, one: Slot, two: Slot, circumstances: &impl Circumstances) -> BackendId {
    let (one, two) = (pool.member(one.index()), pool.member(two.index()));
    let (one_open, two_open) = (circumstances.open_flows(one.backend), circumstances.open_flows(two.backend));
    let (one_has_room, two_has_room) = (one_open < one.limit, two_open < two.limit);
    if two_has_room && (!one_has_room || is_less(two_open, two.weight, one_open, one.weight)) {
        two.backend
    } else if one_has_room {
        one.backend
    } else {
        NO_BACKEND
    }
}

/// Of the members that have room, the least loaded one; of equals the one of `slot`, else the first.
#[inline(always)]
fn least_loaded(pool: &Pool, slot: Slot, circumstances: &impl Circumstances) -> BackendId {
    let member = pool.member(slot.index());
    let open = circumstances.open_flows(member.backend);
    // Without room, one flow at no weight: more than anything.
    let (mut best, mut best_open, mut best_weight) =
        if open < member.limit { (member.backend, open, member.weight) } else { (NO_BACKEND, 1, 0) };
    for index in 0..MEMBERS_MAX as u32 {
        if index >= pool.len {
            break;
        }
        let member = pool.member(index);
        let open = circumstances.open_flows(member.backend);
        if open < member.limit && is_less(open, member.weight, best_open, best_weight) {
            (best, best_open, best_weight) = (member.backend, open, member.weight);
        }
    }
    best
}

/// The first member that has room.
#[inline(always)]
fn first_with_room(pool: &Pool, circumstances: &impl Circumstances) -> BackendId {
    for index in 0..MEMBERS_MAX as u32 {
        if index >= pool.len {
            break;
        }
        let member = pool.member(index);
        if !pool.is_limited() || circumstances.open_flows(member.backend) < member.limit {
            return member.backend;
        }
    }
    NO_BACKEND
}

/// Whether the slot's member may get one more flow; where nobody has a limit, nobody's flows are asked for.
#[inline(always)]
fn has_room(pool: &Pool, slot: Slot, circumstances: &impl Circumstances) -> bool {
    !pool.is_limited() || circumstances.open_flows(slot.backend()) < pool.member(slot.index()).limit
}

/// Whether `open` flows at `weight` are less than `than_open` at `than_weight`.
#[inline(always)]
const fn is_less(open: u32, weight: u16, than_open: u32, than_weight: u16) -> bool {
    (open as u64 * than_weight as u64) < than_open as u64 * weight as u64
}
