//! The client side of the control socket: HTTP/1.1 over a Unix socket.

use std::io;
use std::path::Path;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use serde::de::DeserializeOwned;
use thiserror::Error;
use tokio::net::UnixStream;
use tokio::time::timeout;

/// The controller accepts a connection and begins to answer within this, unless told to wait for more.
const DEADLINE: Duration = Duration::from_secs(5);

/// Why the controller could not be asked.
#[derive(Debug, Error)]
pub enum ClientError {
    /// Nobody listens: the controller is not running.
    #[error("no controller is running")]
    NotRunning,
    /// This user may not talk to it.
    #[error("not permitted to use the control socket: run it as root")]
    NotPermitted,
    /// It did not answer in time.
    #[error("the controller did not answer in time")]
    TimedOut,
    /// It refused, and says why.
    #[error("{0}")]
    Refused(String),
    /// It ends, and has not taken what it was asked.
    #[error("the controller is ending, so it did nothing: ask again once the next one runs")]
    Ending,
    /// It broke off, or answered something else than was asked; what it was asked may have been done.
    #[error("the controller's answer could not be read: {0}")]
    Broken(String),
}

/// Gets a JSON document.
pub async fn get<T: DeserializeOwned>(socket: &Path, path: &str) -> Result<T, ClientError> {
    read_json(within(DEADLINE, send(socket, Method::GET, path)).await?, DEADLINE).await
}

/// Posts nothing and gets a JSON document, which may take as long as `wait`.
pub async fn post<T: DeserializeOwned>(socket: &Path, path: &str, wait: Duration) -> Result<T, ClientError> {
    read_json(within(wait, send(socket, Method::POST, path)).await?, DEADLINE).await
}

/// Gets a stream of JSON documents, one a line, and gives each line to `line` until it says false or the
/// stream ends.
pub async fn lines(socket: &Path, path: &str, mut line: impl FnMut(&str) -> bool) -> Result<(), ClientError> {
    let response = within(DEADLINE, send(socket, Method::GET, path)).await?;
    let mut body = checked(response, DEADLINE).await?.into_body();
    let mut pending = Vec::new();
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| ClientError::Broken(error.to_string()))?;
        pending.extend_from_slice(frame.data_ref().map_or(&[][..], |data| data));
        while let Some(end) = pending.iter().position(|byte| *byte == b'\n') {
            let text: Vec<u8> = pending.drain(..=end).collect();
            if !line(String::from_utf8_lossy(&text).trim_end()) {
                return Ok(());
            }
        }
    }
    Ok(())
}

async fn within<T>(
    limit: Duration,
    work: impl Future<Output = Result<T, ClientError>>,
) -> Result<T, ClientError> {
    timeout(limit, work).await.unwrap_or(Err(ClientError::TimedOut))
}

async fn send(socket: &Path, method: Method, path: &str) -> Result<Response<Incoming>, ClientError> {
    let stream = UnixStream::connect(socket).await.map_err(|error| match error.kind() {
        io::ErrorKind::PermissionDenied => ClientError::NotPermitted,
        _ => ClientError::NotRunning,
    })?;
    let broken = |error: hyper::Error| ClientError::Broken(error.to_string());
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(broken)?;
    // Its result shows in the response; the task ends with the connection.
    tokio::spawn(connection);
    let request = Request::builder()
        .method(method)
        .uri(path)
        .header("host", "baton")
        .body(Full::<Bytes>::default())
        .map_err(|error| ClientError::Broken(error.to_string()))?;
    sender.send_request(request).await.map_err(broken)
}

async fn checked(response: Response<Incoming>, limit: Duration) -> Result<Response<Incoming>, ClientError> {
    if response.status() == StatusCode::OK {
        return Ok(response);
    }
    let status = response.status();
    let body = within(limit, collect(response)).await?;
    let text = String::from_utf8_lossy(&body).trim_end().to_owned();
    Err(match status {
        StatusCode::SERVICE_UNAVAILABLE => ClientError::Ending,
        StatusCode::BAD_GATEWAY => ClientError::Broken(text),
        _ => ClientError::Refused(text),
    })
}

async fn read_json<T: DeserializeOwned>(
    response: Response<Incoming>,
    limit: Duration,
) -> Result<T, ClientError> {
    let body = within(limit, collect(checked(response, limit).await?)).await?;
    serde_json::from_slice(&body).map_err(|error| ClientError::Broken(error.to_string()))
}

async fn collect(response: Response<Incoming>) -> Result<Bytes, ClientError> {
    let body = response.into_body().collect().await;
    body.map(http_body_util::Collected::to_bytes).map_err(|error| ClientError::Broken(error.to_string()))
}
