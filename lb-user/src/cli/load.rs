//! `baton load`: sends requests at a fixed rate and tells whether one was lost.
//!
//! Exit code 0 if nothing was lost, 1 if something was or the run could not be done, 2 if what was asked for
//! makes no sense.

mod live;
mod outputs;

use std::io;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context;
use clap::{Args, ValueEnum};
use tokio::signal::unix::{SignalKind, signal};

use self::live::Live;
use self::outputs::Outputs;
use super::UsageError;
use crate::load::{
    Arrivals, Executions, Observer, Plan, Report, RequestKind, RunError, Stop, Url, run_until,
};

const LONG_ABOUT: &str = "\
Sends HTTP/1.1 requests at times that are fixed before the run, whatever becomes of the earlier ones, retries \
nothing, and records a cause for every failure.

A request kind is a list of key=value, separated by commas:
  name=NAME        names it in reports (needed)
  path=/PATH       default: the path of the URL
  method=METHOD    default: GET, or POST with upload
  weight=N         share in the mix, default 1
  mode=close       one request a connection (default)
  mode=keep-alive  connections persist: requests=N (default 100) each, closed after idle=TIME (default 5s)
  expect=STATUS    the status that is right, default 200
  timeout=TIME     default: --timeout
  upload=SIZE      sends a body, such as 64k or 8m
  length=SIZE      the response's body must have this length
  check=WHAT       any (default); id: the body contains the request's id; crc32: its checksum is that of the \
header x-body-crc32; receipt: x-received-length and x-received-crc32 tell what was uploaded
  id=WHAT          the response header x-request-id is: required, present (default: right if it is there) or \
ignored
  logged=yes|no    whether the server logs its executions, default yes

Interrupted once it stops sending and waits for what is outstanding; twice, it gives that up as well.

Exit code: 0 if nothing was lost, 1 if a request failed, was lost, doubled or given up, 2 for wrong usage.";

/// Send load at a fixed rate and tell whether a request was lost.
#[derive(Debug, Args)]
#[command(long_about = LONG_ABOUT)]
pub(super) struct LoadArgs {
    /// Where to send requests: `http://HOST[:PORT][/PATH]`.
    #[arg(long)]
    url: Url,
    /// Requests a second.
    #[arg(long, default_value_t = 100.0)]
    rate: f64,
    /// How long to send.
    #[arg(long, default_value = "10s", value_parser = humantime::parse_duration)]
    duration: Duration,
    /// How the times of requests are spread.
    #[arg(long, value_enum, default_value_t = ArrivalsArg::Constant)]
    arrivals: ArrivalsArg,
    /// Decides random times and the order of the mix.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// A kind of request, such as name=short,path=/work,weight=8,mode=close (repeatable; see --help).
    #[arg(long = "request", value_name = "KIND")]
    requests: Vec<String>,
    /// What to send to the path of the URL if no --request is given.
    #[arg(long, value_enum, default_value_t = Preset::Mixed, conflicts_with = "requests")]
    preset: Preset,
    /// Longest time from a request's start to its end.
    #[arg(long, default_value = "10s", value_parser = humantime::parse_duration)]
    timeout: Duration,
    /// Longest time to open a connection.
    #[arg(long, default_value = "3s", value_parser = humantime::parse_duration)]
    connect_timeout: Duration,
    /// Connections open at one time; a request that finds none free fails as `no_connection`.
    #[arg(long, default_value_t = 4000)]
    max_connections: usize,
    /// Threads that send.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u8).range(1..=16))]
    threads: u8,
    /// Names the run in every request's id [default: made of the time].
    #[arg(long, value_name = "ID")]
    run_id: Option<String>,
    /// The response header that names the backend.
    #[arg(long, default_value = "x-baton-backend", value_name = "NAME")]
    backend_header: String,
    /// A server's execution log, to find lost and doubled executions (repeatable).
    #[arg(long, value_name = "FILE")]
    executed: Vec<PathBuf>,
    /// Write the summary as JSON; `-` is standard output, without the table.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Write one row a second as CSV.
    #[arg(long, value_name = "FILE")]
    csv: Option<PathBuf>,
    /// Write one row a request as CSV.
    #[arg(long, value_name = "FILE")]
    requests_csv: Option<PathBuf>,
    /// Show nothing but the result.
    #[arg(long, short)]
    quiet: bool,
    /// Show progress as one JSON object a second on standard error.
    #[arg(long, conflicts_with = "quiet")]
    progress_json: bool,
}

/// How the times of requests are spread.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum ArrivalsArg {
    /// At equal distances.
    Constant,
    /// Independent of each other.
    Poisson,
}

/// A mix for those who name none.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum Preset {
    /// One request a connection.
    Close,
    /// A hundred requests a connection.
    KeepAlive,
    /// Both, equally often.
    Mixed,
}

impl Preset {
    fn specs(self) -> &'static [&'static str] {
        match self {
            Self::Close => &["name=close"],
            Self::KeepAlive => &["name=keep-alive,mode=keep-alive"],
            Self::Mixed => &["name=close", "name=keep-alive,mode=keep-alive"],
        }
    }
}

impl LoadArgs {
    /// Runs the load and prints what came of it.
    pub(super) fn run(self) -> anyhow::Result<ExitCode> {
        let checked = self.plan().and_then(|plan| Ok(plan.validate().map(|()| plan)?));
        let plan = checked.map_err(|error| UsageError(format!("{error:#}")))?;
        let plan = Plan { target: self.url.resolve()?, ..plan };
        let outputs = Outputs::create(&self)?;
        let mut live = Live::new(self.quiet, self.progress_json, plan.duration);
        let mut report = self.send(&plan, &mut live)?;
        live.finish();
        if !self.executed.is_empty() {
            let executions = Executions::read(&self.executed, &report)?;
            report.audit(&executions);
        }
        outputs.write(&report)?;
        Ok(if report.summary.is_clean() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }

    /// What was asked for, with an address that is not resolved yet.
    fn plan(&self) -> anyhow::Result<Plan> {
        let unresolved = ([0, 0, 0, 0], self.url.port).into();
        let mut plan = Plan::new(unresolved);
        plan.host.clone_from(&self.url.authority);
        plan.kinds = self.kinds()?;
        plan.rate = self.rate;
        plan.duration = self.duration;
        plan.arrivals = match self.arrivals {
            ArrivalsArg::Constant => Arrivals::Constant,
            ArrivalsArg::Poisson => Arrivals::Poisson,
        };
        plan.seed = self.seed;
        plan.timeout = self.timeout;
        plan.connect_timeout = self.connect_timeout;
        plan.max_connections = self.max_connections;
        plan.backend_header.clone_from(&self.backend_header);
        if let Some(run) = &self.run_id {
            plan.run.clone_from(run);
        }
        Ok(plan)
    }

    fn kinds(&self) -> anyhow::Result<Vec<RequestKind>> {
        let specs: Vec<&str> = match self.requests.as_slice() {
            [] => self.preset.specs().to_vec(),
            given => given.iter().map(String::as_str).collect(),
        };
        let parse = |spec: &str| {
            let mut kind: RequestKind = spec.parse().with_context(|| format!("--request `{spec}`"))?;
            if !spec.split(',').any(|part| part.trim_start().starts_with("path=")) {
                kind.path.clone_from(&self.url.path);
            }
            Ok(kind)
        };
        specs.into_iter().map(parse).collect()
    }

    /// Sends on a runtime of this command's own; the first signal ends the sending, the second the waiting.
    fn send(&self, plan: &Plan, live: &mut Live) -> anyhow::Result<Report> {
        let mut builder = match self.threads {
            1 => tokio::runtime::Builder::new_current_thread(),
            _ => tokio::runtime::Builder::new_multi_thread(),
        };
        if self.threads > 1 {
            builder.worker_threads(usize::from(self.threads));
        }
        let runtime = builder.enable_all().build().map_err(RunError::Runtime)?;
        let stop = Stop::new();
        Ok(runtime.block_on(async {
            tokio::spawn(stop_at_signals(stop.clone()));
            run_until(plan, live as &mut dyn Observer, &stop).await
        })?)
    }
}

async fn stop_at_signals(stop: Stop) -> io::Result<()> {
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    for end in [Stop::finish, Stop::abandon] {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
        end(&stop);
    }
    Ok(())
}
