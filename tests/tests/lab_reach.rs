//! Who reaches whom: clients here and elsewhere the service, and the service what it needs itself.

use std::io::{ErrorKind, Write};
use std::net::{Ipv4Addr, SocketAddrV4, TcpListener, UdpSocket};
use std::thread;
use std::time::Duration;

use baton::load::{self, render};
use baton::net::netns::run_in;
use baton_tests::lab::{Client, Lab, PATIENCE, eventually};
use baton_tests::lan::{HOST, OUTSIDE, answer_one_query};

#[test]
fn the_vip_is_reached_from_this_host_and_from_another_machine_at_its_port_only() {
    let mut lab = Lab::new();
    let machine = lab.machine();
    lab.up_healthy(&[]);
    let other_port = SocketAddrV4::new(*lab.vip().ip(), lab.vip().port() + 1);
    for from in [lab.netns(), &machine] {
        let answer = Client::connect(from, lab.vip()).unwrap().get("/free").unwrap();
        assert_eq!(answer.status, 200);
        let refused = Client::connect(from, other_port).err().expect("nothing listens there");
        assert_eq!(refused.kind(), ErrorKind::ConnectionRefused);
    }
}

#[test]
fn a_client_on_another_machine_notices_nothing_of_handovers() {
    let mut lab = Lab::new();
    let machine = lab.machine();
    lab.up_healthy(&[]);
    let kinds = [
        "name=short,path=/free,weight=6,mode=close",
        "name=keep-alive,path=/free,weight=3,mode=keep-alive,requests=10,idle=200ms",
        "name=large,path=/large?bytes=300000,weight=1,mode=close,check=crc32,length=300000",
    ];
    let plan = lab.load_plan(100.0, Duration::from_secs(6), &kinds);
    let report = thread::scope(|scope| {
        let load = scope.spawn(|| run_in(&machine, || load::run_blocking(&plan, &mut ())));
        for _ in 0..2 {
            assert_eq!(lab.rejuvenate().0, Some(0));
        }
        load.join().unwrap().unwrap().unwrap()
    });
    assert!(report.summary.is_clean(), "{}", render(&report.summary));
    assert_eq!(report.summary.by_backend.len(), 2, "both served: {}", render(&report.summary));
}

#[test]
fn an_address_that_this_host_has_is_no_vip() {
    let lab = Lab::new();
    let _machine = lab.machine();
    let vip = format!("{HOST}:8080");
    let output = lab.baton(&["up", "--name", lab.name(), "--vip", &vip, "--", "true"]);
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{stderr}");
    assert!(stderr.contains(&HOST.to_string()) && stderr.contains("eth0"), "{stderr}");
}

/// Looks a name up, tells what the server of that name says, and then serves.
const CALLER: &str = r#"
import http.server, socket
address = socket.gethostbyname("db.baton.test.")
with socket.create_connection((address, 9000), 10) as server:
    print("heard", server.makefile().readline().strip(), "at", address, flush=True)
handler = http.server.SimpleHTTPRequestHandler
http.server.HTTPServer(("0.0.0.0", 8080), handler).serve_forever()
"#;

#[test]
fn a_command_finds_names_and_reaches_servers_that_know_no_way_back() {
    let mut lab = Lab::new();
    let machine = lab.machine();
    let names = run_in(&machine, || UdpSocket::bind((OUTSIDE, 53))).unwrap().unwrap();
    names.set_read_timeout(Some(PATIENCE)).unwrap();
    let server = run_in(&machine, || TcpListener::bind((Ipv4Addr::UNSPECIFIED, 9000))).unwrap().unwrap();
    let resolver = lab.file("resolv.conf");
    std::fs::write(&resolver, format!("nameserver {OUTSIDE}\n")).unwrap();
    // Both backends ask and call once.
    let answering = thread::spawn(move || (0..2).for_each(|_| answer_one_query(&names, OUTSIDE)));
    let serving = thread::spawn(move || {
        let serve = |_| {
            let (mut stream, client) = server.accept().unwrap();
            stream.write_all(b"a tale\n").unwrap();
            client.ip()
        };
        [0, 1].map(serve)
    });
    lab.up(&["--resolv-conf", resolver.to_str().unwrap()], &["python3", "-c", CALLER]);
    for backend in ["a", "b"] {
        let line = format!("{backend} | heard a tale at {OUTSIDE}");
        eventually("the command tells what it heard", || lab.output().contains(&line));
    }
    answering.join().unwrap();
    assert_eq!(serving.join().unwrap(), [HOST, HOST], "masqueraded as the host");
}
