//! `baton flows` and `baton explain` on a service that runs, beside its controller and after it.

use std::fs;
use std::io::pipe;
use std::process::{Command, Output, Stdio};

use baton::net::netns::run_in;
use baton_tests::lab::{Lab, baton, eventually};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

fn text(output: &[u8]) -> String {
    String::from_utf8_lossy(output).into_owned()
}

#[track_caller]
fn json(output: &Output) -> Value {
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

/// The service's flows from one client, as `baton flows` lists them.
#[track_caller]
fn flows(lab: &Lab, words: &[&str]) -> Vec<Value> {
    let common = ["flows", "--service", lab.name(), "--json"];
    json(&lab.baton(&[&common, words].concat())).as_array().unwrap().clone()
}

#[test]
fn flows_and_explanations_are_to_be_had_without_a_controller() {
    let mut lab = Lab::new();
    lab.up_healthy(&[]);
    let mut client = lab.connect();
    let backend = client.get("/free").unwrap().backend;
    let address = client.stream().local_addr().unwrap().to_string();
    let explain = |lab: &Lab, from: &str, flags: &str| {
        let words = ["explain", "--service", lab.name(), "--from", from, "--flags", flags, "--json"];
        json(&lab.baton(&words))
    };
    for is_controlled in [true, false] {
        if !is_controlled {
            lab.kill_controller();
        }
        let listed = flows(&lab, &["--state", "established", "--backend", &backend]);
        let own = listed.iter().find(|flow| flow["client"] == address.as_str());
        let own = own.unwrap_or_else(|| panic!("{address} is not among {listed:?}"));
        assert_eq!((&own["service"], &own["backend"]), (&lab.name().into(), &backend.as_str().into()));
        assert_eq!((&own["state"], &own["awaiting_response"]), (&"established".into(), &false.into()));

        let counts = flows(&lab, &["--count"]);
        let of_backend = counts.iter().find(|count| count["backend"] == backend.as_str()).unwrap();
        assert!(of_backend["established"].as_u64() >= Some(1), "{counts:?}");
        assert_eq!(counts.len(), 2, "a backend without flows is counted, too");

        let answer = explain(&lab, &address, "ACK");
        assert_eq!((&answer["action"], &answer["reason"]), (&"send".into(), &"pinned_flow".into()));
        assert_eq!(answer["backend"]["name"], backend.as_str());
        assert_eq!(answer["next_hop"]["interface"], backend.as_str(), "the balancer's end of its cable");
        assert_eq!(answer["flow"]["state"], "established");
        assert_eq!(client.get("/free").unwrap().backend, backend, "and there it goes");
        let answer = explain(&lab, "192.0.2.77:40001", "SYN");
        assert_eq!((&answer["reason"], &answer["flow"]), (&"new_flow".into(), &Value::Null));
        assert_eq!(answer["backend"]["name"], answer["steering"]["active"]);
        assert!(flows(&lab, &["--client", "192.0.2.77"]).is_empty(), "asking pins nothing");
    }
}

#[test]
fn listings_are_cut_sorted_and_filtered_as_asked() {
    let mut lab = Lab::new();
    lab.up_healthy(&[]);
    let mut clients: Vec<_> = (0..5).map(|_| lab.connect()).collect();
    for client in &mut clients {
        assert_eq!(client.get("/free").unwrap().status, 200);
    }
    let from = clients[0].stream().local_addr().unwrap().ip().to_string();
    let mut ports: Vec<u16> =
        clients.iter().map(|client| client.stream().local_addr().unwrap().port()).collect();
    ports.sort_unstable();
    // The balancer's own checks come from other addresses.
    let sorted = flows(&lab, &["--client", &from, "--sort", "client"]);
    let listed: Vec<u16> = sorted
        .iter()
        .map(|flow| flow["client"].as_str().unwrap().rsplit(':').next().unwrap().parse().unwrap())
        .collect();
    assert_eq!(listed, ports);
    assert_eq!(flows(&lab, &["--client", &from, "--limit", "2"]).len(), 2);
    assert!(flows(&lab, &["--client", &from, "--idle-over", "1h"]).is_empty());
    assert!(flows(&lab, &["--client", &from, "--state", "closed"]).is_empty());
    drop(clients);
    eventually("the flows are seen to be closed", || {
        flows(&lab, &["--client", &from, "--state", "closed"]).len() == 5
    });
}

#[test]
fn what_is_not_there_is_wrong_use_and_the_message_names_what_is() {
    let mut lab = Lab::new();
    lab.up_healthy(&[]);
    for words in [
        &["flows", "--service", "nobody"][..],
        &["explain", "--service", "nobody", "--from", "192.0.2.77:40001"],
    ] {
        let output = lab.baton(words);
        assert_eq!(output.status.code(), Some(2), "{}", text(&output.stderr));
        assert!(text(&output.stderr).contains(lab.name()), "{}", text(&output.stderr));
    }
    let output = lab.baton(&["flows", "--service", lab.name(), "--backend", "c"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(text(&output.stderr).contains("there are: a, b"), "{}", text(&output.stderr));
    let output = lab.baton(&["explain", "--service", lab.name(), "--from", "[fd00::1]:40001"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(text(&output.stderr).contains("one is IPv4"), "{}", text(&output.stderr));
}

/// Runs `baton` with nobody at the other end of its standard output.
fn unread(lab: &Lab, words: &[&str]) -> Output {
    let (reader, writer) = pipe().unwrap();
    drop(reader);
    let mut command = Command::new(baton());
    command.args(words).stdin(Stdio::null()).stdout(writer).stderr(Stdio::piped());
    run_in(lab.netns(), || command.spawn().unwrap().wait_with_output()).unwrap().unwrap()
}

#[test]
fn a_reader_that_has_gone_is_a_good_end_of_every_command() {
    let mut lab = Lab::new();
    lab.up_healthy(&[]);
    let config = lab.file("baton.toml");
    fs::write(&config, lab.baton(&["config", "example"]).stdout).unwrap();
    let name = lab.name();
    for words in [
        &["status", "--name", name][..],
        &["status", "--name", name, "--json"],
        &["explain", "--service", name, "--from", "10.1.2.3:4", "--json"],
        &["explain", "--service", name, "--from", "10.1.2.3:4"],
        &["config", "check", config.to_str().unwrap()],
        &["config", "example"],
        &["rejuvenate", name, "--dry-run"],
        &["pause", name],
        &["events", "--name", name],
        &["flows", "--service", name],
        &["completions", "bash"],
        &["check", "--service", name, "--count", "2"],
    ] {
        let output = unread(&lab, words);
        let said = text(&output.stderr);
        assert_eq!(output.status.code(), Some(0), "{words:?}: {said}");
        assert!(!said.contains("panicked"), "{words:?}: {said}");
    }
    // What cannot be written for another reason has failed.
    let full = fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    let mut command = Command::new(baton());
    command.args(["status", "--name", name]).stdin(Stdio::null()).stdout(full);
    let output = run_in(lab.netns(), || command.output()).unwrap().unwrap();
    assert_eq!(output.status.code(), Some(1), "{}", text(&output.stderr));
    assert!(text(&output.stderr).contains("standard output cannot be written"), "{}", text(&output.stderr));
}

#[test]
fn a_controller_that_does_not_answer_hides_no_other_service() {
    let mut first = Lab::new();
    first.up_healthy(&[]);
    let mut second = first.beside();
    second.up_healthy(&[]);
    let mut third = first.beside();
    third.up_healthy(&[]);
    third.kill_controller();
    let stopped = Pid::from_raw(second.controller().cast_signed());
    kill(stopped, Signal::SIGSTOP).unwrap();
    let (shown, listed) = (first.baton(&["status"]), first.baton(&["status", "--json"]));
    kill(stopped, Signal::SIGCONT).unwrap();
    assert_eq!((shown.status.code(), listed.status.code()), (Some(1), Some(1)));
    assert!(text(&shown.stdout).contains(&format!("{} at ", first.name())), "{}", text(&shown.stdout));
    let all: Value = serde_json::from_slice(&listed.stdout).unwrap();
    let entry =
        |lab: &Lab| all.as_array().unwrap().iter().find(|entry| entry["service"] == lab.name()).unwrap();
    assert_eq!(entry(&first)["backends"].as_array().map(Vec::len), Some(2), "{all:#}");
    for (lab, why) in [(&second, "did not answer in time"), (&third, "no controller is running")] {
        let error = entry(lab)["error"].as_str().unwrap_or_default();
        assert!(error.contains(why) && entry(lab)["backends"].is_null(), "{all:#}");
        assert!(
            text(&shown.stderr).contains(&format!("service {}: {error}", lab.name())),
            "{}",
            text(&shown.stderr)
        );
    }
}
