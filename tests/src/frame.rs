//! Ethernet frames with TCP or UDP over IPv4 or IPv6, made and checked by etherparse, which shares no code
//! with Baton.

use std::net::{IpAddr, SocketAddr};

use etherparse::{
    EtherType, Ethernet2Header, IpHeaders, IpNumber, Ipv4Header, Ipv6FlowLabel, Ipv6Header, LaxNetSlice,
    LaxSlicedPacket, NetSlice, SingleVlanHeader, SlicedPacket, TcpHeader, TransportSlice, UdpHeader, VlanId,
};

/// A packet to be.
#[derive(Clone, Debug)]
pub struct Segment {
    /// Where it comes from.
    pub from: SocketAddr,
    /// Where it goes.
    pub to: SocketAddr,
    /// TCP flags, as letters of `SARF` (`A` for acknowledgement); `None` makes it a datagram.
    pub flags: Option<&'static str>,
    /// TCP's sequence number.
    pub sequence: u32,
    /// TCP options; a multiple of four bytes.
    pub options: Vec<u8>,
    /// Its data.
    pub payload: Vec<u8>,
    /// VLANs, the outer one first; two at the most.
    pub vlans: Vec<u16>,
    /// IPv4's "don't fragment".
    pub dont_fragment: bool,
}

/// A segment without data.
pub fn segment(from: impl Into<SocketAddr>, to: impl Into<SocketAddr>, flags: &'static str) -> Segment {
    let (from, to, flags) = (from.into(), to.into(), Some(flags));
    let (options, payload, vlans) = (Vec::new(), Vec::new(), Vec::new());
    Segment { from, to, flags, sequence: 0x1234_5678, options, payload, vlans, dont_fragment: true }
}

/// A datagram.
pub fn datagram(from: impl Into<SocketAddr>, to: impl Into<SocketAddr>, payload: &[u8]) -> Segment {
    Segment { flags: None, ..segment(from, to, "") }.with(payload)
}

/// What acknowledgements acknowledge.
pub const ACKNOWLEDGED: u32 = 77;

impl Segment {
    /// The same packet with data.
    #[must_use]
    pub fn with(mut self, payload: &[u8]) -> Self {
        self.payload = payload.to_vec();
        self
    }

    /// The same segment with TCP options.
    #[must_use]
    pub fn options(mut self, options: &[u8]) -> Self {
        self.options = options.to_vec();
        self
    }

    /// The same packet in these VLANs, the outer one first.
    #[must_use]
    pub fn vlans(mut self, vlans: &[u16]) -> Self {
        self.vlans = vlans.to_vec();
        self
    }

    /// The frame that carries it.
    ///
    /// # Panics
    ///
    /// Panics if the payload does not fit into a packet.
    pub fn frame(&self) -> Vec<u8> {
        let mut frame = Vec::new();
        let ip_type = if self.from.is_ipv4() { EtherType::IPV4 } else { EtherType::IPV6 };
        let types: Vec<EtherType> = match self.vlans.len() {
            0 => vec![ip_type],
            1 => vec![EtherType::VLAN_TAGGED_FRAME, ip_type],
            _ => vec![EtherType::PROVIDER_BRIDGING, EtherType::VLAN_TAGGED_FRAME, ip_type],
        };
        Ethernet2Header { destination: [4; 6], source: [2; 6], ether_type: types[0] }
            .write(&mut frame)
            .expect("room");
        for (vlan, inner) in self.vlans.iter().zip(&types[1..]) {
            let tag = SingleVlanHeader {
                vlan_id: VlanId::try_new(*vlan).expect("a legal VLAN"),
                ether_type: *inner,
                ..SingleVlanHeader::default()
            };
            tag.write(&mut frame).expect("room");
        }
        frame.extend(self.packet());
        frame
    }

    /// The IP packet in the frame.
    ///
    /// # Panics
    ///
    /// Panics if the payload does not fit into a packet.
    pub fn packet(&self) -> Vec<u8> {
        let transport = self.transport();
        let protocol = if self.flags.is_some() { IpNumber::TCP } else { IpNumber::UDP };
        let mut packet = Vec::new();
        match (self.from.ip(), self.to.ip()) {
            (IpAddr::V4(from), IpAddr::V4(to)) => {
                let length = u16::try_from(transport.len()).expect("a packet that fits");
                let mut ip = Ipv4Header::new(length, 64, protocol, from.octets(), to.octets()).expect("fits");
                ip.dont_fragment = self.dont_fragment;
                ip.header_checksum = ip.calc_header_checksum();
                ip.write(&mut packet).expect("room");
            }
            (IpAddr::V6(from), IpAddr::V6(to)) => {
                let ip = Ipv6Header {
                    traffic_class: 0,
                    flow_label: Ipv6FlowLabel::ZERO,
                    payload_length: u16::try_from(transport.len()).expect("a packet that fits"),
                    next_header: protocol,
                    hop_limit: 64,
                    source: from.octets(),
                    destination: to.octets(),
                };
                ip.write(&mut packet).expect("room");
            }
            mixed => panic!("{mixed:?} are not of one family"),
        }
        packet.extend(transport);
        packet
    }

    fn transport(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        let (from, to) = (self.from.ip(), self.to.ip());
        if let Some(flags) = self.flags {
            let mut tcp = TcpHeader::new(self.from.port(), self.to.port(), self.sequence, 0xfeed);
            tcp.syn = flags.contains('S');
            tcp.ack = flags.contains('A');
            tcp.rst = flags.contains('R');
            tcp.fin = flags.contains('F');
            tcp.acknowledgment_number = ACKNOWLEDGED;
            tcp.set_options_raw(&self.options).expect("options that fit");
            tcp.checksum = tcp_checksum(&tcp, from, to, &self.payload);
            tcp.write(&mut bytes).expect("room");
        } else {
            let length = self.payload.len();
            let mut udp =
                UdpHeader::without_ipv4_checksum(self.from.port(), self.to.port(), length).expect("fits");
            udp.checksum = udp_checksum(&udp, from, to, &self.payload);
            udp.write(&mut bytes).expect("room");
        }
        bytes.extend(&self.payload);
        bytes
    }
}

fn tcp_checksum(tcp: &TcpHeader, from: IpAddr, to: IpAddr, payload: &[u8]) -> u16 {
    match (from, to) {
        (IpAddr::V4(from), IpAddr::V4(to)) => tcp.calc_checksum_ipv4_raw(from.octets(), to.octets(), payload),
        (IpAddr::V6(from), IpAddr::V6(to)) => tcp.calc_checksum_ipv6_raw(from.octets(), to.octets(), payload),
        mixed => panic!("{mixed:?} are not of one family"),
    }
    .expect("a segment of legal length")
}

fn udp_checksum(udp: &UdpHeader, from: IpAddr, to: IpAddr, payload: &[u8]) -> u16 {
    match (from, to) {
        (IpAddr::V4(from), IpAddr::V4(to)) => udp.calc_checksum_ipv4_raw(from.octets(), to.octets(), payload),
        (IpAddr::V6(from), IpAddr::V6(to)) => udp.calc_checksum_ipv6_raw(from.octets(), to.octets(), payload),
        mixed => panic!("{mixed:?} are not of one family"),
    }
    .expect("a datagram of legal length")
}

/// What a frame says, once its checksums have been found exact.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Read {
    /// Hardware addresses, destination first.
    pub hardware: ([u8; 6], [u8; 6]),
    /// VLANs, the outer one first.
    pub vlans: Vec<u16>,
    /// Where it comes from.
    pub from: SocketAddr,
    /// Where it goes.
    pub to: SocketAddr,
    /// The TCP header, if it is a segment.
    pub tcp: Option<TcpHeader>,
    /// Its data.
    pub payload: Vec<u8>,
}

/// Reads a frame.
///
/// # Panics
///
/// Panics if it is neither TCP nor UDP, or if a checksum is not what full recomputation yields.
pub fn read(frame: &[u8]) -> Read {
    let packet = SlicedPacket::from_ethernet(frame).expect("a well-formed frame");
    let ethernet =
        packet.link.as_ref().and_then(etherparse::LinkSlice::to_header).expect("an Ethernet header");
    let ethernet = ethernet.ethernet2().expect("Ethernet II");
    let vlans = packet.vlan_ids().iter().map(|id| id.value()).collect();
    let (from, to, from_port, to_port, tcp, payload) = read_network(&packet);
    Read {
        hardware: (ethernet.destination, ethernet.source),
        vlans,
        from: SocketAddr::new(from, from_port),
        to: SocketAddr::new(to, to_port),
        tcp,
        payload,
    }
}

/// Reads an IP packet, without a frame round it, as [`read`] does.
///
/// # Panics
///
/// As [`read`].
pub fn read_packet(bytes: &[u8]) -> (SocketAddr, SocketAddr, Vec<u8>) {
    let packet = SlicedPacket::from_ip(bytes).expect("a well-formed packet");
    let (from, to, from_port, to_port, _, payload) = read_network(&packet);
    (SocketAddr::new(from, from_port), SocketAddr::new(to, to_port), payload)
}

fn read_network(packet: &SlicedPacket<'_>) -> (IpAddr, IpAddr, u16, u16, Option<TcpHeader>, Vec<u8>) {
    let (from, to): (IpAddr, IpAddr) = match &packet.net {
        Some(NetSlice::Ipv4(ip)) => {
            let header = ip.header();
            assert_eq!(header.header_checksum(), header.to_header().calc_header_checksum(), "IP checksum");
            (header.source_addr().into(), header.destination_addr().into())
        }
        Some(NetSlice::Ipv6(ip)) => (ip.header().source_addr().into(), ip.header().destination_addr().into()),
        other => panic!("no IP packet: {other:?}"),
    };
    match &packet.transport {
        Some(TransportSlice::Tcp(tcp)) => {
            let (header, payload) = (tcp.to_header(), tcp.payload());
            assert_eq!(header.checksum, tcp_checksum(&header, from, to, payload), "TCP checksum");
            (from, to, header.source_port, header.destination_port, Some(header), payload.to_vec())
        }
        Some(TransportSlice::Udp(udp)) => {
            let (header, payload) = (udp.to_header(), udp.payload());
            if header.checksum != 0 {
                assert_eq!(header.checksum, udp_checksum(&header, from, to, payload), "UDP checksum");
            }
            (from, to, header.source_port, header.destination_port, None, payload.to_vec())
        }
        other => panic!("neither TCP nor UDP: {other:?}"),
    }
}

/// The outer header of a packet that carries another one, and the one inside.
///
/// # Panics
///
/// Panics if it carries none, or if the outer checksum is wrong.
pub fn unwrap_tunnel(frame: &[u8]) -> (IpHeaders, Vec<u8>) {
    let packet = LaxSlicedPacket::from_ethernet(frame).expect("a well-formed frame");
    match &packet.net {
        Some(LaxNetSlice::Ipv4(ip)) => {
            let header = ip.header();
            assert_eq!(header.header_checksum(), header.to_header().calc_header_checksum(), "IP checksum");
            (IpHeaders::Ipv4(header.to_header(), ip.extensions().to_header()), ip.payload().payload.to_vec())
        }
        Some(LaxNetSlice::Ipv6(ip)) => (
            IpHeaders::Ipv6(ip.header().to_header(), etherparse::Ipv6Extensions::default()),
            ip.payload().payload.to_vec(),
        ),
        other => panic!("no IP packet: {other:?}"),
    }
}
