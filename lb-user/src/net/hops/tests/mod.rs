//! The table against constructed messages: what spoils a way takes the hop at once, and what mends it brings
//! it back.

mod ways;

use std::net::IpAddr;

use lb_common::NextHop;
use netlink_packet_route::address::AddressMessage;
use netlink_packet_route::link::{InfoKind, LinkAttribute, LinkFlags, LinkInfo, LinkLayerType, LinkMessage};
use netlink_packet_route::neighbour::{
    NeighbourAttribute, NeighbourExtFlags, NeighbourFlags, NeighbourMessage, NeighbourState,
};
use netlink_packet_route::route::{RouteAttribute, RouteMessage, RouteType};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage as Message};
use proptest::prelude::*;

use super::table::{Question, Table};
use super::ways::Way;
use super::{Hops, Resolved, Unresolved};

const LAN: u32 = 3;
const MAC: [u8; 6] = [2, 0, 0, 0, 0, 0xb];
const OWN: [u8; 6] = [2, 0, 0, 0, 0, 0xa];
const UP: LinkFlags = LinkFlags::Up.union(LinkFlags::LowerUp).union(LinkFlags::Running);

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn family(address: IpAddr) -> AddressFamily {
    if address.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 }
}

fn link_message(index: u32, name: &str, kind: Option<InfoKind>, flags: LinkFlags) -> LinkMessage {
    let mut message = LinkMessage::default();
    message.header.index = index;
    message.header.flags = flags;
    message.header.link_layer_type = LinkLayerType::Ether;
    message.attributes = vec![
        LinkAttribute::IfName(name.to_owned()),
        LinkAttribute::Mtu(1500),
        LinkAttribute::Address(OWN.to_vec()),
    ];
    message.attributes.extend(kind.map(|kind| LinkAttribute::LinkInfo(vec![LinkInfo::Kind(kind)])));
    message
}

fn link(flags: LinkFlags) -> Message {
    Message::NewLink(link_message(LAN, "lan", Some(InfoKind::Veth), flags))
}

fn neighbour_message(index: u32, address: IpAddr, state: NeighbourState) -> NeighbourMessage {
    let mut message = NeighbourMessage::default();
    message.header.family = family(address);
    message.header.ifindex = index;
    message.header.state = state;
    message.attributes.push(NeighbourAttribute::Destination(address.into()));
    if !matches!(state, NeighbourState::Failed | NeighbourState::Incomplete) {
        message.attributes.push(NeighbourAttribute::LinkLayerAddress(MAC.to_vec()));
    }
    message
}

fn neighbour(address: &str, state: NeighbourState) -> Message {
    Message::NewNeighbour(neighbour_message(LAN, ip(address), state))
}

fn route(destination: Option<&str>, length: u8, attributes: Vec<RouteAttribute>) -> RouteMessage {
    let mut message = RouteMessage::default();
    message.header.kind = RouteType::Unicast;
    message.header.address_family = AddressFamily::Inet;
    message.header.destination_prefix_length = length;
    if let Some(destination) = destination {
        message.header.address_family = family(ip(destination));
        message.attributes.push(RouteAttribute::Destination(ip(destination).into()));
    }
    message.attributes.extend(attributes);
    message
}

fn over(index: u32, via: &str) -> Way {
    Way::Over { index, via: ip(via), mtu: None }
}

/// A table in which the targets are reached over `lan`, each directly.
fn table(targets: &[&str]) -> Table {
    let targets: Vec<IpAddr> = targets.iter().map(|target| ip(target)).collect();
    let mut table = Table::new(&targets);
    table.apply(&link(UP));
    for target in targets {
        table.apply(&neighbour(&target.to_string(), NeighbourState::Reachable));
        table.set_way(target, Way::Over { index: LAN, via: target, mtu: None });
    }
    table.questions();
    table
}

fn at(table: &Table, target: &str) -> Result<Resolved, Unresolved> {
    table.hops().get(ip(target))
}

#[expect(clippy::unnecessary_wraps, reason = "every test compares with a result")]
fn good(ifindex: u32, mtu: u32) -> Result<Resolved, Unresolved> {
    Ok(Resolved { hop: NextHop { ifindex, destination: MAC, source: OWN, mtu: mtu as u16, vlan: 0 }, mtu })
}

fn told(result: Result<Resolved, Unresolved>) -> String {
    result.unwrap_err().to_string()
}

#[test]
fn hops_of_both_families_are_resolved() {
    let table = table(&["10.0.0.2", "fd00::2"]);
    assert_eq!(at(&table, "10.0.0.2"), good(LAN, 1500));
    assert_eq!(at(&table, "fd00::2"), good(LAN, 1500));
    assert!(table.hops().all_resolved());
    assert_eq!(table.hops().next_hop(ip("10.0.0.2")).ifindex, LAN);
}

#[test]
fn a_router_is_asked_for_in_place_of_the_address_behind_it() {
    let mut table = table(&["fd01::9"]);
    table.set_way(ip("fd01::9"), over(LAN, "fe80::1"));
    assert_eq!(told(at(&table, "fd01::9")), "neighbour fe80::1 on `lan` is being asked for");
    let asked = Question::Ask { index: LAN, neighbour: ip("fe80::1") };
    assert_eq!(table.questions(), [asked]);
    assert_eq!(table.questions(), [], "once is enough");
    table.apply(&neighbour("fe80::1", NeighbourState::Reachable));
    assert_eq!(at(&table, "fd01::9"), good(LAN, 1500));
}

#[test]
fn each_state_of_a_neighbour_counts_as_the_stack_counts_it() {
    use NeighbourState as S;
    let mut table = table(&["10.0.0.2"]);
    for state in [S::Reachable, S::Stale, S::Delay, S::Probe, S::Permanent, S::Noarp] {
        table.apply(&neighbour("10.0.0.2", state));
        assert_eq!(at(&table, "10.0.0.2"), good(LAN, 1500), "{state}");
    }
    table.apply(&neighbour("10.0.0.2", S::Failed));
    assert_eq!(told(at(&table, "10.0.0.2")), "neighbour 10.0.0.2 on `lan` does not answer");
    for state in [S::Incomplete, S::None] {
        table.apply(&neighbour("10.0.0.2", state));
        assert_eq!(told(at(&table, "10.0.0.2")), "neighbour 10.0.0.2 on `lan` is being asked for", "{state}");
    }
    table.apply(&neighbour("10.0.0.2", S::Reachable));
    let gone = neighbour_message(LAN, ip("10.0.0.2"), S::Stale);
    table.apply(&Message::DelNeighbour(gone));
    assert!(at(&table, "10.0.0.2").is_err());
}

#[test]
fn a_silent_neighbour_is_asked_for_again_at_each_refresh_only() {
    let mut table = table(&["10.0.0.2"]);
    table.apply(&neighbour("10.0.0.2", NeighbourState::Failed));
    let asked = [Question::Ask { index: LAN, neighbour: ip("10.0.0.2") }];
    assert_eq!(table.questions(), asked);
    table.apply(&neighbour("10.0.0.2", NeighbourState::Failed));
    assert_eq!(table.questions(), []);
    table.refresh();
    assert_eq!(table.questions(), asked);
}

#[test]
fn a_neighbour_is_verified_at_each_refresh_unless_that_is_under_way_or_not_our_affair() {
    let mut table = table(&["10.0.0.2"]);
    let verified = |table: &mut Table, message: &Message| {
        table.apply(message);
        table.refresh();
        table.questions() == [Question::Verify { index: LAN, neighbour: ip("10.0.0.2") }]
    };
    for (state, wanted) in [
        (NeighbourState::Reachable, true),
        (NeighbourState::Stale, true),
        (NeighbourState::Probe, false),
        (NeighbourState::Delay, false),
        (NeighbourState::Permanent, false),
        (NeighbourState::Noarp, false),
    ] {
        assert_eq!(verified(&mut table, &neighbour("10.0.0.2", state)), wanted, "{state}");
    }
    let mut learnt = neighbour_message(LAN, ip("10.0.0.2"), NeighbourState::Reachable);
    learnt.header.flags = NeighbourFlags::ExtLearned;
    assert!(!verified(&mut table, &Message::NewNeighbour(learnt)));
    let mut managed = neighbour_message(LAN, ip("10.0.0.2"), NeighbourState::Failed);
    managed.attributes.push(NeighbourAttribute::ExtFlags(NeighbourExtFlags::Managed));
    table.apply(&Message::NewNeighbour(managed));
    assert_eq!(table.questions(), [], "the kernel asks for it by itself");
}

#[test]
fn a_link_takes_its_hops_along_and_brings_them_back() {
    let mut table = table(&["10.0.0.2"]);
    let way = [Question::Way(ip("10.0.0.2"))];
    table.apply(&link(LinkFlags::Up));
    assert_eq!(told(at(&table, "10.0.0.2")), "interface `lan` has no carrier");
    assert_eq!(table.questions(), way, "routes may have gone unannounced");
    table.apply(&link(LinkFlags::Up | LinkFlags::LowerUp));
    assert_eq!(told(at(&table, "10.0.0.2")), "interface `lan` has no carrier", "dormant");
    table.apply(&link(LinkFlags::empty()));
    assert_eq!(told(at(&table, "10.0.0.2")), "interface `lan` is down");
    table.apply(&link(UP));
    assert_eq!(at(&table, "10.0.0.2"), good(LAN, 1500));
    let gone = link_message(LAN, "lan", None, UP);
    table.apply(&Message::DelLink(gone));
    assert_eq!(told(at(&table, "10.0.0.2")), "interface 3 is gone");
}

#[test]
fn what_a_bridge_tells_of_its_port_is_no_news_of_the_link() {
    let mut table = table(&["10.0.0.2"]);
    let mut port = link_message(LAN, "lan", Some(InfoKind::Veth), LinkFlags::empty());
    port.header.interface_family = AddressFamily::Bridge;
    table.apply(&Message::NewLink(port.clone()));
    table.apply(&Message::DelLink(port));
    assert_eq!(at(&table, "10.0.0.2"), good(LAN, 1500));
    assert_eq!(table.questions(), []);
}

#[test]
fn a_message_that_tells_a_part_changes_that_part_only() {
    let mut table = table(&["10.0.0.2"]);
    let mut partial = link_message(LAN, "lan", None, UP);
    partial.attributes = vec![LinkAttribute::Mtu(9000)];
    table.apply(&Message::NewLink(partial));
    assert_eq!(at(&table, "10.0.0.2"), good(LAN, 9000));
}

#[test]
fn the_mtu_is_the_smallest_on_the_way() {
    let target = ip("10.0.0.2");
    let mut table = table(&["10.0.0.2"]);
    for (of_route, expected) in [(None, 1500), (Some(1400), 1400), (Some(9000), 1500)] {
        table.set_way(target, Way::Over { index: LAN, via: target, mtu: of_route });
        assert_eq!(at(&table, "10.0.0.2"), good(LAN, expected));
    }
}

#[test]
fn a_bridge_is_resolved_to_the_port_that_it_has_learnt() {
    let mut table = table(&["10.0.0.2"]);
    table.apply(&Message::NewLink(link_message(LAN, "br0", Some(InfoKind::Bridge), UP)));
    let port = |index: u32| link_message(index, "port", Some(InfoKind::Veth), UP);
    let mut narrow = port(7);
    narrow.attributes.push(LinkAttribute::Mtu(1300));
    table.apply(&Message::NewLink(narrow));
    table.apply(&Message::NewLink(port(8)));
    let no_port = "bridge `br0` does not tell by which port it reaches neighbour 10.0.0.2";
    assert_eq!(told(at(&table, "10.0.0.2")), no_port);

    let learnt = |port: u32, state: NeighbourState| {
        let mut message = NeighbourMessage::default();
        message.header.family = AddressFamily::Bridge;
        message.header.ifindex = port;
        message.header.state = state;
        message.attributes =
            vec![NeighbourAttribute::LinkLayerAddress(MAC.to_vec()), NeighbourAttribute::Controller(LAN)];
        message
    };
    table.apply(&Message::NewNeighbour(learnt(7, NeighbourState::Permanent)));
    assert_eq!(told(at(&table, "10.0.0.2")), no_port, "an address of the bridge's own");
    let mut tagged = learnt(7, NeighbourState::Reachable);
    tagged.attributes.push(NeighbourAttribute::Vlan(5));
    table.apply(&Message::NewNeighbour(tagged));
    assert_eq!(told(at(&table, "10.0.0.2")), no_port, "a tag that we would not add");
    table.apply(&Message::NewNeighbour(learnt(7, NeighbourState::Reachable)));
    assert_eq!(at(&table, "10.0.0.2"), good(7, 1300));
    table.apply(&Message::NewNeighbour(learnt(8, NeighbourState::Reachable)));
    assert_eq!(at(&table, "10.0.0.2"), good(8, 1500), "it has moved");
    table.apply(&Message::DelNeighbour(learnt(7, NeighbourState::Reachable)));
    assert_eq!(at(&table, "10.0.0.2"), good(8, 1500), "an old place is forgotten");
    table.apply(&Message::NewLink(link_message(8, "port", Some(InfoKind::Veth), LinkFlags::Up)));
    assert_eq!(told(at(&table, "10.0.0.2")), "interface `port` has no carrier");
    table.apply(&Message::DelNeighbour(learnt(8, NeighbourState::Reachable)));
    assert_eq!(told(at(&table, "10.0.0.2")), no_port);
}

#[test]
fn each_kind_of_interface_is_used_as_xdp_can_use_it() {
    let mut table = table(&["10.0.0.2"]);
    for kind in [None, Some(InfoKind::Veth), Some(InfoKind::Bond), Some(InfoKind::Tun)] {
        let mut fresh = table.clone();
        fresh.apply(&Message::DelLink(link_message(LAN, "lan", None, UP)));
        fresh.apply(&Message::NewLink(link_message(LAN, "lan", kind.clone(), UP)));
        assert_eq!(at(&fresh, "10.0.0.2"), good(LAN, 1500), "{kind:?}");
    }
    for kind in [InfoKind::Vlan, InfoKind::MacVlan, InfoKind::Vxlan, InfoKind::Other("odd".to_owned())] {
        table.apply(&Message::NewLink(link_message(LAN, "lan", Some(kind.clone()), UP)));
        let expected = format!("XDP cannot send over `lan`, an interface of kind {kind}");
        assert_eq!(told(at(&table, "10.0.0.2")), expected);
    }
    let mut tunnel = link_message(LAN, "lan", Some(InfoKind::Tun), UP);
    tunnel.header.link_layer_type = LinkLayerType::None;
    table.apply(&Message::NewLink(tunnel));
    assert_eq!(told(at(&table, "10.0.0.2")), "interface `lan` carries no Ethernet frames");
}

#[test]
fn only_the_ways_that_an_announcement_concerns_are_asked_for_again() {
    let mut table = table(&["10.0.0.2", "10.1.0.2", "fd00::2"]);
    let mut asked = |message: Message| {
        table.apply(&message);
        table.questions()
    };
    let way = |target| Question::Way(ip(target));
    assert_eq!(asked(Message::NewRoute(route(Some("10.1.0.0"), 16, vec![]))), [way("10.1.0.2")]);
    assert_eq!(asked(Message::DelRoute(route(Some("10.0.0.2"), 32, vec![]))), [way("10.0.0.2")]);
    assert_eq!(asked(Message::NewRoute(route(None, 0, vec![]))), [way("10.0.0.2"), way("10.1.0.2")]);
    assert_eq!(asked(Message::NewRoute(route(Some("fd00::"), 8, vec![]))), [way("fd00::2")]);
    assert_eq!(asked(Message::NewRoute(route(Some("192.168.0.0"), 16, vec![]))), []);
    let mut address = AddressMessage::default();
    address.header.family = AddressFamily::Inet6;
    assert_eq!(asked(Message::DelAddress(address)), [way("fd00::2")]);
}

#[test]
fn news_are_told_and_what_passes_by_itself_is_not() {
    let target = ip("10.0.0.2");
    let asked = Unresolved::Asked { neighbour: target, interface: "a".to_owned() };
    let silent = Unresolved::Silent { neighbour: target, interface: "a".to_owned() };
    let hops = |state: Result<Resolved, Unresolved>| Hops::from_iter([(target, state)]);
    let told = |from: Result<Resolved, Unresolved>, to: Result<Resolved, Unresolved>| {
        let changes = hops(to).changes_since(&hops(from));
        changes.iter().map(|change| (change.is_loss(), change.to_string())).collect::<Vec<_>>()
    };
    assert_eq!(told(Err(Unresolved::NotRead), Err(asked.clone())), []);
    let line = "neighbour 10.0.0.2 on `a` does not answer: packets go through the stack meanwhile";
    assert_eq!(told(Err(asked.clone()), Err(silent.clone())), [(true, line.to_owned())]);
    assert_eq!(told(Err(silent.clone()), Err(asked.clone())), []);
    assert_eq!(told(good(3, 1500), Err(asked)).len(), 1);
    let line = "next hop found: 02:00:00:00:00:0b by interface 3, MTU 1500";
    assert_eq!(told(Err(silent), good(3, 1500)), [(false, line.to_owned())]);
    let line = "next hop changed: 02:00:00:00:00:0b by interface 3, MTU 1400, \
                was 02:00:00:00:00:0b by interface 3, MTU 1500";
    assert_eq!(told(good(3, 1500), good(3, 1400)), [(false, line.to_owned())]);
    assert_eq!(told(good(3, 1500), good(3, 1500)), []);
}

proptest! {
    /// The kernel's view after a series of messages does not depend on how often an older one is told again
    /// before them: so reading while announcements wait does no harm.
    #[test]
    fn announcements_older_than_what_was_read_do_no_harm(
        states in proptest::collection::vec(0_u8..5, 1..20),
        read_after in 0_usize..20,
    ) {
        let message = |state: u8| match state {
            0 => neighbour("10.0.0.2", NeighbourState::Reachable),
            1 => neighbour("10.0.0.2", NeighbourState::Failed),
            2 => Message::DelNeighbour(neighbour_message(LAN, ip("10.0.0.2"), NeighbourState::Stale)),
            _ => link(if state == 3 { LinkFlags::Up } else { UP }),
        };
        let mut followed = table(&["10.0.0.2"]);
        let mut read_late = table(&["10.0.0.2"]);
        let read_after = read_after.min(states.len());
        for state in &states[..read_after] {
            read_late.apply(&message(*state));
        }
        for state in &states {
            followed.apply(&message(*state));
            read_late.apply(&message(*state));
        }
        prop_assert_eq!(followed.hops(), read_late.hops());
    }
}
