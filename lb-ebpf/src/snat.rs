//! Source ports for flows whose backends have no route back through Baton. What is lent to whom is in
//! [`lb_common::snat`].

use aya_ebpf::bindings::BPF_F_MMAPABLE;
use aya_ebpf::btf_maps::Array;
use aya_ebpf::macros::btf_map;
use lb_common::bucket::Fingerprint;
use lb_common::snat::{PortRange, Slot, TRIES};
use lb_common::{FlowKey, Ticks};

use crate::pin::exchange;
use crate::settings;

/// The slots of all groups; the loader sets how many. User space frees those of flows that are gone.
#[btf_map]
static SNAT_SLOTS: Array<Slot, 1, { BPF_F_MMAPABLE as usize }> = Array::new();

/// A flow that looks for its port.
#[repr(C)]
struct Sought {
    print: Fingerprint,
    range: PortRange,
    key: FlowKey,
    now: Ticks,
}

/// The port of a flow: the one that it has, or the first free one; 0 if there is none.
#[inline(always)]
pub(crate) fn port_of(key: &FlowKey, print: Fingerprint, range: PortRange, now: Ticks) -> u16 {
    let sought = Sought { print, range, key: *key, now };
    // SAFETY: a reference is valid.
    unsafe { snat_port(&raw const sought) as u16 }
}

/// # Safety
///
/// `sought` must be valid or null.
#[inline(never)]
#[unsafe(no_mangle)]
unsafe extern "C" fn snat_port(sought: *const Sought) -> u32 {
    // SAFETY: by this function's contract; the verifier sees it as memory that may be null.
    let Some(sought) = (unsafe { sought.as_ref() }) else { return 0 };
    let tag = Slot::tag_of(sought.print);
    for step in 0..TRIES {
        if step >= u32::from(sought.range.count) {
            break;
        }
        let port = sought.range.candidate(sought.print, step);
        let Some(slot) = SNAT_SLOTS.get_ptr_mut(sought.range.slot(port)) else { break };
        // SAFETY: the slot is a map value, which lives as long as the program runs.
        let lent_to = unsafe { (&raw const (*slot).tag).read_volatile() };
        if lent_to == tag {
            return port.into();
        }
        // A dry run takes the port that it would get.
        if lent_to == 0 && (!settings::commits() || lend(slot, sought, tag)) {
            return port.into();
        }
    }
    0
}

/// The port that a flow has; 0 if it has none. For what may be forged: nothing is lent.
#[inline(always)]
pub(crate) fn port_held_by(print: Fingerprint, range: PortRange) -> u16 {
    held_port(print.to_word(), range.to_word()) as u16
}

#[inline(never)]
#[unsafe(no_mangle)]
extern "C" fn held_port(print: u64, range: u64) -> u32 {
    let (print, range) = (Fingerprint::from_word(print), PortRange::from_word(range));
    for step in 0..TRIES {
        if step >= u32::from(range.count) {
            break;
        }
        let port = range.candidate(print, step);
        let Some(slot) = SNAT_SLOTS.get_ptr(range.slot(port)) else { break };
        // SAFETY: the slot is a map value, which lives as long as the program runs.
        if unsafe { (&raw const (*slot).tag).read_volatile() } == Slot::tag_of(print) {
            return port.into();
        }
    }
    0
}

/// Lends a free port; false if another CPU was first.
#[inline(always)]
fn lend(slot: *mut Slot, sought: &Sought, tag: u64) -> bool {
    // SAFETY: as above. Nobody asks for the key of this port before the flow's first packet has left with it.
    unsafe {
        if !exchange(&raw mut (*slot).tag, 0, tag) {
            return false;
        }
        let key = &raw mut (*slot).key;
        (&raw mut (*key).client).write_volatile(sought.key.client);
        (&raw mut (*key).client_port).write_volatile(sought.key.client_port);
        (&raw mut (*key).service).write_volatile(sought.key.service);
        (&raw mut (*slot).lent_at).write_volatile(sought.now.to_bits());
    }
    true
}

/// The flow that has a slot's port.
#[inline(always)]
pub(crate) fn flow_of(slot: u32) -> Option<FlowKey> {
    let slot = SNAT_SLOTS.get(slot)?;
    if slot.tag == 0 { None } else { Some(slot.key) }
}
