//! The programs with which `cargo xtask bench packet` measures Baton's; nothing of this ships.
//!
//! The kernel runs a program many times on one frame and does not restore the frame in between. So `bench`
//! stands before the program under test: it makes the next frame, in the order of scrambled flow numbers,
//! and calls the program behind it. What that costs by itself is measured with `null` behind it.
//!
//! The floors do the least that a balancer can do: one of them with a table, one without.

#![no_std]
#![no_main]
#![expect(
    missing_docs,
    unreachable_pub,
    clippy::needless_pass_by_value,
    reason = "`#[xdp]` makes of a program an undocumented public function that takes its context by value"
)]

mod floor;
mod frames;

use aya_ebpf::bindings::xdp_action::{XDP_ABORTED, XDP_PASS, XDP_TX};
use aya_ebpf::btf_maps::ProgramArray;
use aya_ebpf::macros::{btf_map, xdp};
use aya_ebpf::programs::XdpContext;

/// The program under test.
#[btf_map]
static UNDER_TEST: ProgramArray<1> = ProgramArray::new();

/// Makes the next frame and gives it to the program under test.
#[xdp(frags)]
pub fn bench(ctx: XdpContext) -> u32 {
    if frames::next(&ctx).is_some() {
        // SAFETY: nothing here waits to be dropped.
        unsafe { UNDER_TEST.tail_call(&ctx, 0) };
    }
    XDP_ABORTED
}

/// Does nothing.
#[xdp(frags)]
pub fn null(_ctx: XdpContext) -> u32 {
    XDP_TX
}

/// One look-up in a hash of the kernel's, then the rewrite.
#[xdp(frags)]
pub fn floor_lru(ctx: XdpContext) -> u32 {
    floor::by_table(&ctx).map_or(XDP_PASS, |()| XDP_TX)
}

/// Records the frame's flow for `floor_lru`.
#[xdp(frags)]
pub fn floor_lru_fill(ctx: XdpContext) -> u32 {
    floor::record(&ctx).map_or(XDP_PASS, |()| XDP_TX)
}

/// Makes room in the table of `floor_lru`.
#[xdp(frags)]
pub fn floor_lru_forget(ctx: XdpContext) -> u32 {
    floor::forget(&ctx).map_or(XDP_PASS, |()| XDP_TX)
}

/// The rewrite alone.
#[xdp(frags)]
pub fn floor_stateless(ctx: XdpContext) -> u32 {
    floor::without_table(&ctx).map_or(XDP_PASS, |()| XDP_TX)
}

#[cfg(not(test))]
#[panic_handler]
fn panic(_info: &core::panic::PanicInfo<'_>) -> ! {
    // No panic is reachable, so the linker drops this.
    loop {}
}

/// The kernel lets only programs under a GPL-compatible licence use some helpers.
// SAFETY: the loader finds the licence by this section; nothing else uses the symbol.
#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";
