//! Units of a real systemd that `baton run` restarts on the machine that both run on.

use std::fs;
use std::path::Path;
use std::thread;
use std::time::Duration;

use baton_tests::lab::{aging_service, baton, eventually};
use baton_tests::plane::{Governed, Options, assert_nothing_lost, backend_name};
use serde_json::Value;

/// Requests of every kind come by within this.
const A_WHILE: Duration = Duration::from_secs(1);
const QUICK_DRAIN: &str = "[service.drain]\ndeadline = \"20s\"\n";
/// A service that takes no notice of being asked to end.
const DEAF: &str = "/bin/sh -c 'trap \"\" TERM; \"$0\" \"$@\" & while kill -0 $!; do wait $!; done'";

fn unit_name(number: usize) -> String {
    format!("web-{number}.service")
}

/// The unit of a backend, which adds a line to a file for each start of it.
fn unit(governed: &Governed, number: usize, settings: &str) -> (String, String) {
    let run = format!("{} --healthy --listen 0.0.0.0:8080 --backend {number}", aging_service());
    let wrapper = if settings.contains("KillMode=mixed") { format!("{DEAF} ") } else { String::new() };
    let text = format!(
        "[Service]\nNetworkNamespacePath=/run/netns/{}\n\
         ExecStartPre=/bin/sh -c 'echo start >>{}'\nExecStart={wrapper}{run}\n{settings}\n",
        backend_name(number),
        governed.file(&format!("starts-{number}")).display(),
    );
    (unit_name(number), text)
}

/// How often systemd has started the unit of a backend.
fn starts(governed: &Governed, number: usize) -> usize {
    let file = governed.file(&format!("starts-{number}"));
    fs::read_to_string(file).unwrap_or_default().lines().count()
}

fn driver(number: usize, settings: &str) -> String {
    format!("type = \"systemd\"\nunit = \"{}\"\n{settings}\n", unit_name(number))
}

/// Two units with settings of their own under systemd, and the service that they serve.
fn two_units(settings: [&str; 2], of_driver: &str) -> (Governed, String) {
    let mut governed = Governed::new(Options::default());
    let units = [0, 1].map(|number| unit(&governed, number, settings[number])).to_vec();
    governed.boot(units);
    let service = governed.describe_driven("shop", governed.vip(), QUICK_DRAIN, |n| driver(n, of_driver));
    (governed, service)
}

fn number_of(backend: &Value) -> usize {
    (0..2).find(|number| backend_name(*number) == *backend).expect("a backend")
}

fn main_pid(governed: &Governed, number: usize) -> u64 {
    governed.init().property(&unit_name(number), "MainPID").parse().unwrap()
}

/// Signals whatever runs in the unit of a backend.
fn signal(governed: &Governed, number: usize, signal: &str) {
    let told = governed.init().systemctl(&["kill", &format!("--signal={signal}"), &unit_name(number)]);
    assert!(told.status.success(), "{}", String::from_utf8_lossy(&told.stderr));
}

/// Waits until another process than `old` is the main one of the unit of a backend, and the backend is ready.
fn until_replaced(governed: &mut Governed, number: usize, old: u64) {
    eventually("another process of the unit runs", || ![0, old].contains(&main_pid(governed, number)));
    // A controller that has just been started does not answer yet.
    eventually("its backend is told to run by that", || {
        let status = governed.status();
        status.first().is_some_and(|shop| shop["backends"][number]["pid"] == main_pid(governed, number))
    });
    governed.until_ready(1);
}

#[test]
fn what_runs_on_a_machine_of_its_own_writes_nothing_of_the_hosts() {
    let (governed, _) = two_units([""; 2], "");
    let machine = governed.init();
    let mark = governed.service("mark");
    for directory in ["/tmp", "/etc", "/var", "/run", "/root"] {
        let path = format!("{directory}/{mark}");
        assert!(machine.run(&["touch", &path]).status.success(), "{path}");
        assert!(!fs::exists(&path).unwrap(), "{path} is on the host");
    }
    for path in [format!("/usr/{mark}"), "/proc/sys/kernel/panic".to_owned()] {
        let written = machine.run(&["sh", "-c", &format!("echo 1 >{path}")]);
        assert!(!written.status.success(), "{path} was written");
    }
    // Whatever it may write is in memory, is a view of its own, or was given to it.
    let mounts = machine.run(&["cat", "/proc/1/mounts"]);
    let mounts = String::from_utf8(mounts.stdout).unwrap();
    let own = ["tmpfs", "proc", "cgroup2", "bpf", "devpts", "mqueue", "nsfs", "devtmpfs"];
    let given = [governed.file("x").parent().unwrap().display().to_string(), "/disk".to_owned()];
    for mount in mounts.lines() {
        let fields: Vec<_> = mount.split(' ').collect();
        let is_read_only = fields[3].split(',').any(|option| option == "ro");
        assert!(is_read_only || own.contains(&fields[2]) || given.contains(&fields[1].to_owned()), "{mount}");
    }
    assert!(mounts.lines().count() > 10, "{mounts}");
}

#[test]
fn a_unit_is_rejuvenated_without_a_loss_and_the_report_proves_that_another_process_runs() {
    let (mut governed, service) = two_units([""; 2], "");
    governed.up(&[service]);
    let requests = governed.requests(0);
    thread::sleep(A_WHILE);
    for _ in 0..2 {
        let report = governed.rejuvenate("shop", None);
        assert_eq!(report["outcome"], "completed", "{report:#}");
        let steps = report["steps"].as_array().unwrap();
        assert_eq!((steps.len(), &steps[0]["step"]), (1, &"graceful".into()), "{report:#}");
        let proof = &steps[0]["proof"];
        assert_eq!(proof["evidence"], "process", "{report:#}");
        assert_ne!(proof["before"], proof["after"], "{report:#}");
        let unit = number_of(&report["from"]);
        assert_eq!(proof["after"]["pid"], main_pid(&governed, unit), "{report:#}");
        assert_eq!(starts(&governed, unit), 2, "{report:#}");
    }
    thread::sleep(A_WHILE);
    assert_nothing_lost(&requests.end(), 2);
    assert_eq!([0, 1].map(|number| starts(&governed, number)), [2, 2], "{}", governed.output());
}

#[test]
fn a_unit_that_dies_is_started_once_whether_by_baton_or_by_systemd() {
    let (mut governed, service) = two_units(["", "Restart=always\nRestartSec=0"], "");
    governed.up(&[service]);
    for number in [0, 1, 1, 0] {
        let (old, before) = (main_pid(&governed, number), starts(&governed, number));
        signal(&governed, number, "KILL");
        until_replaced(&mut governed, number, old);
        assert_eq!(starts(&governed, number), before + 1, "{}", governed.output());
    }
    // Who was told to has seen to it, each time.
    let restarts = [0, 1].map(|number| governed.init().property(&unit_name(number), "NRestarts"));
    assert_eq!(restarts, ["0", "2"], "{}", governed.output());
    let said = governed.output();
    assert!(said.contains("journalctl --unit=web-0.service"), "{said}");
    // Both are as good as ever.
    let requests = governed.requests(0);
    for number in [0, 1] {
        let report = governed.rejuvenate("shop", Some(&backend_name(number)));
        assert_eq!(report["outcome"], "completed", "{report:#}");
    }
    thread::sleep(A_WHILE);
    assert_nothing_lost(&requests.end(), 2);
    assert_eq!([0, 1].map(|number| starts(&governed, number)), [4, 4], "{}", governed.output());
}

#[test]
fn a_unit_that_does_not_end_when_it_is_asked_to_is_ended_by_force() {
    let stubborn = "KillMode=mixed\nTimeoutStopSec=infinity\nRestart=always\nRestartSec=0";
    let (mut governed, service) = two_units([stubborn; 2], "timeout = \"2s\"");
    governed.up(&[service]);
    let requests = governed.requests(0);
    thread::sleep(A_WHILE);
    let report = governed.rejuvenate("shop", None);
    thread::sleep(A_WHILE);
    assert_nothing_lost(&requests.end(), 2);
    assert_eq!(report["outcome"], "completed", "{report:#}");
    let steps = report["steps"].as_array().unwrap();
    assert_eq!(steps.len(), 2, "{report:#}");
    let failure = steps[0]["failure"].as_str().unwrap();
    let unit = number_of(&report["from"]);
    assert!(failure.contains(&format!("`systemctl stop {}` did not end within 2s", unit_name(unit))));
    assert_eq!((&steps[0]["step"], &steps[1]["step"]), (&"graceful".into(), &"restart".into()));
    let proof = &steps[1]["proof"];
    assert_eq!(proof["evidence"], "process", "{report:#}");
    assert_eq!(proof["after"]["pid"], main_pid(&governed, unit), "{report:#}");
    assert_eq!(starts(&governed, unit), 2, "{}", governed.output());
}

#[test]
fn a_unit_that_hangs_is_ended_by_force_and_not_started_behind_batons_back() {
    let (mut governed, service) = two_units(["Restart=always\nRestartSec=0"; 2], "");
    governed.up(&[service]);
    for _ in 0..2 {
        let active = governed.backends_in("shop", "active").remove(0);
        let number = number_of(&active.into());
        let old = main_pid(&governed, number);
        signal(&governed, number, "STOP");
        until_replaced(&mut governed, number, old);
        assert_eq!(starts(&governed, number), 2, "{}", governed.output());
        assert_eq!(governed.init().property(&unit_name(number), "NRestarts"), "0", "{}", governed.output());
    }
}

#[test]
fn a_unit_that_is_not_there_or_does_not_stay_up_is_told_and_taken_once_it_does() {
    let mut governed = Governed::new(Options::default());
    let (name, text) = unit(&governed, 1, "");
    let works = format!("[Unit]\nStartLimitIntervalSec=1h\nStartLimitBurst=2\n{text}");
    let fails = works.replace("ExecStart=", "ExecStart=/bin/false ");
    governed.boot(vec![unit(&governed, 0, "")]);
    let settings = format!("{QUICK_DRAIN}[service.recovery]\nquarantine_after = 0\n");
    let service = governed.describe_driven("shop", governed.vip(), &settings, |n| driver(n, ""));
    governed.configure(&[service]);
    governed.start();
    let said = |governed: &Governed, words: &str| {
        eventually(&format!("`{words}` is said"), || governed.output().contains(words));
        eventually("the other one serves", || governed.backends_in("shop", "active") == [backend_name(0)]);
    };
    said(&governed, "Unit web-1.service not found");
    governed.init().add_unit(&name, &fails);
    said(&governed, "`systemctl start web-1.service` succeeded, but the unit did not stay up");
    // What systemd has counted meanwhile does not keep Baton from trying.
    eventually("it was started more often than systemd would", || starts(&governed, 1) > 3);
    governed.init().add_unit(&name, &works);
    governed.until_ready(1);
}

#[test]
fn a_controller_that_is_killed_in_the_middle_of_a_restart_is_succeeded_by_one_that_restarts_nothing_twice() {
    let slow = "ExecStop=/bin/sleep 2\nExecStartPre=/bin/sleep 2";
    let (mut governed, service) = two_units([slow; 2], "");
    governed.up(&[service]);
    let requests = governed.requests(0);
    for state in ["deactivating", "activating"] {
        thread::sleep(A_WHILE);
        let active = governed.backends_in("shop", "active").remove(0);
        let number = number_of(&active.as_str().into());
        let before = starts(&governed, number);
        let name = governed.service("shop");
        assert!(governed.baton(&["rejuvenate", &name]).status.success());
        eventually(&format!("the unit is {state}"), || {
            governed.init().property(&unit_name(number), "ActiveState") == state
        });
        let old = main_pid(&governed, number);
        governed.kill_controller();
        governed.start();
        until_replaced(&mut governed, number, old);
        assert_eq!(starts(&governed, number), before + 1, "{}", governed.output());
        assert_ne!(governed.backends_in("shop", "active"), [active], "{}", governed.output());
    }
    thread::sleep(A_WHILE);
    assert_nothing_lost(&requests.end(), 2);
}

/// A file of `scripts/`, with what the test has elsewhere than a host that was installed as the file says.
fn script(name: &str, elsewhere: &[(&str, String)]) -> (String, String) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../scripts").join(name);
    let mut text = fs::read_to_string(path).unwrap();
    for (installed, there) in elsewhere {
        assert!(text.contains(installed), "{name} has no {installed}");
        text = text.replace(installed, there);
    }
    (name.to_owned(), text)
}

/// The units of the controller and of what renews every night.
fn nightly_units(governed: &Governed) -> Vec<(String, String)> {
    let (baton, rejuvenate_all) = (baton().display().to_string(), governed.file("rejuvenate-all"));
    fs::copy(Path::new(env!("CARGO_MANIFEST_DIR")).join("../scripts/rejuvenate-all"), &rejuvenate_all)
        .unwrap();
    let plane = governed.service("");
    let run = format!("{baton} run --plane {}", plane.trim_end_matches('-'));
    let config = governed.file("baton.toml").display().to_string();
    let started = format!("Environment=BATON={baton}\nExecStart={}", rejuvenate_all.display());
    vec![
        script(
            "baton.service",
            &[
                ("/usr/bin/baton run", run),
                ("/usr/bin/baton", baton),
                ("/etc/baton/baton.toml", config),
                // Older systemds know no other.
                ("Type=notify-reload", "Type=notify".to_owned()),
            ],
        ),
        script("baton-rejuvenate.service", &[("ExecStart=/usr/share/baton/rejuvenate-all", started)]),
        script("baton-rejuvenate.timer", &[]),
    ]
}

#[test]
fn the_nightly_units_renew_what_is_up_and_leave_alone_what_is_paused() {
    let mut governed = Governed::new(Options::default());
    let mut units = [0, 1].map(|number| unit(&governed, number, "")).to_vec();
    units.extend(nightly_units(&governed));
    governed.boot(units);
    let service = governed.describe_driven("shop", governed.vip(), QUICK_DRAIN, |n| driver(n, ""));
    governed.configure(&[service]);
    let systemctl = |words: &[&str]| {
        let output = governed.init().systemctl(words);
        (output.status.success(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    let renew = || systemctl(&["start", "baton-rejuvenate.service"]);
    let renewed = || governed.status().first().and_then(|shop| shop["rejuvenations"].as_u64());
    assert!(!renew().0, "no controller runs");
    let (is_up, why) = systemctl(&["start", "baton.service"]);
    assert!(is_up, "{why}{}", governed.init().log());
    let is_ready = || {
        let in_state = |state| governed.backends_in("shop", state).len();
        (in_state("active"), in_state("standby")) == (1, 1)
    };
    eventually("both stand", is_ready);
    assert_eq!(renew(), (true, String::new()), "{}", governed.init().log());
    assert_eq!(renewed(), Some(1));

    // The timer comes without a night.
    let drop_in = "[Timer]\nOnCalendar=\nOnActiveSec=100ms\nRandomizedDelaySec=0\nAccuracySec=10ms\n";
    fs::write(governed.init().disk().join("soon.conf"), drop_in).unwrap();
    let directory = "/run/systemd/system/baton-rejuvenate.timer.d";
    let put = format!("mkdir {directory} && cp /disk/soon.conf {directory}/ && systemctl daemon-reload");
    assert!(governed.init().run(&["sh", "-c", &put]).status.success());
    assert_eq!(systemctl(&["start", "baton-rejuvenate.timer"]), (true, String::new()));
    eventually("the timer has renewed it", || renewed() == Some(2) && is_ready());

    let name = governed.service("shop");
    assert!(governed.baton(&["pause", &name]).status.success());
    assert_eq!(renew(), (true, String::new()), "{}", governed.init().log());
    assert_eq!(renewed(), Some(2), "it is paused");
    // What is left is removed by whoever ends the test, which no controller may be in the way of.
    assert_eq!(systemctl(&["stop", "baton.service"]), (true, String::new()));
}
