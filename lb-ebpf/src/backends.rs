//! Backends by id.

use aya_ebpf::bindings::BPF_F_MMAPABLE;
use aya_ebpf::btf_maps::Array;
use aya_ebpf::macros::btf_map;
use lb_common::{BACKENDS_MAX, Backend, BackendId};

/// User space maps this array to read whose backends there are.
#[btf_map]
static BACKENDS: Array<Backend, { BACKENDS_MAX as usize }, { BPF_F_MMAPABLE as usize }> = Array::new();

/// A backend, whatever its state.
#[inline(always)]
pub(crate) fn get(id: BackendId) -> Option<&'static Backend> {
    BACKENDS.get(u32::from(id))
}
