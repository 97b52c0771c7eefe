//! What a flow has shown, and what state it is in.
//!
//! A flow has two halves, one a direction. Packets of a direction write only their own half, one aligned
//! 32-bit store, so two CPUs never write the same bytes. What the flow *is* follows from both halves by
//! [`Halves::state`], which kernel and user space share.
//!
//! ```text
//!            SYN               both sides have answered           one FIN
//!   (none) ------> half-open -------------------------> established ------> half-closed
//!                     |                                      |                   |
//!                     | RST                                  | RST               | RST, other FIN
//!                     +------------------> closed <----------+-------------------+
//! ```
//!
//! A packet that goes on after a reset of its own direction revives the flow, and data after a FIN does:
//! a forged RST or FIN unpins nothing.

mod ticks;

pub use ticks::Ticks;
use ticks::{AHEAD, TICK_MASK, TICK_SHIFT};

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::endpoint::Address;
use crate::plain_data;
use crate::steer::{BackendId, ServiceId};

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

impl FlowKey {
    /// No service has this bit in its id: the key is that of a lease.
    const LEASE: ServiceId = 1 << 15;

    /// The key of the lease that the client of this flow may have (`affinity`), given the part of its
    /// address that counts.
    #[inline(always)]
    #[must_use]
    pub const fn lease(&self, client: Address) -> Self {
        Self { client, client_port: 0, service: self.service | Self::LEASE }
    }
}

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
///
/// Bits 0 to 16: when its last packet passed. Bits 17 to 20: FIN, SYN, RST, ACK seen. Bit 21: a mark that
/// is set when the flow is pinned. Bits 22 to 31: requests (client half) or requests answered (server
/// half), modulo 1024.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Half(u32);

const FIN: u32 = 1 << 17;
const SYN: u32 = 1 << 18;
const RST: u32 = 1 << 19;
const ACK: u32 = 1 << 20;
const _: () = assert!(FIN == (tcp_flags::FIN as u32) << 17 && ACK == (tcp_flags::ACK as u32) << 16);
const SEEN: u32 = FIN | SYN | RST | ACK;
const MARK: u32 = 1 << 21;
const TURN: u32 = 1 << 22;
const TURNS: u32 = !(TURN - 1);

impl Half {
    /// This half after a TCP segment with these flags ([`tcp_flags`]); turns are left to the caller.
    #[inline(always)]
    #[must_use]
    pub const fn after(self, flags: u8, has_payload: bool, now: Ticks) -> Self {
        let seen = self.0 & SEEN;
        let seen = if flags & tcp_flags::RST != 0 {
            seen | RST
        } else if flags & tcp_flags::SYN != 0 {
            seen | SYN
        } else {
            // Whoever goes on has not been reset, and whoever sends more data has not finished.
            let kept = if has_payload { seen & !(RST | FIN) } else { seen & !RST };
            kept | ((flags & tcp_flags::FIN) as u32) << 17 | ((flags & tcp_flags::ACK) as u32) << 16
        };
        Self(self.0 & (TURNS | MARK) | seen | now.0)
    }

    /// This half after a datagram: there is no handshake, so each side is there once it has spoken.
    #[inline(always)]
    #[must_use]
    pub const fn after_datagram(self, now: Ticks) -> Self {
        Self(self.0 & TURNS | MARK | ACK | now.0)
    }

    /// The client's half of a flow that is pinned before its first packet: it has shown nothing but a time.
    #[must_use]
    pub const fn awaited(now: Ticks) -> Self {
        Self(now.0)
    }

    /// This half after its side has been told that the flow is at its end.
    #[inline(always)]
    #[must_use]
    pub const fn aborted(self) -> Self {
        Self(self.0 | RST)
    }

    /// The client's half with one more request.
    #[inline(always)]
    #[must_use]
    pub const fn next_turn(self) -> Self {
        Self(self.0.wrapping_add(TURN))
    }

    /// The server's half once it has begun to answer what `client` has asked.
    #[inline(always)]
    #[must_use]
    pub const fn answering(self, client: Self) -> Self {
        Self(self.0 & !TURNS | client.0 & TURNS)
    }

    /// Whether both halves are at the same turn: every request is being answered.
    #[inline(always)]
    pub const fn same_turn_as(self, other: Self) -> bool {
        (self.0 ^ other.0) & TURNS == 0
    }

    /// The server's half of a flow whose replies do not pass here (`dsr`, `ipip`).
    pub const ONE_WAY: Self = Self(MARK);

    /// As it stands in the table.
    #[inline(always)]
    pub const fn to_bits(self) -> u32 {
        self.0
    }

    /// From the table.
    #[inline(always)]
    pub const fn from_bits(bits: u32) -> Self {
        Self(bits)
    }

    const fn has(self, bits: u32) -> bool {
        self.0 & bits != 0
    }

    const fn last_seen(self) -> Ticks {
        Ticks(self.0 & TICK_MASK)
    }
}

/// Both directions of a flow, as they lie in one word of the table.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Halves {
    /// What the client's packets have shown.
    pub client: Half,
    /// What the backend's packets have shown.
    pub server: Half,
}

/// What a flow is, derived from its two halves.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum FlowState {
    /// One side has not answered yet: a handshake, or a flow that only one side claims to exist.
    HalfOpen,
    /// Both sides have spoken and neither has finished.
    Established,
    /// One side has sent its FIN.
    HalfClosed,
    /// Both sides have sent a FIN, or one a reset.
    Closed,
}

impl FlowState {
    /// All states, in the order of a flow's life.
    pub const ALL: [Self; 4] = [Self::HalfOpen, Self::Established, Self::HalfClosed, Self::Closed];

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

/// How much a flow's entry is worth to a new flow that finds no room.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Worth {
    /// The flow has ended: the entry may be taken.
    Ended,
    /// No backend has confirmed the flow, or no client has: the entry may be taken if nothing better is there.
    Unconfirmed,
    /// A live flow: never taken.
    Kept,
}

/// A client's reset counts as an end only after this long without a packet, for anybody can forge one:
/// 8 ticks, 8.6 s. A backend's reset counts at once.
const RESET_GRACE: u32 = 8;

impl Halves {
    /// As they stand in the table.
    #[inline(always)]
    pub const fn to_word(self) -> u64 {
        self.client.0 as u64 | (self.server.0 as u64) << 32
    }

    /// From the table.
    #[inline(always)]
    pub const fn from_word(word: u64) -> Self {
        Self { client: Half(word as u32), server: Half((word >> 32) as u32) }
    }

    /// A lease of this many ticks, from `now` on: it holds its time in the client's half and its length in
    /// the server's.
    #[inline(always)]
    pub const fn lease(now: Ticks, ticks: u32) -> Self {
        let ticks = if ticks > TICK_MASK - AHEAD { TICK_MASK - AHEAD } else { ticks };
        Self { client: Half(MARK | now.0), server: Half(ticks) }
    }

    /// Whether it is a lease and no flow.
    #[inline(always)]
    pub const fn is_lease(self) -> bool {
        self.client.0 & (MARK | SEEN) == MARK
    }

    /// Whether it is a lease that has not run out.
    #[inline(always)]
    pub const fn lease_holds(self, now: Ticks) -> bool {
        self.is_lease() && self.client.last_seen().until(now) < self.server.0 & TICK_MASK
    }

    /// The same lease after its client has finished a handshake.
    #[inline(always)]
    #[must_use]
    pub const fn confirmed_lease(self) -> Self {
        Self { client: self.client, server: Half(self.server.0 | MARK) }
    }

    /// Whether a packet has been seen that begins a flow or goes on with one: not yet if it was pinned beforehand, nor
    /// if all that was seen is a segment without any flag, which no connection has.
    #[inline(always)]
    pub const fn has_begun(self) -> bool {
        self.client.has(SEEN) || self.server.has(SEEN)
    }

    /// Whether the replies of the flow pass elsewhere.
    #[inline(always)]
    pub const fn is_one_way(self) -> bool {
        self.server.0 & (MARK | SEEN) == MARK && !self.is_lease()
    }

    /// Whether it is a conversation of datagrams.
    pub const fn is_datagram(self) -> bool {
        self.client.has(MARK) && self.client.has(ACK) || (!self.is_one_way() && self.server.has(MARK))
    }

    /// Whether both ends have shown that the flow exists: a client's acknowledgement alone may be forged.
    #[inline(always)]
    const fn is_confirmed(self) -> bool {
        let opened = if self.server.0 & (MARK | SEEN) == MARK {
            self.client.has(SYN | MARK)
        } else {
            self.server.has(SYN | ACK)
        };
        opened && self.client.has(ACK)
    }

    /// The state that both halves together show.
    #[inline(always)]
    pub const fn state(self) -> FlowState {
        let (client, server) = (self.client, self.server);
        if client.has(RST) || server.has(RST) || (client.has(FIN) && server.has(FIN)) {
            FlowState::Closed
        } else if !self.is_confirmed() {
            FlowState::HalfOpen
        } else if client.has(FIN) || server.has(FIN) {
            FlowState::HalfClosed
        } else {
            FlowState::Established
        }
    }

    /// Whether a SYN begins a new flow in this one's place: it has closed; or its client has finished, and replies pass
    /// elsewhere, so that nobody sees here whether the backend has. Who has sent a FIN repeats no SYN from before.
    #[inline(always)]
    pub const fn may_begin_anew(self) -> bool {
        matches!(self.state(), FlowState::Closed) || (self.is_one_way() && self.client.has(FIN))
    }

    /// What the entry is worth at `now`.
    #[inline(always)]
    pub const fn worth(self, now: Ticks) -> Worth {
        let (client, server) = (self.client, self.server);
        if self.is_lease() {
            return if !self.lease_holds(now) {
                Worth::Ended
            } else if server.has(MARK) {
                Worth::Kept
            } else {
                Worth::Unconfirmed
            };
        }
        if server.has(RST)
            || (client.has(FIN) && server.has(FIN))
            || (client.has(RST) && client.last_seen().until(now) >= RESET_GRACE)
        {
            Worth::Ended
        } else if self.is_confirmed() {
            Worth::Kept
        } else {
            Worth::Unconfirmed
        }
    }

    /// Whether a request has been seen that no response has begun to answer. Of a flow whose replies pass
    /// elsewhere nobody knows.
    pub const fn awaits_response(self) -> bool {
        !self.is_one_way() && !self.client.same_turn_as(self.server)
    }

    /// Ticks since either direction's last packet.
    #[inline(always)]
    pub const fn idle(self, now: Ticks) -> u32 {
        let (client, server) = (self.client.last_seen().until(now), self.server.last_seen().until(now));
        // A half that has shown nothing carries no time.
        match (self.client.has(SEEN), self.server.has(SEEN)) {
            (true, true) if client > server => server,
            (false, true) => server,
            _ => client,
        }
    }

    /// Milliseconds since either direction's last packet, in steps of 1074.
    pub const fn idle_ms(self, now: Ticks) -> u64 {
        ((self.idle(now) as u64) << TICK_SHIFT) / 1_000_000
    }
}

/// A flow as its entry tells it: where it is pinned and what each direction has shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Flow {
    /// The backend that the flow is pinned to until it ends.
    pub backend: BackendId,
    /// The service's epoch when the flow was pinned, modulo 256.
    pub epoch: u8,
    /// What both directions have shown.
    pub halves: Halves,
}

plain_data!(FlowKey);

#[cfg(test)]
mod tests;
