//! Baton's XDP programs.
//!
//! `baton` steers: packets to a service go to a backend, packets from a backend go back to the client as if
//! the VIP had sent them, all else is left to the stack. `baton_pass` lets everything pass; it stands on
//! the far ends of veth pairs, where native redirect needs a program.
//!
//! What always holds: every packet leaves through [`verdict`], which counts exactly one [`Reason`] for it.

#![no_std]
#![no_main]
#![expect(
    missing_docs,
    unreachable_pub,
    clippy::needless_pass_by_value,
    reason = "`#[xdp]` makes of a program an undocumented public function that takes its context by value"
)]

mod backends;
mod count;
mod flows;
mod forward;
mod packet;
mod reply;
mod rewrite;
mod services;
mod trace;

use aya_ebpf::bindings::xdp_action::{XDP_ABORTED, XDP_DROP, XDP_PASS, XDP_TX};
use aya_ebpf::helpers::bpf_redirect;
use aya_ebpf::macros::xdp;
use aya_ebpf::programs::XdpContext;
use lb_common::Reason;
use lb_common::reason::Action;
use packet::Packet;

/// What is to become of a packet.
#[derive(Clone, Copy)]
pub(crate) struct Verdict {
    reason: Reason,
    /// Interface to send from; 0 lets the stack forward the rewritten packet.
    ifindex: u32,
}

impl Verdict {
    /// Leaves the packet to the stack, or drops it, as its reason says.
    #[inline(always)]
    pub(crate) const fn end(reason: Reason) -> Self {
        Self { reason, ifindex: 0 }
    }

    /// Sends the rewritten packet out of an interface.
    #[inline(always)]
    pub(crate) const fn send(reason: Reason, ifindex: u32) -> Self {
        Self { reason, ifindex }
    }
}

/// Steers a packet.
#[xdp]
pub fn baton(ctx: XdpContext) -> u32 {
    match Packet::parse(&ctx) {
        Ok(packet) => verdict(&ctx, steer(&packet)),
        Err(reason) => verdict(&ctx, Verdict::end(reason)),
    }
}

/// Lets every packet pass.
#[xdp]
pub fn baton_pass(_ctx: XdpContext) -> u32 {
    XDP_PASS
}

#[inline(always)]
fn steer(packet: &Packet) -> Verdict {
    if let Some(service) = services::find(&packet.destination()) {
        forward::to_backend(packet, service)
    } else if let Some(owner) = backends::owner(&packet.source()) {
        reply::to_client(packet, owner)
    } else {
        Verdict::end(Reason::NotForService)
    }
}

#[inline(always)]
fn verdict(ctx: &XdpContext, verdict: Verdict) -> u32 {
    count::packet(verdict.reason);
    trace::verdict(ctx, verdict.reason, verdict.ifindex);
    match verdict.reason.action() {
        Action::Pass => XDP_PASS,
        Action::Drop => XDP_DROP,
        // The next hop is not known yet: the packet is rewritten, so the stack can resolve it and forward.
        Action::Send if verdict.ifindex == 0 => XDP_PASS,
        Action::Send if verdict.ifindex as usize == ctx.ingress_ifindex() => XDP_TX,
        Action::Send => redirect(verdict.ifindex),
    }
}

#[inline(always)]
fn redirect(ifindex: u32) -> u32 {
    // SAFETY: the helper takes plain integers; it answers XDP_ABORTED if it refuses them.
    let action = unsafe { bpf_redirect(ifindex, 0) };
    u32::try_from(action).unwrap_or(XDP_ABORTED)
}

#[cfg(not(test))]
#[panic_handler]
fn panic(_info: &core::panic::PanicInfo<'_>) -> ! {
    // `cargo xtask check` proves that no panic is reachable, so the linker drops this.
    loop {}
}

/// The kernel lets only programs under a GPL-compatible licence use some helpers.
// SAFETY: the loader finds the licence by this section; nothing else uses the symbol.
#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";
