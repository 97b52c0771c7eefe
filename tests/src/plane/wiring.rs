//! The cables, addresses and routes between the machines.

use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;

use baton::net::mac::Mac;
use baton::net::netlink::{Netlink, VethEnd};
use baton::net::netns::{NetnsHandle, run_in};
use baton::net::{offload, sysctl};
use lb_common::{Forwarding, NextHop};

use super::machine::{Machine, Running, batch, gear};
use super::router::put_behind;
use super::{Family, Layout, Options};

/// What a machine's own interface is called.
pub(super) const ETH: &str = "eth0";
/// Longest packet that a machine sends unless it is told otherwise, in bytes.
const MTU: u16 = 1500;
/// What the switch's port to the balancer is called.
const TRUNK: &str = "lb";

/// A cable of which the balancer holds the near end.
pub(super) struct Cable {
    pub(super) near_netns: PathBuf,
    pub(super) near: String,
    pub(super) far_netns: PathBuf,
    pub(super) far: String,
}

/// An interface of the balancer.
struct Leg {
    name: String,
    mac: Mac,
    index: u32,
}

/// All machines and what connects them.
pub(super) struct Wiring {
    pub(super) vip: IpAddr,
    pub(super) balancer: Machine,
    pub(super) clients: Vec<Machine>,
    pub(super) backends: Vec<Machine>,
    switch: Option<NetnsHandle>,
    switching: Option<Running>,
    legs: Vec<Leg>,
}

/// The network of one machine.
pub(super) struct Net {
    pub(super) gateway: IpAddr,
    pub(super) machine: IpAddr,
    pub(super) prefix: u8,
}

impl Net {
    /// Clients have numbers from 0, backends from 10.
    pub(super) fn of(family: Family, number: usize) -> Self {
        let address = |last: u8| match family {
            Family::V4 => IpAddr::from([198, 18, number as u8, last]),
            Family::V6 => IpAddr::from([0x2001, 0xdb8, 0, number as u16, 0, 0, 0, u16::from(last)]),
        };
        let prefix = if family == Family::V4 { 24 } else { 64 };
        Self { gateway: address(1), machine: address(2), prefix }
    }

    /// What else to say when an interface gets its address: to use it at once.
    pub(super) fn flag(&self) -> &'static str {
        if self.machine.is_ipv4() { "" } else { " nodad" }
    }
}

const FIRST_BACKEND: usize = 10;

fn vip(family: Family) -> IpAddr {
    match family {
        Family::V4 => IpAddr::from([10, 77, 0, 1]),
        Family::V6 => IpAddr::from([0xfd77, 0, 0, 0, 0, 0, 0, 1]),
    }
}

/// Kinds of cable ends: the balancer's, a machine's, the switch's; what is added to the first two behind a router.
pub(super) const NEAR: u8 = 0;
pub(super) const FAR: u8 = 1;
const PORT: u8 = 2;
pub(super) const BEHIND: u8 = 4;

/// The end of a cable, with an Ethernet address that nobody else in the plane has.
pub(super) fn end(name: &str, kind: u8, number: usize) -> VethEnd<'_> {
    VethEnd { name, mac: Mac::local_for(Ipv4Addr::new(kind, 0, 0, number as u8)) }
}

impl Wiring {
    pub(super) fn lay(options: &Options) -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        let wiring = runtime.block_on(Self::lay_cables(options)).give_addresses(options);
        runtime.block_on(wiring.put_routers(options))
    }

    async fn put_routers(self, options: &Options) -> Self {
        let mut machines = [Vec::new(), Vec::new()];
        let groups = [
            (self.clients, 0, options.client_router_mtu),
            (self.backends, FIRST_BACKEND, options.backend_router_mtu),
        ];
        for (behind, (group, first, mtu)) in machines.iter_mut().zip(groups) {
            for (number, machine) in (first..).zip(group) {
                behind.push(match mtu {
                    Some(mtu) => put_behind(options, &self.balancer.netns, machine, number, mtu).await,
                    None => machine,
                });
            }
        }
        let [clients, backends] = machines;
        Self { clients, backends, ..self }
    }

    async fn lay_cables(options: &Options) -> Self {
        let vip = vip(options.family);
        let balancer = namespace();
        let netlink = Netlink::open(&balancer).unwrap();
        let switch = (options.layout != Layout::Routed).then(namespace);
        let (mut legs, mut machines) = (Vec::new(), Vec::new());
        if let Some(switch) = &switch {
            let mtu = options.client_mtu.max(options.backend_mtu);
            legs.push(Leg::plug(&netlink, end(ETH, NEAR, 0), switch, end(TRUNK, PORT, 99), mtu).await);
        }
        for number in (0..options.clients).chain((0..options.backends).map(|n| FIRST_BACKEND + n)) {
            let netns = namespace();
            let is_client = number < FIRST_BACKEND;
            let mtu = if is_client { options.client_mtu } else { options.backend_mtu };
            let name = if is_client { format!("c{number}") } else { format!("b{}", number - FIRST_BACKEND) };
            let far = end(ETH, FAR, number);
            match &switch {
                None => {
                    legs.push(Leg::plug(&netlink, end(&name, NEAR, number), &netns, far, mtu).await);
                }
                Some(switch) => {
                    let switch = Netlink::open(switch).unwrap();
                    Leg::plug(&switch, end(&name, PORT, number), &netns, far, mtu).await;
                }
            }
            let mac = far.mac;
            let Net { gateway, machine: address, .. } = Net::of(options.family, number);
            machines.push(Machine { netns, address, gateway, mac, leg: legs.len() - 1, router: None });
        }
        let backends = machines.split_off(options.clients);
        let mac = legs[0].mac;
        let balancer = Machine { netns: balancer, address: vip, gateway: vip, mac, leg: 0, router: None };
        Self { vip, balancer, clients: machines, backends, switch, switching: None, legs }
    }

    fn give_addresses(mut self, options: &Options) -> Self {
        let (flag, full) = if options.family == Family::V4 { ("", 32) } else { (" nodad", 128) };
        let vip = self.vip;
        let mut balancer = vec!["link set lo up".to_owned(), format!("addr add {vip}/{full} dev lo{flag}")];
        balancer.extend(self.legs.iter().map(|leg| format!("link set {} up", leg.name)));
        for (machine, number) in self.machines().zip((0..options.clients).chain(FIRST_BACKEND..)) {
            let Net { gateway, machine: own, prefix } = Net::of(options.family, number);
            balancer.push(format!("addr add {gateway}/{prefix} dev {}{flag}", self.legs[machine.leg].name));
            let mut lines = vec![
                "link set lo up".to_owned(),
                // It sends what it can; the balancer's end takes no more than the way passes.
                format!("link set {ETH} mtu {MTU} up"),
                format!("addr add {own}/{prefix} dev {ETH}{flag}"),
            ];
            if !options.snat || number < FIRST_BACKEND {
                lines.push(format!("route add default via {gateway}"));
            }
            if let Layout::Tagged(_) = options.layout {
                let mac = self.legs[machine.leg].mac;
                lines.push(format!("neigh add {gateway} lladdr {mac} dev {ETH}"));
            }
            if !matches!(options.forwarding, Forwarding::Nat) && number >= FIRST_BACKEND {
                lines.extend(answers_by_itself(options, &self.clients, vip, full, flag));
            }
            machine.ip(&lines);
        }
        for client in self.clients.iter().filter(|_| !matches!(options.forwarding, Forwarding::Nat)) {
            // The way back does not pass the balancer.
            let nets = (0..options.backends).map(|n| Net::of(options.family, FIRST_BACKEND + n));
            let routes = nets.map(|net| format!("route add {}/{full} dev {ETH}", net.machine));
            client.ip(&routes.collect::<Vec<_>>());
        }
        self.balancer.ip(&balancer);
        self.switching = self.switch.as_ref().and_then(|switch| set_up_switch(switch, options));
        self.finish_checksums();
        self
    }

    fn machines(&self) -> impl Iterator<Item = &Machine> {
        self.clients.iter().chain(&self.backends)
    }

    /// Nobody leaves checksums to a network card that is not there.
    fn finish_checksums(&self) {
        self.machines().for_each(|machine| disable_checksums(&machine.netns, ETH));
        self.legs.iter().for_each(|leg| disable_checksums(&self.balancer.netns, &leg.name));
    }

    /// Where the balancer sends what is for a machine.
    pub(super) fn hop_to(&self, machine: &Machine, mtu: u16) -> NextHop {
        let leg = &self.legs[machine.leg];
        let (destination, source) = (machine.mac.octets(), leg.mac.octets());
        NextHop { ifindex: leg.index, destination, source, mtu, vlan: 0 }
    }

    /// Lets no longer packet pass to a machine, whose cable drops what is longer; the hop to it from then on.
    pub(super) fn narrow(&self, machine: &Machine, mtu: u16) -> NextHop {
        machine.ip(&[format!("link set {ETH} mtu {mtu}")]);
        self.hop_to(machine, mtu)
    }

    /// The cables whose near end is the balancer's.
    pub(super) fn cables(&self) -> Vec<Cable> {
        let near_netns = Machine::path(&self.balancer.netns);
        let cable = |leg: usize, far_netns: &NetnsHandle, far: &str| Cable {
            near_netns: near_netns.clone(),
            near: self.legs[leg].name.clone(),
            far_netns: Machine::path(far_netns),
            far: far.to_owned(),
        };
        match &self.switch {
            Some(switch) => vec![cable(0, switch, TRUNK)],
            None => self.machines().map(|machine| cable(machine.leg, machine.plugged(), ETH)).collect(),
        }
    }
}

/// Makes the senders on an interface finish their checksums.
pub(super) fn disable_checksums(netns: &NetnsHandle, name: &str) {
    run_in(netns, || offload::disable_tx_checksum(name)).unwrap().expect("ethtool over netlink");
}

/// Lets frames pass between the ports of a switch; what does it, if that is not the kernel.
fn set_up_switch(switch: &NetnsHandle, options: &Options) -> Option<Running> {
    let clients = (0..options.clients).map(|n| format!("c{n}"));
    let backends = (0..options.backends).map(|n| format!("b{n}"));
    let ports: Vec<_> = std::iter::once(TRUNK.to_owned()).chain(clients).chain(backends).collect();
    let up: Vec<_> = ports.iter().map(|port| format!("link set {port} up")).collect();
    batch(switch, "ip", &["-batch", "-"], &up);
    if let Layout::Tagged(vlan) = options.layout {
        let arguments: Vec<_> = std::iter::once(vlan.to_string()).chain(ports).collect();
        return Some(gear(switch, include_str!("vlan_switch.py"), &arguments));
    }
    let mut lines = vec!["link add bridge0 up type bridge forward_delay 0 mcast_snooping 0".to_owned()];
    lines.extend(ports.iter().map(|port| format!("link set {port} master bridge0")));
    batch(switch, "ip", &["-batch", "-"], &lines);
    None
}

/// What lets a backend answer clients in the VIP's name, past the balancer.
fn answers_by_itself(
    options: &Options,
    clients: &[Machine],
    vip: IpAddr,
    full: u8,
    flag: &str,
) -> Vec<String> {
    assert_ne!(options.layout, Layout::Routed, "routed backends have no way past the balancer");
    let on_link = clients.iter().map(|client| format!("route add {}/{full} dev {ETH}", client.address));
    std::iter::once(format!("addr add {vip}/{full} dev lo{flag}")).chain(on_link).collect()
}

impl Leg {
    async fn plug(
        netlink: &Netlink,
        near: VethEnd<'_>,
        far_netns: &NetnsHandle,
        far: VethEnd<'_>,
        mtu: u16,
    ) -> Self {
        netlink.add_veth(near, far, far_netns, mtu.into()).await.unwrap();
        let index = netlink.link(near.name).await.unwrap().expect("the end that was just made").index;
        Self { name: near.name.to_owned(), mac: near.mac, index }
    }
}

/// A namespace that forwards, uses addresses at once and answers for its own interface only.
pub(super) fn namespace() -> NetnsHandle {
    let netns = NetnsHandle::anonymous().expect("namespaces: run the tests as root");
    run_in(&netns, || {
        for (key, value) in SETTINGS {
            sysctl::write(key, value).unwrap();
        }
    })
    .unwrap();
    netns
}

const SETTINGS: [(&str, &str); 10] = [
    ("ipv4/ip_forward", "1"),
    ("ipv6/conf/all/forwarding", "1"),
    // Without a second of doubt whether somebody else has the address.
    ("ipv6/conf/default/accept_dad", "0"),
    ("ipv4/conf/all/rp_filter", "0"),
    ("ipv4/conf/default/rp_filter", "0"),
    // Replies come in the VIP's name where the stack forwards them, and the VIP is an address of the balancer.
    ("ipv4/conf/all/accept_local", "1"),
    // Several machines have the VIP where replies do not pass the balancer.
    ("ipv4/conf/all/arp_ignore", "1"),
    ("ipv4/conf/all/arp_announce", "2"),
    // Nobody sends anybody elsewhere.
    ("ipv4/conf/all/send_redirects", "0"),
    ("ipv4/conf/default/send_redirects", "0"),
];
