//! Counters that no CPU shares: one a reason, and one set a backend.

use aya_ebpf::btf_maps::PerCpuArray;
use aya_ebpf::macros::btf_map;
use lb_common::reason::REASONS;
use lb_common::{BACKENDS_MAX, BackendCounters, BackendId, Reason};

#[btf_map]
static REASON_COUNTERS: PerCpuArray<u64, { REASONS as usize }> = PerCpuArray::new();

#[btf_map]
static BACKEND_COUNTERS: PerCpuArray<BackendCounters, { BACKENDS_MAX as usize }> = PerCpuArray::new();

/// Counts a packet under its reason.
#[inline(always)]
pub(crate) fn packet(reason: Reason) {
    if let Some(counter) = REASON_COUNTERS.get_ptr_mut(reason as u32) {
        // SAFETY: the map gave the pointer, and the slot belongs to this CPU.
        unsafe { *counter += 1 };
    }
}

/// Changes the counters of a backend on this CPU.
#[inline(always)]
pub(crate) fn backend(id: BackendId, change: impl FnOnce(&mut BackendCounters)) {
    if let Some(counters) = BACKEND_COUNTERS.get_ptr_mut(u32::from(id)) {
        // SAFETY: the map gave the pointer, and the slot belongs to this CPU.
        change(unsafe { &mut *counters });
    }
}
