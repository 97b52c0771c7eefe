//! What happens, step by step: packets, and what the controller does between them. Kept as JSON.

use lb_common::pool::Policy;
use lb_common::{BackendState, NextHop};
use serde::{Deserialize, Serialize};

use super::recipe::{Recipe, Who};
use super::world::{INGRESS, Site};

/// One thing that happens.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[expect(missing_docs, reason = "fields say what the steps' sentences say")]
pub enum Step {
    /// A frame comes in.
    Frame(Recipe),
    /// The service's flows go to this backend, old ones without entry to that one; places, or none.
    Steer { service: u16, active: Option<u8>, draining: Option<u8> },
    /// Its new flows are spread over these backends: place, weight, limit (0 for none).
    Spread { service: u16, policy: String, members: Vec<(u8, u16, u32)>, draining: Option<u8> },
    /// A backend is there, dead, or gone.
    State { service: u16, replica: u8, state: State },
    /// The path to a backend changes.
    Hop { service: u16, replica: u8, path: Path },
    /// The path to the clients changes.
    Uplink { service: u16, path: Path },
}

/// What becomes of a backend's packets ([`BackendState`]).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum State {
    /// It gets its flows.
    Present,
    /// Its flows are reset.
    Refused,
    /// Nobody is there.
    Absent,
}

impl From<State> for BackendState {
    fn from(state: State) -> Self {
        match state {
            State::Present => Self::Present,
            State::Refused => Self::Refused,
            State::Absent => Self::Absent,
        }
    }
}

/// Where frames go; each with the longest packet that passes, 0 if that is not known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Path {
    /// Out of another interface.
    Through(u16),
    /// Back out of the interface that they came in by.
    Back(u16),
    /// The stack has to find out.
    Unresolved(u16),
}

impl Path {
    /// The hop of this path, given the one that was set up.
    pub fn hop(self, good: NextHop) -> NextHop {
        match self {
            Self::Through(mtu) => NextHop { mtu, ..good },
            Self::Back(mtu) => NextHop { mtu, ifindex: INGRESS, ..good },
            Self::Unresolved(mtu) => NextHop { mtu, ..NextHop::default() },
        }
    }
}

/// A history: what is kept in a file.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct History {
    /// Why it is kept.
    pub what: String,
    /// What happens.
    pub steps: Vec<Step>,
}

impl Step {
    /// The service that it is about.
    pub fn service(&self) -> u16 {
        match self {
            Self::Frame(recipe) => recipe.service,
            Self::Steer { service, .. }
            | Self::Spread { service, .. }
            | Self::State { service, .. }
            | Self::Hop { service, .. }
            | Self::Uplink { service, .. } => *service,
        }
    }

    /// The client that it is about, if it is about one.
    pub fn client(&self) -> Option<u8> {
        match self {
            Self::Frame(recipe) => client_of(recipe),
            _ => None,
        }
    }
}

fn client_of(recipe: &Recipe) -> Option<u8> {
    let of = |who| match who {
        Who::Client(number) | Who::Pinned(number) | Who::Lent(number) => Some(number),
        _ => None,
    };
    let about = match &recipe.body {
        super::recipe::Body::Error { about, .. } => client_of(about),
        _ => None,
    };
    of(recipe.from).or(of(recipe.to)).or(about)
}

/// What brings a service to where every history begins: its first backend active, all there, all paths good.
pub fn beginning(site: &Site) -> Vec<Step> {
    let service = site.id;
    let mut steps = vec![
        Step::Steer { service, active: Some(0), draining: None },
        Step::Uplink { service, path: Path::Through(1500) },
    ];
    for replica in 0..site.replicas.len() as u8 {
        steps.push(Step::State { service, replica, state: State::Present });
        steps.push(Step::Hop { service, replica, path: Path::Through(1500) });
    }
    steps
}

/// The policy of this name; round robin if there is none.
pub fn policy(name: &str) -> Policy {
    Policy::from_name(name).filter(|policy| policy.has_pool()).unwrap_or(Policy::Rr)
}
