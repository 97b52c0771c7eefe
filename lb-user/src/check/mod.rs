//! Checks: does a backend answer, asked from where its clients' packets come.

mod kind;
mod pattern;
pub mod payload;
mod text;

use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::time::Duration;

use bytes::Bytes;
use futures::future::{Either, select};
use http_body_util::{BodyExt, Empty};
use hyper::Request;
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::timeout;

use crate::net::netns::{NetnsHandle, run_in};
use crate::recovery::Finding;

pub use kind::{Check, CheckError, GOOD_STATUS, HttpCheck, PAYLOAD_MAX, ScriptCheck, TlsCheck, UdpCheck};
pub use pattern::{BodyPattern, PatternError};

/// So much of an answer's body is read; the rest is of no interest.
const BODY_BYTES: usize = 64 << 10;

/// Asks the backend at `address` from inside `netns`; takes no longer than `limit`.
pub async fn run(
    check: &Check,
    netns: &NetnsHandle,
    address: SocketAddr,
    limit: Duration,
) -> Result<(), Finding> {
    timeout(limit, ask(check, netns, address)).await.unwrap_or(Err(Finding::TimedOut))
}

async fn ask(check: &Check, netns: &NetnsHandle, address: SocketAddr) -> Result<(), Finding> {
    match check {
        Check::Tcp => connect(netns, address).await.map(drop),
        Check::Http(http) if http.tls.is_none() => get(connect(netns, address).await?, address, http).await,
        Check::Http(_) | Check::Udp(_) | Check::Script(_) => {
            Err(Finding::Unreachable("this kind of check cannot be made yet".to_owned()))
        }
    }
}

async fn connect(netns: &NetnsHandle, address: SocketAddr) -> Result<TcpStream, Finding> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4 } else { TcpSocket::new_v6 };
    let socket = run_in(netns, socket)
        .map_err(|error| Finding::Unreachable(error.to_string()))?
        .map_err(|error| Finding::Unreachable(error.to_string()))?;
    socket.connect(address).await.map_err(|error| finding(&error))
}

async fn get(stream: TcpStream, address: SocketAddr, check: &HttpCheck) -> Result<(), Finding> {
    let (sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(|error| wrong(&error))?;
    let request = Request::get(&check.path)
        .header("host", check.host.clone().unwrap_or_else(|| address.to_string()))
        .header("user-agent", "baton-check")
        .header("connection", "close")
        .body(Empty::new())
        .map_err(|error| Finding::WrongAnswer(error.to_string()))?;
    let (exchange, connection) = (pin!(exchange(sender, request, check)), pin!(connection));
    // Both in this one future: however the check ends, it leaves neither a task nor a connection behind.
    match select(exchange, connection).await {
        Either::Left((result, _)) => result,
        // What came in before the connection ended is still to be judged.
        Either::Right((_, exchange)) => exchange.await,
    }
}

async fn exchange(
    mut sender: SendRequest<Empty<Bytes>>,
    request: Request<Empty<Bytes>>,
    check: &HttpCheck,
) -> Result<(), Finding> {
    let response = sender.send_request(request).await.map_err(|error| wrong(&error))?;
    let status = response.status().as_u16();
    if !check.wants(status) {
        return Err(Finding::WrongAnswer(format!("status {status}, wanted {:?}", check.status)));
    }
    // An answer that breaks off is wrong, and one that is read to its end is closed without a reset.
    let mut body = response.into_body();
    let mut read = 0;
    while read < BODY_BYTES
        && let Some(frame) = body.frame().await
    {
        read += frame.map_err(|error| wrong(&error))?.data_ref().map_or(0, Bytes::len);
    }
    Ok(())
}

/// An HTTP error with what is behind it: "connection error" alone hides the reset.
fn wrong(error: &hyper::Error) -> Finding {
    let cause = std::error::Error::source(error).map(|cause| format!(": {cause}"));
    Finding::WrongAnswer(format!("{error}{}", cause.unwrap_or_default()))
}

fn finding(error: &io::Error) -> Finding {
    match error.kind() {
        io::ErrorKind::ConnectionRefused => Finding::Refused,
        io::ErrorKind::TimedOut => Finding::TimedOut,
        io::ErrorKind::ConnectionReset => Finding::WrongAnswer("connection reset".into()),
        _ => Finding::Unreachable(error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::{Ipv4Addr, TcpListener};
    use std::thread;

    use super::*;

    const LIMIT: Duration = Duration::from_millis(500);

    /// Answers one connection with `answer` after it has read a request, in this namespace.
    fn server(answer: &'static [u8]) -> SocketAddr {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let address = listener.local_addr().unwrap();
        thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let _ = stream.read(&mut [0; 1024]);
            let _ = stream.write_all(answer);
        });
        address
    }

    fn http() -> Check {
        "http:/health".parse().unwrap()
    }

    async fn ask_here(check: &Check, address: SocketAddr) -> Result<(), Finding> {
        run(check, &NetnsHandle::own().unwrap(), address, LIMIT).await
    }

    #[tokio::test]
    async fn the_right_answer_passes() {
        let ok = b"HTTP/1.1 204 No Content\r\n\r\n";
        assert_eq!(ask_here(&http(), server(ok)).await, Ok(()));
        let long = b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello";
        assert_eq!(ask_here(&http(), server(long)).await, Ok(()));
        assert_eq!(ask_here(&Check::Tcp, server(b"")).await, Ok(()));
    }

    #[tokio::test]
    async fn a_closed_port_is_refused() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let address = listener.local_addr().unwrap();
        drop(listener);
        assert_eq!(ask_here(&Check::Tcp, address).await, Err(Finding::Refused));
        assert_eq!(ask_here(&http(), address).await, Err(Finding::Refused));
    }

    #[tokio::test]
    async fn a_server_that_accepts_and_says_nothing_times_out() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let address = listener.local_addr().unwrap();
        assert_eq!(ask_here(&Check::Tcp, address).await, Ok(()));
        let result = timeout(3 * LIMIT, ask_here(&http(), address)).await.expect("it keeps its limit");
        assert_eq!(result, Err(Finding::TimedOut));
        // The check is over, so its connection is, too.
        let closed = (0..2).map(|_| listener.accept().unwrap().0).all(|mut stream| {
            stream.set_read_timeout(Some(LIMIT)).unwrap();
            let mut rest = Vec::new();
            stream.read_to_end(&mut rest).is_ok()
        });
        assert!(closed);
    }

    #[tokio::test]
    async fn other_answers_are_wrong_and_say_how() {
        for (answer, why) in [
            (&b"HTTP/1.1 503 Oh\r\ncontent-length: 0\r\n\r\n"[..], "status 503, wanted"),
            (b"SSH-2.0-OpenSSH\r\n", "invalid"),
            (b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhe", "end of file"),
            (b"", "closed"),
        ] {
            let found = ask_here(&http(), server(answer)).await.unwrap_err();
            assert!(matches!(&found, Finding::WrongAnswer(text) if text.contains(why)), "{found:?}, {why}");
        }
    }

    #[tokio::test]
    async fn a_network_without_a_way_there_is_unreachable() {
        let empty = NetnsHandle::anonymous().unwrap();
        let found = run(&Check::Tcp, &empty, "10.77.255.1:1".parse().unwrap(), LIMIT).await;
        assert!(matches!(found, Err(Finding::Unreachable(_))), "{found:?}");
    }
}
