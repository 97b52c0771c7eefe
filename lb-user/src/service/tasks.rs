//! The tasks that watch a backend and tell the runtime what they see.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval, sleep, timeout};
use tokio_util::task::AbortOnDropHandle;

use super::definition::millis;
use super::parts::{BackendParts, Parts};
use super::watch::{CheckEnd, Seen, without_prober};
use crate::check::{self, Judge, Rule, Target, Timing};
use crate::clock::Now;
use crate::config;
use crate::driver::Driver;
use crate::driver::process::Tail;
use crate::names::{BackendName, ServiceName};
use crate::net::netns::NetnsHandle;
use crate::outlet;
use crate::probe;
use crate::recovery::{CutFlow, Finding, Input, Instance, Step};

/// What a task has to tell.
pub(super) type Reporter = mpsc::Sender<Input>;

/// Whom the tasks that watch a backend tell what they see.
#[derive(Clone, Copy)]
pub(super) struct Reporters<'r> {
    pub(super) inputs: &'r Reporter,
    pub(super) checks: &'r mpsc::Sender<Seen>,
}

/// Keeps the checks of backends that were started together from falling into step, in percent.
const CHECK_JITTER_PERCENT: u8 = 10;
/// How often new output of the commands is looked for.
const OUTPUT_PERIOD: Duration = Duration::from_millis(100);

/// Starts the tasks that watch all backends of a service, as [`watch_backend`] does for one.
pub(super) fn watch_all(
    parts: &Parts,
    service: &config::Service,
    reporters: Reporters<'_>,
    watchers: &mut JoinSet<()>,
) -> BTreeMap<BackendName, watch::Receiver<Option<probe::Sample>>> {
    let mut samples = BTreeMap::new();
    for (name, backend) in &parts.backends {
        let watched = watch_backend(name, backend, service, &parts.origin, reporters, watchers);
        samples.insert(name.clone(), watched);
    }
    samples
}

/// Starts the tasks that watch one backend; they end when `watchers` is dropped. The receiver gets each sample.
fn watch_backend(
    name: &BackendName,
    parts: &BackendParts,
    service: &config::Service,
    origin: &Arc<NetnsHandle>,
    reporters: Reporters<'_>,
    watchers: &mut JoinSet<()>,
) -> watch::Receiver<Option<probe::Sample>> {
    let (sampled, samples) = watch::channel(None);
    watchers.spawn(check_forever(
        name.clone(),
        parts.driver.clone(),
        Question::of(name, parts, service, origin),
        reporters.checks.clone(),
    ));
    if let Some(agent) = service.check.watch.agent {
        let (origin, checks) = (Arc::clone(origin), reporters.checks.clone());
        watchers.spawn(ask_agent_forever(name.clone(), agent, parts.address.ip(), origin, checks));
    }
    let period = service.rejuvenation.probe_interval;
    let reporter = reporters.inputs.clone();
    watchers.spawn(probe_forever(name.clone(), parts.driver.clone(), period, reporter, sampled));
    if let Some(tail) = parts.driver.tail() {
        watchers.spawn(show_output(name.clone(), tail));
    }
    samples
}

/// What a backend is asked, from where and when.
struct Question {
    what: check::Check,
    origin: Arc<NetnsHandle>,
    target: Target,
    timing: Timing,
}

impl Question {
    fn of(
        name: &BackendName,
        parts: &BackendParts,
        service: &config::Service,
        origin: &Arc<NetnsHandle>,
    ) -> Self {
        let target = Target {
            address: parts.address,
            service: Some(service.name.clone()),
            backend: Some(name.clone()),
        };
        let check = &service.check;
        let timing = Timing {
            interval_ms: millis(check.interval),
            fast_interval_ms: millis(check.fast_interval),
            timeout_ms: millis(check.timeout),
            jitter_percent: CHECK_JITTER_PERCENT,
            rule: Rule { rise: check.rise, fall: check.fall, window: check.watch.window },
        };
        Self { what: check.what.clone(), origin: Arc::clone(origin), target, timing }
    }

    /// Differs between backends, and is the same at each start.
    fn seed(&self) -> u64 {
        let of = |name: Option<&str>| u64::from(crc32fast::hash(name.unwrap_or_default().as_bytes()));
        let Target { service, backend, .. } = &self.target;
        of(service.as_ref().map(ServiceName::as_str)) << 32 | of(backend.as_ref().map(BackendName::as_str))
    }
}

async fn check_forever(
    backend: BackendName,
    driver: Driver,
    question: Question,
    reporter: mpsc::Sender<Seen>,
) {
    let mut judge = Judge::new(question.timing, question.seed());
    let limit = Duration::from_millis(question.timing.timeout_ms);
    let mut life = None;
    let mut next = judge.first(Now::read());
    loop {
        sleep(Duration::from_millis(next.ms_since(Now::read()))).await;
        let begun = Now::read();
        let late = Duration::from_millis(begun.ms_since(next));
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
        let result = check::run(&question.what, &question.origin, target, limit).await;
        let now = Now::read();
        let took = Duration::from_millis(now.ms_since(begun));
        let result = without_prober(result, late, took, limit);
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
        let end = CheckEnd { backend: backend.clone(), instance, result, took };
        if reporter.send(Seen::Check(end)).await.is_err() {
            return;
        }
    }
}

/// Asks the agent of a backend. One that does not answer, or nothing that means anything, changes nothing.
async fn ask_agent_forever(
    backend: BackendName,
    agent: config::Agent,
    address: IpAddr,
    origin: Arc<NetnsHandle>,
    reporter: mpsc::Sender<Seen>,
) {
    let mut trouble = None;
    loop {
        let asked = check::ask_agent(&origin, (address, agent.port).into(), agent.timeout).await;
        match asked {
            Ok(word) => {
                trouble = None;
                if reporter.send(Seen::Agent(backend.clone(), word)).await.is_err() {
                    return;
                }
            }
            Err(finding) => {
                // Said once for as long as it lasts.
                if trouble.as_ref() != Some(&finding) {
                    tracing::warn!(%backend, %finding, "the agent of a backend says nothing");
                }
                trouble = Some(finding);
            }
        }
        sleep(agent.interval).await;
    }
}

async fn probe_forever(
    backend: BackendName,
    driver: Driver,
    period: Duration,
    reporter: Reporter,
    sampled: watch::Sender<Option<probe::Sample>>,
) {
    let mut ticks = interval(period);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        driver.trim_output();
        let Some(instance) = driver.alive().filter(|instance| instance.is_known()) else {
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
            outlet::output().line(&format!("{backend} | {line}"));
        }
    }
}

/// Starts a backend's command and reports how that went.
pub(super) async fn start(backend: BackendName, driver: Driver, reporter: Reporter) {
    let input = match answered(driver.patience(), driver.start()).await {
        Ok(instance) => Input::Started { backend, instance },
        Err(error) => Input::StartFailed { backend, error },
    };
    // A runtime that has ended needs no report.
    let _ = reporter.send(input).await;
}

/// What an order came to, and if the driver never says so, that.
///
/// Each part of a driver's work has a time limit of its own. The coordinator waits for an answer for as long as it
/// takes, and the budget with it, so an error in a driver must not cost the answer.
async fn answered<T>(
    patience: Duration,
    order: impl Future<Output = Result<T, String>>,
) -> Result<T, String> {
    match timeout(patience, AssertUnwindSafe(order).catch_unwind()).await {
        Ok(Ok(result)) => result,
        Ok(Err(_)) => {
            Err("the driver has failed, as the log says; what became of the order is not known".into())
        }
        Err(_) => Err(format!("the driver has not answered for {patience:?}")),
    }
}

/// Reports the end of a life, whenever that comes, for as long as the handle is kept.
pub(super) fn watch_end(
    backend: BackendName,
    driver: Driver,
    instance: Instance,
    reporter: Reporter,
) -> AbortOnDropHandle<()> {
    AbortOnDropHandle::new(tokio::spawn(async move {
        let status = driver.ended(instance).await;
        let _ = reporter.send(Input::Exited { backend, instance, status }).await;
    }))
}

/// Ends a backend's processes by a step, one that asks politely within its grace, and reports it with the flows
/// that this cut.
pub(super) async fn stop(
    backend: BackendName,
    driver: Driver,
    (step, grace): (Step, Duration),
    cut: Vec<CutFlow>,
    reporter: Reporter,
) {
    let input = match answered(driver.patience(), driver.end(step, grace)).await {
        Ok(()) => Input::Stopped { backend, cut },
        Err(error) => Input::StartFailed { backend, error },
    };
    let _ = reporter.send(input).await;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn every_order_has_an_answer_also_when_the_driver_has_none() {
        let patience = Duration::from_mins(1);
        assert_eq!(answered(patience, async { Ok(7) }).await, Ok(7));
        assert_eq!(
            answered::<u8>(patience, async { Err("no such file".to_owned()) }).await.unwrap_err(),
            "no such file"
        );
        let silent = answered::<u8>(Duration::from_millis(5), std::future::pending()).await.unwrap_err();
        assert_eq!(silent, "the driver has not answered for 5ms");
        let broken = answered::<u8>(patience, async { panic!("a bug") }).await.unwrap_err();
        assert!(broken.starts_with("the driver has failed"), "{broken}");
    }
}
