//! A stream as fast as it goes, by a program that is not ours, over a handover.

use std::process::{Child, Command, Output, Stdio};

use baton_tests::plane::{Family, Options, Plane, id};
use serde_json::Value;

/// Packets at full speed, a fraction of a second.
const MANY: u64 = 20_000;

/// A server that ends with its first test, or with its plane.
struct Server(Child);

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn serve(plane: &Plane, backend: usize) -> Server {
    let address = plane.listens_on(backend);
    let mut command = Command::new("iperf3");
    command.args(["-s", "-1", "-B", &address.ip().to_string(), "-p", &address.port().to_string()]);
    command.stdin(Stdio::null()).stdout(Stdio::null());
    let child =
        plane.backend(backend).run(|| command.spawn()).expect("iperf3: `cargo xtask setup` installs it");
    plane.backend(backend).until_listening(address);
    Server(child)
}

/// Runs a stream that a handover comes upon, and judges it by what iperf3 says.
fn stream_over_a_handover(family: Family, direction: &[&str]) {
    let plane = Plane::new(Options { family, ..Options::default() });
    let _servers = [serve(&plane, 0), serve(&plane, 1)];
    let vip = plane.vip();
    let mut command = Command::new("iperf3");
    command.args(["-c", &vip.ip().to_string(), "-p", &vip.port().to_string(), "-J", "-t", "2"]);
    command.args(direction).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let client = plane.client(0).run(|| command.spawn()).expect("iperf3");
    plane.until_packets(0, MANY);
    plane.handover(1);
    plane.until_packets(0, MANY);
    plane.settle();
    let count = |backend| plane.dataplane.backend_counters(id(backend)).unwrap();
    // At its end iperf3 closes sockets with data left in them, which resets.
    let under_way = count(0);
    assert_eq!((under_way.flows_new, under_way.resets_in, under_way.resets_out), (2, 0, 0));
    let Output { status, stdout, .. } = client.wait_with_output().unwrap();
    let said: Value = serde_json::from_slice(&stdout).unwrap();
    assert!(status.success() && said["error"].is_null(), "{said:#}");
    let received = said["end"]["sum_received"]["bytes"].as_u64().unwrap();
    assert!(received > MANY * 1000, "{said:#}");
    assert_eq!(count(1).packets_in, 0);
}

#[test]
fn a_stream_to_the_backend_stays_there_over_a_handover() {
    for family in [Family::V4, Family::V6] {
        stream_over_a_handover(family, &[]);
    }
}

#[test]
fn a_stream_from_the_backend_stays_there_over_a_handover() {
    for family in [Family::V4, Family::V6] {
        stream_over_a_handover(family, &["--reverse"]);
    }
}
