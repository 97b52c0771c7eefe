//! Who listens on an endpoint: a service's VIP, or one of its backends.

use aya_ebpf::bindings::BPF_F_MMAPABLE;
use aya_ebpf::btf_maps::Array;
use aya_ebpf::macros::btf_map;
use lb_common::listeners::{Name, PLACES, PORT_WORDS, Place, port_bit};
use lb_common::{Address, Listener};

use crate::settings;

/// User space maps this array and publishes an endpoint with one store.
#[btf_map]
static LISTENERS: Array<Place, { PLACES as usize }, { BPF_F_MMAPABLE as usize }> = Array::new();

/// A bit for each port, as it lies in a packet, that somebody listens on. Most packets that are for nobody,
/// and the clients' ends of all others, are known by it before anything is hashed.
#[btf_map]
static PORTS: Array<u64, { PORT_WORDS as usize }, { BPF_F_MMAPABLE as usize }> = Array::new();

/// The listener on this endpoint, port as it lies in a packet.
#[inline(always)]
pub(crate) fn find((address, port): (Address, u16), protocol: u8) -> Option<Listener> {
    if !is_used(port) {
        return None;
    }
    let name = Name::from_wire(address, port, protocol, &settings::keys());
    let [first, second] = name.places();
    listener_at(first, &name).or_else(|| listener_at(second, &name))
}

#[inline(always)]
fn is_used(port: u16) -> bool {
    let (word, bit) = port_bit(port);
    // SAFETY: the map gave the pointer; the word is aligned, so one load sees one store.
    PORTS.get_ptr(word).is_some_and(|word| unsafe { word.read_volatile() } & bit != 0)
}

#[inline(always)]
fn listener_at(place: u32, name: &Name) -> Option<Listener> {
    let place = LISTENERS.get_ptr(place)?;
    // SAFETY: the map gave the pointer. The head is read first: whoever fills a place writes it last.
    let (head, address) = unsafe {
        ((&raw const (*place).head).read_volatile(), (&raw const (*place).address).read_volatile())
    };
    name.listener(head, address)
}
