//! `baton run`: many services of one file under one controller, with every mode, protocol and policy.

use std::net::TcpStream;
use std::thread;
use std::time::Duration;

use baton_tests::lab::eventually;
use baton_tests::plane::{Family, Governed, Layout, Options, ask, assert_nothing_lost, backend_name};
use lb_common::Forwarding;
use lb_common::endpoint::UDP;
use nix::sys::signal::Signal;

/// Requests of every kind come by within this.
const A_WHILE: Duration = Duration::from_secs(1);

/// Rejuvenates the active backend twice under requests of every kind: both have served in the end, and nothing
/// is lost.
fn rejuvenate_twice(options: Options, settings: &str) {
    let mut governed = Governed::new(options);
    let service = governed.describe("shop", settings);
    governed.up(&[service]);
    let requests = governed.requests(0);
    for _ in 0..2 {
        thread::sleep(A_WHILE);
        let report = governed.rejuvenate("shop", None);
        assert_eq!(report["outcome"], "completed", "{report:#}");
    }
    thread::sleep(A_WHILE);
    assert_nothing_lost(&requests.end(), 2);
}

const BOTH: [Family; 2] = [Family::V4, Family::V6];
const QUICK_DRAIN: &str = "[service.drain]\ndeadline = \"20s\"";

#[test]
fn a_service_with_nat_is_rejuvenated_without_a_loss() {
    for family in BOTH {
        rejuvenate_twice(Options { family, ..Options::default() }, QUICK_DRAIN);
    }
}

#[test]
fn a_service_with_snat_is_rejuvenated_without_a_loss() {
    for family in BOTH {
        let options = Options { family, snat: true, ..Options::default() };
        rejuvenate_twice(options, &format!("snat_ports = \"20000-29999\"\n{QUICK_DRAIN}"));
    }
}

#[test]
fn a_service_with_dsr_is_rejuvenated_without_a_loss() {
    for family in BOTH {
        let options =
            Options { family, forwarding: Forwarding::Dsr, layout: Layout::Switched, ..Options::default() };
        rejuvenate_twice(options, QUICK_DRAIN);
    }
}

#[test]
fn a_service_with_ipip_is_rejuvenated_without_a_loss() {
    for family in BOTH {
        let options =
            Options { family, forwarding: Forwarding::Ipip, layout: Layout::Switched, ..Options::default() };
        rejuvenate_twice(options, QUICK_DRAIN);
    }
}

#[test]
fn a_service_of_datagrams_is_rejuvenated_without_a_loss() {
    for (family, drain) in [(Family::V4, "move"), (Family::V6, "move"), (Family::V4, "pin")] {
        let mut governed = Governed::new(Options { family, protocol: UDP, ..Options::default() });
        governed.serve_datagrams();
        let settings = format!("udp_drain = \"{drain}\"\n[service.drain]\ndeadline = \"2s\"");
        let service = governed.describe("dns", &settings);
        governed.up(&[service]);
        let conversations = governed.conversations(0, 8);
        conversations.until_answered(200);
        let active = governed.backends_in("dns", "active");
        let name = governed.service("dns");
        let output = governed.baton(&["rejuvenate", &name, "--wait"]);
        // Pinned conversations go on until the deadline cuts them: the exit code says so.
        assert_eq!(output.status.code(), Some(i32::from(drain == "pin")), "{}", governed.output());
        conversations.until_answered(200);
        assert_ne!(governed.backends_in("dns", "active"), active);
        let pinned = governed.converse(0);
        assert_eq!(backend_name(ask(&pinned, 0).into()), governed.backends_in("dns", "active")[0]);
        for who in conversations.end() {
            // This driver stops no echo, and one whose answer is under way at the cut keeps its conversation.
            assert!(drain == "pin" || who.first() != who.last(), "{:?} to {:?}", who.first(), who.last());
        }
    }
}

#[test]
fn every_policy_spreads_requests_and_lets_each_backend_be_rejuvenated_without_a_loss() {
    let mut governed = Governed::new(Options { backends: 3, ..Options::default() });
    let describe = |governed: &Governed, policy: &str| {
        governed.describe("pool", &format!("policy = \"{policy}\"\n{QUICK_DRAIN}"))
    };
    let first = describe(&governed, "rr");
    governed.up(&[first]);
    let requests = governed.requests(0);
    for policy in ["rr", "wrr", "lc", "wlc", "sh", "maglev", "fo", "random2"] {
        governed.configure(&[describe(&governed, policy)]);
        governed.reload().unwrap_or_else(|error| panic!("{policy}: {error}"));
        governed.until_ready(1);
        for number in 0..3 {
            let report = governed.rejuvenate("pool", Some(&backend_name(number)));
            assert_eq!(report["outcome"], "completed", "{policy}: {report:#}");
        }
        thread::sleep(A_WHILE);
        assert_eq!(governed.backends_in("pool", "active").len(), 3, "{policy}: {}", governed.output());
    }
    assert_nothing_lost(&requests.end(), 3);
}

#[test]
fn a_client_with_affinity_stays_where_it_is_until_its_backend_drains() {
    for at_drain in ["honour", "break"] {
        let mut governed = Governed::new(Options { backends: 3, ..Options::default() });
        let settings = format!(
            "policy = \"rr\"\naffinity = \"60s\"\naffinity_at_drain = \"{at_drain}\"\n[service.drain]\ndeadline = \"3s\""
        );
        let service = governed.describe("sticky", &settings);
        governed.up(&[service]);
        let kind = ["name=short,path=/free,weight=1,mode=close"];
        let requests = governed.requests_of(0, &kind);
        thread::sleep(A_WHILE);
        let before = requests.end().summary;
        assert!(before.is_clean() && before.by_backend.len() == 1, "{:?}", before.by_backend);
        let home = before.by_backend.keys().next().unwrap().clone();
        let requests = governed.requests_of(0, &kind);
        let name = governed.service("sticky");
        let home_name = backend_name(home.parse().unwrap());
        governed.baton(&["rejuvenate", &name, "--backend", &home_name]);
        eventually("it drains", || !governed.backends_in("sticky", "draining").is_empty());
        let during = governed.requests_of(0, &kind);
        thread::sleep(A_WHILE);
        let during = during.end().summary;
        assert!(during.is_clean(), "{at_drain}: {during:?}");
        let stays = during.by_backend.contains_key(&home);
        assert_eq!(stays, at_drain == "honour", "{at_drain}: {:?}", during.by_backend);
        drop(requests);
    }
}

#[test]
fn a_reload_adds_changes_and_removes_services_and_leaves_the_others_alone() {
    let mut governed = Governed::new(Options::default());
    let shop = governed.describe("shop", QUICK_DRAIN);
    governed.up(std::slice::from_ref(&shop));
    let requests = governed.requests(0);
    thread::sleep(A_WHILE);

    // What is wrong is all named, and nothing changes.
    governed.configure(&[shop.replace("\"nat\"", "\"nut\"").replace("interval", "intervall")]);
    let refused = governed.reload().unwrap_err();
    assert!(refused.contains("nut") && refused.contains("intervall"), "{refused}");
    let elsewhere: std::net::SocketAddr = "10.77.0.9:80".parse().unwrap();
    governed.configure(&[governed.describe_at("shop", elsewhere, QUICK_DRAIN)]);
    let refused = governed.reload().unwrap_err();
    assert!(refused.contains("vip"), "{refused}");
    governed.until_ready(1);

    // A file that was cut off takes nothing away.
    governed.configure(&[]);
    let refused = governed.reload().unwrap_err();
    assert!(refused.contains("has no service") && refused.contains(&governed.service("shop")), "{refused}");
    assert!(refused.contains("baton unload"), "{refused}");
    governed.until_ready(1);

    // Another service beside it, whose backends are others.
    let other = governed.describe_at("other", elsewhere, "").replace(":8080\"", ":8081\"");
    let manual = other
        .split("[[service.backend]]")
        .next()
        .unwrap()
        .replace("http", "tcp")
        .replace("path = \"/free\"\n", "");
    let backend = format!(
        "[[service.backend]]\nname = \"far\"\naddress = \"{}:9\"\n[service.backend.driver]\ntype = \"manual\"\n",
        governed.backend(0).address
    );
    governed.configure(&[shop.clone(), format!("{manual}{backend}")]);
    let said = governed.reload().unwrap();
    assert!(said.contains("other: added") && !said.contains("shop:"), "{said}");
    eventually("both are there", || governed.status().len() == 2);
    let other = governed.service("other");
    let refused = governed.baton(&["rejuvenate", &other, "--backend", "far"]);
    let refused = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(refused.contains("`manual`") && refused.contains("baton ready"), "{refused}");
    let refused = governed.baton(&["down", "--name", &other]);
    assert_eq!(refused.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&refused.stderr).contains("baton unload"));

    // By signal, too.
    governed.configure(&[shop.replace("20s", "21s")]);
    governed.signal(Signal::SIGHUP);
    eventually("the other has gone", || governed.status().len() == 1);
    governed.until_ready(1);
    // How long they have run is known, though their commands are not Baton's own.
    for backend in governed.status()[0]["backends"].as_array().unwrap() {
        assert!(backend["started_unix_ms"].is_u64(), "{backend:#}");
    }
    let report = governed.rejuvenate("shop", None);
    assert_eq!(report["outcome"], "completed", "{report:#}");
    assert_nothing_lost(&requests.end(), 2);
}

#[test]
fn a_controller_that_is_killed_or_ended_leaves_every_service_and_is_succeeded_without_a_loss() {
    let mut governed = Governed::new(Options::default());
    let shop = governed.describe("shop", QUICK_DRAIN);
    governed.up(&[shop]);
    let requests = governed.requests(0);
    let pids = |governed: &Governed| -> Vec<_> {
        governed.status()[0]["backends"].as_array().unwrap().iter().map(|b| b["pid"].clone()).collect()
    };
    let before = pids(&governed);
    assert!(before.iter().all(serde_json::Value::is_u64), "{before:?}");
    for kill in [true, false, true] {
        thread::sleep(A_WHILE);
        if kill {
            governed.kill_controller();
        } else {
            assert_eq!(governed.end_controller(), Some(0));
        }
        thread::sleep(A_WHILE);
        governed.start();
        governed.until_ready(1);
        assert_eq!(pids(&governed), before, "a backend was restarted: {}", governed.output());
    }
    // In the middle of a drain, too.
    let name = governed.service("shop");
    governed.baton(&["rejuvenate", &name]);
    governed.kill_controller();
    governed.start();
    governed.until_ready(1);
    assert_nothing_lost(&requests.end(), 1);
}

#[test]
fn flows_and_explanations_name_the_service_and_its_backends() {
    let mut governed = Governed::new(Options::default());
    let shop = governed.describe("shop", QUICK_DRAIN);
    governed.up(&[shop]);
    let connection = governed.client(0).connect(governed.vip());
    let name = governed.service("shop");
    let active = governed.backends_in("shop", "active").remove(0);
    let client = connection.local_addr().unwrap().to_string();
    let flows = governed.baton(&["flows", "--service", &name]);
    let flows = String::from_utf8_lossy(&flows.stdout).into_owned();
    assert!(flows.contains(&client) && flows.contains(&active), "{flows}");
    let explained = governed.baton(&["explain", "--service", &name, "--from", &client, "--flags", "ACK"]);
    let explained = String::from_utf8_lossy(&explained.stdout).into_owned();
    assert!(explained.contains(&active), "{explained}");
}

#[test]
fn processes_of_the_file_run_in_namespaces_of_their_own_as_a_pool_that_is_rejuvenated_without_a_loss() {
    let mut governed = Governed::new(Options::default());
    let vip = governed.embedded_vip();
    let service = governed.describe_processes("pool", vip, &["web", "up", "third"], "policy = \"wlc\"");
    governed.up(std::slice::from_ref(&service));
    let requests = governed.requests_to(0, vip, &["name=short,path=/free,weight=1,mode=close"]);
    thread::sleep(A_WHILE);
    for backend in ["web", "up", "third"] {
        let report = governed.rejuvenate("pool", Some(backend));
        assert_eq!(report["outcome"], "completed", "{report:#}");
    }
    // The end of the controller is not that of its processes.
    assert_eq!(governed.end_controller(), Some(0));
    thread::sleep(A_WHILE);
    governed.start();
    governed.until_ready(1);
    governed.configure(&[service.replace("third", "fourth")]);
    let refused = governed.reload().unwrap_err();
    assert!(refused.contains("third") && refused.contains("removed"), "{refused}");
    let summary = requests.end().summary;
    assert!(summary.is_clean(), "{summary:?}");
    assert_eq!(summary.by_backend.len(), 3, "{:?}", summary.by_backend);

    // Removed, the service drains first: who is connected stays, and nobody else gets in.
    let connection = governed.client(0).connect(vip);
    governed.configure(&[governed.describe_at("other", "10.77.0.9:80".parse().unwrap(), "")]);
    governed.reload().unwrap();
    let more = governed.client(0).run(|| TcpStream::connect_timeout(&vip, Duration::from_millis(500)));
    assert!(more.is_err(), "a new connection to a service that leaves");
    thread::sleep(A_WHILE);
    let namespaces = || governed.namespaces("pool");
    assert_eq!(namespaces(), 4, "{}", governed.output());
    drop(connection);
    eventually("the last connection has ended", || namespaces() == 0);
}

#[test]
fn what_the_packet_path_counts_for_a_backend_is_in_the_status() {
    let mut governed = Governed::new(Options::default());
    let shop = governed.describe("shop", QUICK_DRAIN);
    governed.up(&[shop]);
    let requests = governed.requests(0);
    thread::sleep(A_WHILE);
    let summary = requests.end().summary;
    assert!(summary.is_clean());
    let status = &governed.status()[0];
    let backends = status["backends"].as_array().unwrap();
    let sum = |counter: &str| backends.iter().filter_map(|b| b["counters"][counter].as_u64()).sum::<u64>();
    assert!(sum("turns") >= summary.ok && sum("flows_new") > 0 && sum("bytes_out") > 0, "{status:#}");
    let first_bytes = backends.iter().flat_map(|b| b["first_byte"].as_array().unwrap());
    let timed: u64 = first_bytes.map(|bucket| bucket["responses"].as_u64().unwrap()).sum();
    assert!(timed > 0 && timed <= sum("turns"), "{status:#}");
}

#[test]
fn what_is_probably_not_meant_like_that_is_logged_at_the_start_as_at_a_reload() {
    let mut governed = Governed::new(Options::default());
    governed.configure(&[]);
    governed.start();
    let warnings = |governed: &Governed| governed.output().matches("there is no service").count();
    eventually("it is said at the start", || warnings(&governed) == 1);
    eventually("it is said again", || governed.reload().is_ok());
    assert_eq!(warnings(&governed), 2, "{}", governed.output());
}
