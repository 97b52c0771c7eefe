//! Checks: does a backend answer, asked from where its clients' packets come.
//!
//! What always holds: a check ends within its limit, and when it has ended nothing of it is left: no task, no
//! open file, no process. A check that could not be made says so, and is no word about the backend.

mod agent;
mod http;
mod judge;
mod kind;
mod pace;
mod pattern;
pub mod payload;
mod script;
mod socket;
mod tally;
#[cfg(test)]
mod tests;
mod text;
pub(crate) mod tls;
mod udp;

use std::net::SocketAddr;
use std::time::Duration;

use tokio::time::timeout;

use crate::names::{BackendName, ServiceName};
use crate::net::netns::NetnsHandle;
use crate::recovery::Finding;

pub use agent::{AgentWord, Wanted, ask_agent};
pub use judge::{Judge, Judgement, Timing};
pub use kind::{Check, CheckError, GOOD_STATUS, HttpCheck, PAYLOAD_MAX, ScriptCheck, TlsCheck, UdpCheck};
pub use pace::{Ended, Paces, SlowRule};
pub use pattern::{BodyPattern, PatternError};
pub use tally::{Rule, Tally, Verdict, Window};
pub(crate) use tls::Client as TlsClient;

/// Of an answer that is not the one wanted, so many characters are shown.
const SHOWN: usize = 80;

/// Whom a check asks; an address alone is enough.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// Where the backend listens.
    pub address: SocketAddr,
    /// The service, for scripts.
    pub service: Option<ServiceName>,
    /// The backend, for scripts.
    pub backend: Option<BackendName>,
}

impl From<SocketAddr> for Target {
    fn from(address: SocketAddr) -> Self {
        Self { address, service: None, backend: None }
    }
}

/// Asks a backend from inside `netns`; takes no longer than `limit`, but for the moment in which a script that
/// has exceeded it is killed.
pub async fn run(
    check: &Check,
    netns: &NetnsHandle,
    target: impl Into<Target>,
    limit: Duration,
) -> Result<(), Finding> {
    let target = target.into();
    match check {
        Check::Tcp => within(limit, socket::connect(netns, target.address)).await.map(drop),
        Check::Http(check) => within(limit, Box::pin(http::ask(check, netns, target.address))).await,
        Check::Udp(check) => udp::ask(check, netns, target.address, limit).await,
        Check::Script(check) => script::ask(check, netns, &target, limit).await,
    }
}

/// Asks a backend over TCP from inside `netns`, by a connection to `address` that `pin` can lead there: it is told the
/// connection's own address before it is opened, and says whether it may be.
pub async fn run_pinned(
    check: &Check,
    netns: &NetnsHandle,
    address: SocketAddr,
    limit: Duration,
    pin: impl FnMut(SocketAddr) -> bool,
) -> Result<(), Finding> {
    let connected = socket::connect_pinned(netns, address, pin);
    match check {
        Check::Tcp => within(limit, connected).await.map(drop),
        Check::Http(check) => within(limit, Box::pin(http::ask_over(check, address, connected))).await,
        Check::Udp(_) | Check::Script(_) => {
            Err(Finding::Unchecked("only connections over TCP can be pinned".to_owned()))
        }
    }
}

async fn within<T>(limit: Duration, asked: impl Future<Output = Result<T, Finding>>) -> Result<T, Finding> {
    timeout(limit, asked).await.unwrap_or(Err(Finding::TimedOut))
}

/// The beginning of an answer, in quotes and on one line; what is no text is shown as `\xHH`.
fn excerpt(answer: &[u8]) -> String {
    let mut shown = String::from("\"");
    let mut room = SHOWN;
    for chunk in answer.utf8_chunks() {
        let text = chunk.valid().chars().map(|char| char.escape_debug().to_string());
        let bytes = chunk.invalid().iter().map(|byte| format!("\\x{byte:02x}"));
        for piece in text.chain(bytes) {
            if room == 0 {
                return shown + "\"…";
            }
            shown += &piece;
            room -= 1;
        }
    }
    shown + "\""
}
