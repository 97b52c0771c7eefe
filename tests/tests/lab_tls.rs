//! `baton run` posts over TLS: webhooks and the lock of a site are asked if their server is who it should be, and an
//! operator is told why if it is not.

use baton_tests::lab::eventually;
use baton_tests::plane::{Governed, Options};
use baton_tests::tls::{Authority, Server, Shows};
use serde_json::Value;

const QUICK_DRAIN: &str = "[service.drain]\ndeadline = \"20s\"\n";

fn server(governed: &Governed) -> Server {
    Server::new(&governed.balancer().netns, Authority::new(&governed.file("ca.pem")))
}

/// What `baton rejuvenate --wait` says if it does nothing.
fn refusal(governed: &Governed) -> String {
    let output = governed.baton(&["rejuvenate", &governed.service("shop"), "--wait", "--json"]);
    assert_ne!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stdout));
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn a_webhook_is_asked_over_tls_if_its_certificate_is_right_and_vetoes_if_it_is_not() {
    let mut governed = Governed::new(Options::default());
    let server = server(&governed);
    let hook = format!(
        "{QUICK_DRAIN}[[service.hook]]\non = \"before-handover\"\nwebhook = \"https://{}/told\"\nretries = 0\n",
        server.address
    );
    governed.up(&[governed.describe("shop", &hook)]);
    // The authority is the site's own, and the machine does not know it.
    let why = refusal(&governed);
    assert!(why.contains(&format!("https://{}/told", server.address)), "{why}");
    assert!(why.contains("UnknownIssuer") && why.contains("`ca_file`"), "{why}");

    let trusting = format!("{hook}ca_file = \"{}\"\n", server.ca_file().display());
    governed.configure(&[governed.describe("shop", &trusting)]);
    let said = governed.reload().unwrap();
    assert!(said.contains("other `hook` (in place)"), "{said}");
    governed.until_ready(1);
    for (shows, expected) in [(Shows::Expired, "expired"), (Shows::OtherName, "not valid for name")] {
        server.show(shows);
        let why = refusal(&governed);
        assert!(why.contains(expected) && !why.contains("wrong answer"), "{why}");
    }
    assert!(server.posted().is_empty(), "nobody is told who is not trusted: {:?}", server.posted());

    server.show(Shows::Right);
    let report = governed.rejuvenate("shop", None);
    assert_eq!(report["outcome"], "completed", "{report:#}");
    assert!(report["hooks"][0]["failure"].is_null(), "{report:#}");
    let [asked] = &server.posted()[..] else { panic!("one request: {:?}", server.posted()) };
    assert_eq!(asked.head[0], "post /told http/1.1");
    assert_eq!((&asked.body["phase"], &asked.body["backend"]), (&"before-handover".into(), &report["from"]));
}

/// Waits until the service says that it waits for this.
fn until_it_waits_for(governed: &Governed, what: &str) {
    let mut waits = Value::Null;
    eventually(&format!("it waits: {what}"), || {
        waits = governed.status().first().map_or(Value::Null, |service| service["waits"].clone());
        waits
            .as_str()
            .is_some_and(|waits| waits.contains("for the lock of the fleet") && waits.contains(what))
    });
}

#[test]
fn the_lock_of_a_fleet_is_taken_over_tls_once_its_server_is_trusted_and_not_before() {
    let mut governed = Governed::new(Options::default());
    let server = server(&governed);
    let budget = |trust: &str| {
        let (address, id) = (server.address, governed.service("host"));
        format!("[budget.fleet_lock]\nurl = \"https://{address}/base\"\nid = \"{id}\"\n{trust}\n")
    };
    let ca_file = format!("ca_file = \"{}\"", server.ca_file().display());
    let (without, with) = (budget(""), budget(&ca_file));
    let service = governed.describe_processes("shop", governed.embedded_vip(), &["a", "b"], "");
    governed.configure(&[without, service.clone()]);
    governed.start();
    governed.until_ready(1);
    let name = governed.service("shop");
    governed.baton(&["rejuvenate", &name]);
    until_it_waits_for(&governed, "UnknownIssuer");
    until_it_waits_for(&governed, "`ca_file`");

    // The next controller knows the authority, and goes on with what its predecessor has left.
    assert_eq!(governed.end_controller(), Some(0));
    governed.configure(&[with, service]);
    server.show(Shows::OtherName);
    governed.start();
    governed.until_ready(1);
    governed.baton(&["rejuvenate", &name]);
    until_it_waits_for(&governed, "not valid for name");
    assert!(server.posted().is_empty(), "nobody is asked who is not trusted: {:?}", server.posted());

    server.show(Shows::Right);
    let last = || server.posted().last().map(|posted| posted.head[0].clone());
    eventually("the lock is given back", || {
        last().is_some_and(|line| line == "post /base/v1/steady-state http/1.1")
    });
    governed.until_ready(1);
    assert_eq!(governed.status()[0]["rejuvenations"], 1, "{}", governed.output());
    let posted = server.posted();
    assert!(posted.iter().all(|posted| posted.head.contains(&"fleet-lock-protocol: true".to_owned())));
    assert!(
        posted.iter().any(|posted| posted.head[0].starts_with("post /base/v1/pre-reboot ")),
        "{posted:?}"
    );
}
