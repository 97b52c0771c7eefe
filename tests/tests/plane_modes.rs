//! Every way to a backend with real backends at its end: what clients notice of handovers is nothing.

use baton_tests::plane::{Family, Layout, Options, Plane, ask, assert_nothing_lost, id};
use lb_common::Forwarding;
use lb_common::endpoint::UDP;

/// Packets that make sure that every kind of request has come by.
const ENOUGH: u64 = 800;

fn hand_over_under_requests(plane: &mut Plane) {
    plane.serve();
    let requests = plane.requests(0);
    plane.until_packets(0, ENOUGH);
    plane.handover(1);
    plane.until_packets(1, ENOUGH);
    plane.until_drained(0);
    plane.settle();
    plane.until_packets(1, ENOUGH);
    assert_nothing_lost(&requests.end(), 2);
}

fn hand_over_in_conversation(plane: &mut Plane) {
    plane.serve();
    let conversations = plane.conversations(0, 4);
    conversations.until_answered(400);
    plane.handover(1);
    conversations.until_answered(400);
    assert_eq!(ask(&plane.converse(0), 0), 1, "a new conversation is the new backend's");
    assert!(conversations.end().iter().flatten().all(|name| *name == 0), "old ones stay");
}

/// Both families and both protocols.
fn both(options: Options) {
    for family in [Family::V4, Family::V6] {
        hand_over_under_requests(&mut Plane::new(Options { family, ..options }));
        hand_over_in_conversation(&mut Plane::new(Options { family, protocol: UDP, ..options }));
    }
}

#[test]
fn backends_without_a_way_to_the_clients_answer_through_the_balancer() {
    both(Options { snat: true, ..Options::default() });
}

#[test]
fn backends_that_answer_by_themselves_are_handed_over() {
    both(Options { forwarding: Forwarding::Dsr, layout: Layout::Switched, ..Options::default() });
}

#[test]
fn backends_at_the_end_of_a_tunnel_are_handed_over() {
    both(Options { forwarding: Forwarding::Ipip, layout: Layout::Switched, ..Options::default() });
}

#[test]
fn packets_that_are_too_long_for_the_tunnel_only_are_made_shorter_by_their_senders() {
    for family in [Family::V4, Family::V6] {
        let (forwarding, layout) = (Forwarding::Ipip, Layout::Switched);
        let mut plane = Plane::new(Options { family, forwarding, layout, ..Options::default() });
        plane.serve();
        let uploads = ["name=upload,path=/upload,mode=close,upload=200k,check=receipt"];
        let requests = plane.requests_of(0, &uploads);
        plane.until_packets(0, 2_000);
        assert_nothing_lost(&requests.end(), 1);
        assert!(plane.reasons()["too_big"] > 0, "{:?}", plane.reasons());
        assert_eq!(plane.dataplane.backend_counters(id(0)).unwrap().packets_out, 0);
    }
}
