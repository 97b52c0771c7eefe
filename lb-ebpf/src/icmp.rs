//! ICMP errors about the packets of a flow: they reach whoever sent the packet, and speak of the addresses
//! that it knows. They change nothing of what is known about the flow, for anybody can forge them.
//!
//! - An error to the VIP is about a packet that a client got from it: it goes to the flow's backend, which
//!   must find its own address in the packet that is quoted.
//! - An error about a packet to a backend is for the client, which knows the VIP only.
//!
//! A function of its own: errors are rare, and the quoted packet is parsed like the packet that carries it.

use aya_ebpf::EbpfContext;
use aya_ebpf::bindings::xdp_md;
use aya_ebpf::programs::XdpContext;
use lb_common::checksum::Delta;
use lb_common::endpoint::{TCP, UDP};
use lb_common::tables::service_flags;
use lb_common::{Address, FlowKey, Forwarding, Listener, NextHop, Reason};

use crate::encapsulate::encapsulate;
use crate::family::{End, Family, Ipv4, Ipv6};
use crate::flows::{find, fingerprint};
use crate::packet::{Ethernet, Frame, LINK_MASK, UdpHeader};
use crate::{Verdict, backends, listeners, rewrite, services, snat};

/// What an ICMP message begins with; four bytes follow whose meaning the type decides.
#[repr(C)]
struct IcmpHeader {
    kind: u8,
    code: u8,
    checksum: u16,
    rest: u32,
}

/// What became of a message, in one word.
struct Found {
    reason: Reason,
    /// The service, if it is about one of its flows.
    service: u8,
    /// The backend that the message has to be put into a packet for, or 0.
    encapsulate_for: u16,
    ifindex: u32,
}

impl Found {
    const fn none(reason: Reason) -> Self {
        Self { reason, service: 0, encapsulate_for: 0, ifindex: 0 }
    }

    const fn to_word(&self) -> u64 {
        self.reason as u64
            | (self.service as u64) << 8
            | (self.encapsulate_for as u64) << 16
            | (self.ifindex as u64) << 32
    }
}

/// Steers an ICMP message.
#[inline(always)]
pub(crate) fn steer<F: Family>(ctx: &XdpContext, frame: &Frame) -> Verdict {
    let link_bytes = (frame.network - ctx.data()) as u32;
    // SAFETY: the context is the one that the kernel gave.
    let word = unsafe { icmp_error(ctx.as_ptr().cast(), link_bytes, u32::from(F::IS_V6)) };
    let (reason, service) = (word as u32 & 0xff, (word >> 8) as u8);
    if reason != Reason::IcmpError as u32 && reason != Reason::ReplyIcmpError as u32 {
        return Verdict::end(reason);
    }
    let backend = (word >> 16) as u16;
    // SAFETY: as above; the packet is not looked at afterwards.
    if backend != 0 && unsafe { encapsulate(ctx.as_ptr().cast(), backend.into(), link_bytes) } == 0 {
        return Verdict::end(Reason::NoHeadroom as u32);
    }
    Verdict::send(reason, service.into(), (word >> 32) as u32)
}

/// # Safety
///
/// `ctx` must be the context that the kernel gave.
#[inline(never)]
#[unsafe(no_mangle)]
unsafe extern "C" fn icmp_error(ctx: *mut xdp_md, link_bytes: u32, is_v6: u32) -> u64 {
    // SAFETY: by this function's contract.
    let found = unsafe {
        if is_v6 == 0 {
            Message::<Ipv4>::parse(ctx, link_bytes).map(Message::steer)
        } else {
            Message::<Ipv6>::parse(ctx, link_bytes).map(Message::steer)
        }
    };
    match found {
        Ok(found) => found.to_word(),
        Err(reason) => Found::none(reason).to_word(),
    }
}

/// An error that quotes a packet of TCP or UDP, at least down to its ports and the four bytes behind them.
struct Message<F> {
    ethernet: *mut Ethernet,
    ip: *mut F,
    icmp: *mut IcmpHeader,
    quoted: *mut F,
    ports: *mut UdpHeader,
    protocol: u8,
    /// What the rewrites so far do to the message's checksum.
    delta: Delta,
}

impl<F: Family> Message<F> {
    /// # Safety
    ///
    /// As [`icmp_error`].
    #[inline(always)]
    unsafe fn parse(ctx: *mut xdp_md, link_bytes: u32) -> Result<Self, Reason> {
        // SAFETY: by this function's contract.
        let (start, end) = unsafe { ((*ctx).data as usize, (*ctx).data_end as usize) };
        if start + size_of::<Ethernet>() > end {
            return Err(Reason::Icmp);
        }
        let ip = start + (link_bytes as usize & LINK_MASK);
        let icmp = ip + size_of::<F>();
        let quoted = icmp + size_of::<IcmpHeader>();
        let ports = quoted + size_of::<F>();
        if ports + size_of::<UdpHeader>() > end {
            return Err(Reason::Icmp);
        }
        let (icmp, quoted) = (icmp as *mut IcmpHeader, quoted as *mut F);
        // SAFETY: all headers lie within the packet.
        let (kind, outer) = unsafe { ((*icmp).kind, (*(ip as *const F)).inspect()) };
        // What is quoted must be part of the message; padding may follow.
        let needed = 2 * size_of::<F>() + size_of::<IcmpHeader>() + size_of::<UdpHeader>();
        if !is_error::<F>(kind) || !outer.is_ok_and(|(_, bytes)| bytes >= needed as u32) {
            return Err(Reason::Icmp);
        }
        // SAFETY: as above.
        let Ok((protocol, _)) = (unsafe { (*quoted).inspect() }) else { return Err(Reason::IcmpUnknown) };
        if protocol != TCP && protocol != UDP {
            return Err(Reason::IcmpUnknown);
        }
        let (ethernet, ip, ports) = (start as *mut Ethernet, ip as *mut F, ports as *mut UdpHeader);
        Ok(Self { ethernet, ip, icmp, quoted, ports, protocol, delta: Delta::new() })
    }

    #[inline(always)]
    fn steer(mut self) -> Found {
        // SAFETY: `parse` has checked that all headers lie within the packet.
        let (source, destination) = unsafe {
            let (quoted, ports) = (&*self.quoted, &*self.ports);
            ((quoted.source(), ports.source_port), (quoted.destination(), ports.destination_port))
        };
        if let Some(of) = listeners::find(source, self.protocol)
            && of.is_vip()
        {
            self.steer_to_backend(of, destination)
        } else if let Some(of) = listeners::find(destination, self.protocol)
            && !of.is_vip()
        {
            self.steer_to_client(of, source)
        } else {
            Found::none(Reason::IcmpUnknown)
        }
    }

    /// About a packet that the VIP sent to a client.
    #[inline(always)]
    fn steer_to_backend(&mut self, of: Listener, (client, client_port): (Address, u16)) -> Found {
        let key = FlowKey { client, client_port, service: of.service };
        let print = fingerprint(&key);
        let Some(entry) = find(print) else { return Found::none(Reason::IcmpUnknown) };
        let id = entry.id.backend();
        let Some(backend) = backends::get(id).filter(|backend| backend.is_present()) else {
            return Found::none(Reason::IcmpUnknown);
        };
        let mut encapsulate_for = 0;
        match backend.forwarding() {
            Forwarding::Nat => {
                if of.has(service_flags::SNAT) {
                    let Some(service) = services::get(of.service) else {
                        return Found::none(Reason::IcmpUnknown);
                    };
                    // An error may be forged: no port is lent for it.
                    let port = snat::port_held_by(print, service.snat);
                    if port == 0 {
                        return Found::none(Reason::IcmpUnknown);
                    }
                    self.rewrite_quoted(End::Destination, backend.local, port.to_be());
                }
                self.rewrite_outer(End::Destination, backend.endpoint.address());
                self.rewrite_quoted(End::Source, backend.endpoint.address(), backend.endpoint.wire_port());
            }
            Forwarding::Dsr => {}
            Forwarding::Ipip => encapsulate_for = id,
        }
        self.send(Reason::IcmpError, of, encapsulate_for, &backend.hop)
    }

    /// About a packet that went to a backend.
    #[inline(always)]
    fn steer_to_client(&mut self, of: Listener, (address, port): (Address, u16)) -> Found {
        let (Some(service), Some(backend)) = (services::get(of.service), backends::get(of.backend)) else {
            return Found::none(Reason::IcmpUnknown);
        };
        if of.has(service_flags::SNAT) && service.snat.contains(u16::from_be(port)) {
            let Some(flow) = snat::flow_of(service.snat.slot(u16::from_be(port))) else {
                return Found::none(Reason::IcmpUnknown);
            };
            self.rewrite_quoted(End::Source, flow.client, flow.client_port);
            self.rewrite_outer(End::Destination, flow.client);
        } else if address == backend.local {
            return Found::none(Reason::ToBalancer);
        }
        // A router keeps its name; the backend has none but the VIP's.
        // SAFETY: `parse` has checked that the header lies within the packet.
        if unsafe { (*self.ip).source() } == backend.endpoint.address() {
            self.rewrite_outer(End::Source, service.vip.address());
        }
        self.rewrite_quoted(End::Destination, service.vip.address(), service.vip.wire_port());
        self.send(Reason::ReplyIcmpError, of, 0, &service.uplink)
    }

    #[inline(always)]
    fn rewrite_outer(&mut self, end: End, address: Address) {
        // SAFETY: `parse` has checked that the header lies within the packet.
        let delta = unsafe { (*self.ip).replace(end, address) };
        // Only ICMPv6 has a pseudo-header (RFC 4443, section 2.3).
        if F::IS_V6 {
            self.delta = self.delta.and(delta);
        }
    }

    /// Replaces an end of the packet that is quoted, and what of its checksums is quoted for sure.
    #[inline(always)]
    fn rewrite_quoted(&mut self, end: End, address: Address, port: u16) {
        // SAFETY: `parse` has checked that both headers lie within the packet.
        let (quoted, ports) = unsafe { (&mut *self.quoted, &mut *self.ports) };
        let header = quoted.header_checksum();
        let delta = quoted.replace(end, address);
        self.delta = self.delta.and(delta).replace_u16(header, quoted.header_checksum());
        let place = match end {
            End::Source => &mut ports.source_port,
            End::Destination => &mut ports.destination_port,
        };
        let old_port = core::mem::replace(place, port);
        self.delta = self.delta.replace_u16(old_port, port);
        if self.protocol == UDP {
            let old = ports.checksum;
            let new = delta.replace_u16(old_port, port).apply_to_datagram(old);
            ports.checksum = new;
            self.delta = self.delta.replace_u16(old, new);
        }
    }

    #[inline(always)]
    fn send(&mut self, reason: Reason, of: Listener, encapsulate_for: u16, hop: &NextHop) -> Found {
        // SAFETY: `parse` has checked that all headers lie within the packet.
        unsafe { (*self.icmp).checksum = self.delta.apply((*self.icmp).checksum) };
        rewrite::next_hop(self.ethernet, hop, hop.ifindex);
        Found { reason, service: of.service as u8, encapsulate_for, ifindex: hop.ifindex }
    }
}

/// Errors that a sender has to know: unreachable, time exceeded, parameter problem; in ICMPv6 too big as well.
const fn is_error<F: Family>(kind: u8) -> bool {
    if F::IS_V6 { matches!(kind, 1..=4) } else { matches!(kind, 3 | 11 | 12) }
}
