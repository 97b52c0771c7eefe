//! Checks of real servers on loopback, in the namespace that the tests run in.

mod agent;
mod http;
mod script;
mod tcp;
mod tls;
mod udp;

use std::fs;
use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener};
use std::thread;
use std::time::Duration;

use super::{Check, run};
use crate::net::closed_port;
use crate::net::netns::NetnsHandle;
use crate::recovery::Finding;

/// Checks that are to time out may take so long.
const LIMIT: Duration = Duration::from_millis(500);
/// Those that are to be answered get more than any machine needs.
const PATIENCE: Duration = Duration::from_secs(20);

const LOOPBACKS: [IpAddr; 2] = [IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)];

/// Answers one connection with `answer` after it has read a request, and hands over the request.
fn server_at(address: IpAddr, answer: Vec<u8>) -> (SocketAddr, thread::JoinHandle<String>) {
    let listener = TcpListener::bind((address, 0)).unwrap();
    let address = listener.local_addr().unwrap();
    let request = thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut request = [0; 4096];
        let length = stream.read(&mut request).unwrap_or(0);
        let _ = stream.write_all(&answer);
        String::from_utf8_lossy(&request[..length]).into_owned()
    });
    (address, request)
}

/// The same at 127.0.0.1, for an answer alone.
fn server(answer: &[u8]) -> SocketAddr {
    server_at(LOOPBACKS[0], answer.to_vec()).0
}

async fn ask(check: &Check, address: SocketAddr) -> Result<(), Finding> {
    run(check, &NetnsHandle::own().unwrap(), address, PATIENCE).await
}

async fn ask_briefly(check: &Check, address: SocketAddr) -> Result<(), Finding> {
    let own = NetnsHandle::own().unwrap();
    tokio::time::timeout(10 * LIMIT, run(check, &own, address, LIMIT)).await.expect("it keeps its limit")
}

#[track_caller]
fn assert_wrong(found: &Result<(), Finding>, why: &str) {
    assert!(matches!(found, Err(Finding::WrongAnswer(text)) if text.contains(why)), "{found:?}, not: {why}");
}

#[track_caller]
fn assert_unchecked(found: &Result<(), Finding>, why: &str) {
    assert!(matches!(found, Err(Finding::Unchecked(text)) if text.contains(why)), "{found:?}, not: {why}");
}

#[test]
fn an_excerpt_is_short_and_of_one_line() {
    assert_eq!(super::excerpt(b""), r#""""#);
    assert_eq!(super::excerpt("a \"b\"\nü\u{1b}\x7f".as_bytes()), r#""a \"b\"\nü\u{1b}\u{7f}""#);
    assert_eq!(super::excerpt(b"\xff\x00ok"), r#""\xff\0ok""#);
    let long = super::excerpt(&[b'x'; 81]);
    assert_eq!(long, format!("\"{}\"…", "x".repeat(80)));
    assert_eq!(super::excerpt(&[b'x'; 80]), format!("\"{}\"", "x".repeat(80)));
}

/// How many files this process has open.
fn open_files() -> usize {
    fs::read_dir("/proc/self/fd").unwrap().count()
}
