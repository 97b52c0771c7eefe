//! `baton check`: would this check pass?

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail};
use clap::Args;
use futures::future::join_all;
use serde::Serialize;
use tokio::time::sleep;

use super::out::{self, say};
use super::{UsageError, runtime};
use crate::check::{self, BodyPattern, Check, Target};
use crate::clock::Now;
use crate::names::{BackendName, ServiceName};
use crate::net::netns::NetnsHandle;
use crate::paths::Roots;
use crate::recovery::Finding;
use crate::service::{self, RegisteredBackend};

/// Checks a backend once or a few times and tells what it found.
///
/// With --service all backends of a service are asked, from where their clients' packets come, whether a
/// controller runs or not. With an address the check is made from here. Exit code 0 means that every check
/// passed.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  baton check 10.1.2.3:8443 --check https://shop.example/health --expires-in 30d
  baton check --service shop --count 10 --interval 200ms")]
pub(super) struct CheckArgs {
    /// Whom to check.
    #[arg(value_name = "IP:PORT", required_unless_present = "service", requires = "check")]
    address: Option<SocketAddr>,
    /// Check the backends of this service.
    #[arg(long, alias = "name", conflicts_with = "address")]
    service: Option<ServiceName>,
    /// How: `tcp`, `http:/PATH`, `http://HOST/PATH`, both with `https`, `udp:TEXT`, or `script:/PATH`
    /// [default: as the service is checked].
    #[arg(long)]
    check: Option<Check>,
    /// What the body of the answer, or the datagram, must match.
    #[arg(long, value_name = "REGEX")]
    answer: Option<BodyPattern>,
    /// PEM file with the authorities that an HTTPS check trusts [default: the system's].
    #[arg(long, value_name = "FILE")]
    ca_file: Option<PathBuf>,
    /// Take any certificate.
    #[arg(long)]
    insecure: bool,
    /// Fail if the certificate ends sooner than this, as `30d`.
    #[arg(long, value_name = "TIME", value_parser = humantime::parse_duration)]
    expires_in: Option<Duration>,
    /// How often to check.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    count: u32,
    /// Time between checks, from the end of one to the beginning of the next.
    #[arg(long, value_name = "TIME", default_value = "1s", value_parser = humantime::parse_duration)]
    interval: Duration,
    /// A check that takes longer has failed.
    #[arg(long, value_name = "TIME", default_value = "1s", value_parser = humantime::parse_duration)]
    timeout: Duration,
    /// Print one JSON object a line for each check.
    #[arg(long)]
    json: bool,
}

/// What is to be asked, of whom and from where.
struct Plan {
    check: Check,
    netns: NetnsHandle,
    targets: Vec<Target>,
}

/// One check and what came of it.
#[derive(Debug, Serialize)]
struct Outcome {
    /// When it began, in milliseconds since 1970-01-01 UTC.
    unix_ms: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    backend: Option<String>,
    address: SocketAddr,
    passed: bool,
    took_ms: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    finding: Option<Finding>,
}

impl CheckArgs {
    pub(super) fn run(self) -> Result<ExitCode> {
        let plan = self.plan()?;
        runtime()?.block_on(async {
            let end = super::told_to_end()?;
            // A check that is given up ends its script, which a signal to this process alone would not.
            tokio::select! {
                result = self.check_all(&plan) => result,
                () = end => Ok(ExitCode::FAILURE),
            }
        })
    }

    async fn check_all(&self, plan: &Plan) -> Result<ExitCode> {
        let (mut checks, mut passed) = (0_u64, 0_u64);
        for round in (0..self.count).take_while(|_| out::is_read()) {
            if round > 0 {
                sleep(self.interval).await;
            }
            for outcome in join_all(plan.targets.iter().map(|target| self.check_one(plan, target))).await {
                if self.json {
                    say!("{}", serde_json::to_string(&outcome)?);
                } else {
                    say!("{outcome}");
                }
                checks += 1;
                passed += u64::from(outcome.passed);
            }
        }
        if !self.json && checks > 1 {
            say!("{passed} of {checks} checks passed");
        }
        Ok(if passed == checks { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }

    async fn check_one(&self, plan: &Plan, target: &Target) -> Outcome {
        let unix_ms = Now::read().unix_ms;
        let begun = Instant::now();
        let result = check::run(&plan.check, &plan.netns, target.clone(), self.timeout).await;
        Outcome {
            unix_ms,
            backend: target.backend.as_ref().map(ToString::to_string),
            address: target.address,
            passed: result.is_ok(),
            took_ms: (begun.elapsed().as_secs_f64() * 1e6).round() / 1e3,
            finding: result.err(),
        }
    }

    fn plan(&self) -> Result<Plan> {
        match (&self.service, self.address, &self.check) {
            (Some(name), _, _) => self.plan_for(name),
            (None, Some(address), Some(check)) => Ok(Plan {
                check: self.refined(check.clone())?,
                netns: NetnsHandle::own()?,
                targets: vec![address.into()],
            }),
            // The command line's parser lets nothing else through.
            _ => bail!(UsageError("give an address and --check, or --service".to_owned())),
        }
    }

    /// The backends of a service, as its files name them; a controller is not needed for that.
    fn plan_for(&self, name: &ServiceName) -> Result<Plan> {
        super::require_root("entering the network of a service")?;
        let roots = Roots::default();
        let services = service::list(&roots)?;
        if !services.contains(name) {
            bail!(super::unknown_service(name, &services));
        }
        let gone = || anyhow!("service {name} has just gone");
        let paths = roots.service(name);
        let registration = service::load_registration(&paths)?.ok_or_else(gone)?;
        let target = |(backend, registered): (&BackendName, &RegisteredBackend)| Target {
            address: registered.address,
            service: Some(name.clone()),
            backend: Some(backend.clone()),
        };
        let netns = match &registration.plane {
            Some(_) => NetnsHandle::own()?,
            None => NetnsHandle::open(&paths.balancer_netns())
                .with_context(|| format!("service {name} has no network any more"))?,
        };
        let check = self.check.clone().unwrap_or(registration.check);
        let targets = registration.backends.iter().map(target).collect();
        Ok(Plan { check: self.refined(check)?, targets, netns })
    }

    /// The check with what the other flags ask for.
    fn refined(&self, mut check: Check) -> Result<Check> {
        let asks_tls = self.insecure || self.ca_file.is_some() || self.expires_in.is_some();
        match &mut check {
            Check::Http(http) => {
                http.body = self.answer.clone().or(http.body.take());
                match &mut http.tls {
                    Some(tls) => {
                        tls.verify &= !self.insecure;
                        tls.ca_file = self.ca_file.clone().or(tls.ca_file.take());
                        tls.expires_in = self.expires_in.or(tls.expires_in);
                    }
                    None if asks_tls => {
                        bail!(UsageError("certificates belong to an `https` check".to_owned()));
                    }
                    None => {}
                }
            }
            _ if asks_tls => bail!(UsageError("certificates belong to an `https` check".to_owned())),
            Check::Udp(udp) => udp.answer = self.answer.clone().or(udp.answer.take()),
            Check::Tcp | Check::Script(_) if self.answer.is_some() => {
                bail!(UsageError("--answer belongs to an `http`, `https` or `udp` check".to_owned()))
            }
            Check::Tcp | Check::Script(_) => {}
        }
        Ok(check)
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let at = std::time::UNIX_EPOCH + Duration::from_millis(self.unix_ms);
        write!(f, "{} ", humantime::format_rfc3339_millis(at))?;
        if let Some(backend) = &self.backend {
            write!(f, " {backend}")?;
        }
        write!(f, " {}  ", self.address)?;
        match &self.finding {
            None => write!(f, "passed in {:.1} ms", self.took_ms),
            Some(finding) => write!(f, "failed after {:.1} ms: {finding}", self.took_ms),
        }
    }
}
