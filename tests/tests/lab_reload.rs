//! `baton reload` in the middle of things: nothing that is under way is broken off, done twice or forgotten, and the
//! service is watched all the while.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::slice;
use std::thread;
use std::time::Duration;

use baton::paths::Roots;
use baton_tests::lab::eventually;
use baton_tests::plane::{Governed, Options, assert_nothing_lost, backend_name};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

/// Requests of every kind come by within this.
const A_WHILE: Duration = Duration::from_secs(1);
const QUICK_DRAIN: &str = "[service.drain]\ndeadline = \"20s\"\n";
const OTHER_DRAIN: &str = "[service.drain]\ndeadline = \"21s\"\n";

fn lines(path: &Path) -> usize {
    fs::read_to_string(path).map_or(0, |text| text.lines().count())
}

/// A service of two whose stop takes until a file is there, and is counted.
fn slow_to_stop(governed: &Governed, settings: &str) -> String {
    slow_to_stop_of(governed, settings, 2)
}

/// The same of more.
fn slow_to_stop_of(governed: &Governed, settings: &str, backends: usize) -> String {
    let mut text = governed.describe("shop", settings);
    for number in 0..backends {
        let stop = governed.file(&format!("stop-{number}")).display().to_string();
        let (counted, released) = (governed.file(&format!("stops-{number}")), governed.file("released"));
        let slow = governed.script(
            &format!("slow-stop-{number}"),
            &format!(
                "echo stop >> {}\n{stop}\nfor _ in $(seq 300); do test -e {} && exit 0; sleep 0.1; done\n",
                counted.display(),
                released.display()
            ),
        );
        text =
            text.replace(&format!("stop = [\"{stop}\"]"), &format!("stop = [\"{slow}\"]\ntimeout = \"1m\""));
    }
    text
}

fn number_of(name: &str) -> usize {
    (0..3).find(|number| backend_name(*number) == name).expect("a backend of the lab")
}

/// A service's text without one of its backends.
fn without(service: &str, backend: &str) -> String {
    let section = format!("[[service.backend]]\nname = \"{backend}\"");
    let at = service.find(&section).expect("the backend's section");
    let next = service[at + 1..].find("[[service.backend]]").map_or(service.len(), |length| at + 1 + length);
    format!("{}{}", &service[..at], &service[next..])
}

/// Asks over a connection that stays open, and returns the whole answer.
fn ask(connection: &mut TcpStream) -> String {
    connection.set_read_timeout(Some(A_WHILE * 3)).unwrap();
    connection.write_all(b"GET /free HTTP/1.1\r\nHost: shop\r\n\r\n").unwrap();
    let mut bytes = [0; 4096];
    let length = connection.read(&mut bytes).expect("an answer");
    String::from_utf8_lossy(&bytes[..length]).into_owned()
}

#[test]
fn a_reload_while_a_backend_is_stopped_waits_for_nothing_and_loses_nothing() {
    let mut governed = Governed::new(Options::default());
    let text = slow_to_stop(&governed, QUICK_DRAIN);
    governed.up(&[text]);
    let old = governed.backends_in("shop", "active").remove(0);
    let requests = governed.requests(0);
    thread::sleep(A_WHILE);
    let report = thread::scope(|scope| {
        let waiting = scope.spawn(|| governed.rejuvenate("shop", None));
        eventually("it is being stopped", || governed.backends_in("shop", "recovering") == [old.clone()]);
        governed.configure(&[slow_to_stop(&governed, OTHER_DRAIN)]);
        let said = governed.reload().unwrap();
        assert!(said.contains("other `drain` (in place)"), "{said}");
        assert_eq!(governed.backends_in("shop", "recovering"), slice::from_ref(&old), "the stop goes on");
        fs::write(governed.file("released"), "").unwrap();
        waiting.join().unwrap()
    });
    thread::sleep(A_WHILE);
    assert_nothing_lost(&requests.end(), 2);
    assert_eq!(report["outcome"], "completed", "{report:#}");
    assert_eq!(lines(&governed.file(&format!("stops-{}", number_of(&old)))), 1, "it is stopped once");
}

#[test]
fn a_death_is_answered_while_a_reload_and_a_stop_are_under_way() {
    let mut governed = Governed::new(Options { backends: 2, ..Options::default() });
    let text = slow_to_stop(&governed, QUICK_DRAIN);
    governed.up(&[text]);
    let old = governed.backends_in("shop", "active").remove(0);
    let new = governed.backends_in("shop", "standby").remove(0);
    let service = governed.service("shop");
    let rejuvenate = || governed.baton(&["rejuvenate", &service, "--wait", "--json"]);
    thread::scope(|scope| {
        let waiting = scope.spawn(rejuvenate);
        eventually("it is being stopped", || governed.backends_in("shop", "recovering") == [old.clone()]);
        governed.configure(&[slow_to_stop(&governed, OTHER_DRAIN)]);
        governed.reload().unwrap();
        let pid = fs::read_to_string(governed.pid_file(number_of(&new))).unwrap();
        kill(Pid::from_raw(pid.trim().parse().unwrap()), Signal::SIGKILL).unwrap();
        eventually("its death is seen", || governed.backends_in("shop", "active").is_empty());
        fs::write(governed.file("released"), "").unwrap();
        let done = waiting.join().unwrap();
        assert!(!done.stdout.is_empty(), "{}", String::from_utf8_lossy(&done.stderr));
    });
    governed.until_ready(1);
}

#[test]
fn a_controller_that_is_to_end_leaves_a_slow_stop_to_the_next_one_which_does_not_stop_again() {
    let mut governed = Governed::new(Options::default());
    let text = slow_to_stop(&governed, QUICK_DRAIN);
    governed.up(&[text]);
    let old = governed.backends_in("shop", "active").remove(0);
    let service = governed.service("shop");
    assert!(governed.baton(&["rejuvenate", &service]).status.success());
    eventually("it is being stopped", || governed.backends_in("shop", "recovering") == [old.clone()]);
    assert_eq!(governed.end_controller(), Some(0));
    governed.start();
    fs::write(governed.file("released"), "").unwrap();
    eventually("it is back", || governed.backends_in("shop", "standby") == [old.clone()]);
    assert_eq!(lines(&governed.file(&format!("stops-{}", number_of(&old)))), 1, "it is stopped once");
}

#[test]
fn a_backend_that_runs_when_it_comes_into_the_configuration_is_taken_as_it_is() {
    let mut governed = Governed::new(Options::default());
    let both = governed.describe("shop", QUICK_DRAIN);
    governed.up(slice::from_ref(&both));
    let standby = governed.backends_in("shop", "standby").remove(0);
    let pid_file = governed.pid_file(number_of(&standby));
    let life = fs::read_to_string(&pid_file).unwrap();
    let alone = without(&both, &standby);
    for restarts in [false, true] {
        governed.configure(slice::from_ref(&alone));
        governed.reload().unwrap();
        eventually("one is left", || {
            governed.status()[0]["backends"].as_array().is_some_and(|all| all.len() == 1)
        });
        governed.configure(slice::from_ref(&both));
        if restarts {
            governed.end_controller();
            governed.start();
        } else {
            governed.reload().unwrap();
        }
        eventually("it waits again", || governed.backends_in("shop", "standby") == [standby.clone()]);
        assert_eq!(fs::read_to_string(&pid_file).unwrap(), life, "it was not restarted");
    }
}

#[test]
fn the_order_of_backends_in_the_file_means_nothing_to_those_that_run() {
    let mut governed = Governed::new(Options::default());
    let vip = governed.embedded_vip();
    let describe =
        |governed: &Governed, names: [&str; 2]| governed.describe_processes("pair", vip, &names, "");
    governed.up(&[describe(&governed, ["left", "right"])]);
    let pids = |governed: &Governed| -> Vec<Value> {
        let status = governed.status();
        let backends = status[0]["backends"].as_array().unwrap();
        backends.iter().map(|backend| serde_json::json!([backend["name"], backend["pid"]])).collect()
    };
    let before = pids(&governed);
    let requests = governed.requests_to(
        0,
        vip,
        &[
            "name=short,path=/free,weight=1,mode=close",
            "name=kept,path=/free,weight=1,mode=keep-alive,requests=100,idle=50ms",
        ],
    );
    thread::sleep(A_WHILE);
    for (order, restarts) in [(["right", "left"], false), (["left", "right"], true)] {
        governed.configure(&[describe(&governed, order)]);
        if restarts {
            assert_eq!(governed.end_controller(), Some(0));
            governed.start();
        } else {
            let said = governed.reload().unwrap();
            assert!(said.contains("nothing has changed"), "{said}");
        }
        governed.until_ready(1);
        thread::sleep(A_WHILE);
        assert_eq!(pids(&governed), before, "{}", governed.output());
    }
    let summary = requests.end().summary;
    assert!(summary.is_clean(), "{summary:?}");
    assert_eq!(summary.by_backend.len(), 1, "new flows go where they went: {:?}", summary.by_backend);
}

#[test]
fn the_active_backend_serves_until_a_change_that_waits_for_another_one_takes_it_away() {
    serves_until_a_waiting_change_is_done(without);
}

#[test]
fn the_active_backend_serves_until_a_change_that_waits_for_another_one_moves_it() {
    serves_until_a_waiting_change_is_done(|service, backend| {
        let head = format!("name = \"{backend}\"\naddress = \"");
        let at = service.find(&head).expect("the backend's section") + head.len();
        let (before, rest) = service.split_at(at);
        // Nobody listens there, and so the other one takes over.
        format!("{before}{}", rest.replacen(":8080\"", ":8081\"", 1))
    });
}

/// The active backend is changed in the file, and another one taken out while it is being stopped.
fn serves_until_a_waiting_change_is_done(changed: impl Fn(&str, &str) -> String) {
    let mut governed = Governed::new(Options { backends: 3, ..Options::default() });
    let text = slow_to_stop_of(&governed, QUICK_DRAIN, 3);
    governed.up(slice::from_ref(&text));
    let active = governed.backends_in("shop", "active").remove(0);
    let stopped = governed.backends_in("shop", "standby").remove(0);
    let service = governed.service("shop");
    assert!(governed.baton(&["rejuvenate", &service, "--backend", &stopped]).status.success());
    eventually("it is being stopped", || governed.backends_in("shop", "recovering") == [stopped.clone()]);
    let requests = governed.requests_of(0, &["name=short,path=/free,weight=1,mode=close"]);
    thread::sleep(A_WHILE);
    governed.configure(&[changed(&without(&text, &stopped), &active)]);
    governed.reload().unwrap();
    // Between two requests it has no flow, and its id could be given back.
    thread::sleep(3 * A_WHILE);
    assert_eq!(governed.backends_in("shop", "active"), slice::from_ref(&active));
    fs::write(governed.file("released"), "").unwrap();
    eventually("the one that is left serves", || {
        let serving = governed.backends_in("shop", "active");
        serving.len() == 1 && serving[0] != active
    });
    thread::sleep(A_WHILE);
    let summary = requests.end().summary;
    assert!(summary.is_clean(), "{summary:?}");
    assert_eq!(summary.by_backend.len(), 2, "{:?}", summary.by_backend);
}

#[test]
fn open_connections_outlast_an_address_that_is_changed_and_changed_back_and_another_name() {
    let mut governed = Governed::new(Options::default());
    let text = governed.describe("shop", &format!("policy = \"rr\"\n{QUICK_DRAIN}"));
    governed.up(slice::from_ref(&text));
    let mut open: Vec<_> = (0..6).map(|_| governed.client(0).connect(governed.vip())).collect();
    let mut ask_all = |when: &str| {
        for connection in &mut open {
            let answer = ask(connection);
            assert!(answer.starts_with("HTTP/1.1 200"), "{when}: {answer}");
        }
    };
    ask_all("before");
    let first = format!("{}:", governed.backend(0).address);
    let elsewhere = text.replace(&format!("{first}8080"), &format!("{first}8081"));
    assert_ne!(elsewhere, text);
    let renamed = text.replace("name = \"b0\"", "name = \"web\"");
    for (text, when, ready) in [
        (&elsewhere, "moved", 1),
        (&text, "moved back", 2),
        (&renamed, "renamed", 2),
        (&text, "named as before", 2),
    ] {
        governed.configure(slice::from_ref(text));
        governed.reload().unwrap();
        eventually(when, || governed.backends_in("shop", "active").len() == ready);
        // What is left of the one before may be looked at meanwhile.
        thread::sleep(A_WHILE);
        ask_all(when);
    }
}

#[test]
fn a_client_with_affinity_goes_elsewhere_as_soon_as_its_backend_has_left_though_that_has_flows_still() {
    let mut governed = Governed::new(Options { backends: 3, ..Options::default() });
    let text = governed.describe("shop", "policy = \"rr\"\naffinity = \"10m\"");
    governed.up(slice::from_ref(&text));
    let mut open = governed.client(0).connect(governed.vip());
    let kind = ["name=short,path=/free,weight=1,mode=close"];
    let requests = governed.requests_of(0, &kind);
    thread::sleep(A_WHILE);
    let before = requests.end().summary;
    assert!(before.is_clean() && before.by_backend.len() == 1, "{:?}", before.by_backend);
    let home = before.by_backend.keys().next().unwrap().clone();
    governed.configure(&[without(&text, &backend_name(home.parse().unwrap()))]);
    governed.reload().unwrap();
    thread::sleep(A_WHILE);
    let requests = governed.requests_of(0, &kind);
    thread::sleep(A_WHILE);
    let after = requests.end().summary;
    assert!(after.is_clean() && !after.by_backend.contains_key(&home), "{:?}", after.by_backend);
    let is_released = |governed: &Governed| governed.output().contains("its last flow has ended");
    assert!(ask(&mut open).starts_with("HTTP/1.1 200") && !is_released(&governed));
    drop(open);
    eventually("it is given up", || is_released(&governed));
}

#[test]
fn a_service_whose_files_are_gone_drains_and_is_removed_when_it_is_not_wanted_any_longer() {
    let mut governed = Governed::new(Options::default());
    let text = governed.describe("shop", QUICK_DRAIN);
    governed.up(&[text]);
    governed.end_controller();
    let left = Roots::default().service(&governed.service("shop").parse().unwrap());
    // As by `baton down`, which does not see whose a service is whose file is damaged.
    fs::remove_file(left.registration()).unwrap();
    governed.configure(&[]);
    governed.start();
    eventually("it is removed", || governed.output().contains(" removed "));
    assert!(!left.run_dir().exists(), "{}", governed.output());
}
