//! Which places and VIPs are taken, which are refused, and what the refusal says.

use super::*;
use crate::driver::netns::topology::{DEFAULT_POOL, backend_names};

fn net(text: &str) -> Ipv4Net {
    text.parse().unwrap()
}

fn spec(vip: &str) -> Spec {
    Spec {
        name: "web".parse().unwrap(),
        vip: vip.parse().unwrap(),
        pool: DEFAULT_POOL,
        backends: backend_names(),
    }
}

fn link(index: u32, name: &str, address: &str) -> HostLink {
    let loopback = name == "lo";
    HostLink { index, name: name.into(), mtu: 1500, loopback, service: None, addresses: vec![net(address)] }
}

fn route(destination: &str, index: u32) -> Route {
    Route { destination: net(destination), via: None, index, source: None, kind: RouteKind::Unicast }
}

/// A host with a LAN, a default route and one service, `shop`, in slot 0.
fn host() -> HostView {
    let shop: ServiceName = "shop".parse().unwrap();
    let mut ours = link(3, "bt0", "10.77.128.1/30");
    ours.service = Some(shop.clone());
    let mut default = route("0.0.0.0/0", 2);
    default.via = Some("192.0.2.1".parse().unwrap());
    HostView {
        links: vec![link(1, "lo", "127.0.0.1/8"), link(2, "eth0", "192.0.2.2/24"), ours],
        routes: vec![
            default,
            route("192.0.2.0/24", 2),
            route("10.77.128.0/30", 3),
            route("10.77.128.0/28", 3),
            route("10.77.0.9/32", 3),
        ],
        services: vec![KnownService {
            name: shop,
            vip: Some("10.77.0.9".parse().unwrap()),
            subnet: Some(net("10.77.128.0/28")),
        }],
    }
}

#[test]
fn a_service_takes_the_first_free_subnet_and_the_link_of_its_number() {
    let place = place(&host(), &spec("10.77.0.1")).unwrap();
    assert_eq!(place, Placement { subnet: net("10.77.128.16/28"), host_link: "bt1".into(), mtu: 1500 });
}

#[test]
fn a_gap_that_a_removed_service_left_is_filled() {
    let mut view = host();
    view.services[0].subnet = Some(net("10.77.128.16/28"));
    let place = place(&view, &spec("10.77.0.1")).unwrap();
    assert_eq!(place.subnet, net("10.77.128.0/28"));
}

#[test]
fn a_subnet_that_holds_another_service_s_vip_is_passed_over() {
    let mut view = host();
    view.services[0].vip = Some("172.30.0.3".parse().unwrap());
    let wanted = Spec { pool: net("172.30.0.0/24"), ..spec("10.77.0.1") };
    assert_eq!(place(&view, &wanted).unwrap().subnet, net("172.30.0.16/28"));
}

#[test]
fn a_pool_of_one_subnet_beside_the_default_pool_takes_another_link_name() {
    let wanted = Spec { pool: net("172.30.5.16/28"), ..spec("10.77.0.1") };
    let place = place(&host(), &wanted).unwrap();
    assert_eq!((place.subnet, place.host_link.as_str()), (net("172.30.5.16/28"), "bt1"));
}

#[test]
fn a_foreign_link_of_our_name_is_left_alone() {
    let mut view = host();
    view.links.push(link(9, "bt1", "198.51.100.1/24"));
    assert_eq!(place(&view, &spec("10.77.0.1")).unwrap().host_link, "bt2");
}

#[test]
fn packets_are_no_larger_than_the_way_out_allows() {
    let mut view = host();
    view.links[1].mtu = 1420;
    assert_eq!(place(&view, &spec("10.77.0.1")).unwrap().mtu, 1420);
    view.links[1].mtu = 9000;
    assert_eq!(place(&view, &spec("10.77.0.1")).unwrap().mtu, 1500);
}

#[test]
fn each_refused_vip_says_why() {
    let cases = [
        ("127.0.0.5", "a loopback address"),
        ("224.0.0.5", "a multicast address"),
        ("255.255.255.255", "the broadcast address"),
        ("0.0.0.0", "an unspecified address"),
        ("250.1.1.1", "a reserved address"),
        ("192.0.2.2", "an address of interface eth0"),
        ("192.0.2.255", "network or broadcast address of 192.0.2.0/24 on interface eth0"),
        ("192.0.2.1", "the gateway of this host's route 0.0.0.0/0 via 192.0.2.1"),
        ("10.77.0.9", "in use by service shop"),
        ("10.77.128.6", "addresses of service shop"),
        ("10.77.200.1", "10.77.128.0/17, where addresses of all services come from"),
    ];
    for (vip, reason) in cases {
        let message = place(&host(), &spec(vip)).unwrap_err().to_string();
        assert!(message.contains(reason), "{vip}: {message}");
    }
}

#[test]
fn a_vip_with_a_route_of_the_host_is_refused() {
    let mut view = host();
    view.routes.push(route("10.77.0.1/32", 2));
    let error = place(&view, &spec("10.77.0.1")).unwrap_err();
    assert_eq!(error, PlaceError::VipRouted { route: "10.77.0.1/32".into() });
}

#[test]
fn a_name_that_exists_is_refused() {
    let taken = Spec { name: "shop".parse().unwrap(), ..spec("10.77.0.1") };
    assert_eq!(place(&host(), &taken).unwrap_err(), PlaceError::NameTaken("shop".parse().unwrap()));
}

#[test]
fn a_pool_that_the_host_routes_elsewhere_is_refused_with_the_route_and_the_remedy() {
    for destination in ["10.0.0.0/8", "10.77.129.0/24", "10.77.128.0/17", "10.77.200.1/32"] {
        let mut view = host();
        view.routes.push(route(destination, 2));
        let message = place(&view, &spec("192.0.2.77")).unwrap_err().to_string();
        assert!(message.contains(destination) && message.contains("--subnet"), "{message}");
    }
}

#[test]
fn halves_of_the_internet_and_refusing_routes_claim_no_address() {
    let mut view = host();
    view.routes.extend([route("0.0.0.0/1", 2), route("128.0.0.0/1", 2)]);
    view.routes.push(Route { kind: RouteKind::Refused, ..route("10.0.0.0/8", 0) });
    assert!(place(&view, &spec("10.77.0.1")).is_ok());
}

#[test]
fn a_pool_without_room_is_refused() {
    let small = Spec { pool: net("172.30.5.0/29"), ..spec("10.77.0.1") };
    assert_eq!(place(&host(), &small).unwrap_err(), PlaceError::PoolTooSmall { pool: small.pool });
    let full = Spec { pool: net("10.77.128.0/28"), ..spec("10.77.0.1") };
    assert_eq!(place(&host(), &full).unwrap_err(), PlaceError::PoolFull { pool: full.pool });
    for pool in ["127.0.0.0/16", "224.0.0.0/8", "0.0.0.0/0"] {
        let reserved = Spec { pool: net(pool), ..spec("10.77.0.1") };
        assert_eq!(place(&host(), &reserved).unwrap_err(), PlaceError::PoolReserved { pool: reserved.pool });
    }
}

#[test]
fn every_slot_of_a_pool_is_used_before_it_is_full() {
    let mut view = HostView::default();
    let pool = net("172.30.0.0/24");
    for slot in 0..16 {
        let name: ServiceName = format!("s{slot}").parse().unwrap();
        let wanted =
            Spec { vip: Ipv4Addr::new(10, 77, 0, slot), pool, name: name.clone(), ..spec("10.77.0.1") };
        let found = place(&view, &wanted).unwrap();
        assert_eq!(found.subnet.network(), Ipv4Addr::new(172, 30, 0, 16 * slot));
        view.services.push(KnownService { name, vip: None, subnet: Some(found.subnet) });
    }
    let one_more = Spec { pool, ..spec("10.77.1.1") };
    assert_eq!(place(&view, &one_more).unwrap_err(), PlaceError::PoolFull { pool });
}

#[test]
fn a_vip_inside_a_lan_is_answered_for_on_that_lan_only() {
    let names = |vip: &str| -> Vec<String> {
        proxied_on(&host(), vip.parse().unwrap()).iter().map(|link| link.name.clone()).collect()
    };
    assert_eq!(names("192.0.2.50"), ["eth0"]);
    assert_eq!(names("10.77.0.1"), [""; 0]);
    assert_eq!(names("10.77.128.2"), [""; 0], "a service's own link is not a LAN");
}
