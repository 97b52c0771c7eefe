//! The client of the lock: `FleetLock`, one request over a connection of its own.

use std::pin::pin;
use std::time::Duration;

use bytes::Bytes;
use futures::future::{Either, select};
use http::header::{CONNECTION, CONTENT_TYPE, HOST};
use http::uri::Uri;
use http::{Request as HttpRequest, StatusCode};
use http_body_util::{BodyExt, Full, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use serde::Deserialize;
use serde_json::json;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::identity::Identity;
use crate::check::{TlsCheck, tls};
use crate::recovery::fleet_lock::{Answer, Request};

/// The header without which a server of the protocol refuses everything.
const PROTOCOL: &str = "fleet-lock-protocol";
/// So much of an answer is read.
const BODY_BYTES: usize = 16 << 10;

/// What a server says when it refuses.
#[derive(Deserialize)]
struct Refusal {
    value: String,
}

/// Asks the server, once.
pub(super) async fn ask(identity: &Identity, request: Request) -> Answer {
    let limit = Duration::from_millis(identity.timeout_ms);
    match timeout(limit, post(identity, request)).await {
        Ok(Ok((StatusCode::OK, _))) => Answer::Done,
        Ok(Ok((StatusCode::CONFLICT, body))) => Answer::Denied(said(StatusCode::CONFLICT, &body)),
        // What it did before it failed is not known.
        Ok(Ok((status, body))) => Answer::Failed(said(status, &body)),
        Ok(Err(why)) => Answer::Failed(why),
        Err(_) => Answer::Failed(format!("no answer within {}", humantime::format_duration(limit))),
    }
}

fn said(status: StatusCode, body: &[u8]) -> String {
    match serde_json::from_slice::<Refusal>(body) {
        Ok(refusal) => refusal.value.chars().filter(|c| !c.is_control()).take(200).collect(),
        Err(_) => format!("status {status}"),
    }
}

async fn post(identity: &Identity, request: Request) -> Result<(StatusCode, Bytes), String> {
    let url: Uri = identity.url.parse().map_err(|error| format!("{}: {error}", identity.url))?;
    let authority = url.authority().ok_or("the URL names no server")?.clone();
    let is_tls = url.scheme_str() == Some("https");
    let port = authority.port_u16().unwrap_or(if is_tls { 443 } else { 80 });
    let host = authority.host().trim_start_matches('[').trim_end_matches(']').to_owned();
    let stream = TcpStream::connect((host.as_str(), port)).await;
    let stream = stream.map_err(|error| format!("{authority}: {error}"))?;
    let request = request_of(identity, request, &url, authority.as_str())?;
    if !is_tls {
        return converse(stream, request).await;
    }
    let trust = TlsCheck { ca_file: identity.ca_file.clone(), ..TlsCheck::default() };
    let address = stream.peer_addr().map_err(|error| error.to_string())?;
    let client = tls::Client::prepare(&trust, Some(authority.as_str()), address).await;
    let client = client.map_err(|finding| finding.to_string())?;
    let stream = client.shake_hands(&trust, stream).await.map_err(|finding| finding.to_string())?;
    converse(stream, request).await
}

fn request_of(
    identity: &Identity,
    request: Request,
    url: &Uri,
    authority: &str,
) -> Result<HttpRequest<Full<Bytes>>, String> {
    let end = match request {
        Request::Take => "pre-reboot",
        Request::GiveBack => "steady-state",
    };
    let body = json!({ "client_params": { "id": identity.id, "group": identity.group } }).to_string();
    HttpRequest::post(format!("{}/v1/{end}", url.path().trim_end_matches('/')))
        .header(HOST, authority)
        .header(CONNECTION, "close")
        .header(CONTENT_TYPE, "application/json")
        .header(PROTOCOL, "true")
        .body(Full::from(body))
        .map_err(|error| error.to_string())
}

async fn converse(
    stream: impl AsyncRead + AsyncWrite + Unpin,
    request: HttpRequest<Full<Bytes>>,
) -> Result<(StatusCode, Bytes), String> {
    let (mut sender, connection) =
        http1::handshake(TokioIo::new(stream)).await.map_err(|error| error.to_string())?;
    let exchange = async {
        let response = sender.send_request(request).await.map_err(|error| error.to_string())?;
        let status = response.status();
        let body = Limited::new(response.into_body(), BODY_BYTES).collect().await;
        Ok((status, body.map_err(|error| error.to_string())?.to_bytes()))
    };
    let (exchange, connection) = (pin!(exchange), pin!(connection));
    // Both in this one future: however it ends, it leaves neither a task nor a connection behind.
    match select(exchange, connection).await {
        Either::Left((result, _)) => result,
        Either::Right((_, exchange)) => exchange.await,
    }
}
