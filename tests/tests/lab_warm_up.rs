//! Warm-up: whom Baton's own requests reach before clients do, which way they take, and what becomes of a backend that
//! does not answer them.

use std::fs;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::thread;
use std::time::Duration;

use baton_tests::lab::{Client, eventually};
use baton_tests::plane::{Governed, Options};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

/// What warm-ups ask for, and what clients do.
const WARM: &str = "/work";
const WARM_BY_TURNS: [&str; 3] = [WARM, "/health", "/large?bytes=10"];
const CLIENTS: [&str; 1] = ["name=short,path=/free,weight=1,mode=close"];

/// A service of processes on the balancer, which write down what they execute.
struct Processes {
    governed: Governed,
    vip: SocketAddr,
    log: PathBuf,
}

impl Processes {
    /// The configuration, with `paths` as what warm-ups ask for.
    fn new(paths: &[&str]) -> Self {
        let governed = Governed::new(Options::default());
        let (vip, log) = (governed.embedded_vip(), governed.file("executed"));
        let settings = format!("[service.warm_up]\nrequests = 25\npath = {paths:?}\n");
        let logs = format!("\"--healthy\", \"--execution-log\", \"{}\"", log.display());
        let service = governed.describe_processes("warm", vip, &["a", "b"], &settings);
        governed.configure(&[service.replace("\"--healthy\"", &logs)]);
        Self { governed, vip, log }
    }

    /// What a backend has executed so far: the paths, in order.
    fn executed(&self, backend: &str) -> Vec<String> {
        let text = fs::read_to_string(&self.log).unwrap_or_default();
        let lines = text.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
        let own = lines.filter(|words| words.contains(&backend));
        own.filter_map(|words| Some((*words.last()?).to_owned())).collect()
    }

    fn backend(&self, name: &str) -> Value {
        let status = self.governed.status();
        let mut all = status[0]["backends"].as_array().expect("backends").iter();
        all.find(|backend| backend["name"] == name).expect("a backend").clone()
    }

    fn only(&self, state: &str) -> String {
        self.governed.backends_in("warm", state).remove(0)
    }
}

fn count(executed: &[String], path: &str) -> usize {
    executed.iter().filter(|found| *found == path).count()
}

/// How often each path of a warm-up was executed, and that nothing else was.
fn by_turns(executed: &[String]) -> [usize; 3] {
    let counts = WARM_BY_TURNS.map(|path| count(executed, path.split('?').next().unwrap_or(path)));
    assert_eq!(counts.iter().sum::<usize>(), executed.len(), "{executed:?}");
    counts
}

#[test]
fn a_standby_gets_the_requests_of_its_warm_up_through_the_data_path_before_any_client() {
    let mut processes = Processes::new(&WARM_BY_TURNS);
    processes.governed.start();
    processes.governed.until_ready(1);
    let (active, standby) = (processes.only("active"), processes.only("standby"));
    assert_eq!(count(&processes.executed(&active), WARM), 0, "the first to serve is not kept waiting");
    assert_eq!(by_turns(&processes.executed(&standby)), [9, 8, 8]);
    // The data plane has seen them go to the standby, and their answers come back.
    let status = processes.backend(&standby);
    assert!(status["counters"]["turns"].as_u64() >= Some(25), "{status:#}");
    // They are no clients' connections, and no trouble of theirs.
    for counter in ["flows_new", "flows_taken_up", "syn_retransmits"] {
        assert_eq!(status["counters"][counter], 0, "{counter}: {status:#}");
    }
    assert_eq!(status["warm_up"]["through"], "data_path", "{status:#}");
    assert_eq!(processes.backend(&active)["counters"]["packets_in"], 0);

    let requests = processes.governed.requests_to(0, processes.vip, &CLIENTS);
    eventually("clients are served", || count(&processes.executed(&active), "/free") > 20);
    let report = processes.governed.rejuvenate("warm", None);
    assert_eq!((&report["outcome"], &report["from"]), (&"completed".into(), &active.as_str().into()));
    assert_eq!(
        (&report["warm_up"]["ok"], &report["warm_up"]["failed"]),
        (&25.into(), &0.into()),
        "{report:#}"
    );
    assert_eq!(report["warm_up"]["through"], "data_path", "{report:#}");
    // The new life of the old backend: its warm-up, and no client after the drain.
    let executed = processes.executed(&active);
    let first = executed.iter().position(|path| path != "/free").expect("a warm-up");
    assert_eq!(by_turns(&executed[first..]), [9, 8, 8]);
    assert_eq!(count(&processes.executed(&standby), WARM), 9, "one life is warmed up once");
    let summary = requests.end().summary;
    assert!(summary.is_clean(), "{summary:?}");
}

#[test]
fn a_standby_whose_warm_up_fails_gets_no_clients_unless_nobody_else_is_left() {
    let mut processes = Processes::new(&[WARM, "/nowhere"]);
    processes.governed.start();
    eventually("one is active, and the other has failed", || {
        let failed = !processes.governed.backends_in("warm", "failed").is_empty();
        failed && !processes.governed.backends_in("warm", "active").is_empty()
    });
    let (active, failed) = (processes.only("active"), processes.only("failed"));
    let name = processes.governed.service("warm");
    let refused = processes.governed.baton(&["rejuvenate", &name, "--wait"]);
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert_eq!(refused.status.code(), Some(1), "{said}");
    assert!(said.contains("no standby is ready") && said.contains(&failed), "{said}");
    let events = processes.governed.baton(&["events", "--name", &name]);
    let events = String::from_utf8_lossy(&events.stdout).into_owned();
    assert!(events.contains("warm-up failed"), "{events}");
    assert!(
        events.contains("the first that failed: /nowhere: ") && events.contains("status 404"),
        "{events}"
    );
    let warm_up = &processes.backend(&failed)["warm_up"];
    assert_eq!((&warm_up["ok"], &warm_up["failed"]), (&13.into(), &12.into()), "{warm_up:#}");
    assert!(
        warm_up["first_failure"].as_str().is_some_and(|why| why.starts_with("/nowhere: ")),
        "{warm_up:#}"
    );
    // It is tried again, and clients stay where they are.
    let before = processes.executed(&failed).len();
    eventually("it is warmed up again", || processes.executed(&failed).len() >= before + 25);
    assert_eq!(processes.only("active"), active);

    let pid = processes.backend(&active)["pid"].as_i64().expect("it runs");
    eventually("the other one runs", || processes.backend(&failed)["state"] == "failed");
    kill(Pid::from_raw(i32::try_from(pid).unwrap()), Signal::SIGKILL).unwrap();
    eventually("the other one serves, cold as it is", || {
        processes.governed.backends_in("warm", "active") == [failed.clone()]
    });
    let netns = &processes.governed.client(0).netns;
    let answer = Client::connect(netns, processes.vip).expect("a service that accepts").get("/free").unwrap();
    assert_eq!((answer.status, answer.backend), (200, failed));
}

#[test]
fn elsewhere_the_requests_of_a_warm_up_go_straight_to_the_backend() {
    let mut governed = Governed::new(Options::default());
    let settings =
        format!("[service.warm_up]\nrequests = 10\npath = \"{WARM}\"\n[service.drain]\ndeadline = \"20s\"");
    let service = governed.describe("shop", &settings);
    governed.up(&[service]);
    let requests = governed.requests_of(0, &CLIENTS);
    thread::sleep(Duration::from_millis(300));
    let report = governed.rejuvenate("shop", None);
    assert_eq!(report["outcome"], "completed", "{report:#}");
    assert_eq!((&report["warm_up"]["through"], &report["warm_up"]["ok"]), (&"direct".into(), &10.into()));
    let summary = requests.end().summary;
    assert!(summary.is_clean(), "{summary:?}");
}
