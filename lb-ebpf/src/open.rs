//! A packet whose flow has no entry, or may not go on with the one it has: where it goes, and the entry
//! that keeps it there.
//!
//! - A SYN is a new flow and goes where steering says, unless its tuple belongs to a flow that has not
//!   closed. So does the first datagram of a conversation.
//! - Any other segment belongs to an old flow. It goes to the backend that drains, else to the active one,
//!   and is taken up.
//! - A backend's own packet tells where its flow is.
//!
//! This is a function of its own, verified once for both families and both directions: it runs once a flow.

use lb_common::bucket::Fingerprint;
use lb_common::{Backend, BackendId, FlowKey, Forwarding, Half, Halves, Reason, Ticks};

use crate::flows::Pinned;
use crate::pin::{Pin, pin, pin_anew};
use crate::{backends, services, settings};

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
    (word as BackendId, (word >> 32) as u32)
}

#[inline(always)]
fn choose(opening: &Opening) -> Choice {
    let service = opening.key.service;
    let steering = services::steering(service);
    let has = |kind| opening.kind & kind != 0;
    let from_client = opening.from == 0;
    let is_new = has(opening::OPENS | opening::DATAGRAM);
    let wanted = match (from_client, is_new) {
        (false, _) => opening.from,
        (true, true) => steering.for_new_flow(),
        (true, false) => steering.for_old_flow(),
    };
    let Some(backend) = backends::get(wanted).filter(|backend| !from_client || backend.is_present()) else {
        return Choice::none(Reason::NoBackend);
    };
    let mut halves = Halves::from_word(opening.halves);
    if !matches!(backend.forwarding(), Forwarding::Nat) {
        halves.server = Half::ONE_WAY;
    }
    let wish = Pin { backend: wanted, epoch: steering.epoch as u8, halves };
    let old = if opening.old_slot == Opening::NO_ENTRY { None } else { Pinned::at(opening.old_slot) };
    let id = if has(opening::RESETS) || !settings::commits() {
        None
    } else if let Some(old) = &old {
        pin_anew(old, wish)
    } else {
        pin(&opening.key, opening.print, wish, opening.now)
    };
    let unpinned = id.is_none() && (has(opening::RESETS) || settings::commits());
    if !from_client {
        let ours = id.is_some_and(|id| id.backend() == wanted);
        let reason = if ours { Reason::ReplyTakenUp } else { Reason::ReplyUnpinned };
        return Choice { backend: wanted, reason };
    }
    // Another CPU that pinned the same flow at the same moment decides where it goes.
    if let Some(id) = id
        && id.backend() != wanted
    {
        return if backends::get(id.backend()).is_some_and(Backend::is_present) {
            Choice { backend: id.backend(), reason: Reason::PinnedFlow }
        } else {
            Choice::none(Reason::NoBackend)
        };
    }
    let reason = match (unpinned, is_new) {
        (true, _) => Reason::Unpinned,
        (_, true) if has(opening::DATAGRAM) && old.is_some() => Reason::Moved,
        (_, true) => Reason::NewFlow,
        (_, false) => Reason::TakenUp,
    };
    Choice { backend: wanted, reason }
}
