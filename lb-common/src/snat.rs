//! Source ports that Baton lends to flows whose backends have no route back through it (`snat`).
//!
//! Each service with `snat` has a group of 65,536 slots, one a port. A flow's port is looked for from a
//! place that its fingerprint names, so its packets find it again without a table of their own; the reply
//! names the port, which is the slot. One compare-and-exchange on [`Slot::tag`] lends a port.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::bucket::Fingerprint;
use crate::flow::FlowKey;
use crate::plain_data;

/// Slots of a group: one for every port number.
pub const PORTS: u32 = 1 << 16;

/// Ports that are tried for a flow. At four fifths of the range in use, one flow in a thousand finds none
/// among so many.
pub const TRIES: u32 = 32;

/// One port: which flow has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Slot {
    /// The flow's tag ([`Slot::tag_of`]), or 0 if the port is free.
    pub tag: u64,
    /// The flow.
    pub key: FlowKey,
    /// When the port was lent ([`crate::Ticks`]).
    pub lent_at: u32,
}

const _: () = assert!(size_of::<Slot>() == 32);

impl Slot {
    /// What tells a flow among those that look for ports: never 0.
    #[inline(always)]
    pub const fn tag_of(print: Fingerprint) -> u64 {
        print.tag() | 1
    }
}

/// The ports that a service lends: `first` and those after it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct PortRange {
    /// The first port.
    pub first: u16,
    /// How many there are, up to 65,535; 0 if the service lends none.
    pub count: u16,
    /// The group of slots.
    pub group: u32,
}

impl PortRange {
    /// Whether the port is one of the range's.
    #[inline(always)]
    pub const fn contains(&self, port: u16) -> bool {
        (port.wrapping_sub(self.first)) < self.count
    }

    /// The port that a flow looks at in its `step`-th try, from 0 on.
    #[inline(always)]
    pub const fn candidate(&self, print: Fingerprint, step: u32) -> u16 {
        let count = self.count as u32;
        // A fraction of the range, without a division; `step` stays below it.
        let start = ((print.spread() as u64 * count as u64) >> 32) as u32;
        let place = start + step;
        self.first.wrapping_add(if place >= count { place - count } else { place } as u16)
    }

    /// All of it in one word.
    #[inline(always)]
    pub const fn to_word(self) -> u64 {
        self.first as u64 | (self.count as u64) << 16 | (self.group as u64) << 32
    }

    /// From [`PortRange::to_word`].
    #[inline(always)]
    pub const fn from_word(word: u64) -> Self {
        Self { first: word as u16, count: (word >> 16) as u16, group: (word >> 32) as u32 }
    }

    /// The slot of a port.
    #[inline(always)]
    pub const fn slot(&self, port: u16) -> u32 {
        self.group * PORTS + port as u32
    }
}

plain_data!(Slot);

#[cfg(test)]
mod tests {
    extern crate std;

    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;
    use crate::Address;
    use crate::bucket::HashKeys;

    fn print(client: u32, port: u16) -> Fingerprint {
        let key = FlowKey { client: Address::from_v4_word(client), client_port: port, service: 0 };
        Fingerprint::of(&key, &HashKeys([3, 5, 7, 11, 13, 17]))
    }

    proptest! {
        #[test]
        fn every_try_is_another_port_of_the_range(client: u32, port: u16, first in 1..30_000u16, count in 1..30_000u16) {
            let range = PortRange { first, count, group: 0 };
            let tries = TRIES.min(u32::from(count));
            let ports: BTreeSet<u16> = (0..tries).map(|step| range.candidate(print(client, port), step)).collect();
            prop_assert_eq!(ports.len(), tries as usize);
            prop_assert!(ports.iter().all(|port| range.contains(*port)));
        }
    }

    #[test]
    fn a_range_ends_where_it_says() {
        let range = PortRange { first: 16_384, count: 49_152, group: 2 };
        assert!(range.contains(16_384) && range.contains(65_535) && !range.contains(16_383));
        assert!(!PortRange::default().contains(0));
        assert_eq!(range.slot(1), 2 * PORTS + 1);
        assert_eq!(PortRange::from_word(range.to_word()), range);
    }
}
