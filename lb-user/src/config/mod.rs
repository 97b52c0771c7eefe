//! `baton.toml`: text to a typed, validated [`Config`], with every finding at once and its place in the file.

mod finding;
mod types;

pub use finding::{Finding, Place, Severity};
pub use types::*;
