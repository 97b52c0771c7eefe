//! Why a packet was passed, sent or dropped: one counter, one name, for every outcome.

/// What happens to a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Left to the stack, untouched.
    Pass,
    /// Rewritten and sent on.
    Send,
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
    NotIpv4 = Pass, "not_ipv4", "Not IPv4, such as ARP";
    NotTcp = Pass, "not_tcp", "IPv4, but not TCP";
    NotForService = Pass, "not_for_service", "Neither to a service nor from a backend";
    Malformed = Pass, "malformed", "Headers are cut short or contradict the length; the stack counts and drops it";
    IpOptions = Pass, "ip_options", "IPv4 header with options";
    Fragment = Pass, "fragment", "A fragment: only its first part would carry the ports";
    ToBalancer = Pass, "to_balancer", "A backend's answer to the balancer's own check";
    NoBackend = Pass, "no_backend", "The service has no backend for it; the stack refuses it";
    NewFlow = Send, "new_flow", "A SYN that pinned a new flow";
    SynRetransmit = Send, "syn_retransmit", "A SYN of a flow that is pinned and not yet closed";
    PinnedFlow = Send, "pinned_flow", "A packet of a pinned flow, to its backend";
    TakenUp = Send, "taken_up", "A packet of a flow without entry, taken up from here";
    Unpinned = Send, "unpinned", "Sent to where steering says without an entry: the table is full, or it is a bare reset";
    Reply = Send, "reply", "A backend's packet of a pinned flow, to its client";
    ReplyTakenUp = Send, "reply_taken_up", "A backend's packet of a flow without entry, taken up from here";
    ReplyUnpinned = Send, "reply_unpinned", "A backend's packet sent to its client without an entry";
    ReplyStale = Drop, "reply_stale", "A backend's late packet for a flow that is pinned to another backend by now";
}

/// How many reasons there are.
pub const REASONS: u32 = Reason::ALL.len() as u32;

#[cfg(test)]
mod tests {
    extern crate std;

    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn each_reason_has_its_own_counter_and_name() {
        let names: BTreeSet<_> = Reason::ALL.iter().map(|r| r.name()).collect();
        assert_eq!(names.len(), Reason::ALL.len());
        for (index, reason) in Reason::ALL.iter().enumerate() {
            assert_eq!(*reason as usize, index);
        }
    }
}
