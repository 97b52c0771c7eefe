//! Every way in which a request can end is told from every other.

use std::io;
use std::net::Ipv4Addr;
use std::time::Duration;

use tokio::net::{TcpSocket, TcpStream};

use super::server::Server;
use super::{outcomes, plan, run_quietly};
use crate::load::{Outcome, Record};
use crate::net::closed_port;

const REQUESTS: u32 = 4;

/// Sends a few requests of one kind to a fresh server and returns their records.
async fn records_of(spec: &str) -> Vec<Record> {
    let server = Server::start().await;
    let plan = plan(server.address, REQUESTS, &[&format!("name=x,{spec}")]);
    let report = run_quietly(&plan).await;
    assert_eq!(report.records.len(), REQUESTS as usize, "{spec}: a record is missing");
    report.records
}

#[tokio::test]
async fn each_cause_is_detected_exactly_with_and_without_keep_alive() {
    let cases = [
        ("path=/ok,check=any,length=5,id=required", Outcome::Ok),
        ("path=/status/404,expect=404", Outcome::Ok),
        ("path=/status/404", Outcome::Status(404)),
        ("path=/status/503", Outcome::Status(503)),
        ("path=/ok,expect=404", Outcome::Status(200)),
        ("path=/reset-before", Outcome::ResetBeforeFirstByte),
        ("path=/reset-mid", Outcome::ResetMidResponse),
        ("path=/eof-before", Outcome::EofBeforeFirstByte),
        ("path=/eof-mid", Outcome::EofMidResponse),
        ("path=/hang,timeout=100ms", Outcome::Timeout),
        ("path=/hang-mid,timeout=100ms", Outcome::Timeout),
        ("path=/garbage", Outcome::Malformed),
        ("path=/wrong-id", Outcome::WrongId),
        ("path=/no-id", Outcome::Ok),
        ("path=/no-id,id=required", Outcome::WrongId),
        ("path=/echo,check=id", Outcome::Ok),
        ("path=/ok,check=id", Outcome::WrongBody),
        ("path=/ok,length=4", Outcome::WrongBody),
        ("path=/damaged,check=crc32", Outcome::WrongBody),
        ("path=/large/3000000,check=crc32,length=3000000", Outcome::Ok),
        ("path=/up,upload=3m,check=receipt", Outcome::Ok),
        ("path=/up,upload=0,check=receipt", Outcome::Ok),
        ("path=/no-id,upload=64k,check=receipt", Outcome::WrongBody),
        ("path=/chunked,length=5", Outcome::Ok),
        ("path=/until-close,length=5", Outcome::Ok),
        ("path=/head,method=HEAD,length=0", Outcome::Ok),
        ("path=/trickle/200,length=5", Outcome::Ok),
        ("path=/trickle/1000,timeout=300ms", Outcome::Timeout),
    ];
    for (spec, expected) in cases {
        for mode in ["close", "keep-alive"] {
            let records = records_of(&format!("{spec},mode={mode}")).await;
            for record in records {
                assert_eq!(record.outcome, expected, "{spec},mode={mode}: {record:?}");
            }
        }
    }
}

#[tokio::test]
async fn a_record_tells_how_far_its_request_came() {
    let reached =
        |record: &Record| (record.connected_us.is_some(), record.first_byte_us.is_some(), record.status);
    let [ok, ..] = &records_of("path=/ok").await[..] else { panic!("no record") };
    assert_eq!((reached(ok), ok.body_bytes, ok.backend.as_deref()), ((true, true, Some(200)), 5, Some("a")));
    let times = [ok.intended_us, ok.start_us, ok.connected_us.unwrap(), ok.first_byte_us.unwrap(), ok.end_us];
    assert!(times.is_sorted(), "{times:?}");
    let [before, ..] = &records_of("path=/reset-before").await[..] else { panic!("no record") };
    assert_eq!(reached(before), (true, false, None));
    let [hung, ..] = &records_of("path=/hang-mid,timeout=100ms").await[..] else { panic!("no record") };
    // Who let a request hang matters as much as who answered one.
    assert_eq!((reached(hung), hung.backend.as_deref()), ((true, true, Some(200)), Some("a")));
    assert!(hung.local_port.is_some() && hung.uncorrected_us() >= 100_000);
}

#[tokio::test]
async fn a_port_without_listener_refuses() {
    let (_held, address) = closed_port(Ipv4Addr::LOCALHOST.into());
    let report = run_quietly(&plan(address, 3, &["name=x"])).await;
    assert_eq!(outcomes(&report), [Outcome::Refused; 3]);
    assert!(report.records.iter().all(|record| record.connected_us.is_none()));
}

#[tokio::test]
async fn a_listener_that_is_full_runs_into_the_connect_timeout() {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let listener = socket.listen(1).unwrap();
    let address = listener.local_addr().unwrap();
    let fill = || tokio::time::timeout(Duration::from_millis(200), TcpStream::connect(address));
    let mut filled: Vec<io::Result<TcpStream>> = Vec::new();
    // The kernel holds one or two more than it was asked to; then it drops what comes.
    while let Ok(stream) = fill().await {
        filled.push(stream);
        assert!(filled.len() < 10, "the listener takes connections without end");
    }
    let report = run_quietly(&plan(address, 3, &["name=x"])).await;
    assert_eq!(outcomes(&report), [Outcome::ConnectTimeout; 3]);
}
