//! Response times as the packet path measures them: starts of requests by a hash, and histograms whose
//! buckets are powers of two.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::bucket::Fingerprint;
use crate::plain_data;

/// Places for requests under way: 512 KiB.
pub const STARTS: u32 = 1 << 16;

/// Buckets of a histogram.
pub const BUCKETS: usize = 32;

/// One unit of a start's time is `2^UNIT_SHIFT` nanoseconds (1.024 µs).
const UNIT_SHIFT: u32 = 10;
const TIME_BITS: u32 = 48;
const TIME_MASK: u64 = (1 << TIME_BITS) - 1;

/// When a request began, and whose it is: bits 0 to 47 the time, bits 48 to 63 a part of the fingerprint.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Start(u64);

impl Start {
    /// The place of a flow's start.
    #[inline(always)]
    pub const fn place(print: Fingerprint) -> u32 {
        (print.to_word() >> 16) as u32 & (STARTS - 1)
    }

    /// A request of this flow that begins at `ns` on the monotonic clock.
    #[inline(always)]
    pub const fn now(print: Fingerprint, ns: u64) -> Self {
        Self(Self::owner(print) | (ns >> UNIT_SHIFT) & TIME_MASK)
    }

    /// The bucket for a response of this flow that begins at `ns`; `None` if another flow took the place.
    #[inline(always)]
    pub const fn bucket_at(self, print: Fingerprint, ns: u64) -> Option<u32> {
        if self.0 & !TIME_MASK != Self::owner(print) || self.0 == 0 {
            return None;
        }
        let units = (ns >> UNIT_SHIFT).wrapping_sub(self.0) & TIME_MASK;
        let bucket = 64 - (units | 1).leading_zeros();
        Some(if bucket < BUCKETS as u32 { bucket - 1 } else { BUCKETS as u32 - 1 })
    }

    const fn owner(print: Fingerprint) -> u64 {
        print.to_word() & !TIME_MASK
    }

    /// As it stands in the table.
    #[inline(always)]
    pub const fn to_word(self) -> u64 {
        self.0
    }

    /// From the table.
    #[inline(always)]
    pub const fn from_word(word: u64) -> Self {
        Self(word)
    }
}

/// How many responses began within which time: bucket `n` counts those of `2^n` to `2^(n+1)` units of
/// 1.024 µs, the first one all shorter ones and the last one all longer ones.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Times(pub [u64; BUCKETS]);

impl Times {
    /// Counts a response.
    #[inline(always)]
    pub const fn count(&mut self, bucket: u32) {
        self.0[bucket as usize & (BUCKETS - 1)] += 1;
    }

    /// Upper end of a bucket in microseconds.
    pub const fn upper_us(bucket: usize) -> u64 {
        ((2u64 << bucket) << UNIT_SHIFT) / 1000
    }

    /// Adds the responses that another CPU has counted.
    #[must_use]
    pub fn plus(mut self, other: &Self) -> Self {
        for (sum, count) in self.0.iter_mut().zip(other.0) {
            *sum += count;
        }
        self
    }
}

plain_data!(Times);

#[cfg(test)]
mod tests {
    use super::*;

    fn print(word: u64) -> Fingerprint {
        Fingerprint::from_word(word)
    }

    #[test]
    fn a_response_falls_into_the_bucket_of_its_time() {
        let flow = print(0xabcd_0000_1234_5678);
        for (us, bucket) in [(0, 0), (1, 0), (3, 1), (5, 2), (1000, 9), (1_000_000, 19), (10_000_000_000, 31)]
        {
            let start = Start::now(flow, 5_000_000);
            assert_eq!(start.bucket_at(flow, 5_000_000 + us * 1024), Some(bucket), "{us}");
        }
    }

    #[test]
    fn a_start_that_another_flow_wrote_counts_for_nothing() {
        let start = Start::now(print(0xabcd_0000_1234_5678), 5_000_000);
        assert_eq!(start.bucket_at(print(0xabce_0000_1234_5678), 6_000_000), None);
        assert_eq!(Start::default().bucket_at(print(0x1234), 6_000_000), None);
    }

    #[test]
    fn buckets_have_their_upper_ends_in_microseconds() {
        assert_eq!((Times::upper_us(0), Times::upper_us(9)), (2, 1048));
        let mut times = Times::default();
        times.count(3);
        times.count(99);
        assert_eq!(times.plus(&times).0[3], 4);
    }
}
