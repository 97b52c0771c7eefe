//! The control socket: how commands reach the controller of a service, and what they get back.
//!
//! HTTP/1.1 with JSON over a Unix socket (`curl --unix-socket /run/baton/NAME/control.sock http://baton/v1/status`
//! works too). One controller serves one service, so no path names it.

pub mod client;
pub mod fleet;
pub mod server;
pub mod status;
