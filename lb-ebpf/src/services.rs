//! Services by id, and where their new flows go.

use aya_ebpf::bindings::BPF_F_MMAPABLE;
use aya_ebpf::btf_maps::Array;
use aya_ebpf::macros::btf_map;
use lb_common::{SERVICES_MAX, Service, ServiceId, Steer};

#[btf_map]
static SERVICES: Array<Service, { SERVICES_MAX as usize }> = Array::new();

/// User space maps this array and stores whole words: that store is the handover.
#[btf_map]
static STEERING: Array<u64, { SERVICES_MAX as usize }, { BPF_F_MMAPABLE as usize }> = Array::new();

/// A service.
#[inline(always)]
pub(crate) fn get(id: ServiceId) -> Option<&'static Service> {
    SERVICES.get(u32::from(id))
}

/// Where the service's flows go at this moment.
#[inline(always)]
pub(crate) fn steering(id: ServiceId) -> Steer {
    match STEERING.get_ptr(u32::from(id)) {
        // SAFETY: the map gave the pointer; the word is aligned, so one load sees one store.
        Some(word) => Steer::from_word(unsafe { word.read_volatile() }),
        None => Steer::default(),
    }
}
