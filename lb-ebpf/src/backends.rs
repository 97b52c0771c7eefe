//! Backends by id, and by the endpoint that their replies come from.

use aya_ebpf::btf_maps::{Array, HashMap};
use aya_ebpf::macros::btf_map;
use lb_common::{BACKENDS_MAX, Backend, BackendId, Endpoint, Owner};

#[btf_map]
static BACKENDS: Array<Backend, { BACKENDS_MAX as usize }> = Array::new();

#[btf_map]
static OWNERS: HashMap<Endpoint, Owner, { BACKENDS_MAX as usize }> = HashMap::new();

/// A backend that packets may be sent to.
#[inline(always)]
pub(crate) fn get(id: BackendId) -> Option<&'static Backend> {
    BACKENDS.get(u32::from(id)).filter(|backend| backend.present != 0)
}

/// The backend that listens on this endpoint.
#[inline(always)]
pub(crate) fn owner(endpoint: &Endpoint) -> Option<Owner> {
    // SAFETY: user space replaces values as a whole and never while it deletes the key.
    unsafe { OWNERS.get(endpoint) }.copied()
}
