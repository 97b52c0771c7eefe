//! Transmit checksums of a veth: they have to be finished by the sender.
//!
//! A packet of a local stack carries an unfinished checksum, in the hope that a network card finishes it. On a
//! veth no card does: an XDP program would forward it as it is, and the receiver would drop it.
//! Spoken over the kernel's generic netlink family `ethtool` (Linux 5.6), so that no ioctl is needed.

use std::io;
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use rtnetlink::packet_core::{DefaultNla, Emitable, NlasIterator};
use rtnetlink::sys::protocols::NETLINK_GENERIC;
use rtnetlink::sys::{Socket, SocketAddr};
use thiserror::Error;

/// The kernel answers in microseconds; the routing lock can be held for a second by others.
const DEADLINE: Duration = Duration::from_secs(5);

/// What a veth claims to do for its sender; as `ethtool -k` calls them.
const TX_CHECKSUMS: [&str; 2] = ["tx-checksum-ip-generic", "tx-checksum-sctp"];

const MESSAGE_HEADER: usize = 16;
const GENERIC_HEADER: usize = 4;
const TYPE_ERROR: u16 = 2;
const FLAGS_REQUEST_AND_ACK: u16 = 1 | 4;
const NESTED: u16 = 1 << 15;

// linux/genetlink.h
const FAMILY_CONTROL: u16 = 16;
const CONTROL_GET_FAMILY: u8 = 3;
const CONTROL_FAMILY_ID: u16 = 1;
const CONTROL_FAMILY_NAME: u16 = 2;

// linux/ethtool_netlink.h
const FEATURES_GET: u8 = 11;
const FEATURES_SET: u8 = 12;
const FEATURES_HEADER: u16 = 1;
const FEATURES_WANTED: u16 = 3;
const FEATURES_ACTIVE: u16 = 4;
const HEADER_DEVICE_NAME: u16 = 2;
const BITSET_BITS: u16 = 3;
const BITS_BIT: u16 = 1;
const BIT_NAME: u16 = 2;

/// Why an offload could not be read or switched.
#[derive(Debug, Error)]
pub enum OffloadError {
    /// The kernel cannot be asked this way.
    #[error("this kernel has no ethtool netlink family: Linux 5.6 with CONFIG_ETHTOOL_NETLINK is needed")]
    Unsupported,
    /// The kernel did not answer.
    #[error("{action} of {ifname}: the kernel did not answer within {} s", DEADLINE.as_secs())]
    Deadline {
        /// What was tried.
        action: &'static str,
        /// The interface.
        ifname: String,
    },
    /// The kernel refused.
    #[error("{action} of {ifname}: {source}")]
    Refused {
        /// What was tried.
        action: &'static str,
        /// The interface.
        ifname: String,
        /// What the kernel said.
        source: io::Error,
    },
}

/// Makes the senders on `ifname`, in the network namespace of the calling thread, finish their checksums.
pub fn disable_tx_checksum(ifname: &str) -> Result<(), OffloadError> {
    let bits = TX_CHECKSUMS.map(|name| nested(BITS_BIT, &[text(BIT_NAME, name)]));
    let wanted = nested(FEATURES_WANTED, &[nested(BITSET_BITS, &bits)]);
    let result = ask_ethtool(FEATURES_SET, ifname, Some(wanted));
    result.map(drop).map_err(|error| named(error, "switch off tx checksums", ifname))
}

/// True if senders on `ifname`, in the network namespace of the calling thread, may leave checksums unfinished.
pub fn tx_checksum_is_on(ifname: &str) -> Result<bool, OffloadError> {
    let answers =
        ask_ethtool(FEATURES_GET, ifname, None).map_err(|error| named(error, "read the offloads", ifname))?;
    let active = answers
        .iter()
        .flat_map(|answer| children(answer, FEATURES_ACTIVE))
        .flat_map(|bitset| children(&bitset, BITSET_BITS))
        .flat_map(|bits| children(&bits, BITS_BIT))
        .flat_map(|bit| children(&bit, BIT_NAME))
        .any(|name| TX_CHECKSUMS.iter().any(|wanted| name.strip_suffix(b"\0") == Some(wanted.as_bytes())));
    Ok(active)
}

enum Failure {
    Unsupported,
    Deadline,
    System(io::Error),
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self::System(error)
    }
}

fn named(failure: Failure, action: &'static str, ifname: &str) -> OffloadError {
    let ifname = ifname.to_owned();
    match failure {
        Failure::Unsupported => OffloadError::Unsupported,
        Failure::Deadline => OffloadError::Deadline { action, ifname },
        Failure::System(source) => OffloadError::Refused { action, ifname, source },
    }
}

fn ask_ethtool(command: u8, ifname: &str, payload: Option<DefaultNla>) -> Result<Vec<Vec<u8>>, Failure> {
    let mut socket = Socket::new(NETLINK_GENERIC)?;
    socket.bind_auto()?;
    socket.connect(&SocketAddr::new(0, 0))?;
    socket.set_non_blocking(true)?;
    let family = ethtool_family(&socket)?;
    let mut attributes = vec![nested(FEATURES_HEADER, &[text(HEADER_DEVICE_NAME, ifname)])];
    attributes.extend(payload);
    ask(&socket, family, command, &attributes)
}

fn ethtool_family(socket: &Socket) -> Result<u16, Failure> {
    let answers =
        match ask(socket, FAMILY_CONTROL, CONTROL_GET_FAMILY, &[text(CONTROL_FAMILY_NAME, "ethtool")]) {
            Err(Failure::System(error)) if error.kind() == io::ErrorKind::NotFound => {
                return Err(Failure::Unsupported);
            }
            asked => asked?,
        };
    let mut ids = answers.iter().flat_map(|answer| children(answer, CONTROL_FAMILY_ID));
    let id = ids.find_map(|bytes| Some(u16::from_ne_bytes(bytes.try_into().ok()?)));
    id.ok_or(Failure::Unsupported)
}

/// Sends one request and gathers the attributes of each answer up to the acknowledgement.
fn ask(
    socket: &Socket,
    family: u16,
    command: u8,
    attributes: &[DefaultNla],
) -> Result<Vec<Vec<u8>>, Failure> {
    let request = message(family, command, attributes);
    socket.send(&request, 0)?;
    let deadline = Instant::now() + DEADLINE;
    let mut answers = Vec::new();
    loop {
        wait_readable(socket, deadline)?;
        let (datagram, _) = socket.recv_from_full()?;
        for (kind, body) in messages(&datagram) {
            if kind != TYPE_ERROR {
                answers.push(body.get(GENERIC_HEADER..).unwrap_or_default().to_vec());
                continue;
            }
            let code = body.first_chunk::<4>().map_or(0, |bytes| i32::from_ne_bytes(*bytes));
            return if code == 0 { Ok(answers) } else { Err(io::Error::from_raw_os_error(-code).into()) };
        }
    }
}

fn wait_readable(socket: &Socket, deadline: Instant) -> Result<(), Failure> {
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let timeout = PollTimeout::try_from(left).unwrap_or(PollTimeout::ZERO);
        match poll(&mut [PollFd::new(socket.as_fd(), PollFlags::POLLIN)], timeout) {
            Ok(0) => return Err(Failure::Deadline),
            Err(Errno::EINTR) => {}
            polled => return polled.map(drop).map_err(|errno| io::Error::from(errno).into()),
        }
    }
}

fn message(family: u16, command: u8, attributes: &[DefaultNla]) -> Vec<u8> {
    let body = emitted(attributes);
    let length = (MESSAGE_HEADER + GENERIC_HEADER + body.len()) as u32;
    let mut bytes = Vec::with_capacity(length as usize);
    bytes.extend(length.to_ne_bytes());
    bytes.extend(family.to_ne_bytes());
    bytes.extend(FLAGS_REQUEST_AND_ACK.to_ne_bytes());
    // Sequence number and port: one request at a time on a connected socket needs neither.
    bytes.extend([0; 8]);
    bytes.extend([command, 1, 0, 0]);
    bytes.extend(body);
    bytes
}

/// The type and body of each message in a datagram; what is cut off is left out.
fn messages(datagram: &[u8]) -> Vec<(u16, &[u8])> {
    let mut rest = datagram;
    let mut found = Vec::new();
    while let Some(header) = rest.first_chunk::<MESSAGE_HEADER>() {
        let length = u32::from_ne_bytes([header[0], header[1], header[2], header[3]]) as usize;
        let kind = u16::from_ne_bytes([header[4], header[5]]);
        let Some(body) = rest.get(MESSAGE_HEADER..length) else { break };
        found.push((kind, body));
        rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
    found
}

/// The values of all attributes of one kind.
fn children(attributes: &[u8], kind: u16) -> Vec<Vec<u8>> {
    let parsed = NlasIterator::new(attributes).filter_map(Result::ok);
    parsed.filter(|nla| nla.kind() & !NESTED == kind).map(|nla| nla.value().to_vec()).collect()
}

fn nested(kind: u16, attributes: &[DefaultNla]) -> DefaultNla {
    DefaultNla::new(kind | NESTED, emitted(attributes))
}

fn text(kind: u16, text: &str) -> DefaultNla {
    DefaultNla::new(kind, [text.as_bytes(), b"\0"].concat())
}

fn emitted(attributes: &[DefaultNla]) -> Vec<u8> {
    let mut bytes = vec![0; attributes.buffer_len()];
    attributes.emit(&mut bytes);
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_read_back_as_it_was_written() {
        let request = message(FAMILY_CONTROL, CONTROL_GET_FAMILY, &[text(CONTROL_FAMILY_NAME, "ethtool")]);
        let found = messages(&request);
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].0, FAMILY_CONTROL);
        assert_eq!(children(&found[0].1[GENERIC_HEADER..], CONTROL_FAMILY_NAME), [b"ethtool\0".to_vec()]);
    }

    #[test]
    fn a_datagram_that_is_cut_off_yields_what_is_whole() {
        let mut datagram = message(FAMILY_CONTROL, CONTROL_GET_FAMILY, &[]);
        datagram.extend([200, 0, 0, 0, 1]);
        assert_eq!(messages(&datagram).len(), 1);
        assert_eq!(messages(&datagram[..7]).len(), 0);
    }
}
