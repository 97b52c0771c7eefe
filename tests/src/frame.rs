//! Ethernet frames with TCP over IPv4, made and checked by etherparse, which shares no code with Baton.

use std::net::{Ipv4Addr, SocketAddrV4};

use etherparse::{NetSlice, PacketBuilder, SlicedPacket, TcpHeader, TransportSlice};

/// A TCP segment to be.
#[derive(Clone, Debug)]
pub struct Segment {
    /// Where it comes from.
    pub from: SocketAddrV4,
    /// Where it goes.
    pub to: SocketAddrV4,
    /// Its flags, as letters of `SARF` (`A` for acknowledgement).
    pub flags: &'static str,
    /// Its data.
    pub payload: Vec<u8>,
}

/// A segment without data.
pub fn segment(from: SocketAddrV4, to: SocketAddrV4, flags: &'static str) -> Segment {
    Segment { from, to, flags, payload: Vec::new() }
}

impl Segment {
    /// The same segment with data.
    #[must_use]
    pub fn with(mut self, payload: &[u8]) -> Self {
        self.payload = payload.to_vec();
        self
    }

    /// The frame that carries it.
    ///
    /// # Panics
    ///
    /// Panics if the payload does not fit into a packet.
    pub fn frame(&self) -> Vec<u8> {
        let mut tcp = TcpHeader::new(self.from.port(), self.to.port(), 0x1234_5678, 0xfeed);
        tcp.syn = self.flags.contains('S');
        tcp.ack = self.flags.contains('A');
        tcp.rst = self.flags.contains('R');
        tcp.fin = self.flags.contains('F');
        tcp.acknowledgment_number = 77;
        let builder = PacketBuilder::ethernet2([2; 6], [4; 6])
            .ipv4(self.from.ip().octets(), self.to.ip().octets(), 64)
            .tcp_header(tcp);
        let mut frame = Vec::with_capacity(builder.size(self.payload.len()));
        builder.write(&mut frame, &self.payload).expect("a segment that fits");
        frame
    }
}

/// What a frame says, once its checksums have been found exact.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Read {
    /// Hardware addresses, destination first.
    pub hardware: ([u8; 6], [u8; 6]),
    /// Where it comes from.
    pub from: SocketAddrV4,
    /// Where it goes.
    pub to: SocketAddrV4,
    /// Its data.
    pub payload: Vec<u8>,
}

/// Reads a frame.
///
/// # Panics
///
/// Panics if it is not TCP over IPv4, or if a checksum is not what full recomputation yields.
pub fn read(frame: &[u8]) -> Read {
    let packet = SlicedPacket::from_ethernet(frame).expect("a well-formed frame");
    let ethernet =
        packet.link.as_ref().and_then(etherparse::LinkSlice::to_header).expect("an Ethernet header");
    let ethernet = ethernet.ethernet2().expect("Ethernet II");
    let Some(NetSlice::Ipv4(ip)) = &packet.net else { panic!("not IPv4") };
    let Some(TransportSlice::Tcp(tcp)) = &packet.transport else { panic!("not TCP") };
    let (ip, tcp_header) = (ip.header(), tcp.to_header());
    assert_eq!(ip.header_checksum(), ip.to_header().calc_header_checksum(), "IP checksum");
    let checksum = tcp_header.calc_checksum_ipv4_raw(ip.source(), ip.destination(), tcp.payload());
    assert_eq!(tcp.checksum(), checksum.expect("a segment of legal length"), "TCP checksum");
    Read {
        hardware: (ethernet.destination, ethernet.source),
        from: SocketAddrV4::new(Ipv4Addr::from(ip.source()), tcp.source_port()),
        to: SocketAddrV4::new(Ipv4Addr::from(ip.destination()), tcp.destination_port()),
        payload: tcp.payload().to_vec(),
    }
}
