//! The aging service as a process, over real sockets on loopback.

use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::process::{Child, Command};
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

const DEADLINE: Duration = Duration::from_secs(20);
/// No port to be drawn (`ip_local_port_range`). One that a listener was given and gave back would not do: a child
/// that another test is just starting has that listener too until its `exec`, and goes on listening.
const PORT: u16 = 20_080;

/// A running service; killed when it is dropped.
struct Service {
    child: Child,
    address: SocketAddr,
}

struct Answer {
    status: u16,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
}

/// One keep-alive connection.
struct Connection(BufReader<TcpStream>);

impl Service {
    fn start(options: &[&str]) -> Self {
        // On a loopback address of its own nobody else takes the port, not even another test of this process.
        static COUNT: AtomicU8 = AtomicU8::new(1);
        let [.., high, low] = std::process::id().to_be_bytes();
        let own = Ipv4Addr::new(127, high | 1, low, COUNT.fetch_add(1, Ordering::Relaxed));
        let address = SocketAddr::from((own, PORT));
        let child = Command::new(env!("CARGO_BIN_EXE_aging-service"))
            .arg(format!("--listen={address}"))
            .args(options)
            .env("BATON_BACKEND", "left")
            .spawn()
            .unwrap();
        let service = Self { child, address };
        let start = Instant::now();
        while TcpStream::connect(address).is_err() {
            assert!(start.elapsed() < DEADLINE, "the service does not listen");
            std::thread::sleep(Duration::from_millis(10));
        }
        service
    }

    fn connect(&self) -> Connection {
        let stream = TcpStream::connect(self.address);
        let stream = stream.unwrap_or_else(|error| panic!("{error}: {}", self.describe()));
        stream.set_read_timeout(Some(DEADLINE)).unwrap();
        Connection(BufReader::new(stream))
    }

    fn get(&self, path: &str) -> Answer {
        let answer = self.connect().request("GET", path, "test-1", b"");
        answer.unwrap_or_else(|error| panic!("{error}: {}", self.describe()))
    }

    /// What the kernel says of the process, for whoever finds out why it does not answer.
    fn describe(&self) -> String {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.child.id()));
        format!("{} is {stat:?}", self.address)
    }

    fn exit_code(&mut self) -> Option<i32> {
        let start = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status.code();
            }
            assert!(start.elapsed() < DEADLINE, "the service does not end");
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Answer {
    fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(header, _)| header == name).map(|(_, value)| value.as_str())
    }

    fn collections(&self) -> u32 {
        self.header("x-collections").unwrap().parse().unwrap()
    }
}

impl Connection {
    fn request(&mut self, method: &str, path: &str, id: &str, body: &[u8]) -> std::io::Result<Answer> {
        let head = format!(
            "{method} {path} HTTP/1.1\r\nhost: test\r\nx-request-id: {id}\r\ncontent-length: {}\r\n\r\n",
            body.len()
        );
        self.0.get_mut().write_all(&[head.as_bytes(), body].concat())?;
        let status = self.line()?.split(' ').nth(1).unwrap_or_default().parse().unwrap();
        let mut headers = Vec::new();
        loop {
            let line = self.line()?;
            let Some((name, value)) = line.split_once(": ") else { break };
            headers.push((name.to_ascii_lowercase(), value.to_owned()));
        }
        let mut answer = Answer { status, headers, body: Vec::new() };
        let length = answer.header("content-length").unwrap().parse().unwrap();
        answer.body.resize(length, 0);
        self.0.read_exact(&mut answer.body)?;
        Ok(answer)
    }

    fn line(&mut self) -> std::io::Result<String> {
        let mut line = String::new();
        if self.0.read_line(&mut line)? == 0 {
            return Err(ErrorKind::UnexpectedEof.into());
        }
        Ok(line.trim_end().to_owned())
    }
}

/// Collections in each batch of 100 requests for as long as they succeed, at most 50 batches.
fn collections_by_batch(service: &Service) -> Vec<u32> {
    let mut connection = service.connect();
    let answers = std::iter::from_fn(|| connection.request("GET", "/work", "x", b"").ok());
    let totals: Vec<u32> = answers
        .take_while(|answer| answer.status == 200)
        .take(5000)
        .map(|answer| answer.collections())
        .collect();
    totals.chunks_exact(100).map(|batch| batch[99] - batch[0]).collect()
}

const SMALL: [&str; 2] = ["--heap-max=16MiB", "--garbage=64KiB"];

#[test]
fn a_filling_heap_is_collected_ever_more_often() {
    let service = Service::start(&[&SMALL[..], &["--leak=8KiB"]].concat());
    let batches = collections_by_batch(&service);
    let (first, last) = (batches[1], batches[batches.len() - 1]);
    assert!(batches.len() >= 15, "{batches:?}");
    assert!(last >= 8 * first.max(1), "{batches:?}");
}

#[test]
fn the_healthy_twin_stays_flat() {
    let service = Service::start(&[&SMALL[..], &["--leak=8KiB", "--healthy"]].concat());
    let batches = collections_by_batch(&service);
    assert_eq!(batches.len(), 50);
    assert!(batches.iter().max().unwrap() - batches.iter().min().unwrap() <= 1, "{batches:?}");
}

#[test]
fn exhausted_memory_is_answered_500_for_a_while_and_then_ends_the_process() {
    let mut service = Service::start(&[&SMALL[..], &["--leak=1MiB", "--last-answers=5"]].concat());
    let mut connection = service.connect();
    let statuses: Vec<u16> = std::iter::from_fn(|| connection.request("GET", "/work", "x", b"").ok())
        .map(|answer| answer.status)
        .take(100)
        .collect();
    let served = statuses.iter().take_while(|status| **status == 200).count();
    assert_eq!(served, 15, "16 MiB less the garbage of one request: {statuses:?}");
    assert!(statuses[served..].iter().all(|status| *status == 500), "{statuses:?}");
    assert!((4..=5).contains(&(statuses.len() - served)), "{statuses:?}");
    assert_eq!(service.exit_code(), Some(3));
}

#[test]
fn only_the_requests_named_leak() {
    let live = |service: &Service| service.get("/health").body;
    let flat = Service::start(&["--heap-max=1MiB", "--garbage=4KiB", "--leak-on=missing"]);
    (0..100).for_each(|_| assert_eq!(flat.get("/work").status, 200));
    (0..100).for_each(|_| assert_eq!(flat.get("/free").status, 200));
    assert!(live(&flat).starts_with(b"{\"live_bytes\":0,"));
    let statuses: Vec<u16> = (0..80).map(|_| flat.get("/missing").status).collect();
    assert_eq!(statuses[0], 404);
    assert_eq!(statuses[79], 500);
}

#[test]
fn answers_echo_the_id_and_name_the_backend() {
    let service = Service::start(&[]);
    let answer = service.get("/work");
    assert_eq!(answer.status, 200);
    assert_eq!(answer.header("x-request-id"), Some("test-1"));
    assert_eq!(answer.header("x-baton-backend"), Some("left"));
    assert!(answer.body.starts_with(b"test-1 "));
    assert_eq!(service.get("/slow?ms=x").status, 400);
    assert_eq!(service.get("/upload").status, 405);
}

#[test]
fn bodies_carry_their_checksums_in_both_directions() {
    let service = Service::start(&[]);
    let large = service.get("/large?bytes=3000000");
    assert_eq!(large.body.len(), 3_000_000);
    let crc32 = |bytes: &[u8]| format!("{:08x}", crc32fast::hash(bytes));
    assert_eq!(large.header("x-body-crc32"), Some(crc32(&large.body).as_str()));
    let receipt = service.connect().request("POST", "/upload", "x", &large.body).unwrap();
    assert_eq!(receipt.header("x-received-length"), Some("3000000"));
    assert_eq!(receipt.header("x-received-crc32"), Some(crc32(&large.body).as_str()));
}

#[test]
fn a_slow_answer_takes_its_time_while_others_are_served() {
    let service = Service::start(&[]);
    let start = Instant::now();
    std::thread::scope(|scope| {
        let slow = scope.spawn(|| service.get("/slow?ms=1000"));
        (0..20).for_each(|_| assert_eq!(service.get("/work").status, 200));
        assert!(!slow.is_finished());
        assert_eq!(slow.join().unwrap().status, 200);
    });
    assert!(start.elapsed() >= Duration::from_secs(1));
}

#[test]
fn every_executed_request_is_logged_once() {
    let directory = tempfile::tempdir().unwrap();
    let log = directory.path().join("executed");
    let service = Service::start(&["--execution-log", log.to_str().unwrap()]);
    let mut connection = service.connect();
    for number in 0..3 {
        connection.request("GET", "/work?x=1", &format!("run-{number}"), b"").unwrap();
    }
    service.get("/nowhere");
    let lines = std::fs::read_to_string(log).unwrap();
    let expected =
        "run-0 left GET /work\nrun-1 left GET /work\nrun-2 left GET /work\ntest-1 left GET /nowhere\n";
    assert_eq!(lines, expected);
}

#[test]
fn a_service_that_was_told_to_reset_does_so_to_whoever_asks() {
    let service = Service::start(&["--faults"]);
    let mut before = service.connect();
    assert_eq!(before.request("GET", "/free", "a", b"").unwrap().status, 200);
    assert_eq!(service.get("/fault?mode=reset").status, 200);
    for connection in [&mut before, &mut service.connect()] {
        let error = connection.request("GET", "/free", "b", b"").err().expect("no answer");
        assert_eq!(error.kind(), ErrorKind::ConnectionReset);
    }
    assert_eq!(service.get("/fault?mode=none").status, 200);
    assert_eq!(service.get("/free").status, 200);
}

#[test]
fn sigterm_ends_it_at_once_even_in_the_middle_of_an_answer() {
    let mut service = Service::start(&[]);
    let mut connection = service.connect();
    let pid = Pid::from_raw(i32::try_from(service.child.id()).unwrap());
    let start = Instant::now();
    std::thread::scope(|scope| {
        let cut = scope.spawn(|| connection.request("GET", "/slow?ms=15000", "x", b""));
        std::thread::sleep(Duration::from_millis(300));
        kill(pid, Signal::SIGTERM).unwrap();
        assert!(cut.join().unwrap().is_err());
    });
    assert_eq!(service.exit_code(), Some(0));
    assert!(start.elapsed() < Duration::from_secs(5));
}
