//! Why a packet was passed, sent or dropped: one counter, one name, for every outcome.

use crate::SERVICES_MAX;
use crate::steer::ServiceId;

/// What happens to a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Left to the stack, untouched.
    Pass,
    /// Rewritten and sent on.
    Send,
    /// Made into Baton's own answer and sent back to where it came from.
    Answer,
    /// Discarded.
    Drop,
}

macro_rules! reasons {
    ($($variant:ident = $action:ident, $name:literal, $doc:literal;)+) => {
        /// Why a packet met the end it met. The discriminant is the index of its counter.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        #[repr(u32)]
        pub enum Reason {
            $(#[doc = $doc] $variant,)+
        }

        impl Reason {
            /// All reasons, in the order of their counters.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)+];

            /// Stable name for metrics, JSON and people.
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)+ }
            }

            /// What it means, in a sentence.
            pub const fn description(self) -> &'static str {
                match self { $(Self::$variant => $doc,)+ }
            }

            /// What happens to such a packet.
            #[inline(always)]
            pub const fn action(self) -> Action {
                match self { $(Self::$variant => Action::$action,)+ }
            }
        }
    };
}

reasons! {
    NotIp = Pass, "not_ip", "Neither IPv4 nor IPv6, such as ARP";
    NotSteered = Pass, "not_steered", "IP, but neither TCP nor UDP, nor an ICMP error";
    Icmp = Pass, "icmp", "An ICMP message that is no error about a flow: an echo request, say, which the stack answers";
    IcmpUnknown = Pass, "icmp_unknown", "An ICMP error about a packet of no flow that is known";
    NotForService = Pass, "not_for_service", "Neither to a service nor from a backend";
    Malformed = Pass, "malformed", "Headers are cut short or contradict the length; the stack counts and drops it";
    IpOptions = Pass, "ip_options", "IPv4 header with options";
    ExtensionHeader = Pass, "extension_header", "IPv6 with an extension header before the transport";
    Fragment = Pass, "fragment", "A fragment: only its first part would carry the ports";
    ToBalancer = Pass, "to_balancer", "A backend's answer to the balancer's own check";
    NoBackend = Pass, "no_backend", "The service has no backend for it; the stack refuses it";
    NewFlow = Send, "new_flow", "The first packet of a flow, which pinned it";
    SynRetransmit = Send, "syn_retransmit", "A SYN of a pinned flow that has begun and not yet closed";
    PinnedFlow = Send, "pinned_flow", "A packet of a pinned flow, to its backend";
    TakenUp = Send, "taken_up", "A packet of a flow without entry, taken up from here";
    Moved = Send, "moved", "A datagram whose conversation followed the handover to another backend";
    Untracked = Send, "untracked", "A packet of a service that tracks flows only in a drain, to the active backend";
    Unpinned = Send, "unpinned", "Sent to where steering says without an entry: the table is full, or it is a bare reset";
    Reply = Send, "reply", "A backend's packet of a pinned flow, to its client";
    ReplyTakenUp = Send, "reply_taken_up", "A backend's packet of a flow without entry, taken up from here";
    ReplyUntracked = Send, "reply_untracked", "A backend's packet of a service that tracks flows only in a drain";
    ReplyUnpinned = Send, "reply_unpinned", "A backend's packet sent to its client without an entry";
    IcmpError = Send, "icmp_error", "An ICMP error about a flow's packet to its client, sent on to the flow's backend";
    ReplyIcmpError = Send, "reply_icmp_error", "An ICMP error about a flow's packet to its backend, sent on to the client";
    TooBig = Answer, "too_big", "Longer than what passes where it has to go; its sender is told";
    RefusedReset = Answer, "refused_reset", "A segment of a flow whose backend is dead or cut, answered by a reset";
    RefusedSilently = Drop, "refused_silently", "A datagram or a reset of a flow whose backend is dead or cut";
    Unanswerable = Drop, "unanswerable", "The driver leaves no room to make an answer out of the packet";
    SnatExhausted = Drop, "snat_exhausted", "No port is left to take the place of the client's; the client will try again";
    NoHeadroom = Drop, "no_headroom", "The driver leaves no room for an outer header before the packet";
    SnatUnknown = Pass, "snat_unknown", "A backend's packet to a lent port that no flow has";
    ReplyStale = Drop, "reply_stale", "A backend's late packet for a flow that is pinned to another backend by now";
    NoHop = Drop, "no_hop", "To a backend by `dsr` while its next hop is not known: the stack would take the packet for its own";
}

/// How many reasons there are.
pub const REASONS: u32 = Reason::ALL.len() as u32;

/// How many counters there are: each reason for no service, and for each service.
pub const COUNTERS: u32 = REASONS * (SERVICES_MAX + 1);

/// The group of counters of a service, or that of packets that no service was found for.
#[inline(always)]
pub const fn group(service: Option<ServiceId>) -> u32 {
    match service {
        Some(id) => id as u32 + 1,
        None => 0,
    }
}

/// Index of the counter of a reason, for a service or for packets that no service was found for.
#[inline(always)]
pub const fn counter(service: Option<ServiceId>, reason: Reason) -> u32 {
    group(service) * REASONS + reason as u32
}

/// What happens to a packet, by the index of its reason: one test of a bit, where a table would be one more
/// line of cache.
#[inline(always)]
pub const fn action(reason: u32) -> Action {
    const SENT: u64 = having(Action::Send);
    const DROPPED: u64 = having(Action::Drop);
    const ANSWERED: u64 = having(Action::Answer);
    let bit = 1u64 << (reason & 63);
    if SENT & bit != 0 {
        Action::Send
    } else if DROPPED & bit != 0 {
        Action::Drop
    } else if ANSWERED & bit != 0 {
        Action::Answer
    } else {
        Action::Pass
    }
}

/// One bit for each reason with this action.
const fn having(action: Action) -> u64 {
    let mut bits = 0;
    let mut index = 0;
    while index < Reason::ALL.len() {
        if Reason::ALL[index].action() as u32 == action as u32 {
            bits |= 1 << index;
        }
        index += 1;
    }
    bits
}

const _: () = assert!(REASONS <= 64);

#[cfg(test)]
mod tests {
    extern crate std;

    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn each_service_has_its_own_counters() {
        let last = Reason::ALL[REASONS as usize - 1];
        assert_eq!(counter(None, last) + 1, counter(Some(0), Reason::ALL[0]));
        assert_eq!(counter(Some(SERVICES_MAX as ServiceId - 1), last) + 1, COUNTERS);
    }

    #[test]
    fn each_reason_has_its_own_counter_and_name() {
        let names: BTreeSet<_> = Reason::ALL.iter().map(|r| r.name()).collect();
        assert_eq!(names.len(), Reason::ALL.len());
        for (index, reason) in Reason::ALL.iter().enumerate() {
            assert_eq!(*reason as usize, index);
            assert_eq!(action(index as u32), reason.action());
        }
    }
}
