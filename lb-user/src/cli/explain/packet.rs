//! The packet that is asked about.

use std::fmt;
use std::net::SocketAddr;
use std::str::FromStr;

use anyhow::{Result, bail};
use etherparse::{PacketBuilder, TcpHeader};

/// A packet from a client to a service.
#[derive(Clone, Copy, Debug)]
pub(super) struct Question {
    /// The client.
    pub(super) from: SocketAddr,
    /// The VIP, of the same family.
    pub(super) to: SocketAddr,
    /// What it carries.
    pub(super) transport: Transport,
}

/// What a packet carries.
#[derive(Clone, Copy, Debug)]
pub(super) enum Transport {
    /// A segment without data.
    Tcp(Flags),
    /// A datagram without data.
    Udp,
}

/// Flags of a TCP segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Flags(u8);

/// Flags by name, in the order of their bits.
const NAMES: [&str; 6] = ["FIN", "SYN", "RST", "PSH", "ACK", "URG"];

impl Flags {
    fn has(self, name: &str) -> bool {
        NAMES.iter().position(|known| *known == name).is_some_and(|bit| self.0 & 1 << bit != 0)
    }
}

impl FromStr for Flags {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let bit = |word: &str| {
            let known = NAMES.iter().position(|name| name.eq_ignore_ascii_case(word.trim()));
            known
                .map(|bit| 1 << bit)
                .ok_or_else(|| format!("`{word}` is no TCP flag: join some of {} by `|`", NAMES.join(", ")))
        };
        text.split(['|', ',', '+']).map(bit).try_fold(0, |flags, bit| Ok(flags | bit?)).map(Self)
    }
}

impl fmt::Display for Flags {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let set: Vec<_> = NAMES.into_iter().filter(|name| self.has(name)).collect();
        f.write_str(&set.join("|"))
    }
}

impl Question {
    /// The frame that carries the packet, checksums included.
    pub(super) fn frame(&self) -> Result<Vec<u8>> {
        // No hardware address decides anything.
        let ethernet = PacketBuilder::ethernet2([2, 0, 0, 0, 0, 1], [2, 0, 0, 0, 0, 2]);
        let packet = match (self.from, self.to) {
            (SocketAddr::V4(from), SocketAddr::V4(to)) => {
                ethernet.ipv4(from.ip().octets(), to.ip().octets(), 64)
            }
            (SocketAddr::V6(from), SocketAddr::V6(to)) => {
                ethernet.ipv6(from.ip().octets(), to.ip().octets(), 64)
            }
            (from, to) => bail!("{from} and {to} are of two families"),
        };
        let (from, to, mut frame) = (self.from.port(), self.to.port(), Vec::new());
        match self.transport {
            Transport::Tcp(flags) => packet.tcp_header(segment(from, to, flags)).write(&mut frame, &[])?,
            Transport::Udp => packet.udp(from, to).write(&mut frame, &[])?,
        }
        Ok(frame)
    }
}

fn segment(from: u16, to: u16, flags: Flags) -> TcpHeader {
    let mut header = TcpHeader::new(from, to, 0, u16::MAX);
    header.fin = flags.has("FIN");
    header.syn = flags.has("SYN");
    header.rst = flags.has("RST");
    header.psh = flags.has("PSH");
    header.ack = flags.has("ACK");
    header.urg = flags.has("URG");
    header
}

#[cfg(test)]
mod tests {
    use super::*;

    fn question(from: &str, to: &str, transport: Transport) -> Question {
        Question { from: from.parse().unwrap(), to: to.parse().unwrap(), transport }
    }

    #[test]
    fn flags_are_read_however_they_are_joined_and_shown_in_one_way() {
        for text in ["SYN|ACK", "ack,syn", "Syn + Ack"] {
            assert_eq!(text.parse::<Flags>().unwrap().to_string(), "SYN|ACK");
        }
        for bad in ["", "SIN", "SYN|", "2"] {
            assert!(bad.parse::<Flags>().unwrap_err().contains("FIN, SYN"), "{bad}");
        }
    }

    #[test]
    fn each_flag_stands_at_its_place_in_the_header() {
        for (bit, name) in NAMES.into_iter().enumerate() {
            let flags = Transport::Tcp(name.parse().unwrap());
            let frame = question("10.1.2.3:40001", "10.77.0.1:80", flags).frame().unwrap();
            assert_eq!(frame[14 + 20 + 13], 1 << bit, "{name}");
        }
    }

    #[test]
    fn a_frame_is_of_the_clients_family_and_protocol() {
        let udp = question("10.1.2.3:40001", "10.77.0.1:80", Transport::Udp).frame().unwrap();
        assert_eq!((udp.len(), udp[12..14].to_vec(), udp[23]), (14 + 20 + 8, vec![0x08, 0x00], 17));
        let syn = Transport::Tcp("SYN".parse().unwrap());
        let tcp = question("[fd00::1]:40001", "[fd77::1]:80", syn).frame().unwrap();
        assert_eq!((tcp.len(), tcp[12..14].to_vec(), tcp[20]), (14 + 40 + 20, vec![0x86, 0xdd], 6));
        assert!(question("10.1.2.3:40001", "[fd77::1]:80", syn).frame().is_err());
    }
}
