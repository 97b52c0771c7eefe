//! What a dry run tells user space: where the packet would go, and the entry that its flow has.
//!
//! What always holds: only a program that may change nothing else writes here, so in one that carries
//! traffic none of this is left once the verifier has seen it.

use aya_ebpf::btf_maps::Array;
use aya_ebpf::macros::btf_map;
use lb_common::bucket::Id;
use lb_common::{BackendId, Explanation, Halves};

use crate::settings;

/// Not pinned: each load has its own.
#[btf_map]
static EXPLANATION: Array<Explanation, 1> = Array::new();

/// The entry that the packet's flow was found under.
#[inline(always)]
pub(crate) fn entry(id: Id, halves: Halves) {
    tell(|explanation| {
        explanation.entry = id.to_word();
        explanation.halves = halves.to_word();
    });
}

/// The backend that the packet goes to or comes from.
#[inline(always)]
pub(crate) fn backend(id: BackendId) {
    tell(|explanation| explanation.backend = id);
}

/// What becomes of the packet; the last that is told.
#[inline(always)]
pub(crate) fn verdict(group: u32, reason: u32, ifindex: u32) {
    tell(|explanation| {
        explanation.group = group;
        explanation.reason = reason;
        explanation.ifindex = ifindex;
        explanation.is_complete = 1;
    });
}

#[inline(always)]
fn tell(change: impl FnOnce(&mut Explanation)) {
    if !settings::commits()
        && let Some(explanation) = EXPLANATION.get_ptr_mut(0)
    {
        // SAFETY: the map gave the pointer, and whoever loads a program for dry runs makes one at a time.
        change(unsafe { &mut *explanation });
    }
}
