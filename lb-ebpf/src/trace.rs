//! One log line a decision, built only for debugging: a call costs about 1,500 verified instructions.

use aya_ebpf::programs::XdpContext;
use lb_common::Reason;

#[cfg(feature = "debug-log")]
#[inline(always)]
pub(crate) fn verdict(ctx: &XdpContext, reason: Reason, ifindex: u32) {
    aya_log_ebpf::info!(ctx, "in={} reason={} out={}", ctx.ingress_ifindex() as u32, reason as u32, ifindex);
}

#[cfg(not(feature = "debug-log"))]
#[inline(always)]
pub(crate) const fn verdict(_ctx: &XdpContext, _reason: Reason, _ifindex: u32) {}
