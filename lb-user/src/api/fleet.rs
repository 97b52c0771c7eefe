//! The control socket of a controller of many services: what concerns all of them. Each service has a socket
//! of its own besides.

use std::io;
use std::path::Path;

use axum::Json;
use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use tokio::sync::{mpsc, oneshot};

use super::server::{Served, ask, listen};

/// A question to the controller, with the way back.
#[derive(Debug)]
pub enum Question {
    /// Read the configuration again, and say what has changed or why nothing has.
    Reload(oneshot::Sender<Result<String, String>>),
}

/// Listens on `socket`, replacing what a killed controller left there.
pub fn serve(socket: &Path, questions: mpsc::Sender<Question>) -> io::Result<Served> {
    listen(socket, Router::new().route("/v1/reload", post(reload)).with_state(questions))
}

async fn reload(State(questions): State<mpsc::Sender<Question>>) -> Response {
    match ask(&questions, Question::Reload).await {
        Ok(Ok(summary)) => Json(summary).into_response(),
        Ok(Err(why)) => (StatusCode::CONFLICT, why).into_response(),
        Err(silence) => silence.into_response(),
    }
}
