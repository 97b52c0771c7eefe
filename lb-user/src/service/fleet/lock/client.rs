//! The client of the lock: `FleetLock`, one request over a connection of its own.

use std::time::Duration;

use bytes::Bytes;
use http::header::{HeaderName, HeaderValue};
use http::{HeaderMap, StatusCode};
use serde::Deserialize;
use serde_json::json;
use tokio::time::timeout;

use super::identity::Identity;
use crate::check::TlsCheck;
use crate::post;
use crate::recovery::fleet_lock::{Answer, Request};

/// The header without which a server of the protocol refuses everything.
const PROTOCOL: HeaderName = HeaderName::from_static("fleet-lock-protocol");

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
    let end = match request {
        Request::Take => "pre-reboot",
        Request::GiveBack => "steady-state",
    };
    let url = format!("{}/v1/{end}", identity.url.trim_end_matches('/'));
    let body = json!({ "client_params": { "id": identity.id, "group": identity.group } }).to_string();
    let protocol = HeaderMap::from_iter([(PROTOCOL, HeaderValue::from_static("true"))]);
    let trust = TlsCheck { ca_file: identity.ca_file.clone(), ..TlsCheck::default() };
    let answer = post::json(&url, protocol, body.into(), &trust).await?;
    Ok((answer.status, answer.body?))
}
