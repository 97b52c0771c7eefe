//! Sockets in a backend's network, and what their errors say about the backend.

use std::io;
use std::net::SocketAddr;

use nix::errno::Errno;
use tokio::net::{TcpSocket, TcpStream};

use crate::net::netns::{self, NetnsHandle};
use crate::recovery::Finding;

/// Does `work` inside `netns`. What fails there is the prober's failure.
pub(super) fn inside<T: Send>(
    netns: &NetnsHandle,
    work: impl FnOnce() -> io::Result<T> + Send,
) -> Result<T, Finding> {
    let unchecked = |error: &dyn std::error::Error| Finding::Unchecked(error.to_string());
    let done = netns::inside(netns, work).map_err(|error| unchecked(&error))?;
    done.map_err(|error| unchecked(&error))
}

/// A connection to `address`, IPv4 or IPv6.
pub(super) async fn connect(netns: &NetnsHandle, address: SocketAddr) -> Result<TcpStream, Finding> {
    let make = if address.is_ipv4() { TcpSocket::new_v4 } else { TcpSocket::new_v6 };
    let socket = inside(netns, make)?;
    socket.connect(address).await.map_err(|error| finding(&error))
}

/// What an error of a socket says about the backend, if it says anything about it.
pub(super) fn finding(error: &io::Error) -> Finding {
    match error.raw_os_error().map(Errno::from_raw) {
        Some(Errno::ECONNREFUSED) => Finding::Refused,
        Some(Errno::ETIMEDOUT) => Finding::TimedOut,
        Some(Errno::ECONNRESET | Errno::EPIPE) => Finding::WrongAnswer("connection reset".to_owned()),
        // No port or no memory is left here, or a firewall of our own forbids it.
        Some(Errno::EADDRNOTAVAIL | Errno::EADDRINUSE | Errno::ENOBUFS | Errno::ENOMEM | Errno::EPERM) => {
            Finding::Unchecked(error.to_string())
        }
        _ => Finding::Unreachable(error.to_string()),
    }
}
