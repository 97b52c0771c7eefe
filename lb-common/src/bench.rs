//! What the packet bench tells its programs: which frames to make, and where its floors send them.
//!
//! A frame follows from a template and the number of its flow by arithmetic alone, so that making it touches
//! no memory but its own: the cache misses that are measured are those of the program under test.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::plain_data;

/// Words of a frame behind its first two bytes.
pub const WORDS: usize = 20;
/// Length of every frame of the bench in bytes: a TCP segment over IPv6 without options, and some data.
pub const FRAME_BYTES: usize = 2 + 4 * WORDS;

/// Frames of many flows, which differ in the client's address and port only.
///
/// A frame is taken as two bytes and 32-bit words behind them: so every field of the headers that follow an
/// Ethernet header lies within one word, and is read back from the store buffer without a stall.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Frames {
    /// The words as they lie in the frame, the client's port left 0.
    pub words: [u32; WORDS],
    /// The first two bytes as they lie in the frame.
    pub head: u16,
    /// Which word is the client's address, or the last one of it.
    pub address_word: u8,
    /// Which word holds the ports.
    pub ports_word: u8,
    /// Where in that word the client's port is: 0 or 16 bits from its low end.
    pub port_shift: u32,
    /// The client's address of flow 0, or its last word, in this machine's byte order.
    pub address: u32,
    /// The lowest number of a flow.
    pub first_flow: u32,
    /// How many flows there are, less one; they are a power of two.
    pub flow_mask: u32,
    /// From one turn's flow to the next one's: an odd number, so that its multiples modulo a power of two visit
    /// every flow before the first one again.
    pub step: u32,
}

/// The step that keeps neighbours in time apart in number.
pub const SCRAMBLE: u32 = 0x9e37_79b1;
/// Bits of a flow's number that make the client's port; the others make its address.
const PORT_BITS: u32 = 12;
/// The lowest port of a client.
const PORT_BASE: u32 = 0x4000;

impl Frames {
    /// The number of the flow whose turn it is.
    #[inline(always)]
    pub const fn flow(&self, turn: u32) -> u32 {
        self.first_flow.wrapping_add(turn.wrapping_mul(self.step) & self.flow_mask)
    }

    /// The last word of the client's address in a flow, as it lies in a frame.
    #[inline(always)]
    pub const fn client_address(&self, flow: u32) -> u32 {
        self.address.wrapping_add(flow >> PORT_BITS).to_be()
    }

    /// The word of the ports in a flow, as it lies in a frame.
    #[inline(always)]
    pub const fn ports(&self, template: u32, flow: u32) -> u32 {
        let port = PORT_BASE | (flow & ((1 << PORT_BITS) - 1));
        template | ((port as u16).to_be() as u32) << (self.port_shift & 16)
    }
}

/// Where the floors send what they get.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Target {
    /// IPv4 address as it lies in a packet.
    pub address: u32,
    /// Port as it lies in a packet.
    pub port: u16,
    /// Hardware addresses of the neighbour and of the interface, as they lie in a frame.
    pub hardware: [u16; 6],
    /// To the next multiple of the alignment.
    pub reserved: u16,
}

plain_data!(Frames, Target);

#[cfg(test)]
mod tests {
    extern crate std;

    use std::collections::HashSet;

    use super::*;

    fn frames(port_shift: u32, first_flow: u32, flows: u32) -> Frames {
        Frames {
            words: [0; WORDS],
            head: 0,
            address_word: 6,
            ports_word: 8,
            port_shift,
            address: 0xc612_0000,
            first_flow,
            flow_mask: flows - 1,
            step: SCRAMBLE,
        }
    }

    #[test]
    fn as_many_turns_as_there_are_flows_visit_each_once_wherever_they_begin() {
        let frames = frames(0, 1 << 24, 1 << 14);
        for first in [0, 12_345, u32::MAX - 100] {
            let visited: HashSet<u32> =
                (0..1 << 14).map(|turn| frames.flow(first.wrapping_add(turn))).collect();
            assert_eq!(visited.len(), 1 << 14);
            assert!(visited.iter().all(|flow| (1 << 24..(1 << 24) + (1 << 14)).contains(flow)));
        }
    }

    #[test]
    fn neighbours_in_time_are_no_neighbours_in_number() {
        let frames = frames(0, 0, 1 << 20);
        assert!((0..1000).all(|turn| frames.flow(turn).abs_diff(frames.flow(turn + 1)) > 1000));
    }

    #[test]
    fn every_flow_has_its_own_client_and_other_ports_stay() {
        let flows = 1 << 16;
        for (shift, template) in [(0, 80_u32.to_be()), (16, 80_u32.to_be() >> 16)] {
            let frames = frames(shift, 0, flows);
            let clients: HashSet<(u32, u32)> =
                (0..flows).map(|flow| (frames.client_address(flow), frames.ports(template, flow))).collect();
            assert_eq!(clients.len(), flows as usize);
            assert!(clients.iter().all(|(_, ports)| ports & template == template));
        }
    }
}
