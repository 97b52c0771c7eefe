//! What is known about one request when it is over.

use std::borrow::Cow;
use std::sync::Arc;

use nix::errno::Errno;

/// How a request ended. Everything but [`Outcome::Ok`] and [`Outcome::Abandoned`] is a failure.
///
/// A response that broke off is judged by how it broke off, whatever its status; a complete one by its status,
/// then its id, then its body.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Outcome {
    /// The expected answer, complete.
    Ok,
    /// A complete answer with another status than the expected one.
    Status(u16),
    /// The connection was refused.
    Refused,
    /// The connection was not established in time.
    ConnectTimeout,
    /// The connection was reset before any byte of the response.
    ResetBeforeFirstByte,
    /// The connection was reset after a part of the response.
    ResetMidResponse,
    /// The connection was closed before any byte of the response.
    EofBeforeFirstByte,
    /// The connection was closed after a part of the response.
    EofMidResponse,
    /// The response was not complete in time.
    Timeout,
    /// The response carries the id of another request, or none although the kind requires it.
    WrongId,
    /// The body is not what the kind expects.
    WrongBody,
    /// What came back is not HTTP/1.
    Malformed,
    /// As many connections were open as the plan allows; nothing was sent.
    NoConnection,
    /// Any other error of this side's system, by its number.
    Io(i32),
    /// Given up because the run was told to stop at once; neither answered nor failed.
    Abandoned,
}

impl Outcome {
    /// The name of this outcome in every report: `ok`, `http_503`, `reset_mid_response`, `io_ehostunreach`, ….
    pub fn cause(self) -> Cow<'static, str> {
        Cow::Borrowed(match self {
            Self::Ok => "ok",
            Self::Status(status) => return Cow::Owned(format!("http_{status}")),
            Self::Refused => "refused",
            Self::ConnectTimeout => "connect_timeout",
            Self::ResetBeforeFirstByte => "reset_before_first_byte",
            Self::ResetMidResponse => "reset_mid_response",
            Self::EofBeforeFirstByte => "eof_before_first_byte",
            Self::EofMidResponse => "eof_mid_response",
            Self::Timeout => "timeout",
            Self::WrongId => "wrong_id",
            Self::WrongBody => "wrong_body",
            Self::Malformed => "malformed",
            Self::NoConnection => "no_connection",
            Self::Io(number) => {
                return Cow::Owned(format!("io_{:?}", Errno::from_raw(number)).to_ascii_lowercase());
            }
            Self::Abandoned => "abandoned",
        })
    }

    /// Whether the request was lost to its user.
    pub fn is_failure(self) -> bool {
        !matches!(self, Self::Ok | Self::Abandoned)
    }
}

/// One request. Times are microseconds since the start of the run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// Its place in the schedule; its id is `RUN-number`.
    pub number: u64,
    /// Index of its kind in the plan.
    pub kind: u16,
    /// When it was intended to start.
    pub intended_us: u64,
    /// When it did start: before it looked for a connection.
    pub start_us: u64,
    /// When its connection was established; `None` if it used an open one or got none.
    pub connected_us: Option<u64>,
    /// When the first byte of the response arrived.
    pub first_byte_us: Option<u64>,
    /// When its outcome was known.
    pub end_us: u64,
    /// How it ended.
    pub outcome: Outcome,
    /// The status of the response, as soon as there was one, whatever the outcome.
    pub status: Option<u16>,
    /// Who served it, by the response's header.
    pub backend: Option<Arc<str>>,
    /// Bytes of the response's body that arrived.
    pub body_bytes: u64,
    /// The connection that carried it, numbered from 1 within the run.
    pub connection: Option<u64>,
    /// This side's port of that connection, so that a record can be found in a packet trace or drain report.
    pub local_port: Option<u16>,
}

impl Record {
    /// Latency as a user sees it: from the intended time, lateness of this side included.
    pub fn corrected_us(&self) -> u64 {
        self.end_us.saturating_sub(self.intended_us)
    }

    /// Latency from the actual start.
    pub fn uncorrected_us(&self) -> u64 {
        self.end_us.saturating_sub(self.start_us)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn causes_are_names_that_a_report_can_group_by() {
        assert_eq!(Outcome::Status(503).cause(), "http_503");
        assert_eq!(Outcome::Io(Errno::EHOSTUNREACH as i32).cause(), "io_ehostunreach");
        assert_eq!(Outcome::ResetMidResponse.cause(), "reset_mid_response");
    }
}
