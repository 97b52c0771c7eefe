//! TCP through the data plane alone: what clients notice of handovers is nothing.

use std::thread;

use baton_tests::lab::{Client, eventually};
use baton_tests::plane::{BACKEND_PORT, Family, Layout, Options, Plane, assert_nothing_lost, id};
use lb_common::FlowState;
use lb_common::tables::service_flags::DRAIN_ONLY;

/// Packets that make sure that every kind of request has come by.
const ENOUGH: u64 = 800;

/// Hands over to the other backend and back, each time with a whole drain, while every client makes requests.
fn hand_over_there_and_back(plane: &mut Plane) {
    plane.serve();
    let requests: Vec<_> = (0..plane.options.clients).map(|client| plane.requests(client)).collect();
    for (from, to) in [(0, 1), (1, 0)] {
        plane.until_packets(from, ENOUGH);
        plane.handover(to);
        plane.until_packets(to, ENOUGH);
        plane.until_drained(from);
        plane.settle();
        plane.until_packets(to, ENOUGH);
    }
    for requests in requests {
        assert_nothing_lost(&requests.end(), 2);
    }
}

#[test]
fn requests_go_on_over_handovers_in_ipv4() {
    hand_over_there_and_back(&mut Plane::new(Options::default()));
}

#[test]
fn requests_go_on_over_handovers_in_ipv6() {
    hand_over_there_and_back(&mut Plane::new(Options { family: Family::V6, ..Options::default() }));
}

#[test]
fn requests_go_on_over_handovers_of_a_service_that_tracks_flows_only_while_it_drains() {
    for family in [Family::V4, Family::V6] {
        let mut plane = Plane::new(Options { family, flags: DRAIN_ONLY, ..Options::default() });
        hand_over_there_and_back(&mut plane);
        let reasons = plane.reasons();
        assert!(reasons["untracked"] > 0 && reasons["taken_up"] > 0, "{reasons:?}");
    }
}

#[test]
fn requests_go_on_over_handovers_where_all_packets_come_and_go_by_one_interface() {
    for family in [Family::V4, Family::V6] {
        let options = Options { family, layout: Layout::Switched, clients: 2, ..Options::default() };
        // Replies to the second client go where those to the first do, unless the stack finds its way.
        hand_over_there_and_back(&mut Plane::new(Options { uplink: false, ..options }));
        hand_over_there_and_back(&mut Plane::new(Options { clients: 1, ..options }));
    }
}

#[test]
fn requests_with_a_vlan_tag_go_on_over_handovers() {
    for family in [Family::V4, Family::V6] {
        let layout = Layout::Tagged(7);
        hand_over_there_and_back(&mut Plane::new(Options { family, layout, ..Options::default() }));
    }
}

#[test]
fn requests_that_come_in_by_several_interfaces_go_on_over_handovers() {
    for family in [Family::V4, Family::V6] {
        let options = Options { family, clients: 3, uplink: false, ..Options::default() };
        hand_over_there_and_back(&mut Plane::new(options));
    }
}

#[test]
fn a_client_that_was_idle_over_a_handover_and_its_drain_comes_back_to_its_old_backend() {
    for family in [Family::V4, Family::V6] {
        let mut plane = Plane::new(Options { family, ..Options::default() });
        plane.serve();
        let mut idle = Client::connect(&plane.client(0).netns, plane.vip()).unwrap();
        assert_eq!(idle.get("/free").unwrap().backend, "0");
        plane.handover(1);
        let mut new = Client::connect(&plane.client(0).netns, plane.vip()).unwrap();
        assert_eq!(new.get("/free").unwrap().backend, "1");
        plane.settle();
        assert_eq!(idle.get("/free").unwrap().backend, "0");
        assert_eq!(new.get("/free").unwrap().backend, "1");
    }
}

#[test]
fn a_syn_that_is_sent_again_after_a_handover_goes_where_the_first_went() {
    for family in [Family::V4, Family::V6] {
        let mut plane = Plane::new(Options { family, ..Options::default() });
        plane.serve();
        let client = plane.client(0).address;
        // The backend does not know how to answer, and is silent.
        let deaf = |plane: &Plane, verb| plane.backend(0).ip(&[format!("route {verb} blackhole {client}")]);
        deaf(&plane, "add");
        let (netns, vip) = (plane.client(0).netns.try_clone().unwrap(), plane.vip());
        let connecting = thread::spawn(move || Client::connect(&netns, vip).unwrap());
        eventually("the SYN has pinned its flow", || !plane.flows().is_empty());
        plane.handover(1);
        deaf(&plane, "del");
        let mut client = connecting.join().unwrap();
        assert_eq!(client.get("/free").unwrap().backend, "0");
        assert!(plane.reasons()["syn_retransmit"] > 0, "{:?}", plane.reasons());
        let [flow] = plane.flows()[..] else { panic!("{:?}", plane.flows()) };
        assert_eq!((flow.backend, flow.state), (id(0), FlowState::Established));
        assert_eq!(plane.backend(1).connections(BACKEND_PORT), 0);
    }
}
