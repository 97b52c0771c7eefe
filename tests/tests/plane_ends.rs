//! Flows whose backend is dead or cut: their clients learn of it at their next packet and go elsewhere.

use std::io::{ErrorKind, Read};

use baton_tests::lab::{Client, eventually};
use baton_tests::plane::{BACKEND_PORT, Family, Layout, Options, Plane, id};
use lb_common::BackendState;

fn everywhere(test: impl Fn(Plane)) {
    for family in [Family::V4, Family::V6] {
        for layout in [Layout::Routed, Layout::Switched, Layout::Tagged(7)] {
            let mut plane = Plane::new(Options { family, layout, ..Options::default() });
            plane.serve();
            test(plane);
        }
    }
}

fn connect(plane: &Plane) -> Client {
    Client::connect(&plane.client(0).netns, plane.vip()).unwrap()
}

#[test]
fn a_client_of_a_dead_backend_is_reset_at_once_and_finds_another() {
    everywhere(|mut plane| {
        let mut clients = [connect(&plane), connect(&plane)];
        for client in &mut clients {
            assert_eq!(client.get("/free").unwrap().backend, "0");
        }
        // One has been asking when it happens.
        clients[1].send("/slow?ms=60000").unwrap();
        // Nothing comes from it any longer, not even a refusal.
        plane.backend(0).ip(&["link set eth0 down".to_owned()]);
        plane.dataplane.set_backend_state(id(0), BackendState::Refused).unwrap();
        plane.handover(1);
        clients[0].send("/free").unwrap();
        let reset = clients[0].read().unwrap_err();
        assert_eq!(reset.kind(), ErrorKind::ConnectionReset);
        clients[1].send("/free").unwrap();
        eventually("the client that waits is told", || {
            let mut byte = [0];
            matches!(clients[1].stream().read(&mut byte), Err(error) if error.kind() == ErrorKind::ConnectionReset)
        });
        assert_eq!(connect(&plane).get("/free").unwrap().backend, "1");
    });
}

#[test]
fn both_ends_of_a_flow_that_is_cut_learn_of_it() {
    everywhere(|mut plane| {
        let (mut talks, mut listens) = (connect(&plane), connect(&plane));
        assert_eq!(talks.get("/free").unwrap().backend, "0");
        listens.send("/slow?ms=2000").unwrap();
        listens.stream().peek(&mut [0]).expect("the answer has begun");
        plane.handover(1);
        let mut new = connect(&plane);
        assert_eq!(new.get("/free").unwrap().backend, "1");
        plane.dataplane.set_backend_state(id(0), BackendState::Refused).unwrap();
        talks.send("/free").unwrap();
        assert_eq!(talks.read().unwrap_err().kind(), ErrorKind::ConnectionReset);
        // The server goes on with its answer to the other one, and is refused in the client's name.
        eventually("the server has lost a connection", || plane.backend(0).connections(BACKEND_PORT) < 2);
        listens.send("/free").unwrap();
        assert_eq!(listens.read().unwrap_err().kind(), ErrorKind::ConnectionReset);
        assert_eq!(plane.open_flows(0).total(), 0);
        assert_eq!(new.get("/free").unwrap().backend, "1", "others go on");
    });
}
