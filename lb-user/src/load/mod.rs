//! An open-loop HTTP/1.1 load generator that judges "nothing lost".
//!
//! Every request has an intended time that is fixed before the run. A request that starts late still counts
//! its latency from that time, so a server that stalls cannot hide the requests it kept from being sent
//! (coordinated omission). Nothing is ever retried, every request leaves one [`Record`], and every failure has
//! one [`Outcome`] as its cause.
//!
//! What a server does to be judged in full; all of it is optional unless a request kind asks for it:
//!
//! | header | direction | meaning |
//! |---|---|---|
//! | `x-request-id: RUN-N` | request | the id of this request |
//! | `x-request-id` | response | the same id; another one is [`Outcome::WrongId`] |
//! | `x-baton-backend` | response | who served it (the name of the header is an option) |
//! | `x-body-crc32` | both | CRC-32 (IEEE, as zlib's) of the whole body, 8 hexadecimal digits |
//! | `x-received-length`, `x-received-crc32` | response | what the server received as a body, decimal and hexadecimal |
//!
//! It also appends one line that starts with the id to a log whenever it executes a request; [`Executions`]
//! compares these logs with the records.
//!
//! ```no_run
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! use baton::load::{Plan, RequestKind, run};
//! let mut plan = Plan::new("10.77.0.1:8080".parse()?);
//! plan.kinds = vec!["name=short,path=/work,mode=close".parse::<RequestKind>()?];
//! let report = run(&plan, &mut ()).await?;
//! assert_eq!(report.summary.failed, 0);
//! # Ok(()) }
//! ```

mod attempt;
mod body;
mod collect;
mod connections;
mod engine;
mod exchange;
mod executed;
mod export;
mod framing;
mod kind;
mod latency;
mod limits;
mod outgoing;
mod pacer;
mod plan;
mod record;
mod response;
mod schedule;
mod spec;
mod stop;
mod summary;
mod table;
mod url;

#[cfg(test)]
mod tests;

pub use collect::Tick;
pub use connections::ConnectionCounts;
pub use engine::{Observer, Report, RunError, run, run_blocking, run_until};
pub use executed::{ExecutedError, Executions};
pub use export::{write_requests_csv, write_seconds_csv};
pub use kind::{BodyCheck, IdCheck, Mode, RequestKind};
pub use latency::Latency;
pub use limits::LimitError;
pub use plan::{Arrivals, Plan, PlanError};
pub use record::{Outcome, Record};
pub use schedule::{Arrival, schedule};
pub use spec::SpecError;
pub use stop::Stop;
pub use summary::{BackendSummary, Gap, KindSummary, Summary};
pub use table::render;
pub use url::{Url, UrlError};
