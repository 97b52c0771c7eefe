//! What keeps the programs within what the kernel's verifier can follow.
//!
//! The verifier walks every path with all that it knows on it, so a constant that differs between two paths
//! keeps them apart to the end. Whatever comes out of a search is therefore hidden from it once, and the
//! rest of the program is verified once.

use core::arch::asm;

/// The same number, of which the verifier knows nothing afterwards.
///
/// `noise` is memory that the verifier knows nothing about; what is read there is not looked at otherwise,
/// so that no branch tells the verifier more of it on one path than on another.
///
/// # Safety
///
/// `noise` must be valid for reads and aligned.
#[inline(always)]
pub(crate) unsafe fn hide(number: u64, noise: *const u32) -> u64 {
    let mut hidden = number;
    // SAFETY: by this function's contract.
    let noise = unsafe { noise.read_volatile() };
    // SAFETY: two exclusive-ors with one word leave the number as it was, and touch nothing else.
    unsafe {
        asm!(
            "{number} ^= {noise}",
            "{number} ^= {noise}",
            number = inout(reg) hidden,
            noise = in(reg) u64::from(noise),
            options(pure, nomem, nostack),
        );
    }
    hidden
}
