//! Backends that fail: what cannot be helped is counted honestly, and the service goes on.

use std::thread;
use std::time::Duration;

use baton_tests::lab::{Lab, eventually};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

fn send(signal: Signal, backend: &serde_json::Value) {
    let pid = i32::try_from(backend["pid"].as_u64().unwrap()).unwrap();
    kill(Pid::from_raw(pid), signal).unwrap();
}

#[test]
fn a_standby_that_does_not_answer_gets_nothing_and_the_operator_hears_why() {
    let mut lab = Lab::new();
    lab.up_healthy(&["--check", "http:/health"]);
    let standby = lab.backend("standby");
    send(Signal::SIGSTOP, &standby);
    eventually("the standby is known to be unfit", || !lab.states().contains(&"standby".to_owned()));
    let (code, said) = lab.rejuvenate();
    let said = said.unwrap_err();
    assert_eq!(code, Some(1));
    assert!(said.contains("no standby is ready") && said.contains("no answer in time"), "{said}");
    assert_eq!(lab.status()["rejuvenations"], 0);
    send(Signal::SIGCONT, &standby);
    eventually("the standby is ready again", || lab.states().contains(&"standby".to_owned()));
}

#[test]
fn a_backend_killed_in_the_middle_of_a_request_is_counted_and_replaced() {
    let mut lab = Lab::new();
    lab.up_healthy(&[]);
    let mut client = lab.connect();
    client.send("/slow?ms=5000").unwrap();
    eventually("the request is under way", || {
        lab.backend("active")["flows"]["established"].as_u64() >= Some(1)
    });
    let active = lab.backend("active");
    send(Signal::SIGKILL, &active);
    assert!(client.read().is_err(), "the request is lost, and nobody says otherwise");
    eventually("the standby serves", || lab.backend("active")["name"] != active["name"]);
    assert_eq!(lab.connect().get("/free").unwrap().status, 200);
    eventually("the dead one is back", || lab.states().contains(&"standby".to_owned()));
    assert!(lab.events().contains("died: killed by SIGKILL"), "{}", lab.events());
    let report = lab.reports().pop().expect("a report of what the death cost");
    assert_eq!((&report["reason"]["code"], &report["from"]), (&"died".into(), &active["name"]), "{report:#}");
}

#[test]
fn a_failing_backend_is_seen_by_the_load_as_what_it_is() {
    let mut lab = Lab::new();
    lab.up_healthy(&[]);
    let kinds = ["name=slow,path=/slow?ms=800,weight=1,mode=close"];
    let report = lab.load(40.0, Duration::from_secs(4), &kinds, || {
        eventually("requests are under way", || {
            lab.backend("active")["flows"]["established"].as_u64() >= Some(10)
        });
        send(Signal::SIGKILL, &lab.backend("active"));
    });
    let summary = &report.summary;
    assert!(summary.failed >= 10, "{}", baton::load::render(summary));
    let mid_response = |cause: &str| summary.by_cause.get(cause).copied().unwrap_or(0);
    assert!(
        mid_response("eof_mid_response") + mid_response("reset_mid_response") > 0,
        "{:?}",
        summary.by_cause
    );
    assert!(summary.ok > summary.failed, "only what was under way is lost: {:?}", summary.by_cause);
}

#[test]
fn a_command_beyond_its_memory_limit_is_killed_and_the_standby_serves() {
    let mut lab = Lab::new();
    let service = baton_tests::lab::aging_service();
    let command = [&service, "--listen", "0.0.0.0:8080", "--heap-max", "400MiB", "--leak", "1MiB"];
    lab.up(&["--memory-max", "48M", "--ceiling", "100"], &command);
    let first = lab.backend("active")["name"].clone();
    thread::scope(|scope| {
        scope.spawn(|| {
            let mut client = lab.connect();
            for _ in 0..200 {
                if client.get("/work").is_err() {
                    return;
                }
            }
        });
    });
    eventually("the other one serves", || {
        lab.status()["backends"]
            .as_array()
            .unwrap()
            .iter()
            .any(|b| b["state"] == "active" && b["name"] != first)
    });
    assert_eq!(lab.connect().get("/free").unwrap().status, 200);
    let said = "killed by SIGKILL, after the kernel killed 1 of its processes at the memory limit";
    assert!(lab.events().contains(said), "{}", lab.events());
}
