//! Handovers and drains, end to end: what a client notices of them is nothing.

use std::io::Read;
use std::net::Shutdown;
use std::thread;
use std::time::Duration;

use baton::load::Report;
use baton_tests::lab::{Lab, aging_service, eventually};

const MIXED: [&str; 3] = [
    "name=short,path=/free,weight=50,mode=close",
    "name=keep-alive,path=/free,weight=45,mode=keep-alive,requests=10,idle=200ms",
    "name=slow,path=/slow?ms=1500,weight=5,mode=close,timeout=20s",
];

fn assert_nothing_lost(lab: &Lab, mut report: Report) {
    let log = lab.execution_log();
    if log.exists() {
        let executions = baton::load::Executions::read(&[&log], &report).unwrap();
        report.audit(&executions);
    }
    assert!(report.summary.is_clean(), "{}", baton::load::render(&report.summary));
}

#[test]
fn an_open_connection_stays_and_a_new_one_goes_to_the_standby() {
    let mut lab = Lab::new();
    lab.up_healthy(&[]);
    let mut old = lab.connect();
    let before = old.get("/free").unwrap().backend;
    thread::scope(|scope| {
        let rejuvenation = scope.spawn(|| lab.rejuvenate());
        eventually("the old backend drains", || lab.states().contains(&"draining".to_owned()));
        let after = lab.connect().get("/free").unwrap().backend;
        assert_ne!(before, after, "a new connection goes to the new backend");
        assert_eq!(old.get("/free").unwrap().backend, before, "an old one stays");
        assert!(!rejuvenation.is_finished(), "the drain waits for the old connection");
        drop(old);
        let (code, report) = rejuvenation.join().unwrap();
        let report = report.unwrap();
        assert_eq!((code, report["outcome"].as_str()), (Some(0), Some("completed")), "{report:#}");
        assert_eq!(report["flows_finished"], 1, "{report:#}");
        assert_ne!(report["proof"]["before"], report["proof"]["after"]);
    });
}

#[test]
fn an_operator_cuts_what_is_still_open_and_its_client_learns_at_once() {
    let mut lab = Lab::new();
    lab.up_healthy(&[]);
    let refused = lab.baton(&["cut", lab.name()]);
    assert_eq!(refused.status.code(), Some(1));
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(said.contains("nothing drains"), "{said}");
    let mut old = lab.connect();
    old.get("/free").unwrap();
    thread::scope(|scope| {
        let rejuvenation = scope.spawn(|| lab.rejuvenate());
        eventually("the old backend drains", || lab.states().contains(&"draining".to_owned()));
        let cut = lab.baton(&["cut", lab.name(), "--json"]);
        assert!(cut.status.success(), "{}", String::from_utf8_lossy(&cut.stderr));
        let cut: serde_json::Value = serde_json::from_slice(&cut.stdout).unwrap();
        assert_eq!(cut["cut"]["flows"], 1, "{cut:#}");
        let lost = old.get("/free").unwrap_err();
        assert_eq!(lost.kind(), std::io::ErrorKind::ConnectionReset, "{lost}");
        let (code, report) = rejuvenation.join().unwrap();
        let report = report.unwrap();
        assert_eq!((code, report["outcome"].as_str()), (Some(1), Some("completed_with_cuts")), "{report:#}");
        assert_eq!(report["cut"].as_array().map(Vec::len), Some(1), "{report:#}");
    });
    assert_eq!(lab.connect().get("/free").unwrap().status, 200);
}

/// Waits for the client's FIN before it answers, as batch protocols do; the answer takes its time.
const ANSWERS_AT_THE_END: &str = "
import os, socketserver, time
class Handler(socketserver.StreamRequestHandler):
    def handle(self):
        while self.rfile.read(1): pass
        body = b'x' * 100000
        self.wfile.write(b'HTTP/1.1 200 OK\\r\\ncontent-length: %d\\r\\n\\r\\n' % len(body))
        for start in range(0, len(body), 10000):
            time.sleep(0.15)
            self.wfile.write(body[start:start + 10000])
socketserver.ThreadingTCPServer.allow_reuse_address = True
socketserver.ThreadingTCPServer(('', 8080), Handler).serve_forever()
";

#[test]
fn a_half_closed_connection_gets_its_whole_slow_answer_over_a_handover() {
    let mut lab = Lab::new();
    lab.up(&[], &["python3", "-c", ANSWERS_AT_THE_END]);
    let mut client = lab.connect();
    client.send("/").unwrap();
    client.stream().shutdown(Shutdown::Write).unwrap();
    thread::scope(|scope| {
        let rejuvenation = scope.spawn(|| lab.rejuvenate());
        eventually("the old backend drains", || lab.states().contains(&"draining".to_owned()));
        let answer = client.read().unwrap();
        assert_eq!((answer.status, answer.body.len()), (200, 100_000));
        drop(client);
        let (code, report) = rejuvenation.join().unwrap();
        assert_eq!(code, Some(0), "{report:?}");
        assert_eq!(report.unwrap()["flows_at_handover"]["half_closed"], 1);
    });
}

#[test]
fn a_slow_answer_finishes_over_a_handover() {
    let mut lab = Lab::new();
    lab.up_healthy(&[]);
    let mut slow = lab.connect();
    slow.send("/slow?ms=1500").unwrap();
    thread::scope(|scope| {
        let rejuvenation = scope.spawn(|| lab.rejuvenate());
        eventually("the old backend drains", || lab.states().contains(&"draining".to_owned()));
        assert_eq!(slow.read().unwrap().status, 200);
        drop(slow);
        assert_eq!(rejuvenation.join().unwrap().0, Some(0));
    });
}

#[test]
fn a_large_answer_that_spans_a_handover_arrives_whole() {
    const PATH: &str = "/large?bytes=40000000";
    let mut lab = Lab::new();
    lab.up_healthy(&[]);
    let whole = lab.connect().get(PATH).unwrap();
    assert_eq!(whole.body.len(), 40_000_000);
    let mut spanning = lab.connect();
    spanning.send(PATH).unwrap();
    // It has begun, and is more than the sockets can hold.
    spanning.stream().peek(&mut [0]).unwrap();
    thread::scope(|scope| {
        let rejuvenation = scope.spawn(|| lab.rejuvenate());
        eventually("the old backend drains", || lab.states().contains(&"draining".to_owned()));
        assert_ne!(lab.connect().get("/free").unwrap().backend, whole.backend);
        // Equal to the first: the same backend, status and bytes.
        assert!(spanning.read().unwrap() == whole, "another answer");
        drop(spanning);
        assert_eq!(rejuvenation.join().unwrap().0, Some(0));
    });
}

#[test]
fn a_reset_by_the_client_ends_its_flow_and_the_drain() {
    let mut lab = Lab::new();
    lab.up_healthy(&[]);
    let mut client = lab.connect();
    client.get("/free").unwrap();
    thread::scope(|scope| {
        let rejuvenation = scope.spawn(|| lab.rejuvenate());
        eventually("the old backend drains", || lab.states().contains(&"draining".to_owned()));
        // Closing with unread data makes the kernel send a reset.
        client.send("/free").unwrap();
        client.stream().peek(&mut [0]).unwrap();
        drop(client);
        assert_eq!(rejuvenation.join().unwrap().0, Some(0));
    });
}

#[test]
fn a_connection_that_never_ends_is_cut_at_the_deadline_and_named() {
    let mut lab = Lab::new();
    lab.up_healthy(&["--drain-deadline", "500ms"]);
    let mut idle = lab.connect();
    idle.get("/free").unwrap();
    let client = idle.stream().local_addr().unwrap().to_string();
    let (code, report) = lab.rejuvenate();
    let report = report.unwrap();
    assert_eq!((code, report["outcome"].as_str()), (Some(1), Some("completed_with_cuts")));
    assert_eq!(report["cut"][0]["client"], client, "{report:#}");
    let ended = idle.stream().read(&mut [0]);
    assert!(matches!(ended, Ok(0)) || ended.is_err(), "the client learns of it");
}

#[test]
fn twenty_rejuvenations_in_a_row_under_mixed_load_lose_nothing() {
    let mut lab = Lab::new();
    lab.up_healthy(&[]);
    let report = lab.load(150.0, Duration::from_mins(1), &MIXED, || {
        for round in 1..=20 {
            let (code, report) = lab.rejuvenate();
            let report = report.unwrap();
            assert_eq!(
                (code, report["cut"].as_array().map(Vec::len)),
                (Some(0), Some(0)),
                "{round}: {report:#}"
            );
            let (before, after) = (&report["proof"]["before"], &report["proof"]["after"]);
            assert!(before.is_object() && after.is_object() && before != after, "{round}: {report:#}");
        }
    });
    let last = lab.reports().pop().unwrap()["times"]["ended_unix_ms"].as_u64().unwrap();
    let load_ms = last - report.summary.started_unix_ms;
    assert!(load_ms < 60_000, "the load ended before the last rejuvenation, {load_ms} ms after its start");
    assert_nothing_lost(&lab, report);
}

#[test]
fn a_service_that_leaks_is_renewed_at_the_ceiling_without_a_lost_request() {
    let mut lab = Lab::new();
    let service = aging_service();
    let command = [&service, "--listen", "0.0.0.0:8080", "--heap-max", "64MiB", "--leak", "64KiB"];
    lab.up(&["--memory-max", "96M", "--ceiling", "40"], &command);
    let kinds = ["name=work,path=/work,weight=1,mode=close"];
    let report = lab.load(150.0, Duration::from_secs(16), &kinds, || {});
    assert_nothing_lost(&lab, report);
    let status = lab.status();
    assert!(status["rejuvenations"].as_u64() >= Some(2), "{status:#}");
    assert!(lab.events().contains("ceiling"), "{}", lab.events());
}

#[test]
fn generic_mode_hands_over_as_native_does() {
    let mut lab = Lab::new();
    lab.up_healthy(&["--mode", "generic"]);
    let report = lab.load(100.0, Duration::from_secs(6), &MIXED, || {
        assert_eq!(lab.rejuvenate().0, Some(0));
    });
    assert_nothing_lost(&lab, report);
}
