//! The controller may die at any time: what it keeps serving goes on, and the next one takes it up.

use std::fs;
use std::thread;
use std::time::Duration;

use baton_tests::lab::{Lab, eventually, leftovers};
use serde_json::Value;

const MIXED: [&str; 2] = [
    "name=short,path=/free,weight=1,mode=close",
    "name=keep-alive,path=/free,weight=1,mode=keep-alive,requests=20,idle=500ms",
];

fn pids(status: &Value) -> Vec<u64> {
    status["backends"].as_array().unwrap().iter().map(|backend| backend["pid"].as_u64().unwrap()).collect()
}

#[test]
fn ten_killed_controllers_in_a_row_lose_nothing_and_restart_nothing() {
    let mut lab = Lab::new();
    lab.up_healthy(&[]);
    let before = lab.status();
    let netns = lab.netns().file().try_clone().unwrap();
    drop(netns);
    let report = thread::scope(|scope| {
        let (stop, stopped) = std::sync::mpsc::channel::<()>();
        let load = {
            let client = baton::net::netns::NetnsHandle::open(&namespace_of(&lab)).unwrap();
            scope.spawn(move || {
                baton::net::netns::run_in(&client, || {
                    let mut plan = baton::load::Plan::new(baton_tests::lab::VIP.into());
                    plan.kinds = MIXED.iter().map(|kind| kind.parse().unwrap()).collect();
                    (plan.rate, plan.duration) = (150.0, Duration::from_secs(15));
                    let report = baton::load::run_blocking(&plan, &mut ()).unwrap();
                    drop(stopped);
                    report
                })
                .unwrap()
            })
        };
        for _ in 0..10 {
            lab.kill_controller();
            lab.up_again();
        }
        drop(stop);
        load.join().unwrap()
    });
    assert!(report.summary.is_clean(), "{}", baton::load::render(&report.summary));
    let after = lab.status();
    assert_eq!(pids(&before), pids(&after));
    assert_eq!(before["epoch"], after["epoch"]);
}

/// The host's namespace as a file, through the controller that runs in it.
fn namespace_of(lab: &Lab) -> std::path::PathBuf {
    format!("/proc/{}/ns/net", lab.controller()).into()
}

#[test]
fn a_drain_is_taken_up_where_the_killed_controller_left_it() {
    let mut lab = Lab::new();
    lab.up_healthy(&[]);
    let mut old = lab.connect();
    let drained = old.get("/free").unwrap().backend;
    assert_eq!(lab.baton(&["rejuvenate", lab.name()]).status.code(), Some(0));
    eventually("the old backend drains", || lab.states().contains(&"draining".to_owned()));
    let pid = lab.backend("draining")["pid"].clone();
    lab.kill_controller();
    assert_eq!(old.get("/free").unwrap().backend, drained, "the flow goes on without a controller");
    // The same command line; both are not ready at once, since the drain goes on.
    let waiting = old.get("/free").unwrap();
    assert_eq!(waiting.backend, drained);
    drop(old);
    lab.up_again();
    assert_ne!(lab.backend("standby")["pid"], pid, "the drained backend was restarted");
    assert_eq!(lab.status()["rejuvenations"], 1);
    assert!(lab.events().contains("rejuvenation 1 completed"), "{}", lab.events());
}

#[test]
fn what_a_killed_controller_left_is_removed_by_down() {
    let mut lab = Lab::new();
    lab.up_healthy(&["--memory-max", "64M"]);
    lab.kill_controller();
    assert_eq!(lab.connect().get("/free").unwrap().status, 200, "it serves without a controller");
    assert!(!leftovers(lab.name()).is_empty());
    let down = lab.baton(&["down", "--name", lab.name()]);
    assert!(down.status.success(), "{}", String::from_utf8_lossy(&down.stderr));
    assert_eq!(leftovers(lab.name()), Vec::<String>::new());
}

#[test]
fn a_signal_takes_everything_down() {
    let mut lab = Lab::new();
    lab.up_healthy(&[]);
    assert_eq!(lab.end_controller(), Some(0));
    assert_eq!(leftovers(lab.name()), Vec::<String>::new());
}

#[test]
fn the_commands_output_is_shown_with_the_backends_names() {
    let mut lab = Lab::new();
    let script = "echo hello from $BATON_BACKEND of $BATON_SERVICE; exec python3 -m http.server 8080";
    lab.up(&[], &["sh", "-c", script]);
    for backend in ["a", "b"] {
        let line = format!("{backend} | hello from {backend} of {}", lab.name());
        eventually("its output is shown", || lab.output().contains(&line));
    }
    assert!(fs::read_to_string(lab.file("controller-1")).unwrap().contains("is up"));
}
