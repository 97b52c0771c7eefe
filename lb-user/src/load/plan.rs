//! What a run is to do, as plain data, checked before anything is sent.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::time::Duration;

use thiserror::Error;

use super::kind::{Mode, RequestKind};
use crate::clock::Now;

/// A record is kept for every request until the run ends; this bounds the memory that they take (about 1 GB).
const MAX_REQUESTS: f64 = 5_000_000.0;
const MAX_CONNECTIONS: usize = 60_000;
const MAX_RATE: f64 = 1_000_000.0;
const MAX_WAIT: Duration = Duration::from_hours(24);

/// How the intended times of requests are spread.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Arrivals {
    /// At equal distances, the first at the start of the run.
    #[default]
    Constant,
    /// Independent of each other at the given mean rate, as those of many users are.
    Poisson,
}

/// Why a plan cannot be run.
#[derive(Debug, Error, PartialEq)]
pub enum PlanError {
    /// The mix is empty.
    #[error("the plan has no request kind: give at least one")]
    NoKind,
    /// Two kinds have one name.
    #[error("two request kinds are named `{0}`: give each a name of its own")]
    SameName(String),
    /// Keep-alive connections that carry nothing.
    #[error("request kind `{0}` has 0 requests a connection: use 1 or more")]
    NoRequests(String),
    /// The rate is not a sensible number.
    #[error("rate {0} is not allowed: use requests a second above 0 and up to {MAX_RATE}")]
    Rate(f64),
    /// A length of time is zero or beyond a day.
    #[error("{what} {value:?} is not allowed: use more than 0 and up to 24h")]
    Wait {
        /// Which one.
        what: &'static str,
        /// What was given.
        value: Duration,
    },
    /// More requests than can be recorded.
    #[error(
        "{0:.0} requests are more than the {MAX_REQUESTS:.0} that one run records: lower rate or duration"
    )]
    TooMany(f64),
    /// The bound on connections is not a sensible number.
    #[error("{0} connections at most is not allowed: use 1 to {MAX_CONNECTIONS}")]
    Connections(usize),
    /// The name of the run could not stand in a header.
    #[error("run id `{0}` is not allowed: use 1 to 64 of a-z, A-Z, 0-9, `_`, `-` and `.`")]
    Run(String),
    /// The name of the backend header is not one.
    #[error("`{0}` is not the name of a header: use letters, digits and `-`")]
    Header(String),
}

/// What a run is to do.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Where every connection goes.
    pub target: SocketAddr,
    /// What the `Host` header says.
    pub host: String,
    /// The mix; its order is the order of reports.
    pub kinds: Vec<RequestKind>,
    /// Mean requests a second over all kinds.
    pub rate: f64,
    /// How long requests are intended; those that are then outstanding are still waited for.
    pub duration: Duration,
    /// How the intended times are spread.
    pub arrivals: Arrivals,
    /// Decides Poisson's times and the order of the mix; the same seed gives the same run.
    pub seed: u64,
    /// Longest time from the start of a request to its end, unless its kind has its own.
    pub timeout: Duration,
    /// Longest time to open a connection; a kind's timeout bounds it as well.
    pub connect_timeout: Duration,
    /// Connections open at one time, idle ones included; a request that finds none is [`NoConnection`].
    ///
    /// [`NoConnection`]: super::Outcome::NoConnection
    pub max_connections: usize,
    /// Names this run in every request id, so that runs can share an execution log.
    pub run: String,
    /// The response header that names the backend.
    pub backend_header: String,
}

impl Plan {
    /// A hundred `GET /` a second for ten seconds to `target`; change the fields at will.
    pub fn new(target: SocketAddr) -> Self {
        Self {
            target,
            host: target.to_string(),
            kinds: vec![RequestKind::get("short", "/")],
            rate: 100.0,
            duration: Duration::from_secs(10),
            arrivals: Arrivals::Constant,
            seed: 1,
            timeout: Duration::from_secs(10),
            connect_timeout: Duration::from_secs(3),
            max_connections: 4000,
            run: format!("{:x}", Now::read().unix_ms),
            backend_header: "x-baton-backend".to_owned(),
        }
    }

    /// Checks everything that can be checked without sending anything; returns the first finding.
    pub fn validate(&self) -> Result<(), PlanError> {
        self.validate_kinds()?;
        if !(self.rate > 0.0 && self.rate <= MAX_RATE) {
            return Err(PlanError::Rate(self.rate));
        }
        let waits = [
            ("duration", self.duration),
            ("timeout", self.timeout),
            ("connect timeout", self.connect_timeout),
        ];
        for (what, value) in waits {
            if value.is_zero() || value > MAX_WAIT {
                return Err(PlanError::Wait { what, value });
            }
        }
        let requests = self.rate * self.duration.as_secs_f64();
        if requests > MAX_REQUESTS {
            return Err(PlanError::TooMany(requests));
        }
        if !(1..=MAX_CONNECTIONS).contains(&self.max_connections) {
            return Err(PlanError::Connections(self.max_connections));
        }
        let legal = |c: char| c.is_ascii_alphanumeric() || "_-.".contains(c);
        if !(1..=64).contains(&self.run.len()) || !self.run.chars().all(legal) {
            return Err(PlanError::Run(self.run.clone()));
        }
        let header = &self.backend_header;
        if header.is_empty() || !header.chars().all(|c| c.is_ascii_alphanumeric() || c == '-') {
            return Err(PlanError::Header(header.clone()));
        }
        Ok(())
    }

    fn validate_kinds(&self) -> Result<(), PlanError> {
        if self.kinds.is_empty() {
            return Err(PlanError::NoKind);
        }
        let mut names = BTreeSet::new();
        for kind in &self.kinds {
            if !names.insert(kind.name.as_str()) {
                return Err(PlanError::SameName(kind.name.clone()));
            }
            if matches!(kind.mode, Mode::KeepAlive { requests: 0, .. }) {
                return Err(PlanError::NoRequests(kind.name.clone()));
            }
            if let Some(value) = kind.timeout.filter(|wait| wait.is_zero() || *wait > MAX_WAIT) {
                return Err(PlanError::Wait { what: "timeout", value });
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_plan_can_be_run() {
        assert_eq!(Plan::new(([127, 0, 0, 1], 80).into()).validate(), Ok(()));
    }

    #[test]
    fn what_makes_no_sense_is_refused_before_anything_is_sent() {
        let refused = |change: fn(&mut Plan)| {
            let mut plan = Plan::new(([127, 0, 0, 1], 80).into());
            change(&mut plan);
            plan.validate().unwrap_err().to_string()
        };
        assert!(refused(|p| p.kinds.clear()).starts_with("the plan has no request kind"));
        assert!(refused(|p| p.kinds.push(RequestKind::get("short", "/"))).starts_with("two request kinds"));
        assert!(refused(|p| p.rate = f64::NAN).starts_with("rate NaN is not allowed"));
        assert!(refused(|p| p.rate = 1e6).starts_with("10000000 requests are more than the 5000000"));
        assert!(refused(|p| p.duration = Duration::ZERO).starts_with("duration 0ns is not allowed"));
        assert!(refused(|p| p.max_connections = 0).starts_with("0 connections at most"));
        assert!(refused(|p| p.run = "a b".into()).starts_with("run id `a b`"));
        assert!(refused(|p| p.backend_header = "a: b".into()).starts_with("`a: b` is not the name"));
    }
}
