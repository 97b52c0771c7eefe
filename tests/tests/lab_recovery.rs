//! `baton run` brings backends back: steps that do not help, diagnoses, and hooks that are asked and told.

use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use baton::net::netns::run_in;
use baton_tests::lab::eventually;
use baton_tests::plane::{Governed, Options, assert_nothing_lost};
use serde_json::Value;

/// Requests of every kind come by within this.
const A_WHILE: Duration = Duration::from_secs(1);
const QUICK_DRAIN: &str = "[service.drain]\ndeadline = \"20s\"\n";

/// What `baton rejuvenate --wait` says if it does nothing.
fn refusal(governed: &Governed, service: &str) -> String {
    let output = governed.baton(&["rejuvenate", &governed.service(service), "--wait", "--json"]);
    assert_ne!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stdout));
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn document(path: &Path) -> Value {
    serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
}

#[test]
fn a_restart_that_hangs_is_followed_by_force_and_the_report_proves_it() {
    let mut governed = Governed::new(Options::default());
    let mut text = governed.describe("shop", QUICK_DRAIN);
    let hang = governed.script("hang", "sleep 600\n");
    for number in 0..2 {
        let pid_file = governed.pid_file(number);
        let kill = governed
            .script(&format!("kill-{number}"), &format!("kill -KILL $(cat {})\n", pid_file.display()));
        let stop = governed.file(&format!("stop-{number}")).display().to_string();
        let steps = format!("stop = [\"{hang}\"]\nkill = [\"{kill}\"]\ntimeout = \"1s\"");
        text = text.replace(&format!("stop = [\"{stop}\"]"), &steps);
    }
    governed.up(&[text]);
    let requests = governed.requests(0);
    thread::sleep(A_WHILE);
    let report = governed.rejuvenate("shop", None);
    thread::sleep(A_WHILE);
    assert_nothing_lost(&requests.end(), 2);

    assert_eq!(report["outcome"], "completed", "{report:#}");
    let steps = report["steps"].as_array().unwrap();
    assert_eq!(steps.len(), 2, "{report:#}");
    let failure = steps[0]["failure"].as_str().unwrap();
    assert!(steps[0]["step"] == "graceful" && failure.contains("did not end within 1s"), "{report:#}");
    assert!(steps[0]["proof"].is_null() && steps[1]["failure"].is_null(), "{report:#}");
    let proof = &steps[1]["proof"];
    assert_eq!((&steps[1]["step"], &proof["evidence"]), (&"restart".into(), &"process".into()), "{report:#}");
    assert!(proof["before"]["pid"].is_u64() && proof["before"]["pid"] != proof["after"]["pid"], "{report:#}");
    let said = governed.output();
    assert!(said.contains("the graceful restart did not bring it back"), "{said}");
}

#[test]
fn a_drained_backend_is_diagnosed_while_it_still_lives() {
    let mut governed = Governed::new(Options::default());
    let seen = governed.file("seen");
    let diagnose = governed.script(
        "diagnose",
        &format!(
            "kill -0 $BATON_PID && echo \"$BATON_SERVICE $BATON_PID $BATON_REASON\" >> {}\necho dumped\n",
            seen.display()
        ),
    );
    let settings = format!("{QUICK_DRAIN}[service.recovery]\ndiagnose = [\"{diagnose}\"]");
    let text = governed.describe("shop", &settings);
    governed.up(&[text]);
    let report = governed.rejuvenate("shop", None);
    let diagnosis = &report["diagnosis"];
    assert_eq!((&diagnosis["exit_status"], &diagnosis["last_lines"][0]), (&0.into(), &"dumped".into()));
    let old = &report["proof"]["before"]["pid"];
    assert_eq!(fs::read_to_string(&seen).unwrap(), format!("{} {old} operator\n", governed.service("shop")));

    // One that hangs is killed, and the backend is brought back all the same.
    let hang = governed.script("hang", "sleep 600\n");
    let settings =
        format!("{QUICK_DRAIN}[service.recovery]\ndiagnose = [\"{hang}\"]\ndiagnose_timeout = \"1s\"");
    governed.configure(&[governed.describe("shop", &settings)]);
    let said = governed.reload().unwrap();
    assert!(said.contains("other `recovery` (in place)"), "{said}");
    governed.until_ready(1);
    let report = governed.rejuvenate("shop", None);
    let failure = report["diagnosis"]["failure"].as_str().unwrap();
    assert!(failure.contains("did not end within 1s"), "{report:#}");
    assert_eq!(report["outcome"], "completed", "{report:#}");
}

#[test]
fn a_hook_keeps_a_rejuvenation_from_beginning_until_it_agrees() {
    let mut governed = Governed::new(Options::default());
    let (told, agreed) = (governed.file("told"), governed.file("agreed"));
    let ask = governed.script(
        "ask",
        &format!(
            "cat > {}\n[ $BATON_PHASE = before-handover ] || exit 9\ntest -e {} || {{ echo not now; exit 1; }}\n",
            told.display(),
            agreed.display()
        ),
    );
    let settings = format!("{QUICK_DRAIN}[[service.hook]]\non = \"before-handover\"\nexec = [\"{ask}\"]");
    let text = governed.describe("shop", &settings);
    governed.up(&[text]);
    let active = governed.backends_in("shop", "active");

    let begun = governed.baton(&["rejuvenate", &governed.service("shop")]);
    let said = String::from_utf8_lossy(&begun.stdout).into_owned();
    assert!(begun.status.success() && said.contains("waits: for its hooks, which may refuse"), "{said}");
    eventually("the veto is seen", || {
        let shown = governed.baton(&["status", "--name", &governed.service("shop")]);
        String::from_utf8_lossy(&shown.stdout).contains("hooks (before-handover): ")
            && governed.status()[0]["hooks"][0]
                .as_str()
                .is_some_and(|why| why.contains("exit status 1: not now"))
    });
    let why = refusal(&governed, "shop");
    assert!(
        why.contains("vetoed by a hook (before-handover)") && why.contains("exit status 1: not now"),
        "{why}"
    );
    assert_eq!(governed.backends_in("shop", "active"), active);
    let call = document(&told);
    assert_eq!((&call["phase"], &call["backend"]), (&"before-handover".into(), &active[0].as_str().into()));
    assert_eq!(
        (&call["service"], &call["states"][&active[0]]),
        (&governed.service("shop").into(), &"active".into())
    );
    assert_eq!(call["reason"]["code"], "operator");

    fs::write(&agreed, "").unwrap();
    let report = governed.rejuvenate("shop", None);
    assert_eq!(report["outcome"], "completed", "{report:#}");
    assert_eq!(report["hooks"][0]["hook"], ask.as_str(), "{report:#}");
    assert!(report["hooks"][0]["failure"].is_null(), "{report:#}");
}

/// A server of HTTP in the network of the balancer that is busy at first; where it listens, and the bodies of the
/// requests that it got.
fn busy_at_first(governed: &Governed) -> (SocketAddr, JoinHandle<Vec<Value>>) {
    let listener =
        run_in(&governed.balancer().netns, || TcpListener::bind(("127.0.0.1", 0))).unwrap().unwrap();
    let address = listener.local_addr().unwrap();
    let served = thread::spawn(move || {
        ["503 Service Unavailable", "200 OK"].map(|status| answer(&listener, status)).into()
    });
    (address, served)
}

/// Takes one request whole, answers it, and returns its body.
fn answer(listener: &TcpListener, status: &str) -> Value {
    let (mut stream, _) = listener.accept().unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    let mut request = Vec::new();
    loop {
        let text = String::from_utf8_lossy(&request).into_owned();
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
            if length.is_some_and(|length| length.parse() == Ok(body.len())) {
                assert!(head.starts_with("POST /told HTTP/1.1"), "{head}");
                write!(stream, "HTTP/1.1 {status}\r\ncontent-length: 0\r\n\r\n").unwrap();
                return serde_json::from_str(body).unwrap();
            }
        }
        let mut bytes = [0; 4096];
        let length = stream.read(&mut bytes).unwrap();
        assert_ne!(length, 0, "the request broke off: {text}");
        request.extend_from_slice(&bytes[..length]);
    }
}

#[test]
fn a_webhook_is_told_again_until_it_listens() {
    let mut governed = Governed::new(Options::default());
    let (address, served) = busy_at_first(&governed);
    let settings = format!(
        "{QUICK_DRAIN}[[service.hook]]\non = \"after-rejoin\"\nwebhook = \"http://{address}/told\"\nretries = 1"
    );
    let text = governed.describe("shop", &settings);
    governed.up(&[text]);
    let report = governed.rejuvenate("shop", None);
    eventually("it was told", || served.is_finished());
    let [first, second] = &served.join().unwrap()[..] else { panic!("two requests") };
    assert_eq!(first, second);
    assert_eq!((&first["phase"], &first["cycle"]), (&"after-rejoin".into(), &report["cycle"]));
    assert_eq!(first["states"][report["from"].as_str().unwrap()], "standby", "{first:#}");
    assert!(!governed.output().contains("failed: "), "{}", governed.output());
}

#[test]
fn what_a_verb_has_cut_is_in_its_document_also_if_the_end_of_the_drain_takes_too_long() {
    let mut governed = Governed::new(Options::default());
    let settings = format!("{QUICK_DRAIN}[service.recovery]\ndiagnose = [\"/bin/sleep\", \"30\"]");
    let service = governed.describe("shop", &settings);
    governed.up(&[service]);
    let _old = governed.client(0).connect(governed.vip());
    let name = governed.service("shop");
    assert!(governed.baton(&["rejuvenate", &name]).status.success());
    eventually("it drains", || governed.backends_in("shop", "draining").len() == 1);
    let late = governed.baton(&["cut", &name, "--wait", "--timeout", "2s", "--json"]);
    let told: Value = serde_json::from_slice(&late.stdout).unwrap();
    assert_eq!((late.status.code(), &told["result"]), (Some(3), &"timed_out".into()), "{told:#}");
    assert_eq!(told["cut"]["flows"], 1, "{told:#}");
}
