//! The loop: hear, decide, do.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::pin::pin;
use std::time::Duration;

use lb_common::BackendState;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};

use super::UpError;
use super::budget::Purse;
use super::definition::STOP_GRACE;
use super::history::History;
use super::parts::Parts;
use super::tasks::{self, Reporter};
use super::watch::{Advice, Seen};
use crate::api::server::{Command, Operated, Served};
use crate::api::status::Done;
use crate::check::Paces;
use crate::clock::Now;
use crate::config;
use crate::names::BackendName;
use crate::paths::ServicePaths;
use crate::probe::Sample;
use crate::recovery::event::Event;
use crate::recovery::journal::{Journal, Record};
use crate::recovery::{Coordinator, CutFlow, Input, Output, Policy, RequestId};

/// How often flows are counted while something drains.
const DRAIN_SCAN: Duration = Duration::from_millis(50);
/// How often flows are counted, aged and deadlines looked at otherwise.
const IDLE_SCAN: Duration = Duration::from_millis(500);
/// How often a journal that failed is tried again.
const JOURNAL_RETRY_MS: u64 = 1_000;
/// Inputs that may wait.
const QUEUE: usize = 256;

/// In which way a controller takes up a service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Start {
    /// It was there, with its flows.
    Adopted,
    /// It is new; a backend that does not come up is tried again.
    New,
    /// It is new, and comes up at once or not at all.
    MustComeUp,
}

/// A running controller.
pub(super) struct Runtime {
    pub(super) service: config::Service,
    pub(super) policy: Policy,
    pub(super) parts: Parts,
    pub(super) coordinator: Coordinator,
    journal: Journal,
    journal_failed_at: Option<Now>,
    history: History,
    pub(super) samples: BTreeMap<BackendName, watch::Receiver<Option<Sample>>>,
    inputs: mpsc::Receiver<Input>,
    /// What is seen of the backends.
    checks: mpsc::Receiver<Seen>,
    /// What their agents have said.
    pub(super) advice: BTreeMap<BackendName, Advice>,
    /// How quick the backends usually are.
    pub(super) paces: Paces,
    pub(super) reporter: Reporter,
    /// What watches the backends, for as long as the runtime is there.
    _watchers: JoinSet<()>,
    /// Starts and stops under way.
    actions: JoinSet<()>,
    /// Warm-ups under way.
    pub(super) warm_ups: JoinSet<()>,
    commands: mpsc::Receiver<Command>,
    /// The control socket.
    served: Option<Served>,
    pub(super) waiting: HashMap<RequestId, oneshot::Sender<Operated>>,
    pub(super) next_request: RequestId,
    /// Until the service has been up once, a command that fails ends the whole.
    pub(super) up_before: Option<Now>,
    /// The backends whose flows are refused, until they are stopped, and what was open there.
    pub(super) cuts: BTreeMap<BackendName, Vec<CutFlow>>,
    /// The dead whose processes are being killed: their sockets' own ends tell clients even sooner.
    pub(super) dying: BTreeSet<BackendName>,
    /// Hooks and diagnoses under way; they end with the runtime.
    pub(super) hooks: JoinSet<()>,
    /// Its share of the controller's budget, if there is one.
    pub(super) purse: Option<Purse>,
}

impl Runtime {
    /// Takes the first step of a service whose parts are there.
    pub(super) fn prepare(
        paths: &ServicePaths,
        service: config::Service,
        mut policy: Policy,
        parts: Parts,
        start: Start,
        commands: mpsc::Receiver<Command>,
        purse: Option<Purse>,
    ) -> Result<Self, UpError> {
        policy.ladders =
            parts.backends.iter().map(|(name, backend)| (name.clone(), backend.driver.ladder())).collect();
        let (journal, past) = Journal::open(&paths.journal()).map_err(UpError::files(&paths.journal()))?;
        if past.discarded > 0 {
            tracing::warn!(bytes = past.discarded, "the end of the journal was damaged and has been cut off");
        }
        let now = Now::read();
        let mut history = History::open(&service.name, paths);
        let (coordinator, outputs) = if start == Start::Adopted {
            let alive = parts.backends.iter().map(|(name, b)| (name.clone(), b.driver.alive())).collect();
            let name = service.name.clone();
            Coordinator::resume(name, policy.clone(), &alive, parts.steering(), &past.records, now)
        } else {
            history.note(Event::ControllerStarted { adopted: false }, now);
            let names = parts.backends.keys().cloned();
            Coordinator::new(service.name.clone(), policy.clone(), names, &past.records, now)
        };
        let (reporter, inputs) = mpsc::channel(QUEUE);
        let (checked, checks) = mpsc::channel(QUEUE);
        let paces =
            Paces::new(service.check.watch.slow, 2 * policy.check_period_ms + policy.check_timeout_ms);
        let mut watchers = JoinSet::new();
        let heard = tasks::Reporters { inputs: &reporter, checks: &checked };
        let samples = tasks::watch_all(&parts, &service, heard, &mut watchers);
        let up_before = (start == Start::MustComeUp).then(|| now.plus_ms(policy.ready_deadline_ms));
        let mut runtime = Self {
            service,
            policy,
            parts,
            coordinator,
            journal,
            journal_failed_at: None,
            history,
            samples,
            inputs,
            checks,
            advice: BTreeMap::new(),
            paces,
            reporter,
            actions: JoinSet::new(),
            warm_ups: JoinSet::new(),
            _watchers: watchers,
            commands,
            waiting: HashMap::new(),
            next_request: 0,
            up_before,
            served: None,
            cuts: BTreeMap::new(),
            dying: BTreeSet::new(),
            hooks: JoinSet::new(),
            purse,
        };
        runtime.watch_adopted();
        runtime.commit(outputs, now);
        runtime.settle_with_budget(now);
        Ok(runtime)
    }

    /// Keeps the control socket for as long as the runtime is there.
    pub(super) fn keep(&mut self, served: Served) {
        self.served = Some(served);
    }

    /// What outlives the runtime.
    pub(super) fn into_parts(self) -> Parts {
        self.parts
    }

    /// Serves until it is told to end.
    pub(super) async fn run(&mut self, end: impl Future<Output = ()>) -> Result<(), UpError> {
        let mut end = pin!(end);
        let mut scan_at = Instant::now();
        loop {
            tokio::select! {
                () = &mut end => {
                    self.history.note(Event::ControllerStopped, Now::read());
                    return Ok(());
                }
                Some(input) = self.inputs.recv() => {
                    self.check_first_start(&input)?;
                    self.refuse_survivors(&input);
                    self.forget_stopped(&input);
                    self.step(&input);
                }
                Some(seen) = self.checks.recv() => self.see(seen),
                Some(command) = self.commands.recv() => self.obey(command),
                Ok(()) = self.parts.hops.changed() => self.parts.refresh_hops()?,
                Some(_) = self.actions.join_next() => {}
                () = sleep_until(scan_at) => {
                    self.scan();
                    let period = if self.coordinator.wants_flows() { DRAIN_SCAN } else { IDLE_SCAN };
                    scan_at = Instant::now() + period;
                }
            }
            if self.coordinator.wants_flows() {
                scan_at = scan_at.min(Instant::now() + DRAIN_SCAN);
            }
            self.check_first_ready()?;
        }
    }

    /// Waits for starts and stops that are under way; each of them has its own deadline.
    pub(super) async fn settle(&mut self) {
        self.inputs.close();
        while self.actions.join_next().await.is_some() {}
    }

    fn watch_adopted(&self) {
        for (name, backend) in &self.parts.backends {
            if let Some(instance) = backend.driver.alive() {
                tasks::watch_end(name.clone(), backend.driver.clone(), instance, self.reporter.clone());
            }
        }
    }

    /// A step, and those that the budget's answers to it are.
    pub(super) fn step(&mut self, input: &Input) {
        let now = Now::read();
        self.step_once(input, now);
        self.settle_with_budget(now);
    }

    /// One step, as [`Coordinator::step`] wants it: it counts only if its records are on disk.
    pub(super) fn step_once(&mut self, input: &Input, now: Now) {
        loop {
            let mut next = self.coordinator.clone();
            let outputs = next.step(now, input.clone());
            match self.journal.append(&records(&outputs)) {
                Ok(()) => {
                    let handed_over =
                        outputs.iter().any(|o| matches!(o, Output::Event(Event::Handover { .. })));
                    self.coordinator = next;
                    self.carry_out(outputs, now);
                    if handed_over {
                        // What was open at the handover is known only now: short flows end at once.
                        self.parts.plane.forget_counts();
                        self.report_flows();
                    }
                    return;
                }
                Err(error) => {
                    self.journal_failed_at = Some(now);
                    let outputs = self.coordinator.step(now, Input::Journal(Err(error.to_string())));
                    self.carry_out(outputs, now);
                }
            }
        }
    }

    /// Carries out the outputs of a step that has no input.
    fn commit(&mut self, outputs: Vec<Output>, now: Now) {
        if let Err(error) = self.journal.append(&records(&outputs)) {
            tracing::error!(%error, "the journal cannot be written");
        }
        self.carry_out(outputs, now);
    }

    fn carry_out(&mut self, outputs: Vec<Output>, now: Now) {
        let ends = |output: &Output| match output {
            Output::Stop(name, _) => Some(name.clone()),
            _ => None,
        };
        let stopped: BTreeSet<_> = outputs.iter().filter_map(ends).collect();
        for output in outputs {
            match output {
                Output::Journal(_) => {}
                Output::Steer(steering) => {
                    // One that has to serve again after all is refused no longer.
                    for backend in &steering.active {
                        if self.cuts.remove(backend).is_some() {
                            self.parts.set_backend_state(backend, BackendState::Present);
                        }
                    }
                    self.parts.steer(&steering);
                }
                Output::Start(name) => {
                    if let Some(backend) = self.parts.backends.get(&name) {
                        self.parts.set_backend_state(&name, BackendState::Present);
                        let start = tasks::start(name.clone(), backend.driver.clone(), self.reporter.clone());
                        self.actions.spawn(start);
                    }
                }
                Output::Refuse(name) if stopped.contains(&name) && self.is_killed_at_once(&name) => {
                    let open = self.open_flows(&name);
                    self.cuts.insert(name.clone(), open);
                    self.dying.insert(name);
                }
                Output::Refuse(name) => drop(self.refuse_flows(&name)),
                Output::Stop(name, step) => {
                    // What has been refused has ended since.
                    let cut = self.cuts.get(&name).cloned().unwrap_or_else(|| self.open_flows(&name));
                    let grace = if self.dying.contains(&name) { Duration::ZERO } else { STOP_GRACE };
                    if let Some(backend) = self.parts.backends.get(&name) {
                        let driver = backend.driver.clone();
                        let stop = tasks::stop(name, driver, (step, grace), cut, self.reporter.clone());
                        self.actions.spawn(stop);
                    }
                }
                Output::WarmUp { backend, instance } => self.warm_up(backend, instance),
                Output::Event(event) => self.history.note(event, now),
                Output::Report(report) => self.history.keep(&report),
                Output::Answer { request, result } => {
                    if let Some(answer) = self.waiting.remove(&request) {
                        // Whoever asked may have gone.
                        let _ = answer.send(result.map(Done::with));
                    }
                }
                Output::Hook(call) => self.call_hooks(*call),
                Output::Diagnose { backend, reason } => self.diagnose(backend, &reason),
            }
        }
    }

    fn scan(&mut self) {
        let now = Now::read();
        self.parts.plane.forget_expired(now);
        self.retry_journal(now);
        if self.coordinator.wants_flows() {
            self.report_flows();
        } else {
            self.step(&Input::Tick);
        }
    }

    fn retry_journal(&mut self, now: Now) {
        let due = self.journal_failed_at.is_some_and(|at| now.ms_since(at) >= JOURNAL_RETRY_MS);
        if !due {
            return;
        }
        self.journal_failed_at = Some(now);
        if self.journal.probe().is_ok() {
            self.journal_failed_at = None;
            tracing::info!("the journal can be written again");
            self.step(&Input::Journal(Ok(())));
        }
    }

    fn obey(&mut self, command: Command) {
        match command {
            // Whoever asked may have gone.
            Command::Status(answer) => drop(answer.send(self.status())),
            Command::Events(answer) => drop(answer.send(self.history.follow())),
            Command::Operate { verb, how, answer } => self.operate(verb, how, answer),
        }
    }
}

fn records(outputs: &[Output]) -> Vec<Record> {
    outputs
        .iter()
        .filter_map(|output| match output {
            Output::Journal(record) => Some(record.clone()),
            _ => None,
        })
        .collect()
}
