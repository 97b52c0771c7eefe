//! A router between the balancer and a machine, which passes only short packets on to the machine. Nobody knows of
//! that until the router says so.

use baton::net::netlink::Netlink;
use baton::net::netns::NetnsHandle;

use super::Options;
use super::machine::{Machine, batch};
use super::wiring::{BEHIND, ETH, FAR, NEAR, Net, disable_checksums, end, namespace};

/// The router's interface to the machine.
const DOWN: &str = "inner";
/// Added to a machine's number, that of its network behind the router.
const BEHIND_ROUTER: usize = 100;
/// Longest packet on the cable itself, in bytes.
const CABLE_MTU: u32 = 1500;

/// Makes the machine of this number a router, and puts a new machine behind it.
pub(super) async fn put_behind(
    options: &Options,
    balancer: &NetnsHandle,
    machine: Machine,
    number: usize,
    mtu: u16,
) -> Machine {
    let (router, netns) = (machine.netns, namespace());
    let (near, far) = (end(DOWN, BEHIND + NEAR, number), end(ETH, BEHIND + FAR, number));
    Netlink::open(&router).unwrap().add_veth(near, far, &netns, CABLE_MTU).await.unwrap();
    let net = Net::of(options.family, number + BEHIND_ROUTER);
    let (own, gateway, prefix, flag) = (net.machine, net.gateway, net.prefix, net.flag());
    let ip = |netns: &NetnsHandle, lines: &[String]| batch(netns, "ip", &["-batch", "-"], lines);
    ip(
        &router,
        &[
            format!("link set {DOWN} up"),
            format!("addr add {gateway}/{prefix} dev {DOWN}{flag}"),
            format!("route add {own} dev {DOWN} mtu {mtu}"),
        ],
    );
    ip(
        &netns,
        &[
            "link set lo up".to_owned(),
            format!("link set {ETH} up"),
            format!("addr add {own}/{prefix} dev {ETH}{flag}"),
            format!("route add default via {gateway}"),
        ],
    );
    ip(balancer, &[format!("route add {own} via {}", machine.address)]);
    disable_checksums(&router, DOWN);
    disable_checksums(&netns, ETH);
    Machine { netns, address: own, router: Some(router), ..machine }
}
