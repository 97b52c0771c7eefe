//! What Baton asks of Linux networking: namespaces, links, addresses, routes, neighbours, next
//! hops, sysctls, nftables and offloads, each behind a small typed wrapper that knows nothing of services.
//!
//! Every wait has a deadline, and whatever has to happen inside a namespace happens on a thread or a socket
//! made for it, so that no thread of the caller ever changes its namespace.

pub mod genetlink;
pub mod hops;
pub mod mac;
pub mod netlink;
pub mod netns;
pub mod nft;
pub mod offload;
pub mod sysctl;

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};

/// The own address on the way to another. Nothing is sent: the kernel only looks for the way.
pub(crate) fn local_towards(address: SocketAddr) -> io::Result<IpAddr> {
    let socket = UdpSocket::bind((unspecified(address), 0))?;
    socket.connect(address)?;
    Ok(socket.local_addr()?.ip())
}

/// The address that stands for any, of the same family.
pub(crate) fn unspecified(like: SocketAddr) -> IpAddr {
    if like.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() }
}

/// Where nobody listens, and nobody else comes to as long as the socket is kept.
///
/// A listener that is closed again would not do: a child that another test is just starting has it too until its
/// `exec`, and goes on listening.
#[cfg(test)]
pub(crate) fn closed_port(address: IpAddr) -> (tokio::net::TcpSocket, SocketAddr) {
    use tokio::net::TcpSocket;

    let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }.unwrap();
    socket.bind((address, 0).into()).unwrap();
    let address = socket.local_addr().unwrap();
    (socket, address)
}
