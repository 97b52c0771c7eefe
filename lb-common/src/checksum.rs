//! Incremental update of Internet checksums (RFC 1624).
//!
//! Three facts carry this module:
//! - The checksum is the complement of a one's-complement sum, so a changed word changes it by a difference
//!   that can be computed without the rest of the packet: `HC' = ~(~HC + ~m + m')` (RFC 1624, equation 3).
//! - Equation 3 never yields the wrong zero that equation 4 and RFC 1141 yield, because it adds
//!   complements and never subtracts.
//! - The sum does not depend on byte order as long as every word is read in the same one, so words are
//!   taken from the packet as they lie there.

/// The difference that a set of replaced words makes to a checksum.
///
/// Collect the words, then [`Delta::apply`] it to each checksum that covers them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[must_use]
pub struct Delta(u64);

impl Delta {
    /// No change.
    #[inline(always)]
    pub const fn new() -> Self {
        Self(0)
    }

    /// Notes that the 16-bit word `old` becomes `new`, both as they lie in the packet.
    #[inline(always)]
    pub const fn replace_u16(self, old: u16, new: u16) -> Self {
        Self(self.0 + (!old) as u64 + new as u64)
    }

    /// Notes that the 32-bit word `old`, at an even offset, becomes `new`, both as they lie in the packet.
    #[inline(always)]
    pub const fn replace_u32(self, old: u32, new: u32) -> Self {
        Self(self.0 + (!old) as u64 + new as u64)
    }

    /// Both changes.
    #[inline(always)]
    pub const fn and(self, other: Self) -> Self {
        Self(self.0 + other.0)
    }

    /// Notes a 16-bit word that was not there before, as it lies in the packet.
    #[inline(always)]
    pub const fn plus_u16(self, word: u16) -> Self {
        Self(self.0 + word as u64)
    }

    /// Notes a 32-bit word that was not there before, at an even offset, as it lies in the packet.
    #[inline(always)]
    pub const fn plus_u32(self, word: u32) -> Self {
        Self(self.0 + word as u64)
    }

    /// The checksum of all the words noted, where there was none before.
    #[inline(always)]
    pub const fn checksum(self) -> u16 {
        self.apply(0xffff)
    }

    /// The checksum after the change, given the one from before it.
    #[inline(always)]
    pub const fn apply(self, checksum: u16) -> u16 {
        !fold(self.0 + (!checksum) as u64)
    }

    /// The same for a UDP checksum, of which 0 means that there is none (RFC 768).
    #[inline(always)]
    pub const fn apply_to_datagram(self, checksum: u16) -> u16 {
        if checksum == 0 {
            return 0;
        }
        match self.apply(checksum) {
            0 => 0xffff,
            sum => sum,
        }
    }
}

/// Folds a sum of words to 16 bits with end-around carry.
#[inline(always)]
const fn fold(sum: u64) -> u16 {
    // Up to 2^32 deltas of 2^33 each could not overflow 64 bits; four folds bring any u64 down to 16 bits.
    let sum = (sum >> 32) + (sum & 0xffff_ffff);
    let sum = (sum >> 16) + (sum & 0xffff);
    let sum = (sum >> 16) + (sum & 0xffff);
    let sum = (sum >> 16) + (sum & 0xffff);
    sum as u16
}

#[cfg(test)]
mod tests {
    extern crate std;

    use proptest::prelude::*;
    use std::vec::Vec;

    use super::*;

    /// The checksum by its definition (RFC 1071), over the whole buffer.
    fn full(bytes: &[u8]) -> u16 {
        let mut sum = 0u32;
        for pair in bytes.chunks(2) {
            sum += u32::from(u16::from_be_bytes([pair[0], *pair.get(1).unwrap_or(&0)]));
        }
        while sum > 0xffff {
            sum = (sum >> 16) + (sum & 0xffff);
        }
        !(sum as u16)
    }

    proptest! {
        #[test]
        fn incremental_update_equals_full_recomputation(
            mut bytes in proptest::collection::vec(any::<u8>(), 40..60),
            address in any::<[u8; 4]>(),
            port in any::<[u8; 2]>(),
        ) {
            // A checksum field at offset 0, so that the buffer is never all zero.
            bytes[0] = 0; bytes[1] = 0; bytes[2] |= 1;
            let before = full(&bytes);
            let word = |b: &[u8], at: usize| u16::from_ne_bytes([b[at], b[at + 1]]);
            let quad = |b: &[u8], at: usize| u32::from_ne_bytes([b[at], b[at + 1], b[at + 2], b[at + 3]]);
            let old: Vec<u8> = bytes.clone();
            bytes[12..16].copy_from_slice(&address);
            bytes[20..22].copy_from_slice(&port);
            let after = Delta::new()
                .replace_u32(quad(&old, 12), quad(&bytes, 12))
                .replace_u16(word(&old, 20), word(&bytes, 20))
                .apply(before.to_be());
            prop_assert_eq!(u16::from_be(after), full(&bytes));
        }
    }

    #[test]
    fn rfc_1624_example_does_not_yield_the_wrong_zero() {
        // Section 4 of RFC 1624: 0x5555 becomes 0x3285 under checksum 0xdd2f; the answer is 0x0000.
        assert_eq!(Delta::new().replace_u16(0x5555, 0x3285).apply(0xdd2f), 0x0000);
    }

    #[test]
    fn a_datagram_without_checksum_gets_none_and_one_with_keeps_one() {
        let delta = Delta::new().replace_u16(0x5555, 0x3285);
        assert_eq!(delta.apply_to_datagram(0), 0);
        // The example above, whose sum is 0: that would say "none".
        assert_eq!(delta.apply_to_datagram(0xdd2f), 0xffff);
        assert_eq!(delta.apply_to_datagram(0x1234), delta.apply(0x1234));
    }

    #[test]
    fn a_new_header_gets_the_checksum_of_all_its_words() {
        let bytes: Vec<u8> = (0..20u8).map(|n| n.wrapping_mul(37)).collect();
        let sum = bytes.chunks(4).fold(Delta::new(), |sum, four| {
            sum.plus_u32(u32::from_ne_bytes([four[0], four[1], four[2], four[3]]))
        });
        assert_eq!(u16::from_be(sum.checksum()), full(&bytes));
        assert_eq!(
            u16::from_be(sum.plus_u16(0x1234_u16.to_be()).checksum()),
            full(&[&bytes[..], &[0x12, 0x34]].concat())
        );
    }

    #[test]
    fn no_change_leaves_the_checksum() {
        for checksum in [0x0000, 0x0001, 0x1234, 0xfffe] {
            assert_eq!(Delta::new().replace_u32(7, 7).apply(checksum), checksum);
        }
    }
}
