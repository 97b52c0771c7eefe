//! The choice among many backends for a new flow. What a pool is, and how its policies choose, is in
//! [`lb_common::pool`].

use core::intrinsics::{AtomicOrdering, atomic_xadd};

use aya_ebpf::bindings::BPF_F_MMAPABLE;
use aya_ebpf::btf_maps::{Array, PerCpuArray};
use aya_ebpf::helpers::bpf_get_smp_processor_id;
use aya_ebpf::macros::btf_map;
use lb_common::bucket::Fingerprint;
use lb_common::pool::{self, Circumstances, POOLS_MAX, Policy, Pool, choose};
use lb_common::{BACKENDS_MAX, BackendId, FlowKey, SERVICES_MAX};

use crate::settings;

/// Two pools a service: user space fills the one that steering does not name.
#[btf_map]
static POOLS: Array<Pool, { POOLS_MAX as usize }> = Array::new();

/// Open flows of each backend: counted here as flows come and go, and corrected by user space, which scans
/// the flow table.
#[btf_map]
static OPEN_FLOWS: Array<u64, { BACKENDS_MAX as usize }, { BPF_F_MMAPABLE as usize }> = Array::new();

/// Flows that this CPU has begun, by service: whose turn it is.
#[btf_map]
static TURNS: PerCpuArray<u32, { SERVICES_MAX as usize }> = PerCpuArray::new();

/// Keeps the CPUs from moving in step: a step of the golden ratio apart.
const CPU_STEP: u32 = 0x9e37_79b9;

/// A new flow that needs a backend.
struct NewFlow<'a> {
    key: &'a FlowKey,
    print: Fingerprint,
}

impl Circumstances for NewFlow<'_> {
    #[inline(always)]
    fn turn(&self) -> u32 {
        // SAFETY: the helper takes nothing.
        let start = unsafe { bpf_get_smp_processor_id() }.wrapping_mul(CPU_STEP);
        let Some(turn) = TURNS.get_ptr_mut(self.key.service.into()) else { return start };
        // SAFETY: the map gave the pointer, and the number belongs to this CPU.
        unsafe {
            let number = turn.read_volatile();
            if settings::commits() {
                turn.write_volatile(number.wrapping_add(1));
            }
            start.wrapping_add(number)
        }
    }

    #[inline(always)]
    fn address_hash(&self) -> u32 {
        (settings::keys().hash(self.key.client.words(), 0) >> 32) as u32
    }

    #[inline(always)]
    fn flow_hash(&self) -> u32 {
        self.print.spread()
    }

    #[inline(always)]
    fn random(&self) -> u64 {
        self.print.to_word()
    }

    #[inline(always)]
    fn open_flows(&self, backend: BackendId) -> u32 {
        let open = OPEN_FLOWS.get(backend.into()).map_or(0, |open| *open);
        // What was counted away twice, so that none is less than none, is corrected by the next scan.
        if open.cast_signed() < 0 { 0 } else { open as u32 }
    }
}

/// The backend for a new flow from the pool that the steering names; 0 if nobody has room.
#[inline(always)]
pub(crate) fn backend_for(key: &FlowKey, print: Fingerprint, buffer: u32) -> BackendId {
    let Some(pool) = POOLS.get(pool::place(key.service, buffer)) else { return 0 };
    choose(pool, &NewFlow { key, print }).unwrap_or(0)
}

/// The backend that a flow without entry had under the pool before this one, if a hash says so by itself.
#[inline(always)]
pub(crate) fn earlier_backend_for(key: &FlowKey, print: Fingerprint, buffer: u32) -> Option<BackendId> {
    let pool = POOLS.get(pool::place(key.service, buffer ^ 1))?;
    match pool.policy()? {
        Policy::Maglev | Policy::Sh => choose(pool, &NewFlow { key, print }),
        _ => None,
    }
}

/// Counts a flow that a backend has got.
#[inline(always)]
pub(crate) fn opened(backend: BackendId) {
    add(backend, 1);
}

/// Counts a flow that a backend has finished.
#[inline(always)]
pub(crate) fn closed(backend: BackendId) {
    add(backend, u64::MAX);
}

#[inline(always)]
fn add(backend: BackendId, number: u64) {
    if settings::commits()
        && let Some(open) = OPEN_FLOWS.get_ptr_mut(backend.into())
    {
        // SAFETY: the map gave the pointer, which is aligned; what was there before is not asked for.
        unsafe { atomic_xadd::<u64, u64, { AtomicOrdering::Relaxed }>(open, number) };
    }
}
