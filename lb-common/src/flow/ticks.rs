//! The time of flow entries: coarse and short, so that a moment fits into half an entry's word.

/// Moments on the kernel's coarse monotonic clock in units of 2^30 ns (1.07 s), modulo 2^17 (39 hours).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(transparent)]
pub struct Ticks(pub(super) u32);

/// One unit of [`Ticks`] is `2^TICK_SHIFT` nanoseconds.
pub(super) const TICK_SHIFT: u32 = 30;
const TICK_BITS: u32 = 17;
pub(super) const TICK_MASK: u32 = (1 << TICK_BITS) - 1;
/// Moments that lie ahead of "now" by up to this were taken by another CPU; they are not 39 hours old.
pub(super) const AHEAD: u32 = 64;

impl Ticks {
    /// The moment on the monotonic clock, given in nanoseconds.
    #[inline(always)]
    pub const fn from_ns(ns: u64) -> Self {
        Self((ns >> TICK_SHIFT) as u32 & TICK_MASK)
    }

    /// As a plain number.
    #[inline(always)]
    pub const fn to_bits(self) -> u32 {
        self.0
    }

    /// From [`Ticks::to_bits`].
    #[inline(always)]
    pub const fn from_bits(bits: u32) -> Self {
        Self(bits & TICK_MASK)
    }

    /// How many ticks make this many milliseconds, rounded up and bounded by what a moment can hold.
    pub const fn span_of_ms(ms: u64) -> u32 {
        let ticks = ms.saturating_mul(1_000_000).div_ceil(1 << TICK_SHIFT);
        if ticks > (TICK_MASK - AHEAD) as u64 { TICK_MASK - AHEAD } else { ticks as u32 }
    }

    /// Ticks from `self` to `now`, for spans of less than 39 hours; 0 if `now` is earlier.
    #[inline(always)]
    pub const fn until(self, now: Self) -> u32 {
        let ticks = now.0.wrapping_sub(self.0) & TICK_MASK;
        if ticks > TICK_MASK - AHEAD { 0 } else { ticks }
    }

    /// Milliseconds from `self` to `now`, in steps of 1074, under the same bounds as [`Ticks::until`].
    pub const fn ms_until(self, now: Self) -> u64 {
        ((self.until(now) as u64) << TICK_SHIFT) / 1_000_000
    }
}
