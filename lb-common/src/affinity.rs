//! Client affinity: which clients count as one.
//!
//! Clients whose addresses share a prefix share an affinity; its key is the address with all other bits
//! cleared. The masks are made in user space, so that the packet path has one AND to do for IPv4 and four
//! for IPv6.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::endpoint::Address;
use crate::plain_data;

/// The prefixes within which clients of a service count as one, as masks of addresses as they lie in a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Prefixes {
    v6: [u32; 4],
    v4: u32,
}

const _: () = assert!(size_of::<Prefixes>() == 20);

impl Prefixes {
    /// Every address for itself.
    pub const HOSTS: Self = Self { v6: [!0; 4], v4: !0 };

    /// Prefixes of these lengths: IPv4 0 to 32 bits, IPv6 0 to 128; `None` if one is longer.
    pub const fn new(v4_bits: u32, v6_bits: u32) -> Option<Self> {
        if v4_bits > 32 || v6_bits > 128 {
            return None;
        }
        let v6 = [
            mask_of(v6_bits),
            mask_of(v6_bits.saturating_sub(32)),
            mask_of(v6_bits.saturating_sub(64)),
            mask_of(v6_bits.saturating_sub(96)),
        ];
        Some(Self { v6, v4: mask_of(v4_bits) })
    }

    /// The affinity key of a client: the first address of its prefix.
    #[inline(always)]
    pub const fn key_of(&self, client: Address) -> Address {
        if client.is_v4() {
            return Address::from_v4_word(client.v4_word() & self.v4);
        }
        let [a, b, c, d] = client.words();
        Address::from_words([a & self.v6[0], b & self.v6[1], c & self.v6[2], d & self.v6[3]])
    }
}

/// The first `bits` of a word as it lies in a packet; all from 32 on.
const fn mask_of(bits: u32) -> u32 {
    match u32::MAX.checked_shr(bits) {
        Some(rest) => (!rest).to_be(),
        None => u32::MAX,
    }
}

plain_data!(Prefixes);

#[cfg(test)]
mod tests {
    use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

    use proptest::prelude::*;

    use super::*;

    fn key(prefixes: &Prefixes, ip: &str) -> IpAddr {
        prefixes.key_of(ip.parse::<IpAddr>().unwrap().into()).into()
    }

    #[test]
    fn a_key_is_the_first_address_of_the_prefix() {
        let prefixes = Prefixes::new(24, 56).unwrap();
        assert_eq!(key(&prefixes, "192.0.2.77"), "192.0.2.0".parse::<IpAddr>().unwrap());
        assert_eq!(key(&prefixes, "2001:db8:1:2ff:3::4"), "2001:db8:1:200::".parse::<IpAddr>().unwrap());
    }

    #[test]
    fn no_prefix_makes_one_client_of_each_family() {
        let all = Prefixes::new(0, 0).unwrap();
        assert_eq!(key(&all, "192.0.2.77"), key(&all, "10.0.0.1"));
        assert_eq!(key(&all, "2001:db8::1"), key(&all, "fd77::1"));
        assert_ne!(key(&all, "192.0.2.77"), key(&all, "fd77::1"));
    }

    #[test]
    fn prefixes_that_are_longer_than_addresses_are_refused() {
        assert_eq!(Prefixes::new(33, 128), None);
        assert_eq!(Prefixes::new(32, 129), None);
        assert_eq!(Prefixes::new(32, 128), Some(Prefixes::HOSTS));
    }

    proptest! {
        #[test]
        fn ipv4_keys_keep_the_first_bits_and_no_other(address: u32, bits in 0..=32u32) {
            let key = Prefixes::new(bits, 128).unwrap().key_of(Ipv4Addr::from(address).into());
            let kept = address.checked_shr(32 - bits).unwrap_or(0).checked_shl(32 - bits).unwrap_or(0);
            prop_assert_eq!(IpAddr::from(key), IpAddr::V4(kept.into()));
        }

        #[test]
        fn ipv6_keys_keep_the_first_bits_and_no_other(address: u128, bits in 0..=128u32) {
            let client = Address::from(IpAddr::V6(address.into()));
            prop_assume!(!client.is_v4());
            let key = Prefixes::new(32, bits).unwrap().key_of(client);
            let kept = address.checked_shr(128 - bits).unwrap_or(0).checked_shl(128 - bits).unwrap_or(0);
            prop_assert_eq!(key.words(), Address::from(IpAddr::V6(Ipv6Addr::from(kept))).words());
        }
    }
}
