//! How a backend is brought back, and who is told or asked.

use std::path::PathBuf;
use std::time::Duration;

use crate::recovery::hook::Phase;

/// How a backend is brought back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recovery {
    /// Recoveries that fail in a row before a backend is left alone while another one serves; 0 means never.
    pub quarantine_after: u32,
    /// Runs on the drained backend before it is stopped: program and arguments.
    pub diagnose: Option<Vec<String>>,
    /// How long that may take.
    pub diagnose_timeout: Duration,
    /// Rules ask hooks again so long after a veto.
    pub veto_retry: Duration,
    /// A drained backend is stopped so long after hooks were first asked about it, whatever they say.
    pub veto_limit: Duration,
}

/// Who is told of a phase, or asked before it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hook {
    /// When.
    pub on: Phase,
    /// How.
    pub action: HookAction,
    /// How long an attempt may take.
    pub timeout: Duration,
}

/// How a hook is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HookAction {
    /// A program with its arguments reads the document.
    Exec(Vec<String>),
    /// The document is posted.
    Webhook {
        /// Where: `http` or `https`, with a host.
        url: String,
        /// PEM file with the authorities that are trusted; the system's if not given.
        ca_file: Option<PathBuf>,
        /// Attempts after the first one.
        retries: u32,
    },
}

impl Hook {
    /// The longest time that it may take, its attempts and the waits between them included.
    pub fn limit(&self) -> Duration {
        match self.action {
            HookAction::Exec(_) => self.timeout,
            HookAction::Webhook { retries, .. } => {
                (self.timeout + Self::RETRY_WAIT).saturating_mul(retries.saturating_add(1))
            }
        }
    }

    /// Wait between the attempts of a webhook.
    pub const RETRY_WAIT: Duration = Duration::from_secs(1);
}
