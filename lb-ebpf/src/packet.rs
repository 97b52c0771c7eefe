//! The packet as the program sees it: bound checks once, then typed access.
//!
//! A [`Packet`] exists only for an unfragmented TCP segment or UDP datagram whose IP header carries no
//! options and whose transport header is whole, so whoever holds one may read and rewrite those headers.

use aya_ebpf::EbpfContext;
use aya_ebpf::helpers::generated::bpf_xdp_get_buff_len;
use aya_ebpf::programs::XdpContext;
use lb_common::endpoint::{TCP, UDP};
use lb_common::flow::tcp_flags::{ACK, FIN, RST, SYN};
use lb_common::tables::service_flags;
use lb_common::{Address, Listener, Reason};

use crate::family::Family;
use crate::open::opening;
use crate::verifier::hide;

/// Ethernet types, as they lie in a frame.
pub(crate) const ETHERTYPE_IPV4: u16 = 0x0800_u16.to_be();
pub(crate) const ETHERTYPE_IPV6: u16 = 0x86dd_u16.to_be();
const ETHERTYPE_VLAN: u16 = 0x8100_u16.to_be();
const ETHERTYPE_SERVICE_VLAN: u16 = 0x88a8_u16.to_be();

/// Ethernet header.
#[repr(C)]
pub(crate) struct Ethernet {
    /// Hardware addresses, in half-words as they lie in the frame.
    pub(crate) destination: [u16; 3],
    pub(crate) source: [u16; 3],
    pub(crate) ethertype: u16,
}

impl Ethernet {
    /// Sends the frame back to whom it came from.
    #[inline(always)]
    pub(crate) fn turn_round(&mut self) {
        for word in 0..3 {
            let (to, from) = (&raw mut self.destination[word], &raw mut self.source[word]);
            // SAFETY: both are fields of this header. One by one: as a whole they would be copied by a call
            // to `memmove`.
            unsafe {
                let (old_to, old_from) = (to.read_volatile(), from.read_volatile());
                to.write_volatile(old_from);
                from.write_volatile(old_to);
            }
        }
    }
}

/// What stands between an Ethernet header's type field and the next one (IEEE 802.1Q).
#[repr(C)]
struct VlanTag {
    control: u16,
    ethertype: u16,
}

/// Ports, and the rest of a TCP header.
#[repr(C, packed(2))]
pub(crate) struct TcpHeader {
    pub(crate) source_port: u16,
    pub(crate) destination_port: u16,
    pub(crate) sequence: u32,
    pub(crate) acknowledgement: u32,
    pub(crate) data_offset: u8,
    pub(crate) flags: u8,
    pub(crate) window: u16,
    pub(crate) checksum: u16,
    pub(crate) urgent: u16,
}

/// Ports, and the rest of a UDP header.
#[repr(C)]
pub(crate) struct UdpHeader {
    pub(crate) source_port: u16,
    pub(crate) destination_port: u16,
    pub(crate) length: u16,
    pub(crate) checksum: u16,
}

/// The network header begins within this many bytes: 14, 18 or 22.
pub(crate) const LINK_MASK: usize = 31;

/// A frame up to its network header: at most two VLAN tags are seen through.
pub(crate) struct Frame {
    /// First byte of the network header.
    pub(crate) network: usize,
    /// First byte after the part of the frame that the program may touch.
    pub(crate) end: usize,
    /// What the network header is.
    pub(crate) ethertype: u16,
}

impl Frame {
    /// Finds the network header.
    #[inline(always)]
    pub(crate) fn parse(ctx: &XdpContext) -> Result<Self, Reason> {
        let (start, end) = (ctx.data(), ctx.data_end());
        let mut network = start + size_of::<Ethernet>();
        if network > end {
            return Err(Reason::Malformed);
        }
        // SAFETY: the Ethernet header lies within the packet.
        let mut ethertype = unsafe { (*(start as *const Ethernet)).ethertype };
        for _ in 0..2 {
            if ethertype != ETHERTYPE_VLAN && ethertype != ETHERTYPE_SERVICE_VLAN {
                break;
            }
            let tag = network as *const VlanTag;
            network += size_of::<VlanTag>();
            if network > end {
                return Err(Reason::Malformed);
            }
            // SAFETY: the tag lies within the packet.
            ethertype = unsafe { (*tag).ethertype };
        }
        // Whatever number of tags: one path for the verifier from here on.
        // SAFETY: the Ethernet header lies within the packet.
        let offset = unsafe { hide((network - start) as u64, (start as *const u32).add(1)) };
        let offset = offset as usize & LINK_MASK;
        Ok(Self { network: start + offset, end, ethertype })
    }
}

/// An unfragmented TCP segment or UDP datagram.
pub(crate) struct Packet<F> {
    /// The Ethernet header.
    pub(crate) ethernet: *mut Ethernet,
    /// The IP header.
    pub(crate) ip: *mut F,
    /// The transport header: that of `protocol`, whole.
    transport: usize,
    /// [`TCP`] or [`UDP`].
    pub(crate) protocol: u8,
    /// TCP flags ([`lb_common::flow::tcp_flags`]); 0 of a datagram.
    pub(crate) flags: u8,
    /// Whether it carries data.
    pub(crate) has_payload: bool,
    /// Length of the IP packet in bytes.
    pub(crate) ip_bytes: u32,
}

impl<F: Family> Packet<F> {
    /// Recognises the packet behind a frame's network header, or says why it is none that is steered.
    #[inline(always)]
    pub(crate) fn parse(ctx: &XdpContext, frame: &Frame) -> Result<Self, Reason> {
        let transport = frame.network + size_of::<F>();
        if transport + size_of::<UdpHeader>() > frame.end {
            return Err(Reason::Malformed);
        }
        let ip = frame.network as *mut F;
        // SAFETY: the IP header lies within the packet.
        let (protocol, ip_bytes) = unsafe { &*ip }.inspect()?;
        let ethernet = ctx.data() as *mut Ethernet;
        let packet = Self { ethernet, ip, transport, protocol, flags: 0, has_payload: false, ip_bytes };
        // The part that the program may touch can end before the packet does.
        if frame.network + ip_bytes as usize > frame.end && !packet.reaches(ctx, frame) {
            return Err(Reason::Malformed);
        }
        match protocol {
            TCP => packet.with_segment(frame),
            UDP if ip_bytes < (size_of::<F>() + size_of::<UdpHeader>()) as u32 => Err(Reason::Malformed),
            UDP => Ok(packet.with_datagram()),
            other => Err(F::why_not_steered(other)),
        }
    }

    /// Recognises once more a packet whose network header is at `network`, in a function of its own.
    #[inline(always)]
    pub(crate) fn parse_at(ctx: &XdpContext, network: usize) -> Result<Self, Reason> {
        Self::parse(ctx, &Frame { network, end: ctx.data_end(), ethertype: F::ETHERTYPE })
    }

    /// Whether the whole of the packet is there, in the frame's further buffers.
    #[inline(always)]
    fn reaches(&self, ctx: &XdpContext, frame: &Frame) -> bool {
        // SAFETY: the context is the one that the kernel gave.
        let all = unsafe { bpf_xdp_get_buff_len(ctx.as_ptr().cast()) };
        all >= (frame.network - ctx.data()) as u64 + u64::from(self.ip_bytes)
    }

    #[inline(always)]
    fn with_segment(mut self, frame: &Frame) -> Result<Self, Reason> {
        if self.transport + size_of::<TcpHeader>() > frame.end {
            return Err(Reason::Malformed);
        }
        let tcp = self.transport as *const TcpHeader;
        // SAFETY: the TCP header lies within the packet.
        let (data_offset, flags) = unsafe { ((*tcp).data_offset, (*tcp).flags) };
        let header = u32::from(data_offset >> 4) * 4;
        let headers = size_of::<F>() as u32 + header;
        if header < size_of::<TcpHeader>() as u32 || headers > self.ip_bytes {
            return Err(Reason::Malformed);
        }
        self.flags = flags;
        self.has_payload = self.ip_bytes > headers;
        Ok(self)
    }

    #[inline(always)]
    fn with_datagram(mut self) -> Self {
        self.has_payload = true;
        self
    }

    /// The TCP header of a packet whose protocol is [`TCP`].
    #[inline(always)]
    pub(crate) fn tcp(&self) -> *mut TcpHeader {
        self.transport as *mut TcpHeader
    }

    /// The UDP header, or the part of a TCP header that is like one: its ports.
    #[inline(always)]
    pub(crate) fn udp(&self) -> *mut UdpHeader {
        self.transport as *mut UdpHeader
    }

    /// Where it comes from: address, and port as it lies in the packet.
    #[inline(always)]
    pub(crate) fn source(&self) -> (Address, u16) {
        // SAFETY: `parse` has checked that both headers lie within the packet.
        unsafe { ((*self.ip).source(), (*self.udp()).source_port) }
    }

    /// Where it goes: address, and port as it lies in the packet.
    #[inline(always)]
    pub(crate) fn destination(&self) -> (Address, u16) {
        // SAFETY: as above.
        unsafe { ((*self.ip).destination(), (*self.udp()).destination_port) }
    }

    /// Whether all of these TCP flags are set.
    #[inline(always)]
    pub(crate) const fn has(&self, flags: u8) -> bool {
        self.flags & flags == flags
    }

    /// Whether it asks for a new connection; a reset never does (RFC 9293, section 3.10.7).
    #[inline(always)]
    pub(crate) const fn opens(&self) -> bool {
        self.flags & (SYN | ACK | RST) == SYN
    }

    /// Whether routers may cut it into pieces.
    #[inline(always)]
    pub(crate) fn may_fragment(&self) -> bool {
        // SAFETY: `parse` has checked that the header lies within the packet.
        unsafe { (*self.ip).may_fragment() }
    }

    /// Bytes before the IP header.
    #[inline(always)]
    pub(crate) fn link_bytes(&self) -> u32 {
        (self.ip as usize - self.ethernet as usize) as u32
    }

    /// Whether it aborts its connection.
    #[inline(always)]
    pub(crate) const fn resets(&self) -> bool {
        self.has(RST)
    }

    /// What kind of packet it is to a flow without entry.
    #[inline(always)]
    pub(crate) const fn kind(&self, of: Listener) -> u16 {
        let affinity = if of.has(service_flags::AFFINITY) { opening::AFFINITY } else { 0 };
        let counts_open = if of.has(service_flags::COUNT_OPEN) { opening::COUNTS_OPEN } else { 0 };
        self.own_kind() | affinity | counts_open
    }

    #[inline(always)]
    const fn own_kind(&self) -> u16 {
        if self.is_datagram() {
            opening::DATAGRAM
        } else if self.resets() {
            opening::RESETS
        } else if self.opens() {
            opening::OPENS
        } else {
            0
        }
    }

    /// Whether it may be a flow's last one.
    #[inline(always)]
    pub(crate) const fn may_close(&self) -> bool {
        self.flags & (FIN | RST) != 0
    }

    /// Whether it is a datagram.
    #[inline(always)]
    pub(crate) const fn is_datagram(&self) -> bool {
        self.protocol == UDP
    }
}
