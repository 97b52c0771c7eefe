//! A flow's entry in the table, and what state the flow is in.
//!
//! An entry has two halves, one a direction. Packets of a direction write only their own half, so two CPUs
//! never write the same bytes. What the flow *is* follows from both halves by [`Flow::state`], which kernel
//! and user space share.
//!
//! ```text
//!            SYN                 both sides acknowledged             one FIN
//!   (none) ------> half-open ---------------------------> established --------> half-closed
//!                     |                                        |                    |
//!                     | RST                                    | RST                | RST, other FIN
//!                     +---------------------> closed <---------+--------------------+
//! ```
//!
//! A packet that goes on after a reset of its own direction revives the flow: a forged RST unpins nothing.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::endpoint::Address;
use crate::plain_data;
use crate::steer::{BackendId, ServiceId};

/// Moments on the kernel's coarse monotonic clock in units of 2^20 ns (1.05 ms), modulo 2^32 (52 days).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Ticks(u32);

/// One unit of [`Ticks`] is `2^TICK_SHIFT` nanoseconds.
const TICK_SHIFT: u32 = 20;

impl Ticks {
    /// The moment on the monotonic clock, given in nanoseconds.
    #[inline(always)]
    pub const fn from_ns(ns: u64) -> Self {
        Self((ns >> TICK_SHIFT) as u32)
    }

    /// Milliseconds from `self` to `now`, for spans of less than 26 days; 0 if `now` is earlier.
    pub const fn ms_until(self, now: Self) -> u64 {
        let ticks = now.0.wrapping_sub(self.0);
        if ticks > u32::MAX / 2 { 0 } else { ((ticks as u64) << TICK_SHIFT) / 1_000_000 }
    }
}

/// Names a flow: its client and its service, which stands for VIP, port and protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct FlowKey {
    /// The client's address.
    pub client: Address,
    /// The client's port, in network order.
    pub client_port: u16,
    /// The service.
    pub service: ServiceId,
}

const _: () = assert!(size_of::<FlowKey>() == 20);

/// What TCP flags mean to a flow (RFC 9293, section 3.1), as bits of the header's flag byte.
pub mod tcp_flags {
    /// No more data from the sender.
    pub const FIN: u8 = 0x01;
    /// Opens a connection.
    pub const SYN: u8 = 0x02;
    /// Aborts a connection.
    pub const RST: u8 = 0x04;
    /// The acknowledgement field counts.
    pub const ACK: u8 = 0x10;
}

/// What one direction of a flow has shown so far; written by packets of that direction only.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Half {
    /// When this direction's last packet passed.
    pub last_seen: Ticks,
    /// Requests (client half) or requests answered (server half), modulo 2^16.
    pub turns: u16,
    /// Flags of [`tcp_flags`] seen so far; ACK counts only on packets without SYN or RST.
    pub seen: u8,
    reserved: u8,
}

const _: () = assert!(size_of::<Half>() == 8);

impl Half {
    /// This half after a packet with these TCP flags at this time; `turns` is left to the caller.
    #[inline(always)]
    #[must_use]
    pub const fn after(mut self, flags: u8, now: Ticks) -> Self {
        use tcp_flags::{ACK, FIN, RST, SYN};
        self.last_seen = now;
        if flags & RST != 0 {
            self.seen |= RST;
        } else if flags & SYN != 0 {
            self.seen |= SYN;
        } else {
            self.seen = (self.seen & !RST) | (flags & (FIN | ACK));
        }
        self
    }

    const fn has(self, flags: u8) -> bool {
        self.seen & flags != 0
    }
}

/// A flow's entry: where it is pinned and what each direction has shown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Flow {
    /// The backend that the flow is pinned to until it ends.
    pub backend: BackendId,
    /// 1 if the flow was taken up in its middle, 0 if it was pinned at its SYN.
    pub taken_up: u16,
    /// The service's epoch when the flow was pinned.
    pub epoch: u32,
    /// What the client's packets have shown.
    pub client: Half,
    /// What the backend's packets have shown.
    pub server: Half,
}

const _: () = assert!(size_of::<Flow>() == 24);

/// What a flow is, derived from its two halves.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum FlowState {
    /// One side has not acknowledged yet: a handshake, or a flow that only one side claims to exist.
    HalfOpen,
    /// Both sides have acknowledged and neither has finished.
    Established,
    /// One side has sent its FIN.
    HalfClosed,
    /// Both sides have sent a FIN, or one a reset.
    Closed,
}

impl FlowState {
    /// Stable name for metrics, JSON and people.
    pub const fn name(self) -> &'static str {
        match self {
            Self::HalfOpen => "half-open",
            Self::Established => "established",
            Self::HalfClosed => "half-closed",
            Self::Closed => "closed",
        }
    }
}

impl Flow {
    /// The state that both halves together show.
    #[inline(always)]
    pub const fn state(&self) -> FlowState {
        use tcp_flags::{ACK, FIN, RST};
        let (client, server) = (&self.client, &self.server);
        if client.has(RST) || server.has(RST) || (client.has(FIN) && server.has(FIN)) {
            FlowState::Closed
        } else if client.has(FIN) || server.has(FIN) {
            FlowState::HalfClosed
        } else if client.has(ACK) && server.has(ACK) {
            FlowState::Established
        } else {
            FlowState::HalfOpen
        }
    }

    /// Whether a request has been seen that no response has begun to answer.
    pub const fn awaits_response(&self) -> bool {
        self.client.turns != self.server.turns
    }

    /// Milliseconds since either direction's last packet.
    pub fn idle_ms(&self, now: Ticks) -> u64 {
        // A half that has shown nothing carries no time.
        match (self.client.seen != 0, self.server.seen != 0) {
            (true, true) => self.client.last_seen.ms_until(now).min(self.server.last_seen.ms_until(now)),
            (false, _) => self.server.last_seen.ms_until(now),
            (true, false) => self.client.last_seen.ms_until(now),
        }
    }
}

plain_data!(Ticks, FlowKey, Half, Flow);

#[cfg(test)]
mod tests {
    use super::tcp_flags::{ACK, FIN, RST, SYN};
    use super::*;

    const NOW: Ticks = Ticks(1000);

    enum From {
        Client(u8),
        Server(u8),
    }
    use From::{Client, Server};

    fn flow_after(packets: &[From]) -> Flow {
        let mut flow = Flow::default();
        for packet in packets {
            match packet {
                Client(flags) => flow.client = flow.client.after(*flags, NOW),
                Server(flags) => flow.server = flow.server.after(*flags, NOW),
            }
        }
        flow
    }

    fn state_after(packets: &[From]) -> FlowState {
        flow_after(packets).state()
    }

    const HANDSHAKE: [From; 3] = [Client(SYN), Server(SYN | ACK), Client(ACK)];

    fn established_then(more: [u8; 2], client_first: bool) -> FlowState {
        let mut flow = flow_after(&HANDSHAKE);
        flow.server = flow.server.after(ACK, NOW);
        let (client, server) = if client_first { (more[0], more[1]) } else { (more[1], more[0]) };
        flow.client = flow.client.after(client, NOW);
        flow.server = flow.server.after(server, NOW);
        flow.state()
    }

    #[test]
    fn a_handshake_is_half_open_until_both_sides_have_acknowledged() {
        assert_eq!(state_after(&HANDSHAKE[..1]), FlowState::HalfOpen);
        assert_eq!(state_after(&HANDSHAKE[..2]), FlowState::HalfOpen);
        assert_eq!(established_then([ACK, ACK], true), FlowState::Established);
    }

    #[test]
    fn a_flow_that_only_the_client_claims_is_unconfirmed() {
        assert_eq!(state_after(&[Client(ACK), Client(ACK)]), FlowState::HalfOpen);
        assert_eq!(state_after(&[Client(ACK), Server(ACK)]), FlowState::Established);
    }

    #[test]
    fn it_closes_when_both_have_finished_and_not_before() {
        assert_eq!(established_then([FIN | ACK, ACK], true), FlowState::HalfClosed);
        assert_eq!(established_then([FIN | ACK, ACK], false), FlowState::HalfClosed);
        assert_eq!(established_then([FIN | ACK, FIN | ACK], true), FlowState::Closed);
    }

    #[test]
    fn a_reset_closes_it_from_either_side() {
        assert_eq!(established_then([RST, ACK], true), FlowState::Closed);
        assert_eq!(established_then([RST | ACK, ACK], false), FlowState::Closed);
    }

    #[test]
    fn traffic_that_goes_on_after_a_forged_reset_revives_the_flow() {
        let mut flow = flow_after(&[Client(ACK), Server(ACK), Client(RST)]);
        assert_eq!(flow.state(), FlowState::Closed);
        flow.client = flow.client.after(ACK, NOW);
        assert_eq!(flow.state(), FlowState::Established);
    }

    #[test]
    fn idleness_counts_from_the_later_half_and_over_the_wrap() {
        let mut flow = Flow::default();
        flow.client = flow.client.after(SYN, Ticks(u32::MAX - 999));
        assert_eq!(flow.idle_ms(Ticks(0)), 1048);
        flow.server = flow.server.after(ACK, Ticks(u32::MAX));
        assert_eq!(flow.idle_ms(Ticks(0)), 1);
    }

    #[test]
    fn a_moment_in_the_future_is_not_idle() {
        assert_eq!(Ticks(10).ms_until(Ticks(5)), 0);
    }
}
