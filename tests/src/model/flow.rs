//! What a flow is, from what each side has shown: the diagram of `lb_common::flow` in plain booleans.

use lb_common::{BackendId, FlowState};

use super::bytes::Octets;
use super::parse::Packet;

/// TCP flags (RFC 9293, section 3.1).
pub mod flag {
    /// No more data from the sender.
    pub const FIN: u8 = 1;
    /// Opens a connection.
    pub const SYN: u8 = 2;
    /// Aborts it.
    pub const RST: u8 = 4;
    /// The acknowledgement counts.
    pub const ACK: u8 = 16;
}

/// Names a flow: service, client address, client port.
pub type Key = (u16, Octets, u16);

/// What one side has shown.
#[expect(
    clippy::struct_excessive_bools,
    reason = "four flags of TCP that are seen or not, in any combination"
)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Side {
    syn: bool,
    ack: bool,
    fin: bool,
    rst: bool,
    /// Requests that it has begun, or has begun to answer.
    turns: u16,
}

impl Side {
    fn after(self, packet: &Packet) -> Self {
        if packet.is_datagram() {
            // No handshake and no end: each side is there once it has spoken.
            return Self { ack: true, turns: self.turns, ..Self::default() };
        }
        let data = packet.has_payload();
        if packet.has(flag::RST) {
            Self { rst: true, ..self }
        } else if packet.has(flag::SYN) {
            Self { syn: true, ..self }
        } else {
            // Whoever goes on was not reset; whoever sends more data has not finished.
            Self {
                rst: false,
                fin: self.fin && !data || packet.has(flag::FIN),
                ack: self.ack || packet.has(flag::ACK),
                ..self
            }
        }
    }
}

/// A flow that is pinned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Flow {
    /// Where.
    pub backend: BackendId,
    /// Since which epoch, modulo 256.
    pub epoch: u8,
    /// Whether it is a conversation of datagrams.
    pub is_datagram: bool,
    /// Whether its replies pass elsewhere.
    pub is_one_way: bool,
    client: Side,
    server: Side,
}

impl Flow {
    /// A flow of which nothing has been seen yet.
    pub fn new(backend: BackendId, epoch: u8, is_datagram: bool, is_one_way: bool) -> Self {
        Self { backend, epoch, is_datagram, is_one_way, client: Side::default(), server: Side::default() }
    }

    /// The flow after a packet from its client: data begins a request if the last one is being answered.
    #[must_use]
    pub fn after_client(self, packet: &Packet) -> Self {
        let mut client = self.client.after(packet);
        if packet.has_payload() && client.turns == self.server.turns {
            client.turns = (client.turns + 1) % 1024;
        }
        Self { client, ..self }
    }

    /// The flow after a packet from its backend: data answers the request that is open.
    #[must_use]
    pub fn after_server(self, packet: &Packet) -> Self {
        let mut server = self.server.after(packet);
        if packet.has_payload() {
            server.turns = self.client.turns;
        }
        Self { server, ..self }
    }

    /// The flow after its client has been told that it is at its end.
    #[must_use]
    pub fn aborted(self) -> Self {
        Self { server: Side { rst: true, ..self.server }, ..self }
    }

    /// Whether a segment with any flag has been seen: a flow may be pinned by less, or beforehand.
    pub fn has_begun(&self) -> bool {
        [self.client, self.server].iter().any(|side| side.syn || side.ack || side.fin || side.rst)
    }

    /// Whether a request has been seen that nobody has begun to answer; of one-way flows nobody knows.
    pub fn awaits_response(&self) -> bool {
        !self.is_one_way && self.has_open_turn()
    }

    /// Whether there is a request that nobody has begun to answer, as far as has been seen.
    pub fn has_open_turn(&self) -> bool {
        self.client.turns != self.server.turns
    }

    /// Whether a SYN begins another flow in its place: also where only its client can be seen to finish.
    pub fn may_begin_anew(&self) -> bool {
        self.state() == FlowState::Closed || self.is_one_way && self.client.fin
    }

    /// What both sides together show.
    pub fn state(&self) -> FlowState {
        let (client, server) = (self.client, self.server);
        let opened = if self.is_one_way { client.syn || self.is_datagram } else { server.syn || server.ack };
        if client.rst || server.rst || client.fin && server.fin {
            FlowState::Closed
        } else if !(opened && client.ack) {
            FlowState::HalfOpen
        } else if client.fin || server.fin {
            FlowState::HalfClosed
        } else {
            FlowState::Established
        }
    }
}
