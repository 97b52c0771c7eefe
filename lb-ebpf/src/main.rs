//! Baton's XDP programs.
//!
//! `baton` steers: packets to a service go to a backend, packets from a backend go back to the client as if
//! the VIP had sent them, all else is left to the stack. `baton_pass` lets everything pass; it stands on
//! the far ends of veth pairs, where native redirect needs a program.
//!
//! What always holds: every packet leaves through [`act`], which counts exactly one [`Reason`] for it.

#![no_std]
#![no_main]
#![feature(asm_experimental_arch, core_intrinsics)]
#![expect(internal_features, reason = "the bpf target has no atomic types, only their instructions")]
#![expect(
    missing_docs,
    unreachable_pub,
    clippy::needless_pass_by_value,
    reason = "`#[xdp]` makes of a program an undocumented public function that takes its context by value"
)]

mod backends;
mod count;
mod encapsulate;
mod explain;
mod family;
mod flows;
mod forward;
mod icmp;
mod leases;
mod listeners;
mod mss;
mod open;
mod packet;
mod pin;
mod pools;
mod refuse;
mod reply;
mod response;
mod rewrite;
mod services;
mod settings;
mod snat;
mod too_big;
mod trace;
mod tuples;
mod verifier;

use aya_ebpf::bindings::xdp_action::{XDP_ABORTED, XDP_DROP, XDP_PASS, XDP_TX};
use aya_ebpf::helpers::bpf_redirect;
use aya_ebpf::macros::xdp;
use aya_ebpf::programs::XdpContext;
use lb_common::reason::{Action, action, group};
use lb_common::{Reason, ServiceId};

use family::{Family, Ipv4, Ipv6};
use verifier::hide;

use packet::{ETHERTYPE_IPV4, ETHERTYPE_IPV6, Frame, Packet};

/// What is to become of a packet.
#[derive(Clone, Copy)]
pub(crate) struct Verdict {
    /// Index of its [`Reason`].
    reason: u32,
    /// The group of counters: that of the service that the packet was for, or of none.
    group: u32,
    /// Interface to send from; 0 lets the stack forward the rewritten packet.
    ifindex: u32,
}

impl Verdict {
    /// Leaves the packet to the stack, or drops it, as its reason says.
    #[inline(always)]
    pub(crate) const fn end(reason: u32) -> Self {
        Self { reason, group: group(None), ifindex: 0 }
    }

    /// Sends the rewritten packet out of an interface.
    #[inline(always)]
    pub(crate) const fn send(reason: u32, service: ServiceId, ifindex: u32) -> Self {
        Self { reason, group: group(Some(service)), ifindex }
    }

    /// The same, counted for this service.
    #[inline(always)]
    const fn of(mut self, service: ServiceId) -> Self {
        self.group = group(Some(service));
        self
    }
}

/// Steers a packet.
#[xdp(frags)]
pub fn baton(ctx: XdpContext) -> u32 {
    let verdict = match Frame::parse(&ctx) {
        Ok(frame) if frame.ethertype == ETHERTYPE_IPV4 => steer::<Ipv4>(&ctx, &frame),
        Ok(frame) if frame.ethertype == ETHERTYPE_IPV6 => steer::<Ipv6>(&ctx, &frame),
        Ok(_) => Verdict::end(Reason::NotIp as u32),
        Err(reason) => Verdict::end(reason as u32),
    };
    act(&ctx, verdict)
}

/// Lets every packet pass.
#[xdp(frags)]
pub fn baton_pass(_ctx: XdpContext) -> u32 {
    // The linker drops maps that no program names; these two are for user space alone.
    core::hint::black_box((&raw const settings::TABLE_SETTINGS, &raw const tuples::TUPLES));
    XDP_PASS
}

#[inline(always)]
fn steer<F: Family>(ctx: &XdpContext, frame: &Frame) -> Verdict {
    let packet = match Packet::<F>::parse(ctx, frame) {
        Ok(packet) => packet,
        Err(Reason::Icmp) => return icmp::steer::<F>(ctx, frame),
        Err(reason) => return Verdict::end(reason as u32),
    };
    if let Some(to) = listeners::find(packet.destination(), packet.protocol)
        && to.is_vip()
    {
        forward::to_backend(ctx, &packet, to).of(to.service)
    } else if let Some(from) = listeners::find(packet.source(), packet.protocol)
        && !from.is_vip()
    {
        reply::to_client(ctx, &packet, from).of(from.service)
    } else {
        Verdict::end(Reason::NotForService as u32)
    }
}

#[inline(always)]
fn act(ctx: &XdpContext, verdict: Verdict) -> u32 {
    // The end is the same for all reasons: one path for the verifier.
    // SAFETY: the queue's number is a field of the context.
    let reason = unsafe { hide(verdict.reason.into(), &raw const (*ctx.ctx).rx_queue_index) } as u32;
    count::packet(verdict.group, reason);
    explain::verdict(verdict.group, reason, verdict.ifindex);
    trace::verdict(ctx, reason, verdict.ifindex);
    match action(reason) {
        Action::Pass => XDP_PASS,
        Action::Drop => XDP_DROP,
        Action::Answer => XDP_TX,
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
