//! Time to first byte: from a request's first byte to the first of its response, as the balancer sees them.
//!
//! The clock is read twice a turn, never once a packet. Starts are kept by a hash in a small table, so of two
//! requests under way that share a place one is not measured: a sample, without a bias.

use aya_ebpf::btf_maps::{Array, PerCpuArray};
use aya_ebpf::helpers::bpf_ktime_get_ns;
use aya_ebpf::macros::btf_map;
use lb_common::bucket::Fingerprint;
use lb_common::response::{STARTS, Start, Times};
use lb_common::{BACKENDS_MAX, BackendId};

use crate::settings;
use crate::verifier::hide;

#[btf_map]
static RESPONSE_STARTS: Array<u64, { STARTS as usize }> = Array::new();

#[btf_map]
static RESPONSE_TIMES: PerCpuArray<Times, { BACKENDS_MAX as usize }> = PerCpuArray::new();

/// A request begins.
#[inline(never)]
#[unsafe(no_mangle)]
extern "C" fn response_awaited(print: u64) -> u32 {
    let print = Fingerprint::from_word(print);
    if settings::commits()
        && let Some(place) = RESPONSE_STARTS.get_ptr_mut(Start::place(print))
    {
        // SAFETY: the map gave the pointer; one aligned store, so a reader sees the old start or the new one.
        unsafe { place.write_volatile(Start::now(print, bpf_ktime_get_ns()).to_word()) };
    }
    0
}

/// Its response begins.
#[inline(never)]
#[unsafe(no_mangle)]
extern "C" fn response_begun(print: u64, backend: u32) -> u32 {
    let print = Fingerprint::from_word(print);
    let Some(place) = RESPONSE_STARTS.get_ptr(Start::place(print)) else { return 0 };
    // SAFETY: the map gave the pointer.
    let start = Start::from_word(unsafe { place.read_volatile() });
    // SAFETY: the helper takes nothing.
    let now_ns = unsafe { bpf_ktime_get_ns() };
    if settings::commits()
        && let Some(bucket) = start.bucket_at(print, now_ns)
        && let Some(times) = RESPONSE_TIMES.get_ptr_mut(backend)
    {
        // SAFETY: the maps gave both pointers, and the histogram belongs to this CPU. The compiler knows how
        // large a bucket's number can be and drops the mask that the verifier needs.
        unsafe { (*times).count(hide(bucket.into(), place.cast()) as u32) };
    }
    0
}

/// Notes that a flow's client has begun a request.
#[inline(always)]
pub(crate) fn awaited(print: Fingerprint) {
    response_awaited(print.to_word());
}

/// Measures how long a flow's client has waited for the response that begins.
#[inline(always)]
pub(crate) fn begun(print: Fingerprint, backend: BackendId) {
    response_begun(print.to_word(), backend.into());
}
