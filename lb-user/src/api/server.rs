//! The server side of the control socket.

use std::convert::Infallible;
use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use axum::Json;
use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use futures::{Stream, StreamExt, stream};
use serde::Deserialize;
use tokio::net::UnixListener;
use tokio::sync::{broadcast, mpsc, oneshot};

use super::status::{Cut, ServiceStatus};
use crate::recovery::event::Timed;
use crate::recovery::report::Report;

/// The report at the end, or `None` as soon as a rejuvenation has begun; or why nothing was begun.
pub type Rejuvenation = Result<Option<Box<Report>>, String>;

/// A command for the controller, with the way back.
#[derive(Debug)]
pub enum Command {
    /// What is going on?
    Status(oneshot::Sender<ServiceStatus>),
    /// Rejuvenate the active backend and say how it went.
    Rejuvenate {
        /// The way back.
        answer: oneshot::Sender<Rejuvenation>,
        /// Whether to wait for the end.
        wait: bool,
    },
    /// Cut what is still open on the backend that drains; the answer says what that was.
    Cut(oneshot::Sender<Result<Cut, String>>),
    /// What happened, and what will.
    Events(oneshot::Sender<(Vec<Timed>, broadcast::Receiver<Timed>)>),
}

/// The end that commands are sent into.
pub type Commands = mpsc::Sender<Command>;

/// Listens on `socket`, replacing what a killed controller left there, and serves until the runtime ends.
pub fn serve(socket: &Path, commands: Commands) -> io::Result<()> {
    match fs::remove_file(socket) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let listener = UnixListener::bind(socket)?;
    fs::set_permissions(socket, fs::Permissions::from_mode(0o660))?;
    let router = Router::new()
        .route("/v1/status", get(status))
        .route("/v1/rejuvenate", post(rejuvenate))
        .route("/v1/cut", post(cut))
        .route("/v1/events", get(events))
        .with_state(commands);
    tokio::spawn(async move {
        if let Err(error) = axum::serve(listener, router).await {
            tracing::error!(%error, "the control socket is no longer served");
        }
    });
    Ok(())
}

async fn status(State(commands): State<Commands>) -> Response {
    match ask(&commands, Command::Status).await {
        Some(status) => Json(status).into_response(),
        None => ending(),
    }
}

#[derive(Deserialize)]
struct RejuvenateQuery {
    /// Whether the answer is the report at the end, or `null` as soon as it has begun.
    #[serde(default)]
    wait: bool,
}

async fn rejuvenate(State(commands): State<Commands>, Query(query): Query<RejuvenateQuery>) -> Response {
    match ask(&commands, |answer| Command::Rejuvenate { answer, wait: query.wait }).await {
        Some(Ok(report)) => Json(report).into_response(),
        Some(Err(why)) => (StatusCode::CONFLICT, why).into_response(),
        None => ending(),
    }
}

async fn cut(State(commands): State<Commands>) -> Response {
    match ask(&commands, Command::Cut).await {
        Some(Ok(cut)) => Json(cut).into_response(),
        Some(Err(why)) => (StatusCode::CONFLICT, why).into_response(),
        None => ending(),
    }
}

#[derive(Deserialize)]
struct EventsQuery {
    /// Whether the stream goes on with what will happen.
    #[serde(default)]
    follow: bool,
}

async fn events(State(commands): State<Commands>, Query(query): Query<EventsQuery>) -> Response {
    let Some((past, future)) = ask(&commands, Command::Events).await else { return ending() };
    let past = stream::iter(past);
    let lines = if query.follow { past.chain(following(future)).left_stream() } else { past.right_stream() };
    Body::from_stream(lines.map(|event| Ok::<_, Infallible>(line(&event)))).into_response()
}

/// The events to come; one who reads too slowly misses some and goes on with the next.
fn following(receiver: broadcast::Receiver<Timed>) -> impl Stream<Item = Timed> {
    stream::unfold(receiver, |mut receiver| async {
        loop {
            match receiver.recv().await {
                Ok(event) => return Some((event, receiver)),
                Err(broadcast::error::RecvError::Lagged(_)) => {}
                Err(broadcast::error::RecvError::Closed) => return None,
            }
        }
    })
}

fn line(event: &Timed) -> Bytes {
    let mut text = serde_json::to_string(event).unwrap_or_else(|error| format!("{{\"error\":\"{error}\"}}"));
    text.push('\n');
    text.into()
}

async fn ask<T>(commands: &Commands, command: impl FnOnce(oneshot::Sender<T>) -> Command) -> Option<T> {
    let (sender, receiver) = oneshot::channel();
    commands.send(command(sender)).await.ok()?;
    receiver.await.ok()
}

fn ending() -> Response {
    (StatusCode::SERVICE_UNAVAILABLE, "the controller is ending").into_response()
}
