//! One log line a decision, built only for debugging: a call costs about 1,500 verified instructions.

use aya_ebpf::programs::XdpContext;

#[cfg(feature = "debug-log")]
#[inline(always)]
pub(crate) fn verdict(ctx: &XdpContext, reason: u32, ifindex: u32) {
    aya_log_ebpf::info!(ctx, "in={} reason={} out={}", ctx.ingress_ifindex() as u32, reason, ifindex);
}

#[cfg(not(feature = "debug-log"))]
#[inline(always)]
pub(crate) const fn verdict(_ctx: &XdpContext, _reason: u32, _ifindex: u32) {}
