//! Backends on machines of their own that only another boot, or another machine, brings back.

use std::fs;
use std::net::SocketAddr;
use std::thread;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use baton_tests::lab::{aging_service, eventually};
use baton_tests::plane::{Governed, Options, assert_nothing_lost, backend_name};
use baton_tests::systemd::{Plan, SystemdMachine};
use baton_tests::trust::{Death, judge};
use serde_json::Value;

/// Requests of every kind come by within this.
const A_WHILE: Duration = Duration::from_secs(1);
const QUICK_DRAIN: &str = "[service.drain]\ndeadline = \"20s\"\n";
const SERVICE: &str = "web.service";
/// What keeps the service from starting, for this boot and for as long as there is the machine.
const UNTIL_REBOOT: &str = "/run/broken";
const UNTIL_RECREATED: &str = "/disk/broken";

/// Two machines with systemd, each with the service of a backend, and `baton run` that reaches them by scripts.
struct Machines {
    governed: Governed,
    machines: Vec<SystemdMachine>,
}

impl Machines {
    fn up() -> Self {
        let governed = Governed::new(Options::default());
        let machines = (0..2).map(|number| boot(&governed, number)).collect();
        let mut all = Self { governed, machines };
        let text = all.governed.describe_driven("shop", all.governed.vip(), QUICK_DRAIN, |n| all.driver(n));
        // What does not come up is given up soon.
        let text =
            text.replace("[service.rejuvenation]\n", "[service.rejuvenation]\nready_timeout = \"4s\"\n");
        all.governed.up(&[text]);
        assert_eq!(all.orders(), [""; 0], "what runs is taken as it is");
        all
    }

    /// The scripts of a backend, as an operator's go by ssh to a guest, or to the host of it. Each writes down
    /// that it was run.
    fn driver(&self, number: usize) -> String {
        let machine = &self.machines[number];
        let script = |name: &str, text: &str| {
            let orders = self.governed.file("orders").display().to_string();
            let text = format!("echo \"$BATON_BACKEND {name}\" >>{orders}\n{text}\n");
            self.governed.script(&format!("{name}-{number}"), &text)
        };
        let systemctl = |words: &str| machine.enter(&format!("systemctl {words} {SERVICE}"));
        let pull_the_plug = machine.power_off();
        let disk = machine.disk().display().to_string();
        let scripts = [
            ("stop", systemctl("stop")),
            ("start", systemctl("start")),
            ("kill", systemctl("kill --signal=KILL")),
            ("reboot", pull_the_plug.clone()),
            ("recreate", format!("rm -rf {disk}/*\n{pull_the_plug}")),
        ];
        let mut text = "type = \"command\"\ntimeout = \"10s\"\n".to_owned();
        for (name, body) in scripts {
            text.extend([name, " = [\"", &script(name, &body), "\"]\n"]);
        }
        let boot_id = machine.enter("cat /proc/sys/kernel/random/boot_id");
        let boot_id = self.governed.script(&format!("boot-id-{number}"), &format!("{boot_id}\n"));
        text + &format!("boot_id = [\"{boot_id}\"]\n")
    }

    /// What scripts were run, in order, but for those that only look.
    fn orders(&self) -> Vec<String> {
        let orders = fs::read_to_string(self.governed.file("orders")).unwrap_or_default();
        orders.lines().map(str::to_owned).collect()
    }

    fn active(&self) -> usize {
        let active = self.governed.backends_in("shop", "active");
        (0..2).find(|number| active == [backend_name(*number)]).expect("one is active")
    }

    fn boot_id(&self, number: usize) -> String {
        let read = self.machines[number].run(&["cat", "/proc/sys/kernel/random/boot_id"]);
        String::from_utf8(read.stdout).unwrap().trim().to_owned()
    }

    /// Lets the service of a machine fail whenever it is started from now on.
    fn spoil(&self, number: usize, how: &str) {
        assert!(self.machines[number].run(&["touch", how]).status.success());
    }

    /// The processes and the boot of a machine, by which it is known that nobody touched it.
    fn life(&self, number: usize) -> (Option<u32>, String, String) {
        let machine = &self.machines[number];
        (machine.init(), self.boot_id(number), machine.property(SERVICE, "MainPID"))
    }
}

fn boot(governed: &Governed, number: usize) -> SystemdMachine {
    let address: SocketAddr = governed.listens_on(number);
    let text = format!(
        "[Service]\nExecStartPre=/bin/sh -c 'echo start >>/disk/starts; test ! -e {UNTIL_REBOOT} -a ! -e {UNTIL_RECREATED}'\n\
         ExecStart={} --healthy --listen {address} --backend {number}\n",
        aging_service()
    );
    SystemdMachine::boot(&Plan {
        netns: &governed.backend(number).netns,
        units: vec![(SERVICE.to_owned(), text)],
        wanted: vec![SERVICE.to_owned()],
        shares: Vec::new(),
        networks: Vec::new(),
    })
}

/// Each step of a report by name, with its failure if it had one.
fn steps(report: &Value) -> Vec<(&str, Option<&str>)> {
    let steps = report["steps"].as_array().unwrap_or_else(|| panic!("{report:#}"));
    let step = |step: &'static str, value: &Value| value["step"] == step;
    let names = ["graceful", "restart", "reboot", "recreate"];
    let name = |value: &Value| names.into_iter().find(|name| step(name, value)).expect("a step");
    steps.iter().map(|value| (name(value), value["failure"].as_str())).collect()
}

fn unix_ms() -> u64 {
    u64::try_from(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis()).unwrap()
}

#[test]
fn a_service_that_no_restart_brings_back_comes_with_another_boot_of_its_machine() {
    let all = Machines::up();
    let requests = all.governed.requests(0);
    thread::sleep(A_WHILE);
    let (spoilt, other) = (all.active(), 1 - all.active());
    all.spoil(spoilt, UNTIL_REBOOT);
    let (boot, untouched) = (all.boot_id(spoilt), all.life(other));
    let report = all.governed.rejuvenate("shop", None);
    thread::sleep(A_WHILE);

    assert_eq!((&report["outcome"], &report["from"]), (&"completed".into(), &backend_name(spoilt).into()));
    let [("graceful", Some(first)), ("restart", Some(second)), ("reboot", None)] = steps(&report)[..] else {
        panic!("{report:#}")
    };
    for failure in [first, second] {
        assert!(failure.contains(&format!("start-{spoilt}` failed")), "{failure}");
    }
    assert_eq!(report["steps"][2]["proof"]["evidence"], "boot", "{report:#}");
    let ordered = ["stop", "start", "kill", "start", "reboot"];
    assert_eq!(all.orders(), ordered.map(|order| format!("{} {order}", backend_name(spoilt))));
    assert_ne!(all.boot_id(spoilt), boot);
    assert_eq!(all.life(other), untouched);
    // The machine is as good as the other one.
    let report = all.governed.rejuvenate("shop", Some(&backend_name(other)));
    assert_eq!(steps(&report), [("graceful", None)], "{report:#}");
    thread::sleep(A_WHILE);
    assert_nothing_lost(&requests.end(), 2);
    assert_eq!(all.orders()[5..], ["stop", "start"].map(|order| format!("{} {order}", backend_name(other))));
}

#[test]
fn a_machine_that_no_boot_brings_back_is_made_anew_and_only_what_died_with_it_is_lost() {
    let mut all = Machines::up();
    let requests = all.governed.requests(0);
    thread::sleep(A_WHILE);
    let (spoilt, other) = (all.active(), 1 - all.active());
    all.spoil(spoilt, UNTIL_RECREATED);
    let (boot, untouched) = (all.boot_id(spoilt), all.life(other));
    let at_unix_ms = unix_ms();
    let killed = all.machines[spoilt].systemctl(&["kill", "--signal=KILL", SERVICE]);
    assert!(killed.status.success());
    eventually("there is a report", || !all.governed.reports("shop").is_empty());
    all.governed.until_ready(1);
    thread::sleep(A_WHILE);
    let run = requests.end();

    let reports = all.governed.reports("shop");
    let report = &reports[0];
    assert_eq!((reports.len(), &report["from"]), (1, &backend_name(spoilt).into()), "{report:#}");
    let over_unix_ms = report["times"]["handover_unix_ms"].as_u64().unwrap();
    let failures = judge(&run, &[Death { backend: spoilt.to_string(), at_unix_ms, over_unix_ms }]);
    assert_eq!(failures.unexplained, [""; 0], "{report:#}");
    assert!(run.summary.by_backend[&other.to_string()].ok > 0);

    let steps = steps(report);
    let [before @ .., ("reboot", Some(rebooted)), ("recreate", None)] = &steps[..] else {
        panic!("{report:#}")
    };
    assert!(!before.is_empty() && before.iter().all(|(_, failure)| failure.is_some()), "{report:#}");
    assert!(rebooted.starts_with("not ready in time"), "{rebooted}");
    let proof = &report["steps"][steps.len() - 1]["proof"];
    assert_eq!(proof["evidence"], "boot", "{report:#}");
    let orders = all.orders();
    let own = format!("{} ", backend_name(spoilt));
    assert!(orders.iter().all(|order| order.starts_with(&own)), "{orders:?}");
    let count = |name: &str| orders.iter().filter(|order| order.ends_with(name)).count();
    assert_eq!(["reboot", "recreate"].map(count), [1, 1], "{orders:?}");
    assert_ne!(all.boot_id(spoilt), boot);
    assert_eq!(all.life(other), untouched);
}

#[test]
fn a_controller_that_is_killed_while_a_machine_boots_is_succeeded_by_one_that_waits_for_it() {
    let mut all = Machines::up();
    let requests = all.governed.requests(0);
    thread::sleep(A_WHILE);
    let spoilt = all.active();
    all.spoil(spoilt, UNTIL_REBOOT);
    let boot = all.boot_id(spoilt);
    let name = all.governed.service("shop");
    assert!(all.governed.baton(&["rejuvenate", &name]).status.success());
    eventually("the reboot is ordered", || {
        all.orders().last().is_some_and(|order| order.ends_with("reboot"))
    });
    all.governed.kill_controller();
    all.governed.start();
    all.governed.until_ready(1);
    thread::sleep(A_WHILE);
    assert_nothing_lost(&requests.end(), 2);
    let ordered = ["stop", "start", "kill", "start", "reboot"];
    assert_eq!(all.orders(), ordered.map(|order| format!("{} {order}", backend_name(spoilt))));
    assert_ne!(all.boot_id(spoilt), boot);
    // By the first boot, by both restarts, and by the one boot that was ordered.
    let starts = fs::read_to_string(all.machines[spoilt].disk().join("starts")).unwrap();
    assert_eq!(starts.lines().count(), 4, "{}", all.machines[spoilt].log());
}
