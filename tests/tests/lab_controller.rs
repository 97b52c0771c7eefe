//! The controller may die at any time: what it keeps serving goes on, and the next one takes it up.

use std::fs;
use std::io::pipe;
use std::os::fd::AsFd;
use std::thread;
use std::time::Duration;

use baton::load::Executions;
use baton::net::netns::run_in;
use baton_tests::lab::{Lab, eventually, leftovers};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

const MIXED: [&str; 2] = [
    "name=short,path=/free,weight=1,mode=close",
    "name=keep-alive,path=/free,weight=1,mode=keep-alive,requests=20,idle=500ms",
];

fn pids(status: &Value) -> Vec<u64> {
    status["backends"].as_array().unwrap().iter().map(|backend| backend["pid"].as_u64().unwrap()).collect()
}

#[test]
fn more_than_ten_killed_controllers_in_a_row_lose_nothing_and_restart_nothing() {
    let mut lab = Lab::new();
    lab.up_healthy(&[]);
    let before = lab.status();
    let load = lab.load_plan(150.0, Duration::from_secs(15), &MIXED);
    let host = lab.netns().try_clone().unwrap();
    let (mut report, kills) = thread::scope(|scope| {
        let load = scope.spawn(|| run_in(&host, || baton::load::run_blocking(&load, &mut ())));
        let mut kills = 0;
        while !load.is_finished() {
            lab.kill_controller();
            lab.up_again();
            kills += 1;
        }
        (load.join().unwrap().unwrap().unwrap(), kills)
    });
    // The last one may have met the end of the load.
    assert!(kills > 10, "{kills} kills under load");
    report.audit(&Executions::read(&[lab.execution_log()], &report).unwrap());
    assert!(report.summary.is_clean(), "{}", baton::load::render(&report.summary));
    let after = lab.status();
    assert_eq!(pids(&before), pids(&after));
    assert_eq!(before["epoch"], after["epoch"]);
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

#[test]
fn a_reader_who_never_reads_holds_up_nothing() {
    let mut lab = Lab::new();
    let chatter = "(while :; do printf '%4000s\\n' x; sleep 0.02; done) & exec python3 -m http.server 8080";
    lab.up(&[], &["sh", "-c", chatter]);
    lab.kill_controller();
    let (reader, writer) = pipe().unwrap();
    let full = writer.try_clone().unwrap();
    lab.start_into(writer);
    eventually("the pipe is full", || {
        let mut ends = [PollFd::new(full.as_fd(), PollFlags::POLLOUT)];
        poll(&mut ends, PollTimeout::ZERO).unwrap() == 0 && lab.states().len() == 2
    });
    eventually("both stand", || {
        let mut states = lab.states();
        states.sort();
        states == ["active", "standby"]
    });
    let dead = lab.backend("active");
    kill(Pid::from_raw(i32::try_from(dead["pid"].as_i64().unwrap()).unwrap()), Signal::SIGKILL).unwrap();
    eventually("the death is answered", || {
        lab.states().contains(&"active".to_owned()) && lab.backend("active")["name"] != dead["name"]
    });
    assert_eq!(lab.end_controller(), Some(0), "it ends when it is told to");
    drop(reader);
}
