//! What one kind of request is: how it is sent and which answer is right.
//!
//! A kind is plain data; [`super::spec`] reads it from text and [`super::Plan::validate`] checks it.

use std::time::Duration;

/// How a kind of request uses connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// A connection of its own, which the server is asked to close after the response.
    Close,
    /// A pool of connections that persist. The one used last is taken first; if none is free, one is opened.
    KeepAlive {
        /// Requests that one connection carries before it is closed, at least 1.
        requests: u32,
        /// How long a connection may lie idle before this side closes it.
        idle: Duration,
    },
}

/// What the body of a response must be, besides complete.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum BodyCheck {
    /// Anything.
    #[default]
    Any,
    /// It contains the request's id.
    Id,
    /// Its CRC-32 is the one that the response header `x-body-crc32` names.
    Crc32,
    /// The response headers `x-received-length` and `x-received-crc32` tell what was uploaded.
    Receipt,
}

/// What the response header `x-request-id` must be.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum IdCheck {
    /// The request's id, and it must be there.
    Required,
    /// The request's id if it is there.
    #[default]
    IfPresent,
    /// Anything.
    Ignored,
}

/// One kind of request of a mix.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequestKind {
    /// Names the kind in every report; 1 to 32 of `a-z`, `A-Z`, `0-9`, `_`, `-` and `.`; unique in a plan.
    pub name: String,
    /// The method, such as `GET`.
    pub method: String,
    /// Path and query, starting with `/`.
    pub path: String,
    /// Share of this kind in the mix relative to the other weights, 1 to 1,000,000.
    pub weight: u32,
    /// How it uses connections.
    pub mode: Mode,
    /// The status that is right for this kind, 200 to 599.
    pub expect: u16,
    /// Longest time from start to end; the plan's timeout if `None`.
    pub timeout: Option<Duration>,
    /// Bytes to send as a body; `None` sends no body at all.
    pub upload: Option<u64>,
    /// Bytes that the response's body must have.
    pub length: Option<u64>,
    /// What the response's body must be.
    pub check: BodyCheck,
    /// What the response's `x-request-id` must be.
    pub id: IdCheck,
    /// Whether the server logs the execution of this kind, so that a missing line is a lost execution.
    pub logged: bool,
}

impl RequestKind {
    /// A `GET` of `path` on a connection of its own that must be answered with status 200.
    pub fn get(name: &str, path: &str) -> Self {
        Self {
            name: name.to_owned(),
            method: "GET".to_owned(),
            path: path.to_owned(),
            weight: 1,
            mode: Mode::Close,
            expect: 200,
            timeout: None,
            upload: None,
            length: None,
            check: BodyCheck::Any,
            id: IdCheck::IfPresent,
            logged: true,
        }
    }
}
