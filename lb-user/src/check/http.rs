//! The check by HTTP/1.1, over TCP or TLS.

use std::io;
use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::pin::pin;

use bytes::Bytes;
use futures::future::{Either, select};
use http::header::{CONNECTION, HOST, USER_AGENT};
use http_body_util::{BodyExt, Empty};
use hyper::body::Incoming;
use hyper::client::conn::http1::{self, SendRequest};
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;

use super::kind::HttpCheck;
use super::{excerpt, socket, tls};
use crate::net::netns::NetnsHandle;
use crate::recovery::Finding;

/// So much of an answer's body is read; the rest is of no interest.
const BODY_BYTES: usize = 64 << 10;

/// Sends the request and judges the answer.
pub(super) async fn ask(check: &HttpCheck, netns: &NetnsHandle, address: SocketAddr) -> Result<(), Finding> {
    ask_over(check, address, socket::connect(netns, address)).await
}

/// The same over a connection to be opened.
pub(super) async fn ask_over(
    check: &HttpCheck,
    address: SocketAddr,
    connected: impl Future<Output = Result<TcpStream, Finding>>,
) -> Result<(), Finding> {
    let request = request(check, address).map_err(|error| Finding::Unchecked(error.to_string()))?;
    // What can fail on our side does so before the backend is bothered.
    let tls = match &check.tls {
        Some(tls) => Some((tls, tls::Client::prepare(tls, check.host.as_deref(), address).await?)),
        None => None,
    };
    let stream = connected.await?;
    match tls {
        None => converse(stream, request, check).await,
        Some((tls, client)) => converse(client.shake_hands(tls, stream).await?, request, check).await,
    }
}

fn request(check: &HttpCheck, address: SocketAddr) -> Result<Request<Empty<Bytes>>, http::Error> {
    let host = check.host.clone().unwrap_or_else(|| address.to_string());
    let mut request = Request::builder()
        .method(check.method.as_str())
        .uri(&check.path)
        .header(HOST, host)
        .header(CONNECTION, "close");
    for (name, value) in &check.headers {
        request = request.header(name, value);
    }
    if !check.headers.iter().any(|(name, _)| name.eq_ignore_ascii_case(USER_AGENT.as_str())) {
        request = request.header(USER_AGENT, "baton-check");
    }
    request.body(Empty::new())
}

async fn converse(
    stream: impl AsyncRead + AsyncWrite + Unpin,
    request: Request<Empty<Bytes>>,
    check: &HttpCheck,
) -> Result<(), Finding> {
    let (sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(|error| wrong(&error))?;
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
        let wanted = ranges(&check.status);
        return Err(Finding::WrongAnswer(format!("status {status}, wanted {wanted}")));
    }
    // An answer that breaks off is wrong, and one that is read to its end is closed without a reset.
    let body = read(response).await?;
    match &check.body {
        Some(pattern) if !pattern.is_match(&body) => {
            let got = excerpt(&body);
            Err(Finding::WrongAnswer(format!("the body does not match `{pattern}`: it is {got}")))
        }
        _ => Ok(()),
    }
}

/// The body's first [`BODY_BYTES`].
async fn read(response: Response<Incoming>) -> Result<Vec<u8>, Finding> {
    let mut body = response.into_body();
    let mut read = Vec::new();
    while read.len() < BODY_BYTES
        && let Some(frame) = body.frame().await
    {
        if let Some(data) = frame.map_err(|error| wrong(&error))?.data_ref() {
            read.extend_from_slice(&data[..data.len().min(BODY_BYTES - read.len())]);
        }
    }
    Ok(read)
}

/// Ranges of statuses for people: `200 to 399, 418`.
fn ranges(ranges: &[RangeInclusive<u16>]) -> String {
    let each = ranges.iter().map(|range| match (range.start(), range.end()) {
        (first, last) if first == last => first.to_string(),
        (first, last) => format!("{first} to {last}"),
    });
    each.collect::<Vec<_>>().join(", ")
}

/// An HTTP error with what is behind it: "connection error" alone hides the reset.
fn wrong(error: &hyper::Error) -> Finding {
    let cause = std::error::Error::source(error);
    let of_socket = cause.and_then(|cause| cause.downcast_ref::<io::Error>());
    if of_socket.is_some_and(|error| error.kind() == io::ErrorKind::ConnectionReset) {
        return Finding::Reset;
    }
    let cause = cause.map(|cause| format!(": {cause}"));
    Finding::WrongAnswer(format!("{error}{}", cause.unwrap_or_default()))
}
