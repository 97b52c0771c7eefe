//! What the packet path sees of clients, beside the checks: it confirms that a backend is unfit long before checks
//! alone would say so.

use std::io;
use std::thread;
use std::time::Duration;

use baton_tests::lab::{Client, eventually};
use baton_tests::plane::{Governed, Options};
use serde_json::Value;

/// Checks alone would need a minute.
const CHECKS: &str =
    "type = \"http\"\npath = \"/health\"\nfall = 1000\ninterval = \"60ms\"\nfast_interval = \"60ms\"\n";
/// Time for more checks than clients would have to confirm.
const A_WHILE: Duration = Duration::from_secs(1);

/// A service of two that can be told to fail, whose checks take long to be believed.
fn up() -> Governed {
    let mut governed = Governed::new(Options::default());
    let text = governed.describe_processes("shop", governed.embedded_vip(), &["a", "b"], "");
    let text = text.replace("\"--healthy\"", "\"--healthy\", \"--faults\"");
    let (head, checks) = text.split_once("type = \"tcp\"\n").unwrap();
    let (_, backends) = checks.split_once("[[service.backend]]").unwrap();
    governed.up(&[format!("{head}{CHECKS}[[service.backend]]{backends}")]);
    governed
}

fn connect(governed: &Governed) -> io::Result<Client> {
    Client::connect(&governed.client(0).netns, governed.embedded_vip())
}

fn backend(governed: &Governed, name: &str) -> Value {
    let status = governed.status().remove(0);
    let found = status["backends"].as_array().unwrap().iter().find(|backend| backend["name"] == name);
    found.unwrap().clone()
}

#[test]
fn clients_whom_a_backend_resets_as_it_does_the_checks_have_it_taken_out() {
    let governed = up();
    let old = governed.backends_in("shop", "active").remove(0);
    let mut before = connect(&governed).unwrap();
    assert_eq!(before.get("/fault?mode=reset").unwrap().status, 200);
    eventually("its checks are reset", || backend(&governed, &old)["watch"]["finding"] == "connection reset");
    thread::sleep(A_WHILE);
    assert_eq!(backend(&governed, &old)["state"], "active", "no client was reset yet: {}", governed.output());

    before.get("/free").expect_err("a reset");
    eventually("new flows go elsewhere", || {
        // Clients go on asking; those whom it still gets are reset.
        let answer = connect(&governed).and_then(|mut client| client.get("/free"));
        answer.is_ok_and(|answer| answer.backend != old)
    });
    eventually("it is renewed", || governed.backends_in("shop", "standby") == [old.clone()]);
    let report = governed.reports("shop").pop().expect("a report");
    assert_eq!((&report["reason"]["code"], &report["from"]), (&"unhealthy".into(), &old.clone().into()));
    assert!(report["reason"]["finding"].as_str().unwrap().contains("connection reset"), "{report:#}");
    assert_eq!(report["outcome"], "completed", "{report:#}");
    assert_eq!(report["cut"].as_array().map_or(0, Vec::len), 0, "{report:#}");
}

#[test]
fn clients_who_ask_in_vain_as_the_checks_do_have_it_declared_dead() {
    let governed = up();
    let old = governed.backends_in("shop", "active").remove(0);
    assert_eq!(connect(&governed).unwrap().get("/fault?mode=silent").unwrap().status, 200);
    let mut waiting = connect(&governed).unwrap();
    waiting.send("/free").unwrap();
    eventually("its checks are not answered", || {
        // New connections, for one that was open before proves nothing; the last of them may be reset.
        let _ = connect(&governed).and_then(|mut client| client.send("/free"));
        governed.backends_in("shop", "active").iter().any(|active| *active != old)
    });
    waiting.read().expect_err("its connections are reset at once");
    assert_ne!(connect(&governed).unwrap().get("/free").unwrap().backend, old);
    eventually("it is renewed", || governed.backends_in("shop", "standby") == [old.clone()]);
    let report = governed.reports("shop").pop().expect("a report");
    assert_eq!((&report["reason"]["code"], &report["from"]), (&"died".into(), &old.into()), "{report:#}");
}
