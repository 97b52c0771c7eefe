//! Pools of three backends under real requests, while one after the other is taken out and comes back.

use std::collections::BTreeSet;

use baton_tests::plane::{BACKEND_PORT, Family, Options, Plane, SERVICE, assert_nothing_lost, id};
use lb_common::Endpoint;
use lb_common::pool::{Candidate, Policy, identity_of};
use lb_common::steer::NO_BACKEND;
use lb_common::tables::service_flags::COUNT_OPEN;

const BACKENDS: usize = 3;
/// Packets that make sure that every kind of request has come by.
const ENOUGH: u64 = 800;

/// Lets all backends but one get new flows.
fn spread_but(plane: &mut Plane, policy: Policy, out: Option<usize>) {
    let candidate = |number: usize| {
        let endpoint = Endpoint::tcp((plane.backend(number).address, BACKEND_PORT).into());
        let weight = BACKENDS as u16 - number as u16;
        Candidate { backend: id(number), weight, limit: 0, identity: identity_of(&endpoint) }
    };
    let members: Vec<_> = (0..BACKENDS).filter(|number| Some(*number) != out).map(candidate).collect();
    let draining = out.map_or(NO_BACKEND, id);
    plane.dataplane.spread(SERVICE, policy, &members, draining).unwrap();
}

/// Takes each backend out and back under requests; which of them served.
fn take_each_out(policy: Policy, family: Family) -> BTreeSet<String> {
    let flags = if policy.needs_loads() { COUNT_OPEN } else { 0 };
    let mut plane = Plane::new(Options { family, backends: BACKENDS, flags, ..Options::default() });
    spread_but(&mut plane, policy, None);
    plane.serve();
    let requests = plane.requests(0);
    plane.until_sent(ENOUGH);
    for out in 0..BACKENDS {
        spread_but(&mut plane, policy, Some(out));
        plane.until_sent(ENOUGH);
        plane.until_drained(out);
        spread_but(&mut plane, policy, None);
        plane.until_sent(ENOUGH);
    }
    let report = requests.end();
    assert_nothing_lost(&report, 0);
    report.summary.by_backend.into_keys().collect()
}

#[test]
fn requests_go_on_while_each_backend_of_a_pool_is_taken_out_and_put_back() {
    for (number, policy) in Policy::ALL.into_iter().filter(|policy| policy.has_pool()).enumerate() {
        let family = if number % 2 == 0 { Family::V4 } else { Family::V6 };
        let served = take_each_out(policy, family);
        // By hash or weight one client is served by one backend, and by others only while that is out.
        let least = if matches!(policy, Policy::Sh | Policy::Fo) { 2 } else { BACKENDS };
        assert!(served.len() >= least, "{}: {served:?}", policy.name());
    }
}
