//! What is made of the checks of a service beyond rows of results.

use std::time::Duration;

use crate::check::{SlowRule, Window};

/// What is made of checks that fail, or pass late.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Watch {
    /// Failures among the last checks that make a backend unfit although passes are among them.
    pub window: Option<Window>,
    /// Failed checks in a row that make it unfit while clients ask it in vain (1 or more).
    pub fall_ignored: u32,
    /// When a check that passed took too long; `None` means never.
    pub slow: Option<SlowRule>,
    /// How long one stays out that fails again and again.
    pub ejection: Ejection,
    /// Whether a backend that fails its checks is only spoken of.
    pub shadow: bool,
    /// Who is asked besides, if anybody.
    pub agent: Option<Agent>,
}

/// An agent on each backend's host that says how the backend is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Agent {
    /// Where it listens, at the backend's address.
    pub port: u16,
    /// Time from one answer to the next question.
    pub interval: Duration,
    /// An agent that takes longer has said nothing.
    pub timeout: Duration,
}

/// How long a backend stays out that fails its checks again and again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ejection {
    /// The first time it may come back as soon as it is ready; each further time it stays out so much longer.
    pub step: Duration,
    /// And never longer than this.
    pub most: Duration,
    /// Each time that it has been fit for so long, one of the times is forgotten.
    pub forget: Duration,
}

impl Default for Watch {
    fn default() -> Self {
        Self {
            window: None,
            fall_ignored: 2,
            slow: Some(SlowRule { factor: 5, least: Duration::from_millis(100) }),
            ejection: Ejection {
                step: Duration::from_secs(10),
                most: Duration::from_mins(5),
                forget: Duration::from_mins(10),
            },
            shadow: false,
            agent: None,
        }
    }
}
