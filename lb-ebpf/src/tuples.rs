//! The log of tuples: who each new flow is, for user space, which keeps the tuples beside the table.
//!
//! Each CPU has its own ring and overwrites what is older than the ring is long. A reader that comes too
//! late misses names of flows, never flows.

use aya_ebpf::bindings::BPF_F_MMAPABLE;
use aya_ebpf::btf_maps::Array;
use aya_ebpf::helpers::bpf_get_smp_processor_id;
use aya_ebpf::macros::btf_map;
use lb_common::FlowKey;
use lb_common::bucket::{LogHead, Tuple};

use crate::settings;

/// The rings, one CPU's after the other; the loader sets how many places there are.
#[btf_map]
static TUPLE_LOG: Array<Tuple, 1, { BPF_F_MMAPABLE as usize }> = Array::new();

/// The tuple of each entry of the table, written by user space from the log; the loader sets how many.
#[btf_map]
pub(crate) static TUPLES: Array<Tuple, 1, { BPF_F_MMAPABLE as usize }> = Array::new();

/// How many tuples each CPU has logged; the loader sets how many CPUs there are.
#[btf_map]
static TUPLE_LOG_HEADS: Array<LogHead, 1, { BPF_F_MMAPABLE as usize }> = Array::new();

/// Appends a flow to this CPU's ring.
#[inline(always)]
pub(crate) fn log(key: &FlowKey, slot: u32, tag: u64) {
    // SAFETY: the helper takes nothing.
    let cpu = unsafe { bpf_get_smp_processor_id() };
    let Some(head) = TUPLE_LOG_HEADS.get_ptr_mut(cpu) else { return };
    // SAFETY: the map gave the pointer, and only this CPU writes there.
    let count = unsafe { (&raw const (*head).count).read_volatile() };
    let mask = settings::log_mask();
    let Some(tuple) = TUPLE_LOG.get_ptr_mut(cpu * (mask + 1) + (count as u32 & mask)) else { return };
    // SAFETY: as above. The count is written last: a reader takes what lies below it.
    unsafe {
        let FlowKey { client, client_port, service } = *key;
        let written = &raw mut (*tuple).key;
        (&raw mut (*written).client).write_volatile(client);
        (&raw mut (*written).client_port).write_volatile(client_port);
        (&raw mut (*written).service).write_volatile(service);
        (&raw mut (*tuple).slot).write_volatile(slot);
        (&raw mut (*tuple).tag).write_volatile(tag);
        (&raw mut (*head).count).write_volatile(count + 1);
    }
}
