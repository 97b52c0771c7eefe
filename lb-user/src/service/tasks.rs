//! The tasks that watch a backend and tell the runtime what they see.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::time::{MissedTickBehavior, interval};

use super::parts::BackendParts;
use super::spec::ServiceSpec;
use crate::check;
use crate::driver::process::{ProcessDriver, Tail};
use crate::names::BackendName;
use crate::net::netns::NetnsHandle;
use crate::probe;
use crate::recovery::{CutFlow, Input, Instance};

/// What a task has to tell.
pub(super) type Reporter = mpsc::Sender<Input>;

/// A check that takes longer than this has failed.
const CHECK_LIMIT: Duration = Duration::from_secs(1);
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
        Question::of(parts, spec, balancer),
        reporter.clone(),
    ));
    let period = Duration::from_millis(spec.probe_period_ms);
    tokio::spawn(probe_forever(name.clone(), parts.driver.clone(), period, reporter.clone(), sampled));
    tokio::spawn(show_output(name.clone(), parts.driver.tail()));
    samples
}

/// What a backend is asked, from where and how often.
struct Question {
    what: check::Check,
    balancer: Arc<NetnsHandle>,
    address: std::net::SocketAddrV4,
    period: Duration,
}

impl Question {
    fn of(parts: &BackendParts, spec: &ServiceSpec, balancer: &Arc<NetnsHandle>) -> Self {
        Self {
            what: spec.check.clone(),
            balancer: Arc::clone(balancer),
            address: parts.address,
            period: Duration::from_millis(spec.policy.check_period_ms),
        }
    }
}

async fn check_forever(backend: BackendName, driver: ProcessDriver, question: Question, reporter: Reporter) {
    let mut ticks = interval(question.period);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let Some(instance) = driver.alive() else { continue };
        let result = check::run(&question.what, &question.balancer, question.address, CHECK_LIMIT).await;
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

/// Ends a backend's processes, those that do not end within `grace` by force, and reports it with the flows
/// that this cut.
pub(super) async fn stop(
    backend: BackendName,
    driver: ProcessDriver,
    grace: Duration,
    cut: Vec<CutFlow>,
    reporter: Reporter,
) {
    let input = match driver.stop(grace).await {
        Ok(()) => Input::Stopped { backend, cut },
        Err(error) => Input::StartFailed { backend, error: error.to_string() },
    };
    let _ = reporter.send(input).await;
}
