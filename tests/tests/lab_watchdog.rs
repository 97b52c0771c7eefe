//! Every kind of fault is found, clients are served again, and the backend comes back; one that is only busy is
//! left alone. How soon is for `cargo xtask bench watchdog` to say.

use std::time::Duration;

use baton_tests::watchdog_bench::{Fault, Subject, saturate};

fn finds(fault: Fault) {
    let trial = Subject::up().suffer(fault).unwrap_or_else(|why| panic!("{}: {why}", fault.name()));
    assert!(trial.failed + trial.late > 0 || fault == Fault::Killed, "nothing was wrong: {trial:?}");
}

#[test]
fn a_killed_backend_is_found() {
    finds(Fault::Killed);
}

#[test]
fn a_stopped_backend_is_found() {
    finds(Fault::Stopped);
}

#[test]
fn a_backend_that_accepts_and_never_answers_is_found() {
    finds(Fault::Silent);
}

#[test]
fn a_backend_that_answers_with_errors_is_found() {
    finds(Fault::Error);
}

#[test]
fn a_backend_that_takes_ten_times_as_long_is_found() {
    finds(Fault::Slow);
}

#[test]
fn a_backend_that_no_longer_listens_is_found() {
    finds(Fault::Closed);
}

#[test]
fn a_backend_whose_cable_is_cut_is_found() {
    finds(Fault::Cut);
}

#[test]
fn a_healthy_backend_at_the_end_of_its_strength_is_left_alone() {
    let quiet = saturate(Duration::from_secs(10));
    assert!(quiet.ejections == 0 && quiet.same_backend, "{quiet:?}");
    assert!(quiet.p50_ms > 100.0, "it was not saturated: {quiet:?}");
}
