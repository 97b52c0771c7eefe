//! Sockets and signals round the service.

use std::convert::Infallible;
use std::future::poll_fn;
use std::rc::Rc;
use std::time::Duration;

use anyhow::{Context, Result};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::{LocalSet, spawn_local};
use tokio::time::sleep;

use super::options::Options;
use super::routes::Service;

/// How long accepting rests when the system has no descriptor left.
const ACCEPT_PAUSE: Duration = Duration::from_millis(20);

/// Why the service ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// It was told to, by SIGTERM or SIGINT.
    Told,
    /// Its memory was exhausted.
    OutOfMemory,
}

/// Serves until it is told to end or memory is exhausted.
///
/// It ends at once, as most services do: connections and requests in progress are dropped. Needs a
/// current-thread runtime, so that a collection stops everything.
pub async fn serve(listener: TcpListener, options: &Options) -> Result<End> {
    let service = Rc::new(Service::new(options)?);
    let mut terminate = signal(SignalKind::terminate()).context("listen for SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("listen for SIGINT")?;
    let until_the_end = async {
        tokio::select! {
            never = accept(listener, &service) => match never {},
            () = service.exhausted() => End::OutOfMemory,
            _ = terminate.recv() => End::Told,
            _ = interrupt.recv() => End::Told,
        }
    };
    Ok(LocalSet::new().run_until(until_the_end).await)
}

async fn accept(listener: TcpListener, service: &Rc<Service>) -> Infallible {
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = service.closed() => break,
        };
        match accepted {
            Ok((stream, _)) => {
                spawn_local(connection(stream, Rc::clone(service)));
            }
            Err(error) => {
                eprintln!("cannot accept a connection: {error}");
                sleep(ACCEPT_PAUSE).await;
            }
        }
    }
    drop(listener);
    std::future::pending().await
}

async fn connection(stream: TcpStream, service: Rc<Service>) {
    // Answers go out at once; a delay would count as the service's latency.
    let _ = stream.set_nodelay(true);
    let handler = service_fn(|request| {
        let service = Rc::clone(&service);
        Box::pin(async move { service.answer(request).await })
    });
    let mut served =
        http1::Builder::new().timer(TokioTimer::new()).serve_connection(TokioIo::new(stream), handler);
    // A connection that breaks concerns its client only; the client's records tell how.
    let outcome = poll_fn(|context| served.poll_without_shutdown(context)).await;
    if outcome.is_err_and(|error| error.is_user()) {
        let _ = served.into_parts().io.into_inner().set_zero_linger();
    }
}
