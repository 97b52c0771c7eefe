//! The netns driver's network: three namespaces for one service on this host, made, verified, adopted and
//! removed.
//!
//! How it is laid out is drawn in [`topology`]; where it goes is decided in [`place`], purely; what each place
//! has to look like is listed in `wanted` and brought about in `settle`. "The host" is the network namespace
//! of the calling thread, so that a whole host can be played inside a namespace.

mod create;
mod firewall;
mod forwarding;
mod outcome;
pub mod place;
mod preflight;
mod remove;
mod resolv;
mod rooms;
mod settle;
mod state;
mod survey;
pub mod topology;
mod wanted;

pub use create::{adopt, create};
pub use outcome::{AdoptError, CreateError, Ready, RemoveError, Removed, StepError, Warning};
pub use preflight::{PreflightError, Problem, preflight};
pub use remove::remove;
pub use resolv::{NameService, resolv_conf_override};
pub use state::{StateError, load};
pub use survey::SurveyError;
pub use topology::{
    BACKENDS_ROOM, BackendSite, DEFAULT_POOL, End, Pair, Placement, Spec, Topology, backend_names,
};
