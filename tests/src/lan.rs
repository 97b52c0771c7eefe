//! Machines beside a lab's host: namespaces of their own at the other end of a cable, with no way further.

#![expect(clippy::missing_panics_doc, reason = "a test fails by a panic, wherever in the lab")]

use std::net::{Ipv4Addr, UdpSocket};

use baton::net::mac::Mac;
use baton::net::netlink::{Netlink, Route, RouteKind, VethEnd};
use baton::net::netns::NetnsHandle;
use ipnet::Ipv4Net;

/// The host's address on its LAN.
pub const HOST: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 2);
/// Another machine on the LAN; it knows no way but its own link.
pub const OUTSIDE: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 50);

/// Lays a cable of a /24 between a host and another machine, whose end is called `eth0`.
pub async fn cable(
    host: &NetnsHandle,
    ifname: &str,
    own: Ipv4Addr,
    machine: &NetnsHandle,
    address: Ipv4Addr,
) {
    let here = Netlink::open(host).unwrap();
    let there = Netlink::open(machine).unwrap();
    let end = |name, address| VethEnd { name, mac: Mac::local_for(address) };
    here.add_veth(end(ifname, own), end("eth0", address), machine, 1500).await.unwrap();
    for (netlink, name, address) in [(&here, ifname, own), (&there, "eth0", address)] {
        let index = netlink.link(name).await.unwrap().unwrap().index;
        netlink.add_address(index, Ipv4Net::new_assert(address, 24)).await.unwrap();
        // The loopback interface has index 1 in every namespace.
        netlink.set_up(1).await.unwrap();
        netlink.set_up(index).await.unwrap();
    }
}

/// Gives a machine a route through its `eth0`.
pub async fn route(machine: &NetnsHandle, destination: &str, via: Ipv4Addr) {
    let netlink = Netlink::open(machine).unwrap();
    let index = netlink.link("eth0").await.unwrap().unwrap().index;
    let destination = destination.parse().unwrap();
    let route = Route { destination, via: Some(via), index, source: None, kind: RouteKind::Unicast };
    netlink.add_route(route, false).await.unwrap();
}

/// Answers one question for the address of any name.
pub fn answer_one_query(server: &UdpSocket, address: Ipv4Addr) {
    let mut packet = [0; 512];
    let (length, client) = server.recv_from(&mut packet).unwrap();
    // The header and the question as asked; an additional record of the question is left out.
    let question_end = 12 + packet[12..length].iter().position(|byte| *byte == 0).unwrap() + 5;
    let mut answer = packet[..question_end].to_vec();
    answer[2..12].copy_from_slice(&[0x81, 0x80, 0, 1, 0, 1, 0, 0, 0, 0]);
    answer.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4]);
    answer.extend(address.octets());
    server.send_to(&answer, client).unwrap();
}
