//! A frame as data: which headers, between whom, and how it was damaged. It is made into bytes only when it is sent,
//! because who its ends are may depend on what the program has chosen (a lent port, a backend).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use serde::{Deserialize, Serialize};

use super::Model;
use super::bytes::{Octets, add, octets, put16, sum};
use super::parse::protocol;
use super::world::Site;

/// An end of a packet, as seen from a service.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Who {
    /// A client by its number; two neighbours share an address.
    Client(u8),
    /// The service.
    Vip,
    /// A backend by its place, modulo how many there are.
    Replica(u8),
    /// The backend that this client's flow is pinned to, or the first one.
    Pinned(u8),
    /// What this client looks like to its backend: the balancer, by the port that was lent, if one was.
    Lent(u8),
    /// The balancer towards its backends, by a port that it never lends.
    Balancer,
    /// A router on the way.
    Router,
    /// Another address on the service's port.
    Stranger,
    /// The service's IPv4 twin in IPv6 (RFC 4291, section 2.5.5.2), which is on no wire by rights.
    Mapped,
}

/// What is behind the IP header.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[expect(missing_docs, reason = "fields of the headers, under their names")]
pub enum Body {
    /// A segment with so many bytes of data.
    Tcp { flags: u8, sequence: u32, acknowledgement: u32, options: Vec<u8>, data: u16 },
    /// A datagram with so many bytes of data, with a checksum or without.
    Udp { data: u16, checksum: bool },
    /// An error that quotes so many bytes of the packet that it is about.
    Error { kind: u8, code: u8, rest: u32, about: Box<Recipe>, quoted: u16 },
    /// Another message of ICMP.
    Message { kind: u8, data: u16 },
    /// Another protocol.
    Other { protocol: u8, data: u16 },
}

/// A damage, done to the finished frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Wound {
    /// Only so many bytes are left; never fewer than an Ethernet header has.
    Cut(u16),
    /// This bit is flipped, counted from the first byte's highest.
    Flip(u16),
    /// This byte has this value.
    Set(u16, u8),
    /// So many bytes of padding follow.
    Pad(u16),
}

/// A frame to be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Recipe {
    /// The service that its ends are seen from.
    pub service: u16,
    /// Where it comes from.
    pub from: Who,
    /// Where it goes.
    pub to: Who,
    /// Tags, the outer one first: type and contents.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tags: Vec<(u16, u16)>,
    /// Type of service, or traffic class.
    #[serde(default)]
    pub class: u8,
    /// IPv4's flags and fragment offset; an IPv6 fragment header if there is an offset or more to come.
    pub fragment: u16,
    /// Words of IPv4 options, or the number of an IPv6 extension header and 0 words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub options: Option<u8>,
    /// What follows.
    pub body: Body,
    /// What happened to it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub wounds: Vec<Wound>,
}

/// IPv4's "don't fragment".
pub const DONT_FRAGMENT: u16 = 0x4000;
/// A port that is outside of every range that is lent.
const OWN_PORT: u16 = 55_555;

/// Whom names stand for: each history has clients of its own.
#[derive(Clone, Copy, Debug)]
pub struct Cast<'a> {
    /// Who is where by now.
    pub model: &'a Model,
    /// Number of the history.
    pub history: u16,
}

impl Cast<'_> {
    /// A client of this history: each has a network of its own.
    pub fn client(&self, site: &Site, number: u8) -> SocketAddr {
        let host = number / 2 + 1;
        let ip = if site.v6 {
            IpAddr::from(Ipv6Addr::new(0x2001, 0xdb8, 0, self.history, 0, 0, 0, host.into()))
        } else {
            let [high, low] = self.history.to_be_bytes();
            Ipv4Addr::new(20, high, low, host).into()
        };
        SocketAddr::new(ip, 40_000 + u16::from(number))
    }

    /// The name of this client's flow.
    pub fn key(&self, site: &Site, number: u8) -> super::flow::Key {
        let client = self.client(site, number);
        (site.id, octets(client.ip()), client.port())
    }

    fn place(&self, site: &Site, who: Who) -> SocketAddr {
        let replica = |place: usize| &site.replicas[place % site.replicas.len()];
        let pinned = |number| {
            let flow = self.model.flow(&self.key(site, number));
            site.replicas
                .iter()
                .find(|one| flow.is_some_and(|flow| flow.backend == one.id))
                .unwrap_or(replica(0))
        };
        match who {
            Who::Client(number) => self.client(site, number),
            Who::Vip => site.vip,
            Who::Replica(place) => replica(place.into()).address,
            Who::Pinned(number) => pinned(number).address,
            Who::Lent(number) => match self.model.port_of(&self.key(site, number)) {
                Some(port) => SocketAddr::new(pinned(number).local, port),
                None => self.client(site, number),
            },
            Who::Balancer => SocketAddr::new(replica(0).local, OWN_PORT),
            Who::Router if site.v6 => {
                SocketAddr::new(Ipv6Addr::new(0x2001, 0xdb8, 0xffff, 0, 0, 0, 0, 1).into(), 0)
            }
            Who::Router => SocketAddr::new(Ipv4Addr::new(198, 51, 100, 1).into(), 0),
            Who::Stranger if site.v6 => {
                SocketAddr::new(Ipv6Addr::new(0xfd77, 0, 0, 0, 0, 0, 9, 9).into(), site.vip.port())
            }
            Who::Stranger => SocketAddr::new(Ipv4Addr::new(10, 77, 9, 9).into(), site.vip.port()),
            Who::Mapped => {
                let twin = self.model.world().sites.iter().find(|one| !one.v6 && one.kind == site.kind);
                twin.map_or(site.vip, |twin| twin.vip)
            }
        }
    }

    /// The frame, with its wounds.
    pub fn frame(&self, recipe: &Recipe) -> Vec<u8> {
        let site = self.model.world().site(recipe.service);
        let mut frame = vec![4, 4, 4, 4, 4, 4, 2, 2, 2, 2, 2, 2];
        for (kind, tag) in &recipe.tags {
            frame.extend(kind.to_be_bytes());
            frame.extend(tag.to_be_bytes());
        }
        frame.extend(if site.v6 { [0x86, 0xdd] } else { [8, 0] });
        frame.extend(self.packet(recipe));
        for wound in &recipe.wounds {
            match *wound {
                Wound::Cut(length) => frame.truncate(usize::from(length).max(14)),
                Wound::Flip(bit) => {
                    if let Some(byte) = frame.get_mut(usize::from(bit / 8)) {
                        *byte ^= 0x80 >> (bit % 8);
                    }
                }
                Wound::Set(at, value) => {
                    if let Some(byte) = frame.get_mut(usize::from(at)) {
                        *byte = value;
                    }
                }
                Wound::Pad(length) => frame.extend(data(length)),
            }
        }
        frame
    }

    fn packet(&self, recipe: &Recipe) -> Vec<u8> {
        let site = self.model.world().site(recipe.service);
        let (from, to) = (self.place(site, recipe.from), self.place(site, recipe.to));
        let (number, body) = self.body(recipe, site.v6, from, to);
        let (source, destination) = (octets(from.ip()), octets(to.ip()));
        let mut packet = Vec::new();
        if site.v6 {
            let extension = match recipe.options {
                _ if recipe.fragment & 0x3fff != 0 => Some(protocol::FRAGMENT),
                other => other,
            };
            let offset = recipe.fragment << 3 | u16::from(recipe.fragment & 0x2000 != 0);
            let [high, low] = offset.to_be_bytes();
            let extra = if extension.is_some() { vec![number, 0, high, low, 0, 0, 0, 7] } else { Vec::new() };
            packet.extend((6 << 28 | u32::from(recipe.class) << 20 | 0x5_4321).to_be_bytes());
            packet.extend(((extra.len() + body.len()) as u16).to_be_bytes());
            packet.extend([extension.unwrap_or(number), 63]);
            packet.extend(source);
            packet.extend(destination);
            packet.extend(extra);
        } else {
            let words = recipe.options.unwrap_or(0).min(10);
            let length = 20 + usize::from(words) * 4 + body.len();
            packet.extend([0x45 + words, recipe.class]);
            packet.extend((length as u16).to_be_bytes());
            packet.extend([0x12, 0x34]);
            packet.extend(recipe.fragment.to_be_bytes());
            packet.extend([63, number, 0, 0]);
            packet.extend(&source[12..]);
            packet.extend(&destination[12..]);
            packet.resize(20 + usize::from(words) * 4, 1);
            let checksum = !sum(&packet);
            put16(&mut packet, 10, checksum);
        }
        packet.extend(body);
        packet
    }

    fn body(&self, recipe: &Recipe, v6: bool, from: SocketAddr, to: SocketAddr) -> (u8, Vec<u8>) {
        let mut bytes = Vec::new();
        let ports = [from.port().to_be_bytes(), to.port().to_be_bytes()].concat();
        let (number, checksum_at) = match &recipe.body {
            Body::Tcp { flags, sequence, acknowledgement, options, data: length } => {
                bytes.extend(ports);
                bytes.extend(sequence.to_be_bytes());
                bytes.extend(acknowledgement.to_be_bytes());
                bytes.extend([(5 + options.len().min(40) as u8 / 4) << 4, *flags, 0xfe, 0xed, 0, 0, 0, 0]);
                bytes.extend(&options[..options.len().min(40) / 4 * 4]);
                bytes.extend(data(*length));
                (protocol::TCP, Some(16))
            }
            Body::Udp { data: length, checksum } => {
                bytes.extend(ports);
                bytes.extend((8 + length).to_be_bytes());
                bytes.extend([0, 0]);
                bytes.extend(data(*length));
                (protocol::UDP, checksum.then_some(6))
            }
            Body::Error { kind, code, rest, about, quoted } => {
                bytes.extend([*kind, *code, 0, 0]);
                bytes.extend(rest.to_be_bytes());
                let packet = self.packet(about);
                bytes.extend(&packet[..packet.len().min(usize::from(*quoted))]);
                (if v6 { protocol::ICMPV6 } else { protocol::ICMP }, Some(2))
            }
            Body::Message { kind, data: length } => {
                bytes.extend([*kind, 0, 0, 0, 0, 7, 0, 1]);
                bytes.extend(data(*length));
                (if v6 { protocol::ICMPV6 } else { protocol::ICMP }, Some(2))
            }
            Body::Other { protocol, data: length } => {
                bytes.extend(data(*length));
                (*protocol, None)
            }
        };
        if let Some(at) = checksum_at {
            let mut total = sum(&bytes);
            if number != protocol::ICMP {
                total = add(total, pseudo_header(octets(from.ip()), octets(to.ip()), number, bytes.len()));
            }
            // A datagram whose checksum is 0 says 0xffff (RFC 768).
            let checksum = if total == 0xffff && number == protocol::UDP { 0xffff } else { !total };
            put16(&mut bytes, at, checksum);
        }
        (number, bytes)
    }
}

fn pseudo_header(from: Octets, to: Octets, number: u8, length: usize) -> u16 {
    sum(&[&from[..], &to[..], &(length as u32).to_be_bytes(), &[0, number]].concat())
}

/// Data that differs from byte to byte.
fn data(length: u16) -> impl Iterator<Item = u8> {
    (0..length).map(|n| (n.wrapping_mul(31) % 251) as u8)
}
