//! Words for what differs: the first field of a frame that is not as expected, by its name.

use std::fmt::Write as _;

use baton::dataplane::Outcome;
use lb_common::{Reason, ServiceId};

use super::fate::Fate;
use super::parse::{parse, protocol};

/// Bytes as people copy them.
pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// A reason with the service that it is counted for.
pub(super) fn reason(service: Option<ServiceId>, reason: Reason) -> String {
    match service {
        Some(id) => format!("`{}` for service {id}", reason.name()),
        None => format!("`{}` for no service", reason.name()),
    }
}

/// Why none of the fates that a frame may have is what was seen.
pub(super) fn fates(fates: &[Fate], seen: &Outcome, counted: &str) -> String {
    let mut lines = vec![format!("seen: {:?}, counted {counted}", seen.action)];
    for fate in fates {
        let expected = &fate.expected;
        lines.push(format!("expected: {:?}, {}", expected.action, reason(expected.service, expected.reason)));
        if let Some(frame) = expected.frame.as_ref().filter(|frame| **frame != seen.frame) {
            lines.push(format!("  {}", first_difference(frame, &seen.frame)));
            lines.push(format!("  frame expected: {}", hex(frame)));
        }
    }
    lines.push(format!("frame seen: {}", hex(&seen.frame)));
    lines.join("\n")
}

fn first_difference(expected: &[u8], seen: &[u8]) -> String {
    let Some(at) = expected.iter().zip(seen).position(|(one, other)| one != other) else {
        return format!("{} bytes are expected, {} are there", expected.len(), seen.len());
    };
    let rest = |frame: &[u8]| hex(&frame[at..frame.len().min(at + 4)]);
    format!("byte {at} ({}): expected {}, seen {}", field(expected, at), rest(expected), rest(seen))
}

/// Offsets at which fields begin, and their names; the last one before a byte is the byte's.
type Fields = &'static [(usize, &'static str)];

const ETHERNET: Fields = &[(0, "destination"), (6, "source"), (12, "type or tag")];
const IPV4: Fields = &[
    (0, "version"),
    (1, "type of service"),
    (2, "total length"),
    (4, "identification"),
    (6, "fragment"),
    (8, "time to live"),
    (9, "protocol"),
    (10, "checksum"),
    (12, "source"),
    (16, "destination"),
];
const IPV6: Fields = &[
    (0, "version, class and label"),
    (4, "payload length"),
    (6, "next header"),
    (7, "hop limit"),
    (8, "source"),
    (24, "destination"),
];
const TCP: Fields = &[
    (0, "source port"),
    (2, "destination port"),
    (4, "sequence"),
    (8, "acknowledgement"),
    (12, "data offset"),
    (13, "flags"),
    (14, "window"),
    (16, "checksum"),
    (18, "urgent"),
    (20, "options or data"),
];
const UDP: Fields =
    &[(0, "source port"), (2, "destination port"), (4, "length"), (6, "checksum"), (8, "data")];
const ICMP: Fields = &[(0, "type"), (1, "code"), (2, "checksum"), (4, "rest"), (8, "what is quoted")];

fn field(frame: &[u8], at: usize) -> String {
    let name = |header: &str, fields: Fields, start: usize| {
        let of = fields.iter().rev().find(|(offset, _)| start + offset <= at);
        format!("{header} {}", of.map_or("", |(_, name)| name))
    };
    let Ok(packet) = parse(frame) else { return name("Ethernet", ETHERNET, 0) };
    if at < packet.ip {
        return name("Ethernet", ETHERNET, 0);
    }
    if at < packet.transport {
        return if packet.v6 { name("IPv6", IPV6, packet.ip) } else { name("IPv4", IPV4, packet.ip) };
    }
    match packet.protocol {
        protocol::TCP => name("TCP", TCP, packet.transport),
        protocol::UDP => name("UDP", UDP, packet.transport),
        _ => name("ICMP", ICMP, packet.transport),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frame::segment;

    #[test]
    fn the_field_that_differs_is_named() {
        let client: std::net::SocketAddr = "192.0.2.7:40001".parse().unwrap();
        let vip: std::net::SocketAddr = "10.77.0.1:80".parse().unwrap();
        let frame = segment(client, vip, "S").vlans(&[7]).frame();
        for (at, expected) in
            [(3, "Ethernet destination"), (28, "IPv4 checksum"), (54, "TCP checksum"), (51, "TCP flags")]
        {
            let mut other = frame.clone();
            other[at] ^= 1;
            let text = first_difference(&frame, &other);
            assert!(text.contains(&format!("({expected})")), "{text}");
        }
        assert!(first_difference(&frame, &frame[..50]).contains("58 bytes are expected, 50 are there"));
    }
}
