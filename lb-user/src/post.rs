//! Posts JSON to a server of the operator's, over HTTP/1.1 with or without TLS: for webhooks and the lock of a site.

use std::pin::pin;

use bytes::Bytes;
use futures::future::{Either, select};
use http::header::{CONNECTION, CONTENT_TYPE, HOST};
use http::uri::PathAndQuery;
use http::{HeaderMap, Method, Request, StatusCode, Uri};
use http_body_util::{BodyExt, Collected, Full, Limited};
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, lookup_host};

use crate::check::{TlsCheck, TlsClient};
use crate::recovery::Finding;

/// So much of an answer's body is read, in bytes.
const BODY_BYTES: usize = 64 << 10;

/// What a server answers.
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    /// The body, or why it could not be read to its end. One that is read so is closed without a reset.
    pub(crate) body: Result<Bytes, String>,
}

/// Posts a document once, over a connection of its own; the error is for people. The caller keeps the time limit.
pub(crate) async fn json(
    url: &str,
    headers: HeaderMap,
    document: Bytes,
    tls: &TlsCheck,
) -> Result<Answer, String> {
    let uri: Uri = url.parse().map_err(|error| format!("{url}: {error}"))?;
    let authority = uri.authority().ok_or("the URL has no host")?;
    let is_tls = uri.scheme_str() == Some("https");
    let port = authority.port_u16().unwrap_or(if is_tls { 443 } else { 80 });
    let host = authority.host().trim_start_matches('[').trim_end_matches(']');
    let mut request = Request::builder()
        .method(Method::POST)
        .uri(uri.path_and_query().map_or("/", PathAndQuery::as_str))
        .header(HOST, authority.as_str())
        .header(CONNECTION, "close")
        .header(CONTENT_TYPE, "application/json")
        .body(Full::new(document))
        .map_err(|error| error.to_string())?;
    request.headers_mut().extend(headers);
    let stream = connect(host, port).await?;
    if !is_tls {
        return converse(stream, request).await;
    }
    let address = stream.peer_addr().map_err(|error| error.to_string())?;
    let client = TlsClient::prepare(tls, Some(authority.as_str()), address).await.map_err(said)?;
    let stream = client.shake_hands(tls, stream).await.map_err(said)?;
    converse(stream, request).await
}

/// What a finding says when it is not about a backend, and no check is made.
fn said(finding: Finding) -> String {
    match finding {
        Finding::WrongAnswer(why) | Finding::Unchecked(why) => why,
        other => other.to_string(),
    }
}

/// A connection to the first address of a host that takes one.
async fn connect(host: &str, port: u16) -> Result<TcpStream, String> {
    let addresses =
        lookup_host((host, port)).await.map_err(|error| format!("cannot resolve {host}: {error}"))?;
    let mut why = format!("{host} has no address");
    for address in addresses {
        match TcpStream::connect(address).await {
            Ok(stream) => return Ok(stream),
            Err(error) => why = format!("{address}: {error}"),
        }
    }
    Err(why)
}

async fn converse(
    stream: impl AsyncRead + AsyncWrite + Unpin,
    request: Request<Full<Bytes>>,
) -> Result<Answer, String> {
    let (sender, connection) =
        http1::handshake(TokioIo::new(stream)).await.map_err(|error| error.to_string())?;
    let (exchange, connection) = (pin!(exchange(sender, request)), pin!(connection));
    // Both in this one future: however it ends, it leaves neither a task nor a connection behind.
    match select(exchange, connection).await {
        Either::Left((result, _)) => result,
        // What came in before the connection ended still counts.
        Either::Right((_, exchange)) => exchange.await,
    }
}

async fn exchange(
    mut sender: SendRequest<Full<Bytes>>,
    request: Request<Full<Bytes>>,
) -> Result<Answer, String> {
    let response = sender.send_request(request).await.map_err(|error| error.to_string())?;
    let status = response.status();
    let body = Limited::new(response.into_body(), BODY_BYTES).collect().await;
    Ok(Answer { status, body: body.map(Collected::to_bytes).map_err(|error| error.to_string()) })
}
