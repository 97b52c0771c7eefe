//! What each path does.
//!
//! | path | answer | leaks |
//! |---|---|---|
//! | `/work` | 200 after a little work | yes |
//! | `/free` | the same | no |
//! | `/slow?ms=N` | 200, its body taking about `N` milliseconds | no |
//! | `/large?bytes=N` | 200 with `N` bytes | no |
//! | `/upload` | 200, telling length and checksum of what was received | no |
//! | `/health` | 200 with the heap's figures | no |
//! | `/fault?mode=M` | 200, and from then on what [`Fault`] says; with `--faults` only | no |
//! | anything else | 404 | if told so |
//!
//! Checksums are CRC-32 (IEEE) in 8 hexadecimal digits.

use std::cell::{Cell, RefCell};
use std::time::Duration;

use anyhow::{Context, Result};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::header::{HeaderMap, HeaderValue};
use hyper::{Method, Request, Response, StatusCode};
use thiserror::Error;
use tokio::sync::Notify;
use tokio::time::sleep;

use super::body::Reply;
use super::executions::ExecutionLog;
use super::fault::{Fault, Faults};
use super::heap::Heap;
use super::options::{LeakOn, Options};

const REQUEST_ID: &str = "x-request-id";
/// Memory that a health check uses: so little that checks still succeed when requests begin to fail.
const HEALTH_GARBAGE_BYTES: u64 = 4 << 10;
/// Memory is used in pieces of this size, as programs do.
const GARBAGE_PIECE_BYTES: u64 = 4 << 10;
/// What can still be asked of a service that resets everything else.
const FAULT_PATH: &str = "/fault";
const LONGEST_SLOW_MS: u64 = 600_000;
const LARGEST_BYTES: u64 = 1 << 30;

/// A request whose connection is to be reset.
#[derive(Debug, Error)]
#[error("told to reset connections")]
pub(crate) struct ToldToReset;

/// The state behind all requests.
pub(crate) struct Service {
    options: Options,
    backend: HeaderValue,
    heap: RefCell<Heap>,
    log: Option<ExecutionLog>,
    refusals: Cell<u32>,
    exhausted: Notify,
    faults: Faults,
}

/// What a path and its query ask for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Route {
    Work,
    Free,
    Slow(Duration),
    Large(u64),
    Upload,
    Health,
    Fault(Fault),
    Missing,
}

impl Service {
    /// A service with an empty heap.
    pub(crate) fn new(options: &Options) -> Result<Self> {
        let log = options.execution_log.as_deref().map(|path| {
            ExecutionLog::open(path).with_context(|| format!("open the execution log {}", path.display()))
        });
        Ok(Self {
            options: options.clone(),
            backend: HeaderValue::from_str(&options.backend)
                .context("the backend's name is no header value")?,
            heap: RefCell::new(Heap::new(options.limits())),
            log: log.transpose()?,
            refusals: Cell::new(0),
            exhausted: Notify::new(),
            faults: Faults::new(),
        })
    }

    /// Returns when memory is exhausted and the last answers were given.
    pub(crate) async fn exhausted(&self) {
        self.exhausted.notified().await;
    }

    /// Returns once nobody is to listen any more.
    pub(crate) async fn closed(&self) {
        self.faults.closed().await;
    }

    /// Executes one request; an error if its connection is to be reset.
    pub(crate) async fn answer(&self, request: Request<Incoming>) -> Result<Response<Reply>, ToldToReset> {
        if self.faults.get() == Fault::Reset && request.uri().path() != FAULT_PATH {
            return Err(ToldToReset);
        }
        Ok(self.respond(request).await)
    }

    async fn respond(&self, request: Request<Incoming>) -> Response<Reply> {
        let id = request.headers().get(REQUEST_ID).cloned();
        let mut response = match self.log_execution(&request) {
            Ok(()) => self.execute(request).await,
            Err(error) => {
                whole(StatusCode::INTERNAL_SERVER_ERROR, format!("cannot log the execution: {error}\n"))
            }
        };
        let headers = response.headers_mut();
        headers.insert("x-baton-backend", self.backend.clone());
        headers.insert("x-collections", self.heap.borrow().collections().into());
        if let Some(id) = id {
            headers.insert(REQUEST_ID, id);
        }
        response
    }

    fn log_execution(&self, request: &Request<Incoming>) -> std::io::Result<()> {
        let Some(log) = &self.log else { return Ok(()) };
        let path = request.uri().path();
        log.executed(id_text(request.headers()), &self.options.backend, request.method().as_str(), path)
    }

    async fn execute(&self, request: Request<Incoming>) -> Response<Reply> {
        let route = match Route::of(request.uri().path(), request.uri().query()) {
            Ok(route) => route,
            Err(message) => return whole(StatusCode::BAD_REQUEST, message),
        };
        if route == Route::Upload && request.method() != Method::POST {
            return whole(StatusCode::METHOD_NOT_ALLOWED, "use POST\n".to_owned());
        }
        if let Route::Fault(fault) = route {
            if self.options.faults {
                self.faults.set(fault);
                return whole(StatusCode::OK, "from now on\n".to_owned());
            }
            return whole(StatusCode::NOT_FOUND, "started without --faults\n".to_owned());
        }
        let fault = self.faults.get();
        match fault {
            Fault::Silent => std::future::pending::<()>().await,
            Fault::Error => return whole(StatusCode::INTERNAL_SERVER_ERROR, "told to fail\n".to_owned()),
            Fault::None | Fault::Slow | Fault::Closed | Fault::Reset => {}
        }
        if !self.options.latency.is_zero() {
            sleep(self.options.latency * fault.factor()).await;
        }
        let (garbage_bytes, leak_bytes) = match route {
            Route::Work => (self.options.garbage.0, self.options.leak_bytes(LeakOn::Work)),
            Route::Missing => (self.options.garbage.0, self.options.leak_bytes(LeakOn::Missing)),
            Route::Health => (HEALTH_GARBAGE_BYTES, 0),
            Route::Free | Route::Slow(_) | Route::Large(_) | Route::Upload | Route::Fault(_) => {
                (self.options.garbage.0, 0)
            }
        };
        if let Err(error) = self.heap.borrow_mut().allocate(garbage_bytes, leak_bytes) {
            self.count_refusal();
            return whole(StatusCode::INTERNAL_SERVER_ERROR, format!("OutOfMemory: {error}\n"));
        }
        let result = churn(garbage_bytes);
        let id = id_text(request.headers());
        match route {
            Route::Work | Route::Free => whole(StatusCode::OK, format!("{id} {result:08x}\n")),
            Route::Slow(time) => Response::new(Reply::trickle(time)),
            Route::Large(bytes) => with_checksum(Response::new(Reply::pattern(bytes))),
            Route::Upload => receive(request.into_body()).await,
            Route::Health => whole(StatusCode::OK, self.health()),
            Route::Missing | Route::Fault(_) => whole(StatusCode::NOT_FOUND, format!("{id} not found\n")),
        }
    }

    fn count_refusal(&self) {
        self.refusals.update(|count| count + 1);
        if self.refusals.get() >= self.options.last_answers {
            self.exhausted.notify_one();
        }
    }

    fn health(&self) -> String {
        let heap = self.heap.borrow();
        let (live_bytes, collections) = (heap.live_bytes(), heap.collections());
        format!("{{\"live_bytes\":{live_bytes},\"collections\":{collections}}}\n")
    }
}

impl Route {
    fn of(path: &str, query: Option<&str>) -> Result<Self, String> {
        Ok(match path {
            "/work" => Self::Work,
            "/free" => Self::Free,
            "/slow" => Self::Slow(Duration::from_millis(number(query, "ms", 3000, LONGEST_SLOW_MS)?)),
            "/large" => Self::Large(number(query, "bytes", 1 << 20, LARGEST_BYTES)?),
            "/upload" => Self::Upload,
            "/health" => Self::Health,
            FAULT_PATH => {
                Self::Fault(Fault::of(query).ok_or("use mode=none, silent, error, slow, closed or reset\n")?)
            }
            _ => Self::Missing,
        })
    }
}

/// The value of `key` in a query, `default` if it is not there.
fn number(query: Option<&str>, key: &str, default: u64, max: u64) -> Result<u64, String> {
    let pairs = query.unwrap_or_default().split('&').filter_map(|pair| pair.split_once('='));
    let Some((_, text)) = pairs.into_iter().find(|(name, _)| *name == key) else { return Ok(default) };
    let value = text.parse().ok().filter(|value| *value <= max);
    value.ok_or_else(|| format!("`{text}` is not allowed for {key}: use 0 to {max}\n"))
}

/// Uses memory as a request does: fills it, computes from it, gives it back.
fn churn(bytes: u64) -> u32 {
    let pieces: Vec<Vec<u8>> = (0..bytes.div_ceil(GARBAGE_PIECE_BYTES))
        .map(|piece| vec![piece as u8 | 1; GARBAGE_PIECE_BYTES as usize])
        .collect();
    let mut hasher = crc32fast::Hasher::new();
    for piece in &pieces {
        hasher.update(piece);
    }
    hasher.finalize()
}

async fn receive(mut body: Incoming) -> Response<Reply> {
    let mut hasher = crc32fast::Hasher::new();
    let mut length = 0_u64;
    while let Some(frame) = body.frame().await {
        match frame.map(hyper::body::Frame::into_data) {
            Ok(Ok(data)) => {
                length += data.len() as u64;
                hasher.update(&data);
            }
            Ok(Err(_trailers)) => {}
            Err(error) => return whole(StatusCode::BAD_REQUEST, format!("the upload broke off: {error}\n")),
        }
    }
    let checksum = format!("{:08x}", hasher.finalize());
    let mut response = whole(StatusCode::OK, format!("{length} {checksum}\n"));
    response.headers_mut().insert("x-received-length", length.into());
    response.headers_mut().insert("x-received-crc32", hex_value(&checksum));
    response
}

fn whole(status: StatusCode, text: String) -> Response<Reply> {
    let mut response = with_checksum(Response::new(Reply::text(text)));
    *response.status_mut() = status;
    response
}

fn with_checksum(mut response: Response<Reply>) -> Response<Reply> {
    let checksum = format!("{:08x}", response.body().crc32());
    response.headers_mut().insert("x-body-crc32", hex_value(&checksum));
    response
}

/// A checksum as a header; digits are always legal there.
fn hex_value(digits: &str) -> HeaderValue {
    HeaderValue::from_str(digits).unwrap_or(HeaderValue::from_static(""))
}

fn id_text(headers: &HeaderMap) -> &str {
    headers.get(REQUEST_ID).and_then(|id| id.to_str().ok()).unwrap_or("-")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn queries_choose_time_and_size_within_bounds() {
        assert_eq!(Route::of("/slow", Some("x=1&ms=250")), Ok(Route::Slow(Duration::from_millis(250))));
        assert_eq!(Route::of("/large", None), Ok(Route::Large(1 << 20)));
        assert!(Route::of("/large", Some("bytes=9999999999")).is_err());
        assert!(Route::of("/slow", Some("ms=soon")).unwrap_err().contains("`soon` is not allowed for ms"));
        assert_eq!(Route::of("/nowhere", None), Ok(Route::Missing));
        assert_eq!(Route::of("/fault", Some("mode=slow")), Ok(Route::Fault(Fault::Slow)));
        assert!(Route::of("/fault", Some("mode=gone")).is_err());
    }
}
