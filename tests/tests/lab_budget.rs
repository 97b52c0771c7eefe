//! `baton run` with a budget: what is rejuvenated when, whom it waits for, and what is left to operators.

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::Output;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::SystemTime;

use baton::net::netns::run_in;
use baton_tests::lab::eventually;
use baton_tests::plane::{Governed, Options};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

const NAMES: [&str; 3] = ["one", "two", "three"];

fn said(output: &Output) -> String {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    text(&output.stdout) + &text(&output.stderr)
}

/// Services of two processes each, at VIPs of their own.
fn describe(governed: &Governed, settings: &str) -> Vec<String> {
    let first = governed.embedded_vip();
    let service = |(number, name): (usize, &&str)| {
        let SocketAddr::V4(vip) = first else { panic!("a VIP of IPv4") };
        let address = u32::from(*vip.ip()) + 2 * number as u32;
        let vip = SocketAddr::from((address.to_be_bytes(), vip.port()));
        governed.describe_processes(name, vip, &["a", "b"], settings)
    };
    NAMES.iter().enumerate().map(service).collect()
}

/// Starts a controller under this budget.
fn up(governed: &mut Governed, budget: &str, services: &[String]) {
    configure(governed, budget, services);
    governed.start();
    governed.until_ready(services.len());
}

fn configure(governed: &Governed, budget: &str, services: &[String]) {
    let all: Vec<String> = std::iter::once(format!("{budget}\n")).chain(services.iter().cloned()).collect();
    governed.configure(&all);
}

/// What has happened to a service.
fn events(governed: &Governed, service: &str) -> Vec<Value> {
    let output = governed.baton(&["events", "--name", &governed.service(service), "--json"]);
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// Beginnings and ends of all rejuvenations, in order of time; at one moment ends come first.
fn turns(governed: &Governed) -> Vec<(u64, bool)> {
    let of = |event: &Value| {
        let begins = match event["event"].as_str()? {
            "handover" => true,
            "rejuvenation_ended" => false,
            _ => return None,
        };
        Some((event["unix_ms"].as_u64()?, begins))
    };
    let all = NAMES.iter().flat_map(|name| events(governed, name));
    let mut turns: Vec<_> = all.filter_map(|event| of(&event)).collect();
    turns.sort_unstable();
    turns
}

fn most_at_once(turns: &[(u64, bool)]) -> i32 {
    let count = |(now, most): (i32, i32), (_, begins): &(u64, bool)| {
        let now = if *begins { now + 1 } else { now - 1 };
        (now, most.max(now))
    };
    turns.iter().fold((0, 0), count).1
}

#[test]
fn three_services_are_rejuvenated_one_after_another_by_operators_and_by_rules() {
    let mut governed = Governed::new(Options::default());
    let services = describe(&governed, "");
    up(&mut governed, "[budget]\nrejuvenations = 1", &services);
    thread::scope(|scope| {
        let governed = &governed;
        let asked: Vec<_> =
            NAMES.iter().map(|name| scope.spawn(|| governed.rejuvenate(name, None))).collect();
        for report in asked {
            assert_eq!(report.join().unwrap()["outcome"], "completed");
        }
    });
    let turns_by_operators = turns(&governed);
    assert_eq!(
        (turns_by_operators.len(), most_at_once(&turns_by_operators)),
        (6, 1),
        "{turns_by_operators:?}"
    );
    let waited = NAMES.iter().flat_map(|name| events(&governed, name));
    let waited = waited.filter(|event| event["event"] == "rejuvenation_waits");
    assert!(waited.count() > 0, "asked at once, some wait: {}", governed.output());

    let services = describe(&governed, "[service.rejuvenation]\nmax_age = \"1s\"\njitter = \"10%\"");
    configure(&governed, "[budget]\nrejuvenations = 1", &services);
    governed.reload().unwrap();
    let by_age = |name: &&&str| {
        let all = events(&governed, name);
        all.iter().any(|event| event["event"] == "handover" && event["reason"]["code"] == "age")
    };
    eventually("rules have renewed each of them", || NAMES.iter().filter(by_age).count() == NAMES.len());
    let turns = turns(&governed);
    assert_eq!(most_at_once(&turns), 1, "{turns:?}");
}

/// A server of the lock, which denies some requests and notes all of them.
struct LockServer {
    address: SocketAddr,
    asked: Arc<Mutex<Vec<(String, Value)>>>,
}

impl LockServer {
    fn new(governed: &Governed, denials: usize) -> Self {
        let bind = || TcpListener::bind("127.0.0.1:0").unwrap();
        let listener = run_in(&governed.balancer().netns, bind).unwrap();
        let address = listener.local_addr().unwrap();
        let asked = Arc::new(Mutex::new(Vec::new()));
        let notes = Arc::clone(&asked);
        // It ends with the process of the test.
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (path, body) = read_request(&stream);
                let mut notes = notes.lock().unwrap();
                let denied = path.ends_with("pre-reboot") && notes.len() < denials;
                notes.push((path, body));
                drop(notes);
                answer(stream, denied);
            }
        });
        Self { address, asked }
    }

    /// The last words of the paths that were asked for.
    fn asked(&self) -> Vec<String> {
        let asked = self.asked.lock().unwrap();
        asked.iter().map(|(path, _)| path.trim_start_matches("/base/v1/").to_owned()).collect()
    }
}

fn read_request(stream: &TcpStream) -> (String, Value) {
    let mut reader = BufReader::new(stream);
    let (mut lines, mut line) = (Vec::new(), String::new());
    while reader.read_line(&mut line).unwrap() > 0 && !line.trim().is_empty() {
        lines.push(std::mem::take(&mut line).trim().to_lowercase());
    }
    assert!(lines.contains(&"fleet-lock-protocol: true".to_owned()), "{lines:?}");
    let length = lines.iter().find_map(|line| line.strip_prefix("content-length: ")).unwrap();
    let mut body = vec![0; length.parse().unwrap()];
    reader.read_exact(&mut body).unwrap();
    let mut words = lines[0].split(' ');
    assert_eq!(words.next(), Some("post"));
    (words.next().unwrap().to_owned(), serde_json::from_slice(&body).unwrap())
}

fn answer(mut stream: TcpStream, denied: bool) {
    let body = if denied { "{\"kind\":\"failed_lock\",\"value\":\"another host has it\"}" } else { "{}" };
    let status = if denied { "409 Conflict" } else { "200 OK" };
    let length = body.len();
    // Whoever asked may have been killed.
    let _ =
        write!(stream, "HTTP/1.1 {status}\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{body}");
}

#[test]
fn the_lock_of_a_fleet_is_waited_for_and_given_back_also_by_the_next_controller() {
    let mut governed = Governed::new(Options::default());
    let server = LockServer::new(&governed, 2);
    let budget = format!(
        "[budget.fleet_lock]\nurl = \"http://{}/base/\"\ngroup = \"balancers\"\nid = \"{}\"",
        server.address,
        governed.service("host")
    );
    let services = &describe(&governed, "")[..1];
    up(&mut governed, &budget, services);
    let name = governed.service(NAMES[0]);
    let begun = governed.baton(&["rejuvenate", &name]);
    assert!(said(&begun).contains("for the lock of the fleet"), "{}", said(&begun));
    eventually("it says that it was denied", || {
        let waits = governed.status()[0]["waits"].as_str().map(str::to_owned);
        waits.is_some_and(|waits| waits.contains("another host has it"))
    });
    eventually("it is given back", || server.asked().last().is_some_and(|last| last == "steady-state"));
    assert_eq!(server.asked(), ["pre-reboot", "pre-reboot", "pre-reboot", "steady-state"]);
    assert_eq!(governed.status()[0]["rejuvenations"], 1, "{}", governed.output());
    let bodies: BTreeSet<String> =
        server.asked.lock().unwrap().iter().map(|(_, body)| body["client_params"].to_string()).collect();
    let expected = format!("{{\"group\":\"balancers\",\"id\":\"{}\"}}", governed.service("host"));
    assert_eq!(bodies, BTreeSet::from([expected]));

    // A controller that dies while it holds the lock leaves it to the next one.
    governed.until_ready(1);
    let connection = governed.client(0).connect(governed.embedded_vip());
    governed.baton(&["rejuvenate", &name]);
    eventually("it drains", || !governed.backends_in(NAMES[0], "draining").is_empty());
    governed.kill_controller();
    let before = server.asked().len();
    governed.start();
    eventually("it drains on", || !governed.backends_in(NAMES[0], "draining").is_empty());
    assert!(!server.asked()[before..].contains(&"steady-state".to_owned()), "{:?}", server.asked());
    drop(connection);
    eventually("the next one gives it back", || {
        server.asked()[before..].contains(&"steady-state".to_owned())
    });
    governed.until_ready(1);
}

#[test]
fn in_maintenance_of_a_service_what_dies_stays_dead_until_it_is_over() {
    let mut governed = Governed::new(Options::default());
    let services = &describe(&governed, "")[..1];
    up(&mut governed, "", services);
    let name = governed.service(NAMES[0]);
    let rehearsed = governed.baton(&["maintenance", &name, "on", "--dry-run"]);
    assert!(said(&rehearsed).contains("would: maintenance"), "{}", said(&rehearsed));
    assert_eq!(governed.status()[0]["maintenance"], false);
    let begun = governed.baton(&["maintenance", &name, "on"]);
    assert!(begun.status.success(), "{}", said(&begun));
    let active = governed.backends_in(NAMES[0], "active").remove(0);
    let pid = said(&governed.baton(&["status", "--name", &name, "--pid", &active]));
    kill(Pid::from_raw(pid.trim().parse().unwrap()), Signal::SIGKILL).unwrap();
    let failed = |governed: &Governed| governed.backends_in(NAMES[0], "failed");
    eventually("the other one serves", || {
        failed(&governed) == [active.as_str()] && governed.backends_in(NAMES[0], "active").len() == 1
    });
    drop(governed.client(0).connect(governed.embedded_vip()));
    // The next controller keeps to it, too.
    governed.kill_controller();
    governed.start();
    eventually("the next one is there", || {
        governed.status().first().is_some_and(|s| s["maintenance"] == true)
    });
    eventually("it looks at the dead one", || failed(&governed) == [active.as_str()]);
    let refused = governed.baton(&["rejuvenate", &name]);
    assert!(!refused.status.success() && said(&refused).contains("maintenance"), "{}", said(&refused));
    let shown = said(&governed.baton(&["status", "--name", &name]));
    assert!(shown.contains("no automatic action until"), "{shown}");
    let over = governed.baton(&["maintenance", &name, "off"]);
    assert!(over.status.success(), "{}", said(&over));
    governed.until_ready(1);
    // One backend alone is held out as by `drain`, and comes back as by `ready`.
    let standby = governed.backends_in(NAMES[0], "standby").remove(0);
    let held = governed.baton(&["maintenance", &name, "on", "--backend", &standby, "--wait"]);
    assert!(held.status.success(), "{}", said(&held));
    assert_eq!(governed.backends_in(NAMES[0], "maintenance"), [standby.as_str()]);
    governed.baton(&["maintenance", &name, "off", "--backend", &standby]);
    governed.until_ready(1);
}

/// A day of the week on which it is not today, nor about to be.
fn another_day() -> &'static str {
    let since_1970 = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap();
    // That was a Thursday.
    ["thu", "fri", "sat", "sun", "mon", "tue", "wed"][(since_1970.as_secs() / 86_400 + 3) as usize % 7]
}

#[test]
fn a_rehearsal_says_what_would_be_waited_for_when_a_rule_waits_for_the_same_already() {
    let mut governed = Governed::new(Options::default());
    let day = another_day();
    let window = format!(
        "[service.rejuvenation]\nmax_age = \"1s\"\n[[service.rejuvenation.window]]\ndays = [\"{day}\"]\n\
         start = \"02:00\"\nlength = \"1h\"\ntime_zone = \"UTC\"\n"
    );
    let services = &describe(&governed, &window)[..1];
    up(&mut governed, "", services);
    let name = governed.service(NAMES[0]);
    eventually("a rule waits", || governed.status()[0]["waits"].as_str().is_some_and(|w| w.contains("(age")));
    let rehearsed = governed.baton(&["rejuvenate", &name, "--in-window", "--dry-run", "--json"]);
    let document: Value = serde_json::from_slice(&rehearsed.stdout).unwrap();
    assert_eq!(document["result"], "planned", "{document:#}");
    let waits = document["waits"].as_str().unwrap();
    assert!(waits.starts_with("rejuvenation (operator) waits: for the next window"), "{document:#}");
    assert_eq!(document["plan"], serde_json::json!([waits]));
    let shown = said(&governed.baton(&["rejuvenate", &name, "--in-window", "--dry-run"]));
    assert_eq!(shown, format!("would: {waits}\n"));
}
