//! A packet whose flow has no entry, or may not go on with the one it has: where it goes, and the entry
//! that keeps it there.
//!
//! - A SYN is a new flow and goes where its client's lease, the steering or the pool says, unless its tuple
//!   belongs to a flow that has not closed. So does the first datagram of a conversation.
//! - Any other segment belongs to an old flow. It goes to the backend that drains, else to the active one,
//!   and is taken up.
//! - A backend's own packet tells where its flow is.
//!
//! This is a function of its own, verified once for both families and both directions: it runs once a flow.

use lb_common::bucket::{Fingerprint, Id};
use lb_common::pool::steered_to;
use lb_common::tables::service_flags::BREAK_AFFINITY;
use lb_common::{Backend, BackendId, FlowKey, Forwarding, Half, Halves, Reason, Steer, Ticks};

use crate::flows::Pinned;
use crate::pin::{Pin, pin, pin_anew};
use crate::{backends, leases, pools, services};

/// What [`open_flow`] has to know.
#[repr(C)]
#[derive(Clone, Copy)]
pub(crate) struct Opening {
    /// What the flow has shown once this packet has been seen.
    pub(crate) halves: u64,
    /// The fingerprint.
    pub(crate) print: Fingerprint,
    /// Who it is.
    pub(crate) key: FlowKey,
    /// The time.
    pub(crate) now: Ticks,
    /// The entry that it may not go on with, or [`Opening::NO_ENTRY`].
    pub(crate) old_slot: u32,
    /// The backend that the packet comes from, or 0 if it comes from a client.
    pub(crate) from: BackendId,
    /// [`opening`] bits.
    pub(crate) kind: u16,
}

impl Opening {
    const fn has(&self, kind: u16) -> bool {
        self.kind & kind != 0
    }

    /// The flow has no entry.
    pub(crate) const NO_ENTRY: u32 = u32::MAX;
}

/// What kind of packet it is.
pub(crate) mod opening {
    /// It opens a connection.
    pub(crate) const OPENS: u16 = 1;
    /// It is a datagram.
    pub(crate) const DATAGRAM: u16 = 2;
    /// It aborts a connection.
    pub(crate) const RESETS: u16 = 4;
    /// Its service's clients stay with their backends.
    pub(crate) const AFFINITY: u16 = 8;
    /// Its service's open flows are counted.
    pub(crate) const COUNTS_OPEN: u16 = 16;
}

/// Where a packet goes, and why.
#[derive(Clone, Copy)]
pub(crate) struct Choice {
    pub(crate) backend: BackendId,
    pub(crate) reason: Reason,
}

impl Choice {
    const fn to_word(self) -> u64 {
        self.backend as u64 | (self.reason as u64) << 32
    }

    /// Nobody takes it.
    const fn none(reason: Reason) -> Self {
        Self { backend: 0, reason }
    }
}

/// Finds a backend for a packet and pins its flow there; the answer is a [`Choice`] in one word.
///
/// # Safety
///
/// `opening` must be valid or null.
#[inline(never)]
#[unsafe(no_mangle)]
unsafe extern "C" fn open_flow(opening: *const Opening) -> u64 {
    // SAFETY: by this function's contract; the verifier sees it as memory that may be null.
    match unsafe { opening.as_ref() } {
        Some(opening) => choose(opening).to_word(),
        None => 0,
    }
}

/// The same as the packet path calls it.
#[inline(always)]
pub(crate) fn open(opening: &Opening) -> (BackendId, u32) {
    // SAFETY: a reference is valid.
    let word = unsafe { open_flow(opening) };
    let backend = word as BackendId;
    // Only its client begins a flow: a backend's stray packet leases nobody.
    let begins = opening.from == 0 && opening.has(opening::OPENS | opening::DATAGRAM);
    if opening.has(opening::AFFINITY) && begins && backend != 0 {
        leases::renew(&opening.key, backend, opening.now);
    }
    (backend, (word >> 32) as u32)
}

#[inline(always)]
fn choose(opening: &Opening) -> Choice {
    let service = opening.key.service;
    let steering = services::steering(service);
    if opening.from != 0 {
        return reply(opening, steering);
    }
    let is_new = opening.has(opening::OPENS | opening::DATAGRAM);
    let wanted = if is_new { for_new_flow(opening, steering) } else { for_old_flow(opening, steering) };
    let Some(backend) = backends::get(wanted).filter(|backend| wanted != 0 && backend.is_present()) else {
        return Choice::none(Reason::NoBackend);
    };
    let old = if opening.old_slot == Opening::NO_ENTRY {
        None
    } else {
        Pinned::of(opening.print, opening.old_slot)
    };
    let reason = match is_new {
        true if opening.has(opening::DATAGRAM) && old.is_some() => Reason::Moved,
        true => Reason::NewFlow,
        false => Reason::TakenUp,
    };
    match record(opening, wanted, backend, steering, old) {
        None => Choice { backend: wanted, reason: Reason::Unpinned },
        Some(id) if id.backend() == wanted => {
            if opening.has(opening::COUNTS_OPEN) {
                pools::opened(wanted);
            }
            Choice { backend: wanted, reason }
        }
        // Another CPU that pinned the same flow at the same moment decides where it goes.
        Some(id) if backends::get(id.backend()).is_some_and(Backend::is_present) => {
            Choice { backend: id.backend(), reason: Reason::PinnedFlow }
        }
        Some(_) => Choice::none(Reason::NoBackend),
    }
}

/// A backend's packet of a flow without entry: the backend knows better than any steering.
#[inline(always)]
fn reply(opening: &Opening, steering: Steer) -> Choice {
    let backend = opening.from;
    let id = match backends::get(backend) {
        Some(of) => record(opening, backend, of, steering, None),
        None => None,
    };
    let ours = id.is_some_and(|id| id.backend() == backend);
    Choice { backend, reason: if ours { Reason::ReplyTakenUp } else { Reason::ReplyUnpinned } }
}

/// Pins the flow; `None` if there is no room or nothing to pin.
#[inline(always)]
fn record(
    opening: &Opening,
    wanted: BackendId,
    backend: &Backend,
    steering: Steer,
    old: Option<Pinned>,
) -> Option<Id> {
    if opening.has(opening::RESETS) {
        return None;
    }
    let mut halves = Halves::from_word(opening.halves);
    if !matches!(backend.forwarding(), Forwarding::Nat) {
        halves.server = Half::ONE_WAY;
    }
    let wish = Pin { backend: wanted, epoch: steering.epoch as u8, halves };
    match &old {
        Some(old) => pin_anew(old, wish),
        None => pin(&opening.key, opening.print, wish, opening.now),
    }
}

/// The backend of a new flow: its client's, if it has one that it may stay with, else the one that steering
/// or the pool names.
#[inline(always)]
fn for_new_flow(opening: &Opening, steering: Steer) -> BackendId {
    if !opening.has(opening::AFFINITY) {
        return unleased(opening, steering);
    }
    let Some(service) = services::get(opening.key.service) else { return 0 };
    let held = leases::holder(service, &opening.key, opening.now).filter(|held| {
        let breaks = service.has(BREAK_AFFINITY) && *held == steering.draining;
        !breaks && backends::get(*held).is_some_and(Backend::is_present)
    });
    match held {
        Some(held) => held,
        None => unleased(opening, steering),
    }
}

#[inline(always)]
fn unleased(opening: &Opening, steering: Steer) -> BackendId {
    match steered_to(steering.for_new_flow()) {
        Some(buffer) => pools::backend_for(&opening.key, opening.print, buffer),
        None => steering.for_new_flow(),
    }
}

/// The backend of a flow that was there before its entry.
#[inline(always)]
fn for_old_flow(opening: &Opening, steering: Steer) -> BackendId {
    let Some(buffer) = steered_to(steering.for_new_flow()) else { return steering.for_old_flow() };
    if !steering.is_settled() {
        // Where a hash has put it, or else where flows finish.
        return match pools::earlier_backend_for(&opening.key, opening.print, buffer) {
            Some(backend) => backend,
            None => steering.draining,
        };
    }
    pools::backend_for(&opening.key, opening.print, buffer)
}
