//! Counters that no CPU shares: one a reason for each service, and one set a backend.

use aya_ebpf::btf_maps::PerCpuArray;
use aya_ebpf::macros::btf_map;
use lb_common::reason::{COUNTERS, REASONS};
use lb_common::{BACKENDS_MAX, BackendCounters, BackendId};

use crate::{explain, settings};

#[btf_map]
static REASON_COUNTERS: PerCpuArray<u64, { COUNTERS as usize }> = PerCpuArray::new();

#[btf_map]
static BACKEND_COUNTERS: PerCpuArray<BackendCounters, { BACKENDS_MAX as usize }> = PerCpuArray::new();

/// Counts a packet under its reason, in the group of the service that it was for.
#[inline(always)]
pub(crate) fn packet(group: u32, reason: u32) {
    if settings::commits()
        && let Some(counter) = REASON_COUNTERS.get_ptr_mut(group * REASONS + reason)
    {
        // SAFETY: the map gave the pointer, and the slot belongs to this CPU.
        unsafe { *counter += 1 };
    }
}

/// Changes the counters of a backend on this CPU.
#[inline(always)]
pub(crate) fn backend(id: BackendId, change: impl FnOnce(&mut BackendCounters)) {
    explain::backend(id);
    if settings::commits()
        && let Some(counters) = BACKEND_COUNTERS.get_ptr_mut(u32::from(id))
    {
        // SAFETY: the map gave the pointer, and the slot belongs to this CPU.
        change(unsafe { &mut *counters });
    }
}
