//! Addresses and endpoints as map keys: one layout for IPv4 and IPv6.

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::plain_data;

/// An IP address in network order; IPv4 in its IPv6-mapped form (RFC 4291, section 2.5.5.2).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Address([u32; 4]);

impl Address {
    /// An IPv4 address, given as it lies in a packet.
    #[inline(always)]
    pub const fn from_v4_word(word: u32) -> Self {
        Self([0, 0, 0xffff_u32.to_be(), word])
    }

    /// An IPv6 address, given as it lies in a packet.
    #[inline(always)]
    pub const fn from_words(words: [u32; 4]) -> Self {
        Self(words)
    }

    /// All 128 bits as they lie in a packet.
    #[inline(always)]
    pub const fn words(self) -> [u32; 4] {
        self.0
    }

    /// Whether it is an IPv4 address.
    #[inline(always)]
    pub const fn is_v4(self) -> bool {
        let [a, b, c, _] = self.0;
        // One test, not three: the packet path asks this of every IPv6 packet.
        a | b | (c ^ 0xffff_u32.to_be()) == 0
    }

    /// The last 32 bits, which are the whole address if it is IPv4, as they lie in a packet.
    #[inline(always)]
    pub const fn v4_word(self) -> u32 {
        self.0[3]
    }
}

impl From<IpAddr> for Address {
    fn from(ip: IpAddr) -> Self {
        let octets = match ip {
            IpAddr::V4(v4) => v4.to_ipv6_mapped().octets(),
            IpAddr::V6(v6) => v6.octets(),
        };
        zerocopy::transmute!(octets)
    }
}

impl From<Ipv4Addr> for Address {
    fn from(ip: Ipv4Addr) -> Self {
        IpAddr::V4(ip).into()
    }
}

impl From<Address> for IpAddr {
    fn from(address: Address) -> Self {
        let octets: [u8; 16] = zerocopy::transmute!(address);
        let v6 = Ipv6Addr::from(octets);
        v6.to_ipv4_mapped().map_or(Self::V6(v6), Self::V4)
    }
}

/// Transport protocol number of TCP (RFC 9293).
pub const TCP: u8 = 6;
/// Transport protocol number of UDP (RFC 768).
pub const UDP: u8 = 17;

/// An address, a port and a transport protocol: what a service or a backend listens on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Endpoint {
    address: Address,
    /// In network order.
    port: u16,
    protocol: u8,
    reserved: u8,
}

const _: () = assert!(size_of::<Endpoint>() == 20);

impl Endpoint {
    /// An endpoint from the fields of a packet; `port` as it lies there.
    #[inline(always)]
    pub const fn from_wire(address: Address, port: u16, protocol: u8) -> Self {
        Self { address, port, protocol, reserved: 0 }
    }

    /// The TCP endpoint of a socket address.
    pub fn tcp(socket: SocketAddr) -> Self {
        Self::new(socket, TCP)
    }

    /// The endpoint of a socket address for [`TCP`] or [`UDP`].
    pub fn new(socket: SocketAddr, protocol: u8) -> Self {
        Self::from_wire(socket.ip().into(), socket.port().to_be(), protocol)
    }

    /// The address.
    #[inline(always)]
    pub const fn address(&self) -> Address {
        self.address
    }

    /// The port as it lies in a packet.
    #[inline(always)]
    pub const fn wire_port(&self) -> u16 {
        self.port
    }

    /// [`TCP`] or [`UDP`].
    #[inline(always)]
    pub const fn protocol(&self) -> u8 {
        self.protocol
    }

    /// The address and port for people.
    pub fn socket(&self) -> SocketAddr {
        SocketAddr::new(self.address.into(), u16::from_be(self.port))
    }
}

plain_data!(Address, Endpoint);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_socket_address_survives_the_round_trip() {
        for text in ["10.77.0.1:8080", "[fd77::1]:443", "255.255.255.255:65535"] {
            let socket: SocketAddr = text.parse().unwrap();
            assert_eq!(Endpoint::tcp(socket).socket(), socket);
        }
    }

    #[test]
    fn an_ipv4_word_from_a_packet_is_the_address() {
        let word = u32::from_ne_bytes([192, 0, 2, 7]);
        assert_eq!(Address::from_v4_word(word), Address::from(Ipv4Addr::new(192, 0, 2, 7)));
        assert_eq!(Address::from(Ipv4Addr::new(192, 0, 2, 7)).v4_word(), word);
    }
}
