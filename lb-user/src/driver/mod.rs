//! How a backend's machine is made, started and restarted.

pub mod netns;
pub mod process;
