//! `baton up`: a service on this machine, without a configuration file.

use std::collections::BTreeMap;
use std::env;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use clap::Args;
use ipnet::Ipv4Net;
use lb_common::bucket::FLOWS;
use lb_common::{Forwarding, pool};

use super::{UsageError, runtime};
use crate::check::Check;
use crate::config::{
    self, Backend, Ceiling, DeadFlows, Drain, Driver, Process, Protocol, Recovery, Rejuvenation,
    ServiceCheck, Stragglers, Tracking, UdpDrain, Watch,
};
use crate::dataplane::{FlowTimeouts, Mode};
use crate::driver::netns::{DEFAULT_POOL, backend_names};
use crate::names::ServiceName;
use crate::paths::Roots;
use crate::recovery::Policy;
use crate::service::{self, OwnNetwork};

/// A limit below this could not even hold the dynamic linker.
const MEMORY_MIN: u64 = 4 << 20;
/// A check that takes longer than this has failed.
const CHECK_LIMIT: Duration = Duration::from_secs(1);
/// Samples come no faster than this.
const PROBE_PERIOD_MIN: Duration = Duration::from_millis(100);

/// Runs a command twice behind one address, and renews the one that ages before it fails.
///
/// The command is started in two network namespaces of its own; it listens on its port there, on all
/// addresses. Clients on this host and on others reach the one that is active at the VIP. When its memory
/// crosses the ceiling, new connections go to the other one, the old one finishes what it has, and is then
/// restarted. Ctrl-C takes all of it down; a controller that is killed leaves the service running, and the
/// same command adopts it.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  baton up --vip 10.77.0.1:8080 --memory-max 512M -- ./server --port 8080")]
pub(super) struct UpArgs {
    /// Address and port for clients; the address must belong to no machine.
    #[arg(long, value_name = "IP:PORT")]
    vip: SocketAddrV4,
    /// Name of the service [default: the command's].
    #[arg(long)]
    name: Option<ServiceName>,
    /// Port that the command listens on [default: the VIP's].
    #[arg(long, value_parser = clap::value_parser!(u16).range(1..))]
    port: Option<u16>,
    /// Memory limit of each of the two, as 512M or 2G, enforced by a cgroup [default: none].
    #[arg(long, value_name = "SIZE", value_parser = parse_size)]
    memory_max: Option<u64>,
    /// Share of the limit beyond which the active one is renewed; without --memory-max, of the machine's memory.
    #[arg(long, value_name = "PERCENT", default_value_t = 50, value_parser = clap::value_parser!(u8).range(1..=100))]
    ceiling: u8,
    /// Time between samples of memory, 100ms or more.
    #[arg(long, value_name = "TIME", default_value = "5s", value_parser = humantime::parse_duration)]
    probe_period: Duration,
    /// How readiness is checked: `tcp`; `http:/PATH` or `http://HOST/PATH` for a GET that must be answered with
    /// 200 to 399; the same with `https`; `udp:TEXT`; `script:/PATH` (see `docs/checks.md`).
    #[arg(long, default_value = "tcp")]
    check: Check,
    /// Time between checks.
    #[arg(long, value_name = "TIME", default_value = "250ms", value_parser = humantime::parse_duration)]
    check_period: Duration,
    /// How long the two may take to become ready.
    #[arg(long, value_name = "TIME", default_value = "60s", value_parser = humantime::parse_duration)]
    ready_timeout: Duration,
    /// How long connections may take to end by themselves before they are cut.
    #[arg(long, value_name = "TIME", default_value = "60s", value_parser = humantime::parse_duration)]
    drain_deadline: Duration,
    /// Whether connections of a backend that is dead are reset at their next packet, or left to find out by
    /// themselves.
    #[arg(long, value_enum, default_value_t)]
    dead_flows: DeadFlows,
    /// Run the XDP program in the driver, or in the stack.
    #[arg(long, value_enum, default_value_t)]
    mode: Mode,
    /// Flows that the table is made for, as `1_000_000`: 1,024 to 16,777,216, rounded up to a power of two,
    /// 96 bytes of memory each
    /// [default: by the machine's memory, 65,536 to 1,048,576].
    #[arg(long, value_name = "FLOWS", value_parser = parse_flows)]
    flow_table: Option<u32>,
    /// Network that the service's own addresses are taken from, a /28 for each service.
    #[arg(long, value_name = "CIDR", default_value_t = DEFAULT_POOL)]
    subnet: Ipv4Net,
    /// File that the command sees as /etc/resolv.conf [default: the host's, or what stands behind it].
    #[arg(long, value_name = "FILE")]
    resolv_conf: Option<PathBuf>,
    /// The command and its arguments.
    #[arg(last = true, required = true, value_name = "COMMAND")]
    command: Vec<String>,
}

impl UpArgs {
    pub(super) fn run(self) -> Result<ExitCode> {
        super::require_root("making namespaces and attaching XDP programs")?;
        let (service, network) = self.into_service()?;
        let served = runtime()?.block_on(async {
            let end = super::told_to_end()?;
            anyhow::Ok(service::up(&Roots::default(), service, network, end).await)
        });
        match served? {
            Ok(()) => Ok(ExitCode::SUCCESS),
            Err(error) if error.is_usage() => Err(UsageError(error.to_string()).into()),
            Err(error) => Err(error.into()),
        }
    }

    fn into_service(self) -> Result<(config::Service, OwnNetwork)> {
        let name = match self.name.clone() {
            Some(name) => name,
            None => name_of(&self.command[0])?,
        };
        self.ensure_sound()?;
        let process = Process {
            command: self.command,
            directory: env::current_dir().context("the current directory cannot be read")?,
            environment: BTreeMap::new(),
            memory_max: self.memory_max,
        };
        let everywhere = Ipv4Addr::UNSPECIFIED;
        let backend = |name| Backend {
            name,
            address: (everywhere, self.port.unwrap_or(self.vip.port())).into(),
            weight: 1,
            max_flows: None,
            driver: Driver::Process(process.clone()),
            host: None,
        };
        let policy = Policy::default();
        let service = config::Service {
            name,
            vip: self.vip.into(),
            protocol: Protocol::Tcp,
            forwarding: Forwarding::Nat,
            snat_ports: None,
            policy: pool::Policy::ActiveStandby,
            affinity: None,
            udp_drain: UdpDrain::default(),
            tracking: Tracking::default(),
            dead_flows: self.dead_flows,
            memory_limit: self.memory_max,
            check: ServiceCheck {
                what: self.check,
                interval: self.check_period,
                fast_interval: self.check_period / 2,
                timeout: CHECK_LIMIT,
                rise: policy.rise,
                fall: policy.fall,
                watch: Watch::default(),
            },
            drain: Drain {
                deadline: self.drain_deadline,
                settle: Duration::from_millis(policy.settle_ms),
                stragglers: Stragglers::default(),
            },
            rejuvenation: rejuvenation(&policy, self.ceiling, self.probe_period, self.ready_timeout),
            warm_up: None,
            backends: backend_names().into_iter().map(backend).collect(),
            recovery: recovery(&policy),
            hooks: Vec::new(),
            min_active: None,
        };
        let network = OwnNetwork {
            mode: self.mode,
            pool: self.subnet,
            resolv_conf: self.resolv_conf,
            timeouts: FlowTimeouts::default(),
            flow_table: self.flow_table,
        };
        Ok((service, network))
    }

    /// An error if settings cannot work together, or on this machine.
    fn ensure_sound(&self) -> Result<()> {
        if self.vip.port() == 0 {
            return usage("--vip needs a port from 1 to 65535");
        }
        if self.probe_period < PROBE_PERIOD_MIN {
            return usage("--probe-period must be 100ms or more");
        }
        if self.check_period < Duration::from_millis(10) {
            return usage("--check-period must be 10ms or more");
        }
        let total = machine_memory()?;
        if let Some(limit) = self.memory_max {
            let mib = |bytes: u64| bytes >> 20;
            if limit < MEMORY_MIN {
                return usage(&format!(
                    "--memory-max {limit} bytes is too little for any command: give at least {} MiB, as `{}M`",
                    mib(MEMORY_MIN),
                    mib(MEMORY_MIN)
                ));
            }
            if limit > total {
                return usage(&format!(
                    "--memory-max {} MiB is more than this machine has ({} MiB): a limit that cannot be reached protects nothing",
                    mib(limit),
                    mib(total)
                ));
            }
        }
        Ok(())
    }
}

/// How backends are brought back, as the policy has it.
fn recovery(policy: &Policy) -> Recovery {
    Recovery {
        quarantine_after: policy.quarantine_after,
        diagnose: None,
        diagnose_timeout: Duration::ZERO,
        veto_retry: Duration::from_millis(policy.veto_retry_ms),
        veto_limit: Duration::from_millis(policy.veto_limit_ms),
    }
}

/// When backends are renewed: by the default rules, but for what flags say.
fn rejuvenation(
    policy: &Policy,
    ceiling_percent: u8,
    probe_interval: Duration,
    ready_timeout: Duration,
) -> Rejuvenation {
    Rejuvenation {
        ceiling: Ceiling::Percent(ceiling_percent),
        ceiling_hits: policy.ceiling_hits,
        ceiling_window: policy.ceiling_window,
        ceiling_shadow: policy.shadow.ceiling,
        probe_interval,
        cooldown: Duration::from_millis(policy.cooldown_ms),
        min_uptime: Duration::from_millis(policy.min_uptime_ms),
        observation: Duration::from_millis(policy.observation_ms),
        ready_timeout,
        retry: Duration::from_millis(policy.retry_ms),
        max_age: None,
        jitter: policy.jitter,
        windows: Vec::new(),
        ceiling_breaks_window: policy.ceiling_breaks_window,
    }
}

fn usage<T>(message: &str) -> Result<T> {
    Err(UsageError(message.to_owned()).into())
}

fn machine_memory() -> Result<u64> {
    use procfs::Current;
    Ok(procfs::Meminfo::current().context("/proc/meminfo cannot be read")?.mem_total)
}

fn parse_size(text: &str) -> Result<u64, String> {
    parse_size::Config::new()
        .with_binary()
        .parse_size(text)
        .map_err(|error| format!("{error}: give a size such as 512M or 2G"))
}

/// A number of flows; underscores part its digits as the reader likes.
fn parse_flows(text: &str) -> Result<u32, String> {
    let digits: String = text.chars().filter(|c| *c != '_').collect();
    let flows = digits.parse().ok().filter(|flows| FLOWS.contains(flows));
    flows.ok_or_else(|| format!("give a number from {} to {}, such as 1_000_000", FLOWS.start(), FLOWS.end()))
}

/// A service's name made of its command's.
fn name_of(program: &str) -> Result<ServiceName> {
    let stem = std::path::Path::new(program).file_stem().and_then(|stem| stem.to_str()).unwrap_or_default();
    let legal = |c: char| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '-' };
    let name: String = stem.chars().map(legal).take(32).collect();
    match name.trim_matches('-').parse() {
        Ok(name) => Ok(name),
        Err(_) => {
            bail!(UsageError(format!("`{program}` yields no name for the service: give one with --name")))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_service_is_named_after_its_command() {
        assert_eq!(name_of("/usr/bin/My_Server.py").unwrap().as_str(), "my-server");
        assert!(name_of("/opt/123").is_err());
    }

    #[test]
    fn a_number_of_flows_may_have_underscores_and_has_bounds() {
        assert_eq!(parse_flows("1_000_000"), Ok(1_000_000));
        assert_eq!(parse_flows("1024"), Ok(1024));
        for bad in ["1023", "16_777_217", "", "_", "-5000", "1M", "99999999999"] {
            assert!(parse_flows(bad).unwrap_err().contains("1024 to 16777216"), "{bad}");
        }
        const { assert!(lb_common::bucket::BYTES_PER_FLOW == 96) };
    }

    #[test]
    fn sizes_are_binary_as_operators_of_linux_expect() {
        assert_eq!(parse_size("512M"), Ok(512 << 20));
        assert_eq!(parse_size("2GiB"), Ok(2 << 30));
        assert!(parse_size("lots").is_err());
    }
}
