//! Which endpoints the packet path knows: the VIPs of services and the endpoints of their backends.
//!
//! Each packet asks twice (for its destination, then for its source), so the answer must come from memory
//! that stays in the cache: a cuckoo table in one array, every endpoint in one of two places. User space
//! writes it; one aligned 64-bit store publishes an endpoint with all that is known about it, or takes it
//! away, so a packet sees the old listener or the new one and never half of one. A bit for each port
//! ([`port_bit`]) spares the table most questions that it would answer with no.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::bucket::HashKeys;
use crate::endpoint::{Address, Endpoint};
use crate::plain_data;
use crate::steer::{BackendId, NO_BACKEND, ServiceId};

/// Places of the table: four for every endpoint there can be, so that one of two is always found.
pub const PLACES: u32 = 4096;

/// Words that have a bit for each port.
pub const PORT_WORDS: u32 = (1 << 16) / 64;

/// The bit of a port, as it lies in a packet, and the word that it stands in.
#[inline(always)]
pub const fn port_bit(port: u16) -> (u32, u64) {
    (port as u32 / 64, 1 << (port % 64))
}

/// One place of the table.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Place {
    /// Bits 0 to 15: port as it lies in a packet; 16 to 23: protocol, 0 if the place is free; 24 to 31: flags;
    /// 32 to 47: service; 48 to 63: backend, 0 for the VIP.
    pub head: u64,
    /// The address.
    pub address: [u64; 2],
    reserved: u64,
}

const _: () = assert!(size_of::<Place>() == 32);

/// The part of [`Place::head`] that names the endpoint.
const NAME: u64 = 0x00ff_ffff;
/// Where [`Listener::flags`] stand in [`Place::head`].
const FLAGS_SHIFT: u32 = 24;

/// Who listens on an endpoint.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Listener {
    /// The service.
    pub service: ServiceId,
    /// Its backend, or [`NO_BACKEND`] if the endpoint is the service's VIP.
    pub backend: BackendId,
    /// Bits of [`crate::tables::service_flags`] that packets need at once.
    pub flags: u8,
}

impl Listener {
    #[inline(always)]
    const fn from_head(head: u64) -> Self {
        Self {
            service: (head >> 32) as u16,
            backend: (head >> 48) as u16,
            flags: (head >> FLAGS_SHIFT) as u8,
        }
    }

    /// Whether the service has one of these flags.
    #[inline(always)]
    pub const fn has(self, flags: u8) -> bool {
        self.flags & flags != 0
    }

    /// Whether it is the service itself.
    #[inline(always)]
    pub const fn is_vip(self) -> bool {
        self.backend == NO_BACKEND
    }
}

/// An endpoint as it stands in a place, and the two places where it may stand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Name {
    head: u64,
    address: [u64; 2],
    places: [u32; 2],
}

impl Name {
    /// Finds the places of an endpoint.
    #[inline(always)]
    pub const fn of(endpoint: &Endpoint, keys: &HashKeys) -> Self {
        Self::from_wire(endpoint.address(), endpoint.wire_port(), endpoint.protocol(), keys)
    }

    /// The same, from the fields of a packet.
    #[inline(always)]
    pub const fn from_wire(address: Address, port: u16, protocol: u8, keys: &HashKeys) -> Self {
        let words = address.words();
        let head = port as u32 | (protocol as u32) << 16;
        let hash = keys.hash(words, head);
        Self {
            head: head as u64,
            address: [words[0] as u64 | (words[1] as u64) << 32, words[2] as u64 | (words[3] as u64) << 32],
            places: [hash as u32 & (PLACES - 1), (hash >> 32) as u32 & (PLACES - 1)],
        }
    }

    /// Where it may stand.
    #[inline(always)]
    pub const fn places(&self) -> [u32; 2] {
        self.places
    }

    /// Who listens there, if this place is the endpoint's.
    #[inline(always)]
    pub const fn listener(&self, head: u64, address: [u64; 2]) -> Option<Listener> {
        if head & NAME == self.head && address[0] == self.address[0] && address[1] == self.address[1] {
            Some(Listener::from_head(head))
        } else {
            None
        }
    }

    /// The place as it is to be filled.
    pub const fn place(&self, listener: Listener) -> Place {
        let flags = (listener.flags as u64) << FLAGS_SHIFT;
        let ids = (listener.service as u64) << 32 | (listener.backend as u64) << 48;
        Place::new(self.head | flags | ids, self.address)
    }
}

impl Place {
    /// A place with these words.
    pub const fn new(head: u64, address: [u64; 2]) -> Self {
        Self { head, address, reserved: 0 }
    }

    /// Whether nobody stands here.
    pub const fn is_free(&self) -> bool {
        self.head & 0x00ff_0000 == 0
    }

    /// The endpoint that stands here.
    pub fn endpoint(&self) -> Endpoint {
        let [low, high] = self.address;
        let words = [low as u32, (low >> 32) as u32, high as u32, (high >> 32) as u32];
        Endpoint::from_wire(Address::from_words(words), self.head as u16, (self.head >> 16) as u8)
    }

    /// Who listens here.
    pub const fn listener(&self) -> Option<Listener> {
        if self.is_free() { None } else { Some(Listener::from_head(self.head)) }
    }
}

/// The moves after which an endpoint can stand in one of its places, in the order in which they are to be
/// written: each fills a place that is free by then, so nobody is ever in neither of his places.
///
/// `at` reads the table. The last move is the endpoint's own; `None` if there is no room.
pub fn enter(
    endpoint: &Endpoint,
    keys: &HashKeys,
    at: impl Fn(u32) -> Place,
) -> Option<impl Iterator<Item = Move>> {
    let mut path = [0u32; PATH];
    for first in Name::of(endpoint, keys).places() {
        path[0] = first;
        for length in 1..=PATH {
            let place = at(path[length - 1]);
            if place.is_free() {
                // From the free end back to the endpoint's own place.
                return Some((0..length).rev().map(move |step| Move {
                    to: path[step],
                    from: if step == 0 { None } else { Some(path[step - 1]) },
                }));
            }
            let [one, two] = Name::of(&place.endpoint(), keys).places();
            let other = if one == path[length - 1] { two } else { one };
            let Some(next) = path.get_mut(length) else { break };
            *next = other;
        }
    }
    None
}

/// Longest chain of moves that is tried.
const PATH: usize = 32;

/// One write: what stands at `from`, or the new endpoint if there is no `from`, is written to `to`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Move {
    /// The place to fill.
    pub to: u32,
    /// The place whose endpoint moves; it is free or overwritten afterwards.
    pub from: Option<u32>,
}

plain_data!(Place);

#[cfg(test)]
mod tests {
    extern crate std;

    use core::net::{IpAddr, SocketAddr};
    use std::vec;
    use std::vec::Vec;

    use proptest::prelude::*;

    use super::*;
    use crate::endpoint::{TCP, UDP};
    use crate::{BACKENDS_MAX, SERVICES_MAX};

    fn find(table: &[Place], endpoint: &Endpoint, keys: &HashKeys) -> Option<Listener> {
        let name = Name::of(endpoint, keys);
        name.places().into_iter().find_map(|place| {
            let place = table[place as usize];
            name.listener(place.head, place.address)
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]
        #[test]
        fn a_full_house_finds_room_and_nobody_is_lost_on_the_way(keys: [u64; 6], base: u32) {
            let keys = HashKeys(keys.map(|key| key | 1));
            let mut table = vec![Place::default(); PLACES as usize];
            let endpoints: Vec<Endpoint> = (0..SERVICES_MAX + BACKENDS_MAX)
                .map(|i| {
                    let ip = IpAddr::V4(base.wrapping_add(i / 3).into());
                    let protocol = if i % 2 == 0 { TCP } else { UDP };
                    Endpoint::new(SocketAddr::new(ip, 80 + i as u16 % 3), protocol)
                })
                .collect();
            for (number, endpoint) in endpoints.iter().enumerate() {
                let listener = Listener { service: 1, backend: number as u16, flags: 0 };
                let moves: Vec<_> =
                    enter(endpoint, &keys, |place| table[place as usize]).expect("room").collect();
                for step in moves {
                    table[step.to as usize] = match step.from {
                        Some(from) => table[from as usize],
                        None => Name::of(endpoint, &keys).place(listener),
                    };
                    for (known, earlier) in endpoints[..number].iter().enumerate() {
                        prop_assert_eq!(find(&table, earlier, &keys).map(|l| l.backend), Some(known as u16));
                    }
                }
                prop_assert_eq!(find(&table, endpoint, &keys), Some(listener));
            }
        }
    }

    #[test]
    fn a_place_tells_its_endpoint() {
        let keys = HashKeys([3, 5, 7, 9, 11, 13]);
        for (text, protocol) in [("10.77.0.1:80", TCP), ("[fd77::1]:53", UDP)] {
            let endpoint = Endpoint::new(text.parse().unwrap(), protocol);
            let listener = Listener { service: 3, backend: 1023, flags: 0xff };
            let place = Name::of(&endpoint, &keys).place(listener);
            assert_eq!((place.endpoint(), place.listener()), (endpoint, Some(listener)));
        }
        assert_eq!(Place::default().listener(), None);
    }
}
