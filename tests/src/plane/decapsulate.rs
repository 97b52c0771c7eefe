//! The far end of an IP-in-IP tunnel, for kernels without tunnel devices.

use std::io::Read;
use std::net::SocketAddr;
use std::time::Duration;

use etherparse::IpSlice;
use nix::sys::socket::{setsockopt, sockopt::RcvBufForce};
use socket2::{Domain, Protocol, SockAddr, Socket, Type};

/// IANA's protocol numbers of what is carried.
const CARRIED_IPV4: i32 = 4;
const CARRIED_IPV6: i32 = 41;
/// For packets that bring their own header (raw(7)).
const RAW: i32 = 255;
/// Bursts wait here while the machine is busy.
const BUFFER_BYTES: usize = 16 << 20;
const IPV4_HEADER_BYTES: usize = 20;
const LONGEST_BYTES: usize = 65_536;

/// Takes packets out of packets of the same family, and hands them to the stack of its namespace.
pub(super) struct Decapsulator {
    arriving: Socket,
    inside: Socket,
    outer_bytes: usize,
    buffer: Vec<u8>,
}

impl Decapsulator {
    /// For the namespace of the calling thread; [`Self::unpack_one`] waits as long as `patience` for a packet.
    pub(super) fn new(is_ipv4: bool, patience: Duration) -> anyhow::Result<Self> {
        // The kernel keeps an outer header of IPv6 to itself.
        let (domain, carried, outer_bytes) = if is_ipv4 {
            (Domain::IPV4, CARRIED_IPV4, IPV4_HEADER_BYTES)
        } else {
            (Domain::IPV6, CARRIED_IPV6, 0)
        };
        let arriving = Socket::new(domain, Type::RAW, Some(Protocol::from(carried)))?;
        arriving.set_read_timeout(Some(patience))?;
        setsockopt(&arriving, RcvBufForce, &BUFFER_BYTES)?;
        let inside = Socket::new(domain, Type::RAW, Some(Protocol::from(RAW)))?;
        Ok(Self { arriving, inside, outer_bytes, buffer: vec![0; LONGEST_BYTES] })
    }

    /// Unpacks a packet, if one comes in time.
    pub(super) fn unpack_one(&mut self) {
        let Ok(length) = self.arriving.read(&mut self.buffer) else { return };
        let Some(packet) = self.buffer.get(self.outer_bytes..length) else { return };
        if let Ok(header) = IpSlice::from_slice(packet) {
            let to = SockAddr::from(SocketAddr::new(header.destination_addr(), 0));
            // Whether it arrives is for the client to judge.
            let _ = self.inside.send_to(packet, &to);
        }
    }
}
