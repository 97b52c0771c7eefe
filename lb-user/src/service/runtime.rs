//! The loop: hear, decide, do.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::Duration;

use lb_common::{BackendState, FlowState};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};

use super::UpError;
use super::history::History;
use super::parts::Parts;
use super::spec::{self, ServiceSpec};
use super::tasks::{self, Reporter};
use crate::api::server::{Command, Operated};
use crate::api::status::{Cut, Done};
use crate::clock::Now;
use crate::names::BackendName;
use crate::paths::{Roots, ServicePaths};
use crate::probe::Sample;
use crate::recovery::event::Event;
use crate::recovery::journal::{Journal, Record};
use crate::recovery::{Coordinator, CutFlow, Input, Output, RequestId};

/// How often flows are counted while something drains.
const DRAIN_SCAN: Duration = Duration::from_millis(50);
/// How often flows are counted, aged and deadlines looked at otherwise.
const IDLE_SCAN: Duration = Duration::from_millis(500);
/// How often silent flows are forgotten.
const FORGET_PERIOD_MS: u64 = 2_000;
/// How often a journal that failed is tried again.
const JOURNAL_RETRY_MS: u64 = 1_000;
/// Inputs that may wait.
const QUEUE: usize = 256;

/// A running controller.
pub(super) struct Runtime {
    pub(super) spec: ServiceSpec,
    pub(super) parts: Parts,
    pub(super) coordinator: Coordinator,
    journal: Journal,
    journal_failed_at: Option<Now>,
    history: History,
    pub(super) samples: BTreeMap<BackendName, watch::Receiver<Option<Sample>>>,
    inputs: mpsc::Receiver<Input>,
    reporter: Reporter,
    /// Starts and stops under way.
    actions: JoinSet<()>,
    commands: mpsc::Receiver<Command>,
    pub(super) waiting: HashMap<RequestId, oneshot::Sender<Operated>>,
    pub(super) next_request: RequestId,
    forgot_at: Now,
    /// Until the service has been up once, a command that fails ends the whole.
    pub(super) up_before: Option<Now>,
    /// The backends whose flows are refused, until they are stopped, and what was open there.
    cuts: BTreeMap<BackendName, Vec<CutFlow>>,
    /// The dead whose processes are being killed: their sockets' own ends tell clients even sooner.
    dying: BTreeSet<BackendName>,
}

impl Runtime {
    /// Makes or adopts all parts and takes the first step.
    pub(super) async fn prepare(
        roots: &Roots,
        paths: &ServicePaths,
        mut spec: ServiceSpec,
        adopting: bool,
        commands: mpsc::Receiver<Command>,
    ) -> Result<Self, UpError> {
        let parts = Parts::open(roots, paths, &mut spec, adopting).await?;
        spec::store(paths, &spec)?;
        let (journal, past) = Journal::open(&paths.journal()).map_err(UpError::files(&paths.journal()))?;
        if past.discarded > 0 {
            tracing::warn!(bytes = past.discarded, "the end of the journal was damaged and has been cut off");
        }
        let now = Now::read();
        let mut history = History::open(&spec.name, paths);
        let (coordinator, outputs) = if adopting {
            let alive = parts.backends.iter().map(|(name, b)| (name.clone(), b.driver.alive())).collect();
            let (name, policy) = (spec.name.clone(), spec.policy.clone());
            Coordinator::resume(name, policy, &alive, parts.steering(), &past.records, now)
        } else {
            history.note(Event::ControllerStarted { adopted: false }, now);
            let names = parts.backends.keys().cloned();
            Coordinator::new(spec.name.clone(), spec.policy.clone(), names, &past.records, now)
        };
        let (reporter, inputs) = mpsc::channel(QUEUE);
        let samples = parts
            .backends
            .iter()
            .map(|(name, backend)| {
                (name.clone(), tasks::watch_backend(name, backend, &spec, &parts.balancer, &reporter))
            })
            .collect();
        let up_before = (!adopting).then(|| now.plus_ms(spec.policy.ready_deadline_ms));
        let mut runtime = Self {
            spec,
            parts,
            coordinator,
            journal,
            journal_failed_at: None,
            history,
            samples,
            inputs,
            reporter,
            actions: JoinSet::new(),
            commands,
            waiting: HashMap::new(),
            next_request: 0,
            forgot_at: now,
            up_before,
            cuts: BTreeMap::new(),
            dying: BTreeSet::new(),
        };
        runtime.watch_adopted();
        runtime.commit(outputs, now);
        Ok(runtime)
    }

    /// Serves until a signal comes; [`UpError::Ended`] is the good end.
    pub(super) async fn run(&mut self) -> Result<(), UpError> {
        let mut terminate = listen(SignalKind::terminate())?;
        let mut interrupt = listen(SignalKind::interrupt())?;
        let mut scan_at = Instant::now();
        loop {
            tokio::select! {
                _ = terminate.recv() => return self.end(),
                _ = interrupt.recv() => return self.end(),
                Some(input) = self.inputs.recv() => {
                    self.check_first_start(&input)?;
                    self.bring_evidence(&input);
                    self.refuse_survivors(&input);
                    self.step(&input);
                }
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

    fn end(&mut self) -> Result<(), UpError> {
        self.history.note(Event::ControllerStopped, Now::read());
        Err(UpError::Ended)
    }

    fn watch_adopted(&self) {
        for (name, backend) in &self.parts.backends {
            if let Some(instance) = backend.driver.alive() {
                tasks::watch_end(name.clone(), backend.driver.clone(), instance, self.reporter.clone());
            }
        }
    }

    /// One step, as [`Coordinator::step`] wants it: it counts only if its records are on disk.
    pub(super) fn step(&mut self, input: &Input) {
        let now = Now::read();
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
            Output::Stop(name) => Some(name.clone()),
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
                            self.set_backend_state(backend, BackendState::Present);
                        }
                    }
                    self.parts.steer(&steering);
                }
                Output::Start(name) => {
                    self.set_backend_state(&name, BackendState::Present);
                    if let Some(backend) = self.parts.backends.get(&name) {
                        let start = tasks::start(name, backend.driver.clone(), self.reporter.clone());
                        self.actions.spawn(start);
                    }
                }
                Output::Refuse(name) if stopped.contains(&name) && self.lives(&name) => {
                    let open = self.open_flows(&name);
                    self.cuts.insert(name.clone(), open);
                    self.dying.insert(name);
                }
                Output::Refuse(name) => drop(self.refuse_flows(&name)),
                Output::Stop(name) => {
                    // What has been refused has ended since.
                    let cut = self.cuts.remove(&name).unwrap_or_else(|| self.open_flows(&name));
                    let grace = if self.dying.contains(&name) { Duration::ZERO } else { spec::STOP_GRACE };
                    if let Some(backend) = self.parts.backends.get(&name) {
                        let stop =
                            tasks::stop(name, backend.driver.clone(), grace, cut, self.reporter.clone());
                        self.actions.spawn(stop);
                    }
                }
                Output::Event(event) => self.history.note(event, now),
                Output::Report(report) => self.history.keep(&report),
                Output::Answer { request, result } => {
                    if let Some(answer) = self.waiting.remove(&request) {
                        // Whoever asked may have gone.
                        let _ = answer.send(result.map(Done::with));
                    }
                }
            }
        }
    }

    /// The flows that a stop of this backend would cut.
    fn open_flows(&mut self, name: &BackendName) -> Vec<CutFlow> {
        let Some(id) = self.parts.backends.get(name).map(|backend| backend.id) else { return Vec::new() };
        let flows = self.parts.dataplane.flows(&self.spec.timeouts);
        let open = flows.iter().filter(|flow| flow.backend == id && flow.state != FlowState::Closed);
        open.map(|flow| CutFlow {
            client: flow.client,
            state: flow.state.name().to_owned(),
            idle_ms: flow.idle_ms,
            awaiting_response: flow.awaits_response,
        })
        .collect()
    }

    fn scan(&mut self) {
        let now = Now::read();
        if now.ms_since(self.forgot_at) >= FORGET_PERIOD_MS {
            self.forgot_at = now;
            self.parts.dataplane.forget_expired(&self.spec.timeouts);
        }
        self.retry_journal(now);
        if self.coordinator.wants_flows() {
            self.report_flows();
        } else {
            self.step(&Input::Tick);
        }
    }

    /// Counts the open flows of each backend and tells the coordinator.
    fn report_flows(&mut self) {
        let counts = self.parts.dataplane.count_flows(&self.spec.timeouts);
        let open: Vec<_> = self
            .parts
            .backends
            .iter()
            .map(|(name, backend)| (name.clone(), counts[usize::from(backend.id)].open))
            .collect();
        for (backend, open) in open {
            self.step(&Input::Flows { backend, open });
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
            Command::Cut(answer) => drop(answer.send(self.cut())),
            Command::Events(answer) => drop(answer.send(self.history.follow())),
            Command::Operate { verb, how, answer } => self.operate(verb, how, answer),
        }
    }

    /// Ends the drain that is under way: what is open when the backend is stopped is cut.
    fn cut(&mut self) -> Result<Cut, String> {
        let Some(backend) = self.coordinator.draining_backend().cloned() else {
            return Err("nothing drains, so there is nothing to cut".into());
        };
        let flows = self.refuse_flows(&backend) as u64;
        tracing::info!(%backend, flows, "the operator ends the drain");
        self.step(&Input::Cut);
        self.report_flows();
        Ok(Cut { backend, flows })
    }

    /// Answers the flows of a backend with resets from now on; how many are open. Their clients learn at their
    /// next packet, and not when the processes are gone.
    fn refuse_flows(&mut self, name: &BackendName) -> usize {
        let open = self.open_flows(name);
        let count = open.len();
        self.set_backend_state(name, BackendState::Refused);
        self.cuts.insert(name.clone(), open);
        count
    }

    fn lives(&self, name: &BackendName) -> bool {
        self.parts.backends.get(name).is_some_and(|backend| backend.driver.alive().is_some())
    }

    /// Refuses the flows of the dead that could not be killed after all.
    fn refuse_survivors(&mut self, input: &Input) {
        let (Input::Stopped { backend, .. } | Input::StartFailed { backend, .. }) = input else { return };
        if self.dying.remove(backend) && matches!(input, Input::StartFailed { .. }) {
            self.set_backend_state(backend, BackendState::Refused);
        }
    }

    /// Tells, before a failed check, whether clients of the backend are answered all the same.
    fn bring_evidence(&mut self, input: &Input) {
        let Input::Checked { backend, result: Err(_), .. } = input else { return };
        let Some(id) = self.parts.backends.get(backend).map(|parts| parts.id) else { return };
        // Without the counters nobody is declared dead who may live.
        if let Ok(counters) = self.parts.dataplane.backend_counters(id) {
            self.step(&Input::Answered { backend: backend.clone(), turns: counters.turns });
        }
    }

    /// Says what becomes of packets that are pinned to a backend.
    fn set_backend_state(&mut self, name: &BackendName, state: BackendState) {
        let Some(id) = self.parts.backends.get(name).map(|backend| backend.id) else { return };
        if let Err(error) = self.parts.dataplane.set_backend_state(id, state) {
            tracing::error!(backend = %name, %error, "the state of the backend could not be written");
        }
    }
}

fn listen(kind: SignalKind) -> Result<Signal, UpError> {
    signal(kind).map_err(UpError::files(std::path::Path::new("signal handler")))
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
