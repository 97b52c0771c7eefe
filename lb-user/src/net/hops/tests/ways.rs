//! Ways against constructed routes: what the kernel tells of one is read as it is meant.

use std::net::IpAddr;

use netlink_packet_route::route::{RouteAttribute, RouteMetric, RouteType, RouteVia};
use proptest::prelude::*;

use super::{LAN, ip, over, route};
use crate::net::hops::Unresolved;
use crate::net::hops::ways::{Way, concerns};

#[test]
fn a_route_is_read_as_the_kernel_tells_it() {
    let target = ip("10.9.0.1");
    let way = |attributes| Way::of(target, Some(&route(Some("10.9.0.1"), 32, attributes)));
    let oif = RouteAttribute::Oif(LAN);
    assert_eq!(way(vec![oif.clone()]), over(LAN, "10.9.0.1"));
    let gateway = RouteAttribute::Gateway(ip("10.0.0.1").into());
    let metrics = RouteAttribute::Metrics(vec![RouteMetric::Mtu(1400)]);
    let expected = Way::Over { index: LAN, via: ip("10.0.0.1"), mtu: Some(1400) };
    assert_eq!(way(vec![gateway, metrics, oif.clone()]), expected);
    let other_family = RouteAttribute::Via(RouteVia::Inet6("fe80::1".parse().unwrap()));
    assert_eq!(way(vec![other_family, oif.clone()]), over(LAN, "fe80::1"));
    assert_eq!(Way::of(target, None), Way::None(Unresolved::NoRoute));
    let mut local = route(Some("10.9.0.1"), 32, vec![oif]);
    local.header.kind = RouteType::Local;
    assert_eq!(Way::of(target, Some(&local)), Way::None(Unresolved::OwnAddress));
}

#[test]
fn an_error_of_the_kernel_is_an_answer_if_it_tells_of_routes() {
    let meaning = |code| match Way::refused(code) {
        Some(Way::None(why)) => why.to_string(),
        other => format!("{other:?}"),
    };
    assert_eq!(meaning(libc::ENETUNREACH), "there is no route");
    assert_eq!(meaning(libc::EHOSTUNREACH), "the route is unreachable");
    assert_eq!(meaning(libc::EACCES), "the route is prohibit");
    assert_eq!(meaning(libc::EINVAL), "the route is blackhole");
    assert_eq!(Way::refused(libc::ENOBUFS), None);
}

proptest! {
    #[test]
    fn a_route_concerns_exactly_what_lies_within_it(base: u32, length in 0_u8..=32, target: u32) {
        let mask = u32::MAX.checked_shl(32 - u32::from(length)).unwrap_or(0);
        let destination = IpAddr::V4((base & mask).into());
        let message = route(Some(&destination.to_string()), length, vec![]);
        prop_assert_eq!(concerns(&message, IpAddr::V4(target.into())), target & mask == base & mask);
        prop_assert!(concerns(&message, destination));
        prop_assert!(!concerns(&message, ip("fd00::2")));
    }
}
