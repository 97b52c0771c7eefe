//! What operators say to a running service, by the command line, and how long their word stands.

use std::process::Output;
use std::thread;
use std::time::Duration;

use baton_tests::lab::{Lab, eventually};

fn said(output: &Output) -> String {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    text(&output.stdout) + &text(&output.stderr)
}

/// The name of the backend in this state.
fn named(lab: &Lab, state: &str) -> String {
    lab.backend(state)["name"].as_str().unwrap().to_owned()
}

fn code(output: &Output) -> Option<i32> {
    output.status.code()
}

#[test]
fn a_drained_backend_is_held_out_with_its_process_until_it_is_taken_back() {
    let mut lab = Lab::new();
    lab.up_healthy(&[]);
    let mut old = lab.connect();
    old.get("/free").unwrap();
    let backend = lab.backend("active");
    let (name, pid) = (backend["name"].as_str().unwrap(), &backend["pid"]);
    let late = lab.baton(&["drain", lab.name(), name, "--wait", "--timeout", "300ms"]);
    assert_eq!(code(&late), Some(3), "{}", said(&late));
    assert!(said(&late).contains("it goes on"), "{}", said(&late));
    assert_eq!(lab.backend("draining")["name"], backend["name"]);
    assert_eq!(old.get("/free").unwrap().status, 200, "an old connection stays");
    thread::scope(|scope| {
        let drain = scope.spawn(|| lab.baton(&["drain", lab.name(), name, "--wait", "--json"]));
        thread::sleep(Duration::from_millis(300));
        drop(old);
        let drain = drain.join().unwrap();
        assert_eq!(code(&drain), Some(0), "{}", said(&drain));
        let report: serde_json::Value = serde_json::from_slice(&drain.stdout).unwrap();
        assert_eq!((&report["outcome"], &report["flows_finished"]), (&"held_out".into(), &1.into()));
    });
    assert_eq!(&lab.backend("maintenance")["pid"], pid, "it was not restarted");
    let refused = lab.baton(&["rejuvenate", lab.name()]);
    assert_eq!(code(&refused), Some(1));
    assert!(said(&refused).contains(&format!("{name} is maintenance")), "{}", said(&refused));
    let ready = lab.baton(&["ready", lab.name(), name]);
    assert_eq!(code(&ready), Some(0), "{}", said(&ready));
    let waited = lab.baton(&["wait", lab.name(), "--for", "standby-ready", "--timeout", "10s"]);
    assert_eq!(code(&waited), Some(0), "{}", said(&waited));
    assert_eq!(&lab.backend("standby")["pid"], pid);
}

#[test]
fn an_operators_word_outlives_the_controller() {
    let mut lab = Lab::new();
    lab.up_healthy(&[]);
    let standby = named(&lab, "standby");
    for words in [&["drain", lab.name(), &standby][..], &["pause", lab.name()]] {
        let output = lab.baton(words);
        assert_eq!(code(&output), Some(0), "{}", said(&output));
    }
    assert_eq!(lab.status()["paused"], true);
    lab.kill_controller();
    lab.start_again();
    eventually("the controller is back", || lab.status()["paused"] == true);
    assert_eq!(named(&lab, "maintenance"), standby);
    let shown = said(&lab.baton(&["status", "--name", lab.name()]));
    assert!(shown.contains("paused") && shown.contains("maintenance"), "{shown}");
    for words in [&["ready", lab.name(), &standby][..], &["resume", lab.name()]] {
        let output = lab.baton(words);
        assert_eq!(code(&output), Some(0), "{}", said(&output));
    }
    eventually("the standby is back", || lab.states().contains(&"standby".to_owned()));
    assert_eq!(lab.status()["paused"], false);
}

#[test]
fn a_rehearsal_says_what_would_be_done_and_does_nothing() {
    let mut lab = Lab::new();
    lab.up_healthy(&[]);
    let (active, standby) = (named(&lab, "active"), named(&lab, "standby"));
    let rejuvenation = lab.baton(&["rejuvenate", lab.name(), "--dry-run"]);
    assert_eq!(code(&rejuvenation), Some(0));
    let expected = format!("would: handover 1: new flows go to {standby}, {active} drains (operator)");
    assert!(said(&rejuvenation).contains(&expected), "{}", said(&rejuvenation));
    let drain = lab.baton(&["drain", lab.name(), &standby, "--dry-run"]);
    assert_eq!(code(&drain), Some(0));
    assert!(said(&drain).contains("held out by the operator"), "{}", said(&drain));
    let ready = lab.baton(&["ready", lab.name(), &active, "--dry-run"]);
    assert_eq!(code(&ready), Some(1));
    assert!(said(&ready).contains("not held out"), "{}", said(&ready));
    let mut states = lab.states();
    states.sort();
    assert_eq!(states, ["active", "standby"]);
    assert_eq!(lab.status()["rejuvenations"], 0);
}

#[test]
fn one_backend_may_be_named_and_wrong_words_are_told_apart() {
    let mut lab = Lab::new();
    lab.up_healthy(&[]);
    let (active, standby) = (lab.backend("active"), lab.backend("standby"));
    let name = standby["name"].as_str().unwrap();
    let renewed = lab.baton(&["rejuvenate", lab.name(), "--backend", name, "--wait"]);
    assert_eq!(code(&renewed), Some(0), "{}", said(&renewed));
    assert_eq!(lab.backend("active")["pid"], active["pid"]);
    assert_ne!(lab.backend("standby")["pid"], standby["pid"], "it was restarted");
    let expectations: [(&[&str], i32, &str); 5] = [
        (&["rejuvenate", lab.name(), "--backend", "nobody"], 1, "there is no backend `nobody`"),
        (&["drain", lab.name()], 2, "required"),
        (&["wait", lab.name(), "--for", "state=asleep"], 2, "maintenance"),
        (&["wait", lab.name(), "--for", "state=failed", "--timeout", "200ms"], 3, "not so after 200ms"),
        (&["wait", lab.name(), "--for", "drained"], 0, ""),
    ];
    for (words, expected, text) in expectations {
        let output = lab.baton(words);
        assert_eq!(code(&output), Some(expected), "{words:?}: {}", said(&output));
        assert!(said(&output).contains(text), "{words:?}: {}", said(&output));
    }
}
