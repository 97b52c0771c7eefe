//! The loop: hear, decide, do.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::io;
use std::pin::pin;
use std::time::Duration;

use lb_common::BackendState;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};
use tokio_util::task::AbortOnDropHandle;

use super::UpError;
use super::budget::Purse;
use super::change::{Change, Settings};
use super::definition::STOP_GRACE;
use super::history::History;
use super::journaling;
use super::parts::Parts;
use super::tasks::{self, Reporter};
use super::watch::{Advice, Seen};
use crate::api::server::{Command, Operated, Served};
use crate::api::status::Done;
use crate::check::Paces;
use crate::clock::Now;
use crate::config;
use crate::names::{BackendName, ServiceName};
use crate::paths::ServicePaths;
use crate::probe::Sample;
use crate::recovery::event::Event;
use crate::recovery::journal::{Journal, Record};
use crate::recovery::{Coordinator, CutFlow, Input, Output, Policy, RequestId};

/// How often flows are counted while something drains.
const DRAIN_SCAN: Duration = Duration::from_millis(50);
/// How often flows are counted, aged and deadlines looked at otherwise.
const IDLE_SCAN: Duration = Duration::from_millis(500);
/// Reports of starts and stops that are under way are waited for this long when the controller ends.
const END_LIMIT: Duration = Duration::from_secs(10);
/// Inputs that may wait.
const QUEUE: usize = 256;

/// In which way a controller takes up a service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Start {
    /// It was there, with its flows and these backends.
    Adopted {
        /// Those that an earlier controller knew where they are now.
        known: BTreeSet<BackendName>,
    },
    /// It is new; a backend that does not come up is tried again.
    New,
    /// It is new, and comes up at once or not at all.
    MustComeUp,
}

/// Whom a runtime listens to.
pub(super) struct Heard {
    pub(super) commands: mpsc::Receiver<Command>,
    pub(super) changes: mpsc::Receiver<Box<Change>>,
}

/// A running controller.
pub(super) struct Runtime {
    pub(super) service: config::Service,
    pub(super) policy: Policy,
    pub(super) parts: Parts,
    pub(super) coordinator: Coordinator,
    pub(super) journal: Journal,
    pub(super) journal_failed_at: Option<Now>,
    pub(super) history: History,
    pub(super) samples: BTreeMap<BackendName, watch::Receiver<Option<Sample>>>,
    inputs: mpsc::Receiver<Input>,
    /// What is seen of the backends.
    checks: mpsc::Receiver<Seen>,
    pub(super) checked: mpsc::Sender<Seen>,
    /// What their agents have said.
    pub(super) advice: BTreeMap<BackendName, Advice>,
    /// How quick the backends usually are.
    pub(super) paces: Paces,
    pub(super) reporter: Reporter,
    /// What watches the backends, for as long as they are watched like this.
    pub(super) watchers: JoinSet<()>,
    /// What waits for the end of each life.
    pub(super) ends: BTreeMap<BackendName, AbortOnDropHandle<()>>,
    /// Starts and stops under way.
    actions: JoinSet<()>,
    /// The backends of these, until their report is heard.
    pub(super) ordered: BTreeSet<BackendName>,
    /// What the service is to become.
    changes: mpsc::Receiver<Box<Change>>,
    /// The same, if that has to wait.
    pub(super) change: Option<Box<Change>>,
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
        settings: Settings,
        parts: Parts,
        start: &Start,
        heard: Heard,
    ) -> Result<Self, UpError> {
        let Settings { service, policy, purse } = settings;
        let policy = parts.with_ladders(policy);
        let (journal, past) = Journal::open(&paths.journal());
        journaling::tell(&service.name, &paths.journal(), &past);
        if let Some(trouble) = past.trouble.as_ref().filter(|_| *start == Start::MustComeUp) {
            return Err(UpError::files(&paths.journal())(io::Error::other(trouble.clone())));
        }
        let now = Now::read();
        let mut history = History::open(&service.name, paths);
        if !matches!(start, Start::Adopted { .. }) {
            history.note(Event::ControllerStarted { adopted: false }, now);
        }
        let (coordinator, outputs) = first_step(&service.name, &policy, &parts, start, &past.records, now);
        let (reporter, inputs) = mpsc::channel(QUEUE);
        let (checked, checks) = mpsc::channel(QUEUE);
        let paces =
            Paces::new(service.check.watch.slow, 2 * policy.check_period_ms + policy.check_timeout_ms);
        let mut watchers = JoinSet::new();
        let reporters = tasks::Reporters { inputs: &reporter, checks: &checked };
        let samples = tasks::watch_all(&parts, &service, reporters, &mut watchers);
        let up_before = (*start == Start::MustComeUp).then(|| now.plus_ms(policy.ready_deadline_ms));
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
            checked,
            advice: BTreeMap::new(),
            paces,
            reporter,
            actions: JoinSet::new(),
            ordered: BTreeSet::new(),
            warm_ups: JoinSet::new(),
            watchers,
            ends: BTreeMap::new(),
            commands: heard.commands,
            changes: heard.changes,
            change: None,
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
        runtime.commit(outputs, past.trouble, now);
        if matches!(start, Start::Adopted { .. }) {
            // Weights and limits may be others than those that the tables were made with.
            runtime.parts.steer(runtime.coordinator.steering());
        }
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
        let mut ends_by = None;
        let mut scan_at = Instant::now();
        loop {
            tokio::select! {
                () = &mut end, if ends_by.is_none() => ends_by = Some(Instant::now() + END_LIMIT),
                Some(input) = self.inputs.recv() => {
                    self.check_first_start(&input)?;
                    self.refuse_survivors(&input);
                    self.forget_stopped(&input);
                    self.step(&input);
                    self.note_report(&input);
                }
                Some(seen) = self.checks.recv() => self.see(seen),
                Some(command) = self.commands.recv() => self.obey(command),
                Some(change) = self.changes.recv() => self.hear_change(change),
                Ok(()) = self.parts.hops.changed() => self.parts.refresh_hops()?,
                Some(_) = self.actions.join_next() => {}
                () = sleep_until(scan_at) => {
                    self.scan()?;
                    let period = if self.coordinator.wants_flows() { DRAIN_SCAN } else { IDLE_SCAN };
                    scan_at = Instant::now() + period;
                }
            }
            // An order whose report nobody heard would be given again by the next controller.
            if ends_by.is_some_and(|at| self.ordered.is_empty() || Instant::now() >= at) {
                self.history.note(Event::ControllerStopped, Now::read());
                return Ok(());
            }
            self.change_if_possible();
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

    /// A step, and those that the budget's answers to it are.
    pub(super) fn step(&mut self, input: &Input) {
        let now = Now::read();
        self.step_once(input, now);
        self.settle_with_budget(now);
    }

    /// One step, as [`Coordinator::step`] wants it: it counts only if its records are on disk.
    pub(super) fn step_once(&mut self, input: &Input, now: Now) {
        self.step_by(now, |coordinator| coordinator.step(now, input.clone()));
    }

    /// The same, of whatever changes the coordinator.
    pub(super) fn step_by(&mut self, now: Now, step: impl Fn(&mut Coordinator) -> Vec<Output>) {
        loop {
            let mut next = self.coordinator.clone();
            let outputs = step(&mut next);
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
                Err(error) => self.fail_journal(error.to_string(), now),
            }
        }
    }

    /// Carries out the outputs of the first step; what was not written down is found again in the kernel's
    /// steering.
    fn commit(&mut self, outputs: Vec<Output>, trouble: Option<String>, now: Now) {
        let written = match trouble {
            Some(trouble) => Err(trouble),
            None => self.journal.append(&records(&outputs)).map_err(|error| error.to_string()),
        };
        self.carry_out(outputs, now);
        if let Err(error) = written {
            self.fail_journal(error, now);
        }
    }

    pub(super) fn carry_out(&mut self, outputs: Vec<Output>, now: Now) {
        self.refuse_no_longer();
        self.forget_ended(&outputs);
        let ends = |output: &Output| match output {
            Output::Stop(name, _) => Some(name.clone()),
            _ => None,
        };
        let stopped: BTreeSet<_> = outputs.iter().filter_map(ends).collect();
        for output in outputs {
            match output {
                Output::Journal(_) => {}
                Output::Steer(steering) => self.parts.steer(&steering),
                Output::Start(name) => {
                    self.cuts.remove(&name);
                    if let Some(backend) = self.parts.backends.get(&name) {
                        self.parts.set_backend_state(&name, BackendState::Present);
                        let start = tasks::start(name.clone(), backend.driver.clone(), self.reporter.clone());
                        self.actions.spawn(start);
                        self.ordered.insert(name);
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
                        let stop =
                            tasks::stop(name.clone(), driver, (step, grace), cut, self.reporter.clone());
                        self.actions.spawn(stop);
                        self.ordered.insert(name);
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

    fn scan(&mut self) -> Result<(), UpError> {
        let now = Now::read();
        self.parts.plane.forget_expired(now);
        self.retry_journal(now)?;
        if self.coordinator.wants_flows() {
            self.report_flows();
        } else {
            self.step(&Input::Tick);
        }
        Ok(())
    }
}

/// The first step of a service's controller, by what is known of its backends.
fn first_step(
    service: &ServiceName,
    policy: &Policy,
    parts: &Parts,
    start: &Start,
    past: &[Record],
    now: Now,
) -> (Coordinator, Vec<Output>) {
    let (name, names) = (service.clone(), parts.names());
    let Start::Adopted { known } = start else {
        return Coordinator::new(name, policy.clone(), names, past, now);
    };
    let known: BTreeSet<_> = known.intersection(&names).cloned().collect();
    let alive = |name: &BackendName| parts.backends.get(name).and_then(|b| b.driver.alive());
    let alive = known.iter().map(|name| (name.clone(), alive(name))).collect();
    let (mut coordinator, mut outputs) =
        Coordinator::resume(name, policy.clone(), &alive, parts.steering(), past, now);
    // Of those that came into the configuration meanwhile nothing is known: one that runs is taken as it is.
    if known != names {
        outputs.extend(coordinator.change(policy.clone(), &names, &known, now));
    }
    (coordinator, outputs)
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
