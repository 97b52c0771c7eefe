//! Checks of a real service: by every kind, from where its clients' packets come, and once by hand.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};
use std::thread;
use std::time::Duration;

use baton::net::netns::run_in;
use baton_tests::lab::{Lab, baton, eventually};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

/// What `baton check --json` printed, a value a line.
fn outcomes(output: &Output) -> Vec<Value> {
    String::from_utf8_lossy(&output.stdout).lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// A script of the lab's.
fn script(lab: &Lab, text: &str) -> PathBuf {
    let path = lab.file("script");
    fs::write(&path, format!("#!/bin/sh\n{text}\n")).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    path
}

#[test]
fn a_script_decides_when_a_backend_is_ready_and_when_not_any_more() {
    let mut lab = Lab::new();
    let broken = lab.file("broken");
    let seen = lab.file("seen");
    let text = format!(
        "echo $BATON_SERVICE $BATON_BACKEND $BATON_PORT >>{seen}\n[ ! -e {broken}.$BATON_BACKEND ] || \
         {{ echo 'out of licences'; exit 3; }}",
        seen = seen.display(),
        broken = broken.display()
    );
    let check = format!("script:{}", script(&lab, &text).display());
    lab.up_healthy(&["--check", &check]);
    let asked = fs::read_to_string(&seen).unwrap();
    for backend in ["a", "b"] {
        assert!(asked.contains(&format!("{} {backend} 8080\n", lab.name())), "{asked}");
    }
    let active = lab.backend("active")["name"].as_str().unwrap().to_owned();
    fs::write(lab.file(&format!("broken.{active}")), []).unwrap();
    eventually("the other one is active", || {
        lab.states().iter().any(|state| state == "active") && lab.backend("active")["name"] != *active
    });
    assert!(lab.events().contains("out of licences"), "{}", lab.events());
}

#[test]
fn baton_check_asks_both_backends_as_the_controller_does_and_without_one() {
    let mut lab = Lab::new();
    lab.up_healthy(&["--check", "http:/free"]);
    let name = lab.name().to_owned();
    for is_controlled in [true, false] {
        if !is_controlled {
            lab.kill_controller();
        }
        let output =
            lab.baton(&["check", "--service", &name, "--count", "3", "--interval", "10ms", "--json"]);
        let found = outcomes(&output);
        assert_eq!(output.status.code(), Some(0), "{found:?}");
        assert_eq!(found.len(), 6);
        for (outcome, backend) in found.iter().zip(["a", "b"].iter().cycle()) {
            assert_eq!((&outcome["backend"], &outcome["passed"]), (&Value::from(*backend), &true.into()));
            assert!(outcome["address"].as_str().unwrap().ends_with(":8080"), "{outcome}");
            assert!(outcome["took_ms"].as_f64().unwrap() > 0.0 && outcome["unix_ms"].as_u64() > Some(0));
        }
    }
    let output = lab.baton(&["check", "--service", &name, "--check", "http:/nowhere", "--json"]);
    assert_eq!(output.status.code(), Some(1));
    let found = outcomes(&output);
    let why = found[1]["finding"]["wrong_answer"].as_str().unwrap();
    assert!(why.starts_with("status 404"), "{found:?}");
    let output = lab.baton(&["check", "--service", &name, "--check", "udp:ping"]);
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains(" a 10.77.") && said.contains("failed after"), "{said}");
    assert!(said.contains("connection refused") && said.contains("0 of 2 checks passed"), "{said}");
    lab.up_again();
}

#[test]
fn an_address_is_checked_from_here_over_ipv4_and_ipv6() {
    let lab = Lab::new();
    let listen = |address: &str| {
        let listener = run_in(lab.netns(), || std::net::TcpListener::bind(address)).unwrap().unwrap();
        let address = listener.local_addr().unwrap().to_string();
        (listener, address)
    };
    for address in ["127.0.0.1:0", "[::1]:0"] {
        let (listener, address) = listen(address);
        let words = ["check", &address, "--check", "tcp", "--json"];
        let output = lab.baton(&words);
        assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
        assert_eq!(outcomes(&output)[0]["backend"], Value::Null);
        drop(listener);
        let output = lab.baton(&words);
        assert_eq!(output.status.code(), Some(1));
        assert_eq!(outcomes(&output)[0]["finding"], "refused");
    }
}

#[test]
fn flags_that_do_not_fit_the_check_end_with_code_2() {
    let lab = Lab::new();
    for (words, said) in [
        (&["127.0.0.1:80"][..], "--check"),
        (&[], "IP:PORT"),
        (&["127.0.0.1:80", "--service", "x"], "--service"),
        (&["127.0.0.1:80", "--check", "ping"], "is no check"),
        (&["127.0.0.1:80", "--check", "http:/", "--insecure"], "belong to an `https` check"),
        (&["127.0.0.1:80", "--check", "tcp", "--answer", "x"], "--answer belongs to"),
        (&["127.0.0.1:80", "--check", "http:/", "--answer", "("], "unclosed group"),
    ] {
        let output = lab.baton(&[&["check"], words].concat());
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{words:?}: {stderr}");
        assert!(stderr.contains(said), "{words:?}: {stderr}");
    }
    let output = lab.baton(&["check", "--service", "nobody"]);
    assert_eq!(output.status.code(), Some(1));
}

#[test]
fn a_check_that_is_interrupted_takes_its_script_along() {
    let lab = Lab::new();
    let file = lab.file("pid");
    let check =
        format!("script:{}", script(&lab, &format!("echo $$ >{}; sleep 1000", file.display())).display());
    let words = ["check", "127.0.0.1:1", "--check", &check, "--timeout", "1000s"];
    let mut baton = Command::new(baton()).args(words).stdout(Stdio::null()).spawn().unwrap();
    let mut pid = None;
    eventually("the script runs", || {
        pid = fs::read_to_string(&file).ok().and_then(|text| text.trim().parse().ok()).map(Pid::from_raw);
        pid.is_some()
    });
    kill(Pid::from_raw(baton.id().cast_signed()), Signal::SIGINT).unwrap();
    assert_eq!(baton.wait().unwrap().code(), Some(1));
    eventually("the script is gone", || {
        thread::sleep(Duration::from_millis(10));
        kill(pid.unwrap(), None).is_err()
    });
}
