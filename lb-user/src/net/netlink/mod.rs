//! Links, addresses, routes and neighbours of one network namespace, over rtnetlink.
//!
//! The socket is made inside the namespace and stays there, so one caller can serve many namespaces without
//! ever entering them. Each operation has a deadline. What makes and lists things speaks IPv4, as the networks
//! that Baton makes do; [events](Events) and questions about what is there know both.

mod addresses;
mod events;
mod links;
mod neighbours;
mod questions;
mod routes;

use std::future::Future;
use std::io;
use std::time::Duration;

use futures::{Stream, TryStreamExt};
use thiserror::Error;
use tokio::task::AbortHandle;
use tokio::time::timeout;

pub use addresses::Address;
pub use events::{Events, Lost};
pub use links::{Link, VethEnd};
pub use neighbours::{Neighbour, Proxy};
pub use routes::{Route, RouteKind};

use super::netns::{NetnsError, NetnsHandle, run_in};

/// The kernel answers in microseconds; the routing lock can be held for a second by others.
const DEADLINE: Duration = Duration::from_secs(5);

/// Why an operation on a namespace's network failed.
#[derive(Debug, Error)]
#[error("{action}: {cause}")]
pub struct NetlinkError {
    action: String,
    cause: Cause,
}

#[derive(Debug, Error)]
enum Cause {
    #[error("the kernel did not answer within {} s", DEADLINE.as_secs())]
    Deadline,
    #[error(transparent)]
    Kernel(io::Error),
    #[error(transparent)]
    Namespace(#[from] NetnsError),
    #[error("{0}")]
    Protocol(String),
}

impl NetlinkError {
    /// True if what was to be added is there already.
    pub fn is_exists(&self) -> bool {
        matches!(&self.cause, Cause::Kernel(error) if error.kind() == io::ErrorKind::AlreadyExists)
    }

    /// The kernel's error number, if it was the kernel that refused.
    pub fn raw_os_error(&self) -> Option<i32> {
        match &self.cause {
            Cause::Kernel(error) => error.raw_os_error(),
            _ => None,
        }
    }

    /// True if what was to be changed or removed is not there.
    pub fn is_missing(&self) -> bool {
        // ENODEV for links, ESRCH for routes, ENOENT for neighbours, EADDRNOTAVAIL for addresses.
        let codes = [libc::ENODEV, libc::ESRCH, libc::ENOENT, libc::EADDRNOTAVAIL];
        self.raw_os_error().is_some_and(|code| codes.contains(&code))
    }
}

/// A connection to the kernel in one network namespace.
#[derive(Debug)]
pub struct Netlink {
    handle: rtnetlink::Handle,
    connection: AbortHandle,
}

impl Netlink {
    /// Connects inside `netns`. Call it on a tokio runtime, which carries the connection.
    pub fn open(netns: &NetnsHandle) -> Result<Self, NetlinkError> {
        let action = || format!("open a netlink socket in {}", netns.path().display());
        let runtime = tokio::runtime::Handle::current();
        let connected = run_in(netns, || {
            let _guard = runtime.enter();
            rtnetlink::new_connection()
        });
        let (connection, handle, _) = connected
            .map_err(|error| NetlinkError { action: action(), cause: error.into() })?
            .map_err(|error| NetlinkError { action: action(), cause: Cause::Kernel(error) })?;
        Ok(Self { handle, connection: tokio::spawn(connection).abort_handle() })
    }
}

impl Drop for Netlink {
    fn drop(&mut self) {
        // The connection's future never ends by itself while its socket is open.
        self.connection.abort();
    }
}

/// Waits for a request of which only success matters.
async fn done(
    action: impl FnOnce() -> String,
    request: impl Future<Output = Result<(), rtnetlink::Error>>,
) -> Result<(), NetlinkError> {
    let cause = match timeout(DEADLINE, request).await {
        Ok(Ok(())) => return Ok(()),
        Ok(Err(error)) => error.into(),
        Err(_) => Cause::Deadline,
    };
    Err(NetlinkError { action: action(), cause })
}

/// Waits for all answers of a request.
async fn dump<T>(
    action: &str,
    answers: impl Stream<Item = Result<T, rtnetlink::Error>>,
) -> Result<Vec<T>, NetlinkError> {
    let cause = match timeout(DEADLINE, answers.try_collect()).await {
        Ok(Ok(all)) => return Ok(all),
        Ok(Err(error)) => error.into(),
        Err(_) => Cause::Deadline,
    };
    Err(NetlinkError { action: action.to_owned(), cause })
}

/// Turns "it is not there" into false.
fn if_present(result: Result<(), NetlinkError>) -> Result<bool, NetlinkError> {
    match result {
        Err(error) if error.is_missing() => Ok(false),
        done => done.map(|()| true),
    }
}

impl From<rtnetlink::Error> for Cause {
    fn from(error: rtnetlink::Error) -> Self {
        match error {
            rtnetlink::Error::NetlinkError(message) => Self::Kernel(message.to_io()),
            other => Self::Protocol(other.to_string()),
        }
    }
}
