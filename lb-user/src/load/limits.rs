//! Raises the process's limit of open files when a run needs more connections than it allows.

use nix::errno::Errno;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use thiserror::Error;

/// Descriptors that are not connections: the runtime's, standard streams, files to write, a caller's own.
const OTHER_FILES: u64 = 256;

/// Why a run cannot have its connections.
#[derive(Debug, Error)]
pub enum LimitError {
    /// The hard limit forbids it.
    #[error(
        "{needed} open files are needed but the hard limit is {hard}: lower the connections at most, or raise \
         the limit with `ulimit -Hn {needed}` as root"
    )]
    Hard {
        /// What the run needs.
        needed: u64,
        /// What this process may have.
        hard: u64,
    },
    /// The kernel refused to tell or to change the limit.
    #[error("cannot change the limit of open files: {0}; raise it with `ulimit -n` before the run")]
    System(#[from] Errno),
}

/// Makes room for so many connections. Returns the old and the new limit if it had to be raised.
pub(super) fn make_room(connections: usize) -> Result<Option<(u64, u64)>, LimitError> {
    let needed = connections as u64 + OTHER_FILES;
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    if soft >= needed {
        return Ok(None);
    }
    if hard < needed {
        return Err(LimitError::Hard { needed, hard });
    }
    setrlimit(Resource::RLIMIT_NOFILE, needed, hard)?;
    Ok(Some((soft, needed)))
}
