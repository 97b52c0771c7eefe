//! One request from its start to its record: gets a connection, exchanges, judges, gives the connection back.
//!
//! Every request makes exactly one attempt and leaves exactly one record.

use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use tokio::time::timeout;

use super::body::BodySeen;
use super::collect::Collector;
use super::connections::{Connection, Connections};
use super::exchange::{Ending, exchange};
use super::kind::{Mode, RequestKind};
use super::outgoing::Outgoing;
use super::plan::Plan;
use super::record::{Outcome, Record};
use super::response::ResponseReader;
use super::schedule::Arrival;
use super::stop::Stop;
use crate::clock::Now;

/// The clock of a run; the only place of the load generator that reads one.
pub(super) struct Clock {
    start: Instant,
    started: Now,
}

impl Clock {
    fn start() -> Self {
        Self { start: Instant::now(), started: Now::read() }
    }

    /// Microseconds since the start of the run.
    pub(super) fn now_us(&self) -> u64 {
        self.start.elapsed().as_micros() as u64
    }

    /// The start of the run.
    pub(super) fn started(&self) -> Now {
        self.started
    }
}

/// What all requests of a run share.
pub(super) struct Attempts {
    pub(super) clock: Clock,
    pub(super) collector: Collector,
    pub(super) connections: Connections,
    pub(super) stop: Stop,
    kinds: Vec<KindPlan>,
    run: String,
    backend_header: String,
    connect_timeout: Duration,
}

/// A kind of request, ready to be sent.
struct KindPlan {
    kind: RequestKind,
    outgoing: Outgoing,
    timeout: Duration,
}

/// What becomes of a connection after a request.
enum After {
    /// It is closed at once.
    Close,
    /// It can carry another request.
    Keep(Connection),
    /// The server is about to close it.
    Linger(Connection),
}

impl Attempts {
    /// Starts the clock of the run.
    pub(super) fn new(plan: &Plan, requests: usize, stop: Stop) -> Self {
        let ready = |kind: &RequestKind| KindPlan {
            outgoing: Outgoing::new(plan, kind),
            timeout: kind.timeout.unwrap_or(plan.timeout),
            kind: kind.clone(),
        };
        // Checksums of large uploads take a while: they are made before the clock starts.
        let kinds: Vec<_> = plan.kinds.iter().map(ready).collect();
        Self {
            collector: Collector::new(requests),
            connections: Connections::new(plan.target, plan.max_connections, kinds.len()),
            stop,
            kinds,
            run: plan.run.clone(),
            backend_header: plan.backend_header.clone(),
            connect_timeout: plan.connect_timeout,
            clock: Clock::start(),
        }
    }

    /// No request takes longer than this.
    pub(super) fn longest_timeout(&self) -> Duration {
        self.kinds.iter().map(|ready| ready.timeout).max().unwrap_or_default()
    }

    /// Closes idle connections that have ended or that have been idle for too long.
    pub(super) fn sweep(&self) {
        self.connections.sweep(self.clock.now_us(), |kind| match self.kinds.get(kind).map(|k| k.kind.mode) {
            Some(Mode::KeepAlive { idle, .. }) => idle.as_micros() as u64,
            Some(Mode::Close) | None => 0,
        });
    }

    /// Sends one request and records what came of it.
    pub(super) async fn perform(self: Arc<Self>, number: u64, arrival: Arrival) {
        let Some(ready) = self.kinds.get(usize::from(arrival.kind)) else { return };
        let mut record = Record {
            number,
            kind: arrival.kind,
            intended_us: arrival.at_us,
            start_us: self.clock.now_us(),
            connected_us: None,
            first_byte_us: None,
            end_us: 0,
            outcome: Outcome::Abandoned,
            status: None,
            backend: None,
            body_bytes: 0,
            connection: None,
            local_port: None,
        };
        let attempt = timeout(ready.timeout, self.attempt(ready, &mut record));
        let ended = tokio::select! {
            biased;
            ended = attempt => Some(ended),
            () = self.stop.abandoning() => None,
        };
        let (outcome, after) = match ended {
            Some(Ok(ended)) => ended,
            Some(Err(_)) if record.connection.is_none() => (Outcome::ConnectTimeout, After::Close),
            Some(Err(_)) => (Outcome::Timeout, After::Close),
            None => (Outcome::Abandoned, After::Close),
        };
        record.outcome = outcome;
        record.end_us = self.clock.now_us();
        // First the connection, then the record: the run may be over with the last record.
        let lingering = match after {
            After::Close => None,
            After::Keep(connection) => {
                self.connections.give_back(usize::from(arrival.kind), connection, record.end_us);
                None
            }
            After::Linger(connection) => Some(connection),
        };
        self.collector.push(record);
        if let Some(connection) = lingering {
            connection.linger().await;
        }
    }

    async fn attempt(&self, ready: &KindPlan, record: &mut Record) -> (Outcome, After) {
        let KindPlan { kind, outgoing, .. } = ready;
        let mut connection = match self.connect(kind.mode, record).await {
            Ok(connection) => connection,
            Err(outcome) => return (outcome, After::Close),
        };
        record.connection = Some(connection.number);
        record.local_port = connection.local_port;
        connection.carried += 1;
        let is_last = match kind.mode {
            Mode::Close => true,
            Mode::KeepAlive { requests, .. } => connection.carried >= requests,
        };
        let id = format!("{}-{}", self.run, record.number);
        let head = outgoing.head(&id, is_last);
        let mut reader = ResponseReader::new(&kind.method, &self.backend_header);
        let mut body = BodySeen::new(kind, &id);
        let request = (head.as_slice(), outgoing.upload());
        let now_us = || self.clock.now_us();
        let ending =
            exchange(&mut connection.stream, request, (&mut reader, &mut body), record, now_us).await;
        match (ending, reader.head()) {
            (Ending::Complete { sent }, Some(head)) => {
                let is_kept = !is_last && sent && reader.is_reusable();
                let after = if is_kept { After::Keep(connection) } else { After::Linger(connection) };
                (body.judge(kind, &id, outgoing.upload(), head), after)
            }
            (Ending::Complete { .. }, None) => (Outcome::Malformed, After::Close),
            (Ending::Broken(outcome), _) => (outcome, After::Close),
        }
    }

    /// An idle connection if the kind keeps them and has one, else a new one.
    async fn connect(&self, mode: Mode, record: &mut Record) -> Result<Connection, Outcome> {
        if matches!(mode, Mode::KeepAlive { .. })
            && let Some(connection) = self.connections.take_idle(usize::from(record.kind))
        {
            return Ok(connection);
        }
        let place = self.connections.reserve().ok_or(Outcome::NoConnection)?;
        let opened = timeout(self.connect_timeout, self.connections.open(place)).await;
        let connection = opened.map_err(|_| Outcome::ConnectTimeout)?.map_err(|error| refused_by(&error))?;
        record.connected_us = Some(self.clock.now_us());
        Ok(connection)
    }
}

/// What an error while connecting means.
fn refused_by(error: &io::Error) -> Outcome {
    match error.kind() {
        io::ErrorKind::ConnectionRefused => Outcome::Refused,
        io::ErrorKind::TimedOut => Outcome::ConnectTimeout,
        io::ErrorKind::ConnectionReset => Outcome::ResetBeforeFirstByte,
        _ => Outcome::Io(error.raw_os_error().unwrap_or(Errno::UnknownErrno as i32)),
    }
}
