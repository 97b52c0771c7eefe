//! The check by UDP: a datagram, and what comes back for it.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket as StdSocket};
use std::time::Duration;

use nix::sys::socket::{setsockopt, sockopt};
use tokio::net::UdpSocket;
use tokio::time::timeout;

use super::kind::UdpCheck;
use super::{excerpt, socket};
use crate::net::netns::NetnsHandle;
use crate::recovery::Finding;

/// No datagram is longer, in bytes.
const DATAGRAM_BYTES: usize = 64 << 10;

/// Sends the payload and waits for an answer, or, if none is wanted, for the news that nobody listens.
pub(super) async fn ask(
    check: &UdpCheck,
    netns: &NetnsHandle,
    address: SocketAddr,
    limit: Duration,
) -> Result<(), Finding> {
    let socket = open(netns, address)?;
    match (timeout(limit, exchange(check, &socket)).await, &check.answer) {
        (Ok(Ok(answer)), Some(pattern)) if !pattern.is_match(&answer) => {
            let got = excerpt(&answer);
            Err(Finding::WrongAnswer(format!("the datagram does not match `{pattern}`: it is {got}")))
        }
        (Ok(Ok(_)), _) | (Err(_), None) => Ok(()),
        (Ok(Err(error)), _) => Err(socket::finding(&error)),
        (Err(_), Some(_)) => Err(Finding::TimedOut),
    }
}

/// A socket that is connected, so that it hears of ICMP errors and of no other peer.
fn open(netns: &NetnsHandle, address: SocketAddr) -> Result<UdpSocket, Finding> {
    let socket = socket::inside(netns, || {
        // Without these, "host unreachable" would be kept from us as something that may pass.
        let socket = if address.is_ipv4() {
            let socket = StdSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
            setsockopt(&socket, sockopt::Ipv4RecvErr, &true)?;
            socket
        } else {
            let socket = StdSocket::bind((Ipv6Addr::UNSPECIFIED, 0))?;
            setsockopt(&socket, sockopt::Ipv6RecvErr, &true)?;
            socket
        };
        socket.set_nonblocking(true)?;
        Ok(socket)
    })?;
    socket.connect(address).map_err(|error| socket::finding(&error))?;
    UdpSocket::from_std(socket).map_err(|error| Finding::Unchecked(error.to_string()))
}

async fn exchange(check: &UdpCheck, socket: &UdpSocket) -> std::io::Result<Vec<u8>> {
    socket.send(&check.payload).await?;
    let mut answer = vec![0; DATAGRAM_BYTES];
    let length = socket.recv(&mut answer).await?;
    answer.truncate(length);
    Ok(answer)
}
