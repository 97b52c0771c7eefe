//! Drivers: how the machine that a backend runs on is made, watched and restarted.

pub mod netns;
