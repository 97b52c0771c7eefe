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
use tokio_util::task::AbortOnDropHandle;

use super::status::{Done, ServiceStatus};
use crate::names::BackendName;
use crate::recovery::event::Timed;

/// What came of a wish, or why nothing was done.
pub type Operated = Result<Done, String>;

/// What an operator wants.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verb {
    /// Renew this backend, or the one whose turn it is.
    Rejuvenate {
        /// The backend.
        backend: Option<BackendName>,
        /// Not before a window opens.
        in_window: bool,
    },
    /// Hold a backend out, after its flows have ended.
    Drain(BackendName),
    /// Take back a backend that is held out.
    Ready(BackendName),
    /// No automatic rejuvenations.
    Pause,
    /// Automatic rejuvenations again.
    Resume,
    /// No automatic action at all, or again.
    Maintenance(bool),
    /// Cut what is still open on the backend that drains.
    Cut,
}

/// How an operator wants it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct How {
    /// The answer comes at the end, not as soon as it has begun.
    pub wait: bool,
    /// Only say what would be done.
    pub dry_run: bool,
}

/// A command for the controller, with the way back.
#[derive(Debug)]
pub enum Command {
    /// What is going on?
    Status(oneshot::Sender<ServiceStatus>),
    /// Do this and say how it went.
    Operate {
        /// What.
        verb: Verb,
        /// How.
        how: How,
        /// The way back.
        answer: oneshot::Sender<Operated>,
    },
    /// What happened, and what will.
    Events(oneshot::Sender<(Vec<Timed>, broadcast::Receiver<Timed>)>),
}

/// The end that commands are sent into.
pub type Commands = mpsc::Sender<Command>;

/// A socket is served for as long as this is there.
pub type Served = AbortOnDropHandle<()>;

/// Listens on `socket`, replacing what a killed controller left there.
pub fn serve(socket: &Path, commands: Commands) -> io::Result<Served> {
    let router = Router::new()
        .route("/v1/status", get(status))
        .route("/v1/rejuvenate", post(rejuvenate))
        .route("/v1/drain", post(drain))
        .route("/v1/ready", post(ready))
        .route("/v1/pause", post(pause))
        .route("/v1/resume", post(resume))
        .route("/v1/maintenance-on", post(maintenance_on))
        .route("/v1/maintenance-off", post(maintenance_off))
        .route("/v1/cut", post(cut))
        .route("/v1/events", get(events))
        .with_state(commands);
    listen(socket, router)
}

/// Serves a router on a socket for root and its group.
pub(super) fn listen(socket: &Path, router: Router) -> io::Result<Served> {
    match fs::remove_file(socket) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let listener = UnixListener::bind(socket)?;
    fs::set_permissions(socket, fs::Permissions::from_mode(0o660))?;
    Ok(AbortOnDropHandle::new(tokio::spawn(async move {
        if let Err(error) = axum::serve(listener, router).await {
            tracing::error!(%error, "the control socket is no longer served");
        }
    })))
}

async fn status(State(commands): State<Commands>) -> Response {
    match ask(&commands, Command::Status).await {
        Ok(status) => Json(status).into_response(),
        Err(silence) => silence.into_response(),
    }
}

#[derive(Deserialize)]
struct OperateQuery {
    /// The backend that is meant.
    backend: Option<BackendName>,
    /// Whether the answer comes at the end, or as soon as it has begun.
    #[serde(default)]
    wait: bool,
    /// Whether the answer only says what would be done.
    #[serde(default)]
    dry_run: bool,
    /// Whether it waits for a window.
    #[serde(default)]
    in_window: bool,
}

async fn rejuvenate(State(commands): State<Commands>, Query(query): Query<OperateQuery>) -> Response {
    let verb = Verb::Rejuvenate { backend: query.backend.clone(), in_window: query.in_window };
    operate(&commands, verb, &query).await
}

async fn drain(State(commands): State<Commands>, Query(query): Query<OperateQuery>) -> Response {
    match query.backend.clone() {
        Some(backend) => operate(&commands, Verb::Drain(backend), &query).await,
        None => nameless(),
    }
}

async fn ready(State(commands): State<Commands>, Query(query): Query<OperateQuery>) -> Response {
    match query.backend.clone() {
        Some(backend) => operate(&commands, Verb::Ready(backend), &query).await,
        None => nameless(),
    }
}

async fn pause(State(commands): State<Commands>, Query(query): Query<OperateQuery>) -> Response {
    operate(&commands, Verb::Pause, &query).await
}

async fn resume(State(commands): State<Commands>, Query(query): Query<OperateQuery>) -> Response {
    operate(&commands, Verb::Resume, &query).await
}

async fn maintenance_on(State(commands): State<Commands>, Query(query): Query<OperateQuery>) -> Response {
    operate(&commands, Verb::Maintenance(true), &query).await
}

async fn maintenance_off(State(commands): State<Commands>, Query(query): Query<OperateQuery>) -> Response {
    operate(&commands, Verb::Maintenance(false), &query).await
}

async fn operate(commands: &Commands, verb: Verb, query: &OperateQuery) -> Response {
    let how = How { wait: query.wait, dry_run: query.dry_run };
    match ask(commands, |answer| Command::Operate { verb, how, answer }).await {
        Ok(Ok(done)) => Json(done).into_response(),
        Ok(Err(why)) => (StatusCode::CONFLICT, why).into_response(),
        Err(silence) => silence.into_response(),
    }
}

fn nameless() -> Response {
    (StatusCode::BAD_REQUEST, "say which backend: ?backend=NAME").into_response()
}

async fn cut(State(commands): State<Commands>, Query(query): Query<OperateQuery>) -> Response {
    operate(&commands, Verb::Cut, &query).await
}

#[derive(Deserialize)]
struct EventsQuery {
    /// Whether the stream goes on with what will happen.
    #[serde(default)]
    follow: bool,
}

async fn events(State(commands): State<Commands>, Query(query): Query<EventsQuery>) -> Response {
    let (past, future) = match ask(&commands, Command::Events).await {
        Ok(events) => events,
        Err(silence) => return silence.into_response(),
    };
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

/// Asks the controller, and waits for its answer for as long as it takes.
pub(super) async fn ask<C, T>(
    questions: &mpsc::Sender<C>,
    question: impl FnOnce(oneshot::Sender<T>) -> C,
) -> Result<T, Silence> {
    let (sender, receiver) = oneshot::channel();
    questions.send(question(sender)).await.map_err(|_| Silence::Ending)?;
    receiver.await.map_err(|_| Silence::Lost)
}

/// Why a controller that ends has not answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Silence {
    /// It takes no questions any more, so nothing came of this one.
    Ending,
    /// The question was on its way, or what it asked for was.
    Lost,
}

impl IntoResponse for Silence {
    fn into_response(self) -> Response {
        match self {
            Self::Ending => (StatusCode::SERVICE_UNAVAILABLE, "the controller is ending"),
            Self::Lost => (StatusCode::BAD_GATEWAY, "it ended before it answered"),
        }
        .into_response()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::api::client::{self, ClientError};

    const LIMIT: Duration = Duration::from_secs(10);

    #[tokio::test]
    async fn what_a_controller_that_ends_has_not_taken_is_told_from_what_it_may_have_begun() {
        let directory = tempfile::tempdir().unwrap();
        let socket = directory.path().join("control");
        let (commands, mut taken) = mpsc::channel(1);
        let _served = serve(&socket, commands).unwrap();
        let ends = async {
            drop(taken.recv().await);
            taken
        };
        let (asked, taken) =
            tokio::join!(client::post::<Done>(&socket, "/v1/rejuvenate?wait=true", LIMIT), ends);
        assert!(matches!(asked, Err(ClientError::Broken(_))), "{asked:?}");
        drop(taken);
        let asked = client::post::<Done>(&socket, "/v1/rejuvenate?wait=true", LIMIT).await;
        assert!(matches!(asked, Err(ClientError::Ending)), "{asked:?}");
    }
}
