//! A server that misbehaves on demand: what it does is the path of the request.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};

/// A running server; it ends when this is dropped.
pub(super) struct Server {
    pub(super) address: SocketAddr,
    shared: Arc<Shared>,
    task: JoinHandle<()>,
}

#[derive(Default)]
struct Shared {
    /// The ids of executed requests, in order.
    executed: Mutex<Vec<String>>,
    /// Set once: until when requests to `/stall` wait.
    stalled_until: Mutex<Option<Instant>>,
}

struct Request {
    method: String,
    /// The first part of the path, without slashes, and the rest.
    action: (String, String),
    headers: BTreeMap<String, String>,
    body: Vec<u8>,
}

impl Server {
    pub(super) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let shared = Arc::new(Shared::default());
        let of_connections = Arc::clone(&shared);
        let task = tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                tokio::spawn(serve(stream, Arc::clone(&of_connections)));
            }
        });
        Self { address, shared, task }
    }

    /// Waits until this many requests have arrived.
    pub(super) async fn has_executed(&self, count: usize) {
        let arrived = async {
            while self.shared.executed.lock().unwrap().len() < count {
                sleep(Duration::from_millis(5)).await;
            }
        };
        timeout(Duration::from_secs(10), arrived).await.expect("as many requests as that");
    }

    /// The ids that the server has executed so far, one a line.
    pub(super) fn execution_log(&self) -> String {
        let executed = self.shared.executed.lock().unwrap();
        executed.iter().flat_map(|id| [id, " done\n"]).collect()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn serve(mut stream: TcpStream, shared: Arc<Shared>) {
    let mut carried = 0;
    while let Some(request) = read_request(&mut stream).await {
        carried += 1;
        if !answer(&mut stream, &request, &shared, carried).await {
            return;
        }
    }
}

/// Answers one request; returns whether the connection stays open.
async fn answer(stream: &mut TcpStream, request: &Request, shared: &Shared, carried: u32) -> bool {
    let id = request.header("x-request-id").to_owned();
    let (action, rest) = (request.action.0.as_str(), request.action.1.as_str());
    let times = match action {
        "unlogged" => 0,
        "double" => 2,
        _ => 1,
    };
    shared.executed.lock().unwrap().extend(std::iter::repeat_n(id.clone(), times));
    let close = request.header("connection") == "close";
    let ok =
        |headers: &str, body: &[u8]| response("200 OK", &format!("x-request-id: {id}\r\n{headers}"), body);
    let wire = match action {
        "reset-before" | "reset-mid" | "eof-before" | "eof-mid" | "hang" | "hang-mid" | "garbage" => {
            misbehave(stream, action).await;
            return false;
        }
        "status" => response(&format!("{rest} X"), "", b"no"),
        "head" if request.method == "HEAD" => b"HTTP/1.1 200 OK\r\ncontent-length: 99\r\n\r\n".to_vec(),
        "wrong-id" => response("200 OK", "x-request-id: x-1\r\n", b""),
        "no-id" => response("200 OK", "", b""),
        "echo" => ok("", format!("for {id}.").as_bytes()),
        "large" => {
            let body: Vec<u8> = (0..rest.parse().unwrap()).map(|n: u32| (n * 7 % 251) as u8).collect();
            ok(&format!("x-body-crc32: {:08x}\r\n", crc32fast::hash(&body)), &body)
        }
        "damaged" => ok(&format!("x-body-crc32: {:08x}\r\n", crc32fast::hash(b"whole")), b"holes"),
        "up" => {
            let (length, sum) = (request.body.len(), crc32fast::hash(&request.body));
            ok(&format!("x-received-length: {length}\r\nx-received-crc32: {sum:08x}\r\n"), b"")
        }
        "chunked" => {
            b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n".to_vec()
        }
        "until-close" => {
            stream.write_all(b"HTTP/1.1 200 OK\r\n\r\nabcde").await.unwrap();
            return false;
        }
        "trickle" => {
            trickle(stream, rest.parse().unwrap()).await;
            return !close;
        }
        "stall" => {
            stall(shared, Duration::from_millis(rest.parse().unwrap())).await;
            ok("x-baton-backend: a\r\n", b"")
        }
        _ => ok("x-baton-backend: a\r\n", b"hello"),
    };
    stream.write_all(&wire).await.unwrap();
    match action {
        // Tells nobody: the client finds the connection closed or reset when it wants to use it again.
        "closes-after" if carried >= rest.parse().unwrap() => false,
        "resets-idle" => {
            sleep(Duration::from_millis(10)).await;
            stream.set_zero_linger().unwrap();
            false
        }
        _ => !close,
    }
}

async fn misbehave(stream: &mut TcpStream, how: &str) {
    let part: &[u8] = match how {
        "reset-mid" | "eof-mid" | "hang-mid" => {
            b"HTTP/1.1 200 OK\r\nx-baton-backend: a\r\ncontent-length: 9\r\n\r\nabc"
        }
        "garbage" => b"SSH-2.0-OpenSSH_9.9\r\n",
        _ => b"",
    };
    stream.write_all(part).await.unwrap();
    match how {
        "reset-mid" | "reset-before" => {
            // The client reads what was sent before the reset discards it.
            sleep(Duration::from_millis(20)).await;
            stream.set_zero_linger().unwrap();
        }
        "hang" | "hang-mid" => sleep(Duration::from_secs(20)).await,
        _ => {}
    }
}

/// Five bytes of body over so many milliseconds.
async fn trickle(stream: &mut TcpStream, millis: u64) {
    stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\n").await.unwrap();
    for byte in b"abcde" {
        sleep(Duration::from_millis(millis / 5)).await;
        stream.write_all(&[*byte]).await.unwrap();
    }
}

/// From the 20th request on nobody is answered for a while, once.
async fn stall(shared: &Shared, length: Duration) {
    let until = {
        let served = shared.executed.lock().unwrap().len();
        let mut until = shared.stalled_until.lock().unwrap();
        if served == 20 {
            *until = Some(Instant::now() + length);
        }
        *until
    };
    if let Some(until) = until {
        sleep(until.saturating_duration_since(Instant::now())).await;
    }
}

fn response(status: &str, headers: &str, body: &[u8]) -> Vec<u8> {
    let head = format!("HTTP/1.1 {status}\r\n{headers}content-length: {}\r\n\r\n", body.len());
    [head.as_bytes(), body].concat()
}

async fn read_request(stream: &mut TcpStream) -> Option<Request> {
    let mut bytes = Vec::new();
    let end = loop {
        if let Some(at) = bytes.windows(4).position(|window| window == b"\r\n\r\n") {
            break at;
        }
        if stream.read_buf(&mut bytes).await.ok()? == 0 {
            return None;
        }
    };
    let body = bytes.split_off(end + 4);
    let head = String::from_utf8(bytes).unwrap();
    let mut lines = head.lines();
    let mut words = lines.next()?.split(' ');
    let (method, path) = (words.next()?.to_owned(), words.next()?.trim_start_matches('/'));
    let (action, rest) = path.split_once('/').unwrap_or((path, ""));
    let headers = lines.filter_map(|line| line.split_once(": ")).map(|(k, v)| (k.to_owned(), v.to_owned()));
    let action = (action.to_owned(), rest.to_owned());
    let mut request = Request { method, action, headers: headers.collect(), body };
    let length: usize = request.header("content-length").parse().unwrap_or(0);
    while request.body.len() < length {
        stream.read_buf(&mut request.body).await.ok()?;
    }
    Some(request)
}

impl Request {
    fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", String::as_str)
    }
}
