//! What operators say to a running service, by the command line, and how long their word stands.

use std::process::Output;
use std::thread;
use std::time::Duration;

use baton_tests::lab::{Lab, eventually};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

fn said(output: &Output) -> String {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    text(&output.stdout) + &text(&output.stderr)
}

/// What `--json` printed: one document, whatever the exit code.
fn document(output: &Output) -> Value {
    serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {}", said(output)))
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
        let report = &document(&drain)["report"];
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
fn what_was_cut_and_is_taken_back_goes_on_and_is_not_cut_once_more() {
    let mut lab = Lab::new();
    lab.up_healthy(&[]);
    let (name, mut old) = (named(&lab, "active"), lab.connect());
    old.get("/free").unwrap();
    for words in [&["drain", lab.name(), &name][..], &["cut", lab.name(), "--wait"]] {
        let output = lab.baton(words);
        assert_eq!(code(&output), Some(0), "{words:?}: {}", said(&output));
    }
    assert_eq!(named(&lab, "maintenance"), name);
    assert!(old.get("/free").is_err(), "it was cut");
    let ready = lab.baton(&["ready", lab.name(), &name, "--wait", "--timeout", "10s"]);
    assert_eq!(code(&ready), Some(0), "{}", said(&ready));
    let renewed = lab.baton(&["rejuvenate", lab.name(), "--backend", &name, "--wait", "--json"]);
    assert_eq!(code(&renewed), Some(0), "{}", said(&renewed));
    assert_eq!(document(&renewed)["report"]["cut"], Value::Array(Vec::new()));
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

/// The verbs that change nothing when they are rehearsed, with what they need.
fn verbs<'a>(lab: &'a Lab, standby: &'a str) -> [Vec<&'a str>; 6] {
    let name = lab.name();
    [
        vec!["rejuvenate", name],
        vec!["drain", name, standby],
        vec!["pause", name],
        vec!["resume", name],
        vec!["maintenance", name, "on"],
        vec!["maintenance", name, "on", "--backend", standby],
    ]
}

#[test]
fn every_verb_is_rehearsed_in_one_document_and_its_flags_mean_the_same() {
    let mut lab = Lab::new();
    lab.up_healthy(&[]);
    let standby = named(&lab, "standby");
    for verb in verbs(&lab, &standby) {
        let planned = lab.baton(&[&verb[..], &["--dry-run", "--json"]].concat());
        assert_eq!(code(&planned), Some(0), "{verb:?}: {}", said(&planned));
        let planned = document(&planned);
        assert_eq!(planned["result"], "planned", "{verb:?}: {planned:#}");
        assert_eq!(planned["service"], lab.name(), "{planned:#}");
        let steps = planned["plan"].as_array().unwrap();
        assert_eq!(steps.is_empty(), verb[0] == "resume", "{verb:?}: {planned:#}");
    }
    let name = lab.name();
    for verb in [&["ready", name, &standby][..], &["cut", name]]
        .into_iter()
        .map(<[&str]>::to_vec)
        .chain(verbs(&lab, &standby))
    {
        for flags in [&["--timeout", "5s"][..], &["--wait", "--dry-run"]] {
            let wrong = lab.baton(&[&verb[..], flags].concat());
            assert_eq!(code(&wrong), Some(2), "{verb:?} {flags:?}: {}", said(&wrong));
        }
    }
    // What is refused is a document, too, and says on standard error why.
    for (verb, why) in [(&["ready", name, &standby][..], "not held out"), (&["cut", name], "nothing drains")]
    {
        for flags in [&["--json"][..], &["--json", "--dry-run"]] {
            let refused = lab.baton(&[verb, flags].concat());
            assert_eq!(code(&refused), Some(1), "{verb:?}: {}", said(&refused));
            let message = document(&refused)["message"].as_str().unwrap().to_owned();
            assert_eq!(document(&refused)["result"], "refused");
            assert!(message.contains(why), "{message}");
            assert!(String::from_utf8_lossy(&refused.stderr).contains(&message), "{}", said(&refused));
        }
    }
    assert_eq!((&lab.status()["paused"], &lab.status()["maintenance"]), (&false.into(), &false.into()));
}

#[test]
fn every_verb_waits_for_what_its_operator_expects() {
    let mut lab = Lab::new();
    lab.up_healthy(&[]);
    let (name, standby) = (lab.name().to_owned(), named(&lab, "standby"));
    let done = |words: &[&str]| {
        let output = lab.baton(&[words, &["--wait", "--timeout", "20s", "--json"]].concat());
        assert_eq!(code(&output), Some(0), "{words:?}: {}", said(&output));
        let document = document(&output);
        assert_eq!(document["result"], "done", "{words:?}: {document:#}");
        document
    };
    done(&["pause", &name]);
    assert_eq!(lab.status()["paused"], true);
    done(&["resume", &name]);
    done(&["drain", &name, &standby]);
    assert_eq!(named(&lab, "maintenance"), standby);
    let late = lab.baton(&["wait", &name, "--for", "standby-ready", "--timeout", "100ms", "--json"]);
    assert_eq!((code(&late), &document(&late)["result"]), (Some(3), &"timed_out".into()));
    // Who has died while it was held out is started, and that is waited for.
    let pid = lab.backend("maintenance")["pid"].as_i64().unwrap();
    kill(Pid::from_raw(i32::try_from(pid).unwrap()), Signal::SIGKILL).unwrap();
    eventually("its death is known", || lab.output().contains("is not started again"));
    done(&["ready", &name, &standby]);
    assert_eq!(named(&lab, "standby"), standby);
    let mut old = lab.connect();
    old.get("/free").unwrap();
    let active = named(&lab, "active");
    let begun = lab.baton(&["rejuvenate", &name, "--json"]);
    assert_eq!((code(&begun), &document(&begun)["result"]), (Some(0), &"begun".into()));
    let planned = document(&lab.baton(&["cut", &name, "--dry-run", "--json"]));
    assert_eq!(planned["plan"][0], format!("cut 1 connections on backend {active}, which is restarted now"));
    assert_eq!(named(&lab, "draining"), active, "it was not cut yet");
    let cut = done(&["cut", &name]);
    assert_eq!((&cut["cut"]["flows"], &cut["cut"]["backend"]), (&1.into(), &active.into()), "{cut:#}");
    assert!(!lab.states().iter().any(|state| state.starts_with("drain")), "{:?}", lab.states());
}

#[test]
fn a_verb_that_was_begun_is_not_told_as_refused_when_the_controller_is_killed() {
    let mut lab = Lab::new();
    lab.up_healthy(&[]);
    let mut old = lab.connect();
    old.get("/free").unwrap();
    let pid = Pid::from_raw(lab.controller().cast_signed());
    let told = thread::scope(|scope| {
        let verb = scope.spawn(|| lab.baton(&["rejuvenate", lab.name(), "--wait", "--json"]));
        eventually("it drains", || lab.states().contains(&"draining".to_owned()));
        kill(pid, Signal::SIGKILL).unwrap();
        verb.join().unwrap()
    });
    assert_eq!((code(&told), &document(&told)["result"]), (Some(1), &"unknown".into()), "{}", said(&told));
    assert!(document(&told)["message"].as_str().unwrap().contains("`baton status`"), "{}", said(&told));
    lab.kill_controller();
    lab.start_again();
    drop(old);
    eventually("the next controller goes on with it", || lab.reports().len() == 1);
}
