//! The tasks that watch a backend and tell the runtime what they see.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::time::{MissedTickBehavior, interval, sleep};

use super::parts::BackendParts;
use super::spec::{STOP_GRACE, ServiceSpec};
use crate::check::{self, Judge, Target, Timing};
use crate::clock::Now;
use crate::driver::process::{ProcessDriver, Tail};
use crate::names::{BackendName, ServiceName};
use crate::net::netns::NetnsHandle;
use crate::probe;
use crate::recovery::{CutFlow, Finding, Input, Instance};

/// What a task has to tell.
pub(super) type Reporter = mpsc::Sender<Input>;

/// A check that takes longer than this has failed.
const CHECK_TIMEOUT_MS: u64 = 1000;
/// While it is undecided whether a backend answers, it is asked so many times as often.
const FAST_CHECKS: u64 = 2;
/// Keeps the checks of backends that were started together from falling into step, in percent.
const CHECK_JITTER_PERCENT: u8 = 10;
/// How often new output of the commands is looked for.
const OUTPUT_PERIOD: Duration = Duration::from_millis(100);

/// Starts the tasks that watch one backend; they end with the runtime. The receiver gets each sample.
pub(super) fn watch_backend(
    name: &BackendName,
    parts: &BackendParts,
    spec: &ServiceSpec,
    balancer: &Arc<NetnsHandle>,
    reporter: &Reporter,
) -> watch::Receiver<Option<probe::Sample>> {
    let (sampled, samples) = watch::channel(None);
    tokio::spawn(check_forever(
        name.clone(),
        parts.driver.clone(),
        Question::of(name, parts, spec, balancer),
        reporter.clone(),
    ));
    let period = Duration::from_millis(spec.probe_period_ms);
    tokio::spawn(probe_forever(name.clone(), parts.driver.clone(), period, reporter.clone(), sampled));
    tokio::spawn(show_output(name.clone(), parts.driver.tail()));
    samples
}

/// What a backend is asked, from where and when.
struct Question {
    what: check::Check,
    balancer: Arc<NetnsHandle>,
    target: Target,
    timing: Timing,
}

impl Question {
    fn of(name: &BackendName, parts: &BackendParts, spec: &ServiceSpec, balancer: &Arc<NetnsHandle>) -> Self {
        let target = Target {
            address: parts.address.into(),
            service: Some(spec.name.clone()),
            backend: Some(name.clone()),
        };
        let interval_ms = spec.policy.check_period_ms;
        let timing = Timing {
            interval_ms,
            fast_interval_ms: interval_ms / FAST_CHECKS,
            timeout_ms: CHECK_TIMEOUT_MS,
            jitter_percent: CHECK_JITTER_PERCENT,
            rise: spec.policy.rise,
            fall: spec.policy.fall,
            window: None,
        };
        Self { what: spec.check.clone(), balancer: Arc::clone(balancer), target, timing }
    }

    /// Differs between backends, and is the same at each start.
    fn seed(&self) -> u64 {
        let of = |name: Option<&str>| u64::from(crc32fast::hash(name.unwrap_or_default().as_bytes()));
        let Target { service, backend, .. } = &self.target;
        of(service.as_ref().map(ServiceName::as_str)) << 32 | of(backend.as_ref().map(BackendName::as_str))
    }
}

async fn check_forever(backend: BackendName, driver: ProcessDriver, question: Question, reporter: Reporter) {
    let mut judge = Judge::new(question.timing, question.seed());
    let limit = Duration::from_millis(question.timing.timeout_ms);
    let mut life = None;
    let mut next = judge.first(Now::read());
    loop {
        sleep(Duration::from_millis(next.ms_since(Now::read()))).await;
        let alive = driver.alive();
        if alive != life {
            judge.forget();
            life = alive;
        }
        let Some(instance) = alive else {
            next = Now::read().plus_ms(question.timing.fast_interval_ms.max(1));
            continue;
        };
        let target = question.target.clone();
        let result = check::run(&question.what, &question.balancer, target, limit).await;
        let now = Now::read();
        next = match &result {
            Err(Finding::Unchecked(_)) => judge.again(now),
            seen => {
                let judgement = judge.next(seen.is_ok(), now);
                if let Some(verdict) = judgement.change {
                    tracing::debug!(%backend, ?verdict, "the checks of a backend have come to a verdict");
                }
                judgement.next
            }
        };
        if reporter.send(Input::Checked { backend: backend.clone(), instance, result }).await.is_err() {
            return;
        }
    }
}

async fn probe_forever(
    backend: BackendName,
    driver: ProcessDriver,
    period: Duration,
    reporter: Reporter,
    sampled: watch::Sender<Option<probe::Sample>>,
) {
    let mut ticks = interval(period);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let Some(instance) = driver.alive() else {
            sampled.send_replace(None);
            continue;
        };
        let pids = driver.processes();
        let sample = probe::sample(&pids);
        sampled.send_replace(Some(sample));
        let memory_rss_bytes = sample.memory_rss_bytes;
        let input = Input::Sampled { backend: backend.clone(), instance, memory_rss_bytes };
        if reporter.send(input).await.is_err() {
            return;
        }
    }
}

/// Prints what a command prints, with the backend's name before each line.
async fn show_output(backend: BackendName, mut tail: Tail) {
    let mut ticks = interval(OUTPUT_PERIOD);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        for line in tail.lines() {
            println!("{backend} | {line}");
        }
    }
}

/// Starts a backend's command and reports how that went.
pub(super) async fn start(backend: BackendName, driver: ProcessDriver, reporter: Reporter) {
    let input = match driver.start().await {
        Ok(instance) => {
            watch_end(backend.clone(), driver, instance, reporter.clone());
            Input::Started { backend, instance }
        }
        Err(error) => Input::StartFailed { backend, error: error.to_string() },
    };
    // A runtime that has ended needs no report.
    let _ = reporter.send(input).await;
}

/// Reports the end of a life, whenever that comes.
pub(super) fn watch_end(backend: BackendName, driver: ProcessDriver, instance: Instance, reporter: Reporter) {
    tokio::spawn(async move {
        let status = driver.ended(instance).await;
        let _ = reporter.send(Input::Exited { backend, instance, status }).await;
    });
}

/// Ends a backend's processes and reports it with the flows that this cut.
pub(super) async fn stop(backend: BackendName, driver: ProcessDriver, cut: Vec<CutFlow>, reporter: Reporter) {
    let input = match driver.stop(STOP_GRACE).await {
        Ok(()) => Input::Stopped { backend, cut },
        Err(error) => Input::StartFailed { backend, error: error.to_string() },
    };
    let _ = reporter.send(input).await;
}
