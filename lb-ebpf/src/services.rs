//! Which service a packet is for, and where that service's new flows go.

use aya_ebpf::bindings::BPF_F_MMAPABLE;
use aya_ebpf::btf_maps::{Array, HashMap};
use aya_ebpf::macros::btf_map;
use lb_common::{Endpoint, SERVICES_MAX, Service, ServiceId, Steer};

#[btf_map]
static SERVICE_IDS: HashMap<Endpoint, u32, { SERVICES_MAX as usize }> = HashMap::new();

#[btf_map]
static SERVICES: Array<Service, { SERVICES_MAX as usize }> = Array::new();

/// User space maps this array and stores whole words: that store is the handover.
#[btf_map]
static STEERING: Array<u64, { SERVICES_MAX as usize }, { BPF_F_MMAPABLE as usize }> = Array::new();

/// The service that listens on this endpoint.
#[inline(always)]
pub(crate) fn find(endpoint: &Endpoint) -> Option<ServiceId> {
    // SAFETY: user space replaces values as a whole and never while it deletes the key.
    unsafe { SERVICE_IDS.get(endpoint) }.map(|id| *id as ServiceId)
}

/// A service as replies need it.
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
