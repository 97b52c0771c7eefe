//! The connections of a run: at most so many at one time, idle ones kept for the next request.
//!
//! A connection that the server closed while it lay idle is a closed connection, not a failed request: the
//! kernel is asked right before a request is sent. A server that closes at the very moment of sending is
//! beyond that look, and the request then fails honestly.

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::os::fd::AsRawFd;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::socket::{MsgFlags, recv};
use serde::Serialize;
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// How long the server may take to close a connection after its last response.
const LINGER: Duration = Duration::from_secs(2);

/// What became of the connections of a run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct ConnectionCounts {
    /// Established.
    pub opened: u64,
    /// Open at one time at most.
    pub peak: u64,
    /// Closed by the server while they lay idle.
    pub closed_idle: u64,
    /// Reset by the server while they lay idle.
    pub reset_idle: u64,
    /// On which the server sent something unasked while they lay idle.
    pub unasked_idle: u64,
    /// Closed by this side after lying idle too long, or to make room.
    pub expired_idle: u64,
}

impl ConnectionCounts {
    fn count(&mut self, ended: Idle) {
        match ended {
            Idle::Usable => {}
            Idle::Closed => self.closed_idle += 1,
            Idle::Reset => self.reset_idle += 1,
            Idle::Unasked => self.unasked_idle += 1,
        }
    }
}

/// An open connection. It occupies its place until it is dropped.
#[derive(Debug)]
pub(super) struct Connection {
    pub(super) stream: TcpStream,
    /// Numbered from 1 within the run.
    pub(super) number: u64,
    pub(super) local_port: Option<u16>,
    /// Requests that it has carried.
    pub(super) carried: u32,
    idle_since_us: u64,
    _place: OwnedSemaphorePermit,
}

impl Connection {
    /// Waits for the server to close first, so that the server's side keeps the port in `TIME_WAIT`, not ours:
    /// else one client address runs out of ports at some hundred requests a second.
    pub(super) async fn linger(mut self) {
        let mut unasked = [0; 512];
        let until_end = async { while self.stream.read(&mut unasked).await.is_ok_and(|read| read > 0) {} };
        // Whether it ended or the wait did, the connection is closed now.
        let _ = tokio::time::timeout(LINGER, until_end).await;
    }

    /// How the connection looks before it is used again.
    fn state(&self) -> Idle {
        let mut byte = [0];
        let flags = MsgFlags::MSG_PEEK | MsgFlags::MSG_DONTWAIT;
        match recv(self.stream.as_raw_fd(), &mut byte, flags) {
            Err(Errno::EAGAIN) => Idle::Usable,
            Ok(0) => Idle::Closed,
            Ok(_) => Idle::Unasked,
            Err(_) => Idle::Reset,
        }
    }
}

/// What an idle connection turned into.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Idle {
    Usable,
    Closed,
    Reset,
    Unasked,
}

/// All connections of a run.
pub(super) struct Connections {
    target: SocketAddr,
    most: usize,
    places: Arc<Semaphore>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// For each kind, the connection used last at the back.
    idle: Vec<VecDeque<Connection>>,
    counts: ConnectionCounts,
    /// Set at the end of the run: nothing is kept any more.
    closing: bool,
}

impl Connections {
    pub(super) fn new(target: SocketAddr, most: usize, kinds: usize) -> Self {
        let idle = std::iter::repeat_with(VecDeque::new).take(kinds).collect();
        let state = Mutex::new(State { idle, ..State::default() });
        Self { target, most, places: Arc::new(Semaphore::new(most)), state }
    }

    /// An idle connection of this kind that the server has not closed.
    pub(super) fn take_idle(&self, kind: usize) -> Option<Connection> {
        let mut state = self.lock();
        while let Some(connection) = state.idle.get_mut(kind).and_then(VecDeque::pop_back) {
            match connection.state() {
                Idle::Usable => return Some(connection),
                ended => state.counts.count(ended),
            }
        }
        None
    }

    /// A place for a new connection; closes the connection that has been idle longest if there is none.
    pub(super) fn reserve(&self) -> Option<OwnedSemaphorePermit> {
        if let Ok(place) = Arc::clone(&self.places).try_acquire_owned() {
            return Some(place);
        }
        let mut state = self.lock();
        let longest = state.idle.iter_mut().filter(|pool| !pool.is_empty());
        let pool = longest.min_by_key(|pool| pool.front().map(|connection| connection.idle_since_us))?;
        drop(pool.pop_front());
        state.counts.expired_idle += 1;
        Arc::clone(&self.places).try_acquire_owned().ok()
    }

    /// Opens a connection. Has no deadline of its own; dropping the future gives up.
    pub(super) async fn open(&self, place: OwnedSemaphorePermit) -> io::Result<Connection> {
        let stream = TcpStream::connect(self.target).await?;
        stream.set_nodelay(true)?;
        let local = stream.local_addr()?;
        if local == self.target {
            // On loopback a port that nobody listens on can be given to us as our own: TCP then meets itself.
            return Err(io::ErrorKind::ConnectionRefused.into());
        }
        let mut state = self.lock();
        state.counts.opened += 1;
        let open = self.most - self.places.available_permits();
        state.counts.peak = state.counts.peak.max(open as u64);
        let number = state.counts.opened;
        let local_port = Some(local.port());
        Ok(Connection { stream, number, local_port, carried: 0, idle_since_us: 0, _place: place })
    }

    /// Keeps a connection for the next request of its kind.
    pub(super) fn give_back(&self, kind: usize, mut connection: Connection, now_us: u64) {
        let mut state = self.lock();
        if state.closing {
            return;
        }
        connection.idle_since_us = now_us;
        if let Some(pool) = state.idle.get_mut(kind) {
            pool.push_back(connection);
        }
    }

    /// Drops the idle connections that have ended or have been idle for `limit_us(kind)`, so that the server
    /// sees them closed although no request comes by.
    pub(super) fn sweep(&self, now_us: u64, limit_us: impl Fn(usize) -> u64) {
        let mut state = self.lock();
        let State { idle, counts, .. } = &mut *state;
        for (kind, pool) in idle.iter_mut().enumerate() {
            pool.retain(|connection| {
                let expired = now_us.saturating_sub(connection.idle_since_us) >= limit_us(kind);
                match connection.state() {
                    Idle::Usable if expired => counts.expired_idle += 1,
                    Idle::Usable => return true,
                    ended => counts.count(ended),
                }
                false
            });
        }
    }

    /// Closes the idle connections and waits, for a limited time, until the others are closed as well.
    pub(super) async fn close(&self) {
        {
            let mut state = self.lock();
            state.closing = true;
            state.idle.iter_mut().for_each(VecDeque::clear);
        }
        let all = self.places.acquire_many(u32::try_from(self.most).unwrap_or(u32::MAX));
        // What is still open then belongs to a server that does not close; it ends with the runtime.
        let _ = tokio::time::timeout(LINGER + Duration::from_millis(500), all).await;
    }

    /// What became of the connections so far.
    pub(super) fn counts(&self) -> ConnectionCounts {
        self.lock().counts
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Every change is complete before anything can panic.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
