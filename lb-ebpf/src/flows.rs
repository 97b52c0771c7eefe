//! The flow table: what keeps a flow on its backend.
//!
//! The table is a hash that refuses when it is full, so an established flow is never evicted.

use aya_ebpf::bindings::{BPF_ANY, BPF_F_NO_PREALLOC};
use aya_ebpf::btf_maps::HashMap;
use aya_ebpf::helpers::generated::bpf_ktime_get_coarse_ns;
use aya_ebpf::macros::btf_map;
use lb_common::{FLOWS_MAX, Flow, FlowKey, Half, Ticks};

#[btf_map]
static FLOWS: HashMap<FlowKey, Flow, { FLOWS_MAX as usize }, { BPF_F_NO_PREALLOC as usize }> = HashMap::new();

/// The table has no room; the flow is served without an entry.
pub(crate) struct Full;

/// The entry of a flow.
#[inline(always)]
pub(crate) fn find(key: &FlowKey) -> Option<&'static mut Flow> {
    // SAFETY: entries live until a grace period after the program run. Each direction writes its own half.
    FLOWS.get_ptr_mut(key).map(|flow| unsafe { &mut *flow })
}

/// Records a flow, over whatever stood under its key.
#[inline(always)]
pub(crate) fn pin(key: &FlowKey, flow: &Flow) -> Result<(), Full> {
    FLOWS.insert(key, flow, u64::from(BPF_ANY)).map_err(|_| Full)
}

/// The time of flow entries.
#[inline(always)]
pub(crate) fn now() -> Ticks {
    // SAFETY: the helper takes nothing and only reads a clock.
    Ticks::from_ns(unsafe { bpf_ktime_get_coarse_ns() })
}

/// The client's half after a packet from it: data after a response begins the next turn.
#[inline(always)]
pub(crate) fn after_client(flow: &Flow, flags: u8, has_payload: bool) -> Half {
    let mut half = flow.client.after(flags, now());
    if has_payload && half.turns == flow.server.turns {
        half.turns = half.turns.wrapping_add(1);
    }
    half
}

/// The server's half after a packet from it: data answers the turn that is open.
#[inline(always)]
pub(crate) fn after_server(flow: &Flow, flags: u8, has_payload: bool) -> Half {
    let mut half = flow.server.after(flags, now());
    if has_payload {
        half.turns = flow.client.turns;
    }
    half
}
