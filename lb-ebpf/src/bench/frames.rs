//! Makes the frame of the next flow out of what the last program left.

use aya_ebpf::EbpfContext;
use aya_ebpf::btf_maps::Array;
use aya_ebpf::helpers::bpf_xdp_adjust_head;
use aya_ebpf::macros::btf_map;
use aya_ebpf::programs::XdpContext;
use lb_common::bench::{FRAME_BYTES, Frames, WORDS};

/// What to make; written by user space.
#[btf_map]
static FRAMES: Array<Frames, 1> = Array::new();

/// How many frames have been made.
#[btf_map]
static TURN: Array<u32, 1> = Array::new();

/// Makes the frame.
#[inline(always)]
pub(crate) fn next(ctx: &XdpContext) -> Option<()> {
    let frames = FRAMES.get(0)?;
    let turn = TURN.get_ptr_mut(0)?;
    // SAFETY: the map gave the pointer, and the bench runs on one CPU.
    let flow = frames.flow(unsafe { *turn });
    // SAFETY: as above.
    unsafe { *turn = (*turn).wrapping_add(1) };

    // A program that put a header in front has made the frame longer. It is asked of every frame, so that
    // it costs the same whatever is measured.
    let surplus = (ctx.data_end().wrapping_sub(ctx.data() + FRAME_BYTES) as u32).cast_signed();
    // SAFETY: the context is the one that the kernel gave.
    if unsafe { bpf_xdp_adjust_head(ctx.as_ptr().cast(), surplus) } != 0 {
        return None;
    }
    let (start, end) = (ctx.data(), ctx.data_end());
    if start + FRAME_BYTES > end {
        return None;
    }
    let words = (start + 2) as *mut u32;
    // SAFETY: the frame is as long as the template.
    unsafe { (start as *mut u16).write_volatile(frames.head) };
    for (at, word) in frames.words.iter().enumerate() {
        // SAFETY: as above.
        unsafe { words.add(at).write_volatile(*word) };
    }
    let template = *frames.words.get(usize::from(frames.ports_word))?;
    write(words, frames.ports_word, frames.ports(template, flow), end)?;
    write(words, frames.address_word, frames.client_address(flow), end)
}

#[inline(always)]
fn write(words: *mut u32, at: u8, word: u32, end: usize) -> Option<()> {
    if usize::from(at) >= WORDS {
        return None;
    }
    let place = words.wrapping_add(usize::from(at));
    if place as usize + size_of::<u32>() > end {
        return None;
    }
    // SAFETY: the word lies within the frame.
    unsafe { place.write_volatile(word) };
    Some(())
}
