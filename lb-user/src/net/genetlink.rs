//! Questions to a generic netlink family of the calling thread's network namespace, one at a time, so that no
//! ioctl is needed. It blocks, and every wait has a deadline.

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

const MESSAGE_HEADER: usize = 16;
const GENERIC_HEADER: usize = 4;
const TYPE_ERROR: u16 = 2;
const FLAGS_REQUEST_AND_ACK: u16 = 1 | 4;
const NESTED: u16 = 1 << 15;

/// The family that knows the others (`linux/genetlink.h`).
mod control {
    pub(super) const FAMILY: u16 = 16;
    pub(super) const GET_FAMILY: u8 = 3;
    pub(super) const FAMILY_ID: u16 = 1;
    pub(super) const FAMILY_NAME: u16 = 2;
}

/// Why there is no answer.
#[derive(Debug, Error)]
pub enum GenetlinkError {
    /// The kernel has no such family.
    #[error("the kernel has no netlink family of this name")]
    NoFamily,
    /// The kernel did not answer.
    #[error("the kernel did not answer within {} s", DEADLINE.as_secs())]
    Deadline,
    /// The kernel refused.
    #[error(transparent)]
    Refused(#[from] io::Error),
}

/// A family of the kernel, and a socket to ask it by.
pub(super) struct Family {
    socket: Socket,
    id: u16,
}

impl Family {
    /// Looks the family up by its name.
    pub(super) fn open(name: &str) -> Result<Self, GenetlinkError> {
        let mut socket = Socket::new(NETLINK_GENERIC)?;
        socket.bind_auto()?;
        socket.connect(&SocketAddr::new(0, 0))?;
        socket.set_non_blocking(true)?;
        let mut family = Self { socket, id: control::FAMILY };
        let answers = match family.ask(control::GET_FAMILY, &[text(control::FAMILY_NAME, name)]) {
            Err(GenetlinkError::Refused(error)) if error.kind() == io::ErrorKind::NotFound => {
                return Err(GenetlinkError::NoFamily);
            }
            asked => asked?,
        };
        let mut ids = answers.iter().flat_map(|answer| children(answer, control::FAMILY_ID));
        let id = ids.find_map(|bytes| Some(u16::from_ne_bytes(bytes.try_into().ok()?)));
        family.id = id.ok_or(GenetlinkError::NoFamily)?;
        Ok(family)
    }

    /// Sends one request and gathers the attributes of each answer up to the acknowledgement.
    pub(super) fn ask(&self, command: u8, attributes: &[DefaultNla]) -> Result<Vec<Vec<u8>>, GenetlinkError> {
        self.socket.send(&message(self.id, command, attributes), 0)?;
        let deadline = Instant::now() + DEADLINE;
        let mut answers = Vec::new();
        loop {
            wait_readable(&self.socket, deadline)?;
            let (datagram, _) = self.socket.recv_from_full()?;
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
}

/// The values of all attributes of one kind.
pub(super) fn children(attributes: &[u8], kind: u16) -> Vec<Vec<u8>> {
    let parsed = NlasIterator::new(attributes).filter_map(Result::ok);
    parsed.filter(|nla| nla.kind() & !NESTED == kind).map(|nla| nla.value().to_vec()).collect()
}

/// An attribute made of attributes.
pub(super) fn nested(kind: u16, attributes: &[DefaultNla]) -> DefaultNla {
    DefaultNla::new(kind | NESTED, emitted(attributes))
}

/// A text as an attribute.
pub(super) fn text(kind: u16, text: &str) -> DefaultNla {
    DefaultNla::new(kind, [text.as_bytes(), b"\0"].concat())
}

fn wait_readable(socket: &Socket, deadline: Instant) -> Result<(), GenetlinkError> {
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let timeout = PollTimeout::try_from(left).unwrap_or(PollTimeout::ZERO);
        match poll(&mut [PollFd::new(socket.as_fd(), PollFlags::POLLIN)], timeout) {
            Ok(0) => return Err(GenetlinkError::Deadline),
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
        let request = message(control::FAMILY, control::GET_FAMILY, &[text(control::FAMILY_NAME, "ethtool")]);
        let found = messages(&request);
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].0, control::FAMILY);
        assert_eq!(children(&found[0].1[GENERIC_HEADER..], control::FAMILY_NAME), [b"ethtool\0".to_vec()]);
    }

    #[test]
    fn a_datagram_that_is_cut_off_yields_what_is_whole() {
        let mut datagram = message(control::FAMILY, control::GET_FAMILY, &[]);
        datagram.extend([200, 0, 0, 0, 1]);
        assert_eq!(messages(&datagram).len(), 1);
        assert_eq!(messages(&datagram[..7]).len(), 0);
    }
}
