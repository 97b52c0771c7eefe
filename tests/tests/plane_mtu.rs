//! Narrow ways: full-size requests and responses arrive whole, whoever has to learn how much passes.

use std::collections::BTreeMap;

use baton_tests::plane::{Family, Options, Plane, assert_nothing_lost};

/// Packets that make sure that every kind of request has come by.
const ENOUGH: u64 = 1200;

/// Large requests and large responses, each on a connection of its own and on one that stays open.
const LARGE: [&str; 4] = [
    "name=up,path=/upload,mode=close,upload=100k,check=receipt",
    "name=down,path=/large?bytes=100000,mode=close,check=crc32,length=100000",
    "name=up-again,path=/upload,mode=keep-alive,requests=1000,idle=1m,upload=100k,check=receipt",
    "name=down-again,path=/large?bytes=100000,mode=keep-alive,requests=1000,idle=1m,check=crc32,length=100000",
];

fn both_families(test: impl Fn(Options)) {
    for family in [Family::V4, Family::V6] {
        test(Options { family, ..Options::default() });
    }
}

#[test]
fn ends_of_a_connection_over_a_narrow_way_agree_on_segments_that_pass() {
    both_families(|options| {
        for (client_mtu, backend_mtu) in [(1500, 1400), (1400, 1500)] {
            let mut plane = Plane::new(Options { client_mtu, backend_mtu, ..options });
            plane.serve();
            let requests = plane.requests_of(0, &LARGE[..2]);
            plane.until_packets(0, ENOUGH);
            plane.handover(1);
            plane.until_packets(1, ENOUGH);
            assert_nothing_lost(&requests.end(), 2);
            assert_eq!(plane.reasons()["too_big"], 0, "nobody sends what is too long");
        }
    });
}

/// A way that becomes narrow under large requests, before a handover under the same load.
fn becomes_narrow(narrow: impl Fn(&mut Plane)) {
    both_families(|options| {
        let mut plane = Plane::new(options);
        plane.serve();
        let requests = plane.requests_of(0, &LARGE);
        plane.until_packets(0, ENOUGH);
        narrow(&mut plane);
        plane.until_packets(0, ENOUGH);
        plane.handover(1);
        plane.until_packets(1, ENOUGH);
        assert_nothing_lost(&requests.end(), 2);
        assert!(plane.reasons()["too_big"] > 0, "{:?}", plane.reasons());
    });
}

#[test]
fn a_way_to_the_backend_that_becomes_narrow_makes_clients_send_less_at_a_time() {
    becomes_narrow(|plane| plane.narrow_backend(0, 1300));
}

#[test]
fn a_way_to_the_clients_that_becomes_narrow_makes_backends_send_less_at_a_time() {
    becomes_narrow(|plane| plane.narrow_client(1300));
}

#[test]
fn a_router_before_the_clients_that_passes_less_is_heard_by_the_backends() {
    both_families(|options| {
        let reasons = hand_over(Options { client_router_mtu: Some(1300), ..options });
        assert!(reasons["icmp_error"] > 0, "{reasons:?}");
    });
}

#[test]
fn a_router_before_the_backends_that_passes_less_is_heard_by_the_clients() {
    both_families(|options| {
        let reasons = hand_over(Options { backend_router_mtu: Some(1300), ..options });
        assert!(reasons["reply_icmp_error"] > 0, "{reasons:?}");
    });
}

/// A handover under large requests and responses; packets by what became of them.
fn hand_over(options: Options) -> BTreeMap<&'static str, u64> {
    let mut plane = Plane::new(options);
    plane.serve();
    let requests = plane.requests_of(0, &LARGE);
    plane.until_packets(0, ENOUGH);
    plane.handover(1);
    plane.until_packets(1, ENOUGH);
    assert_nothing_lost(&requests.end(), 2);
    plane.reasons()
}
