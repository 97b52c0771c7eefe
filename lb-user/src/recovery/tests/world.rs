//! The world round the coordinator: processes, flows, the journal's disk and the kernel's word, with a clock
//! that only the test moves. It carries out what is ordered as the service's runtime does.

mod machines;
mod operator;
mod reload;

use std::collections::{BTreeMap, BTreeSet};

use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

use super::invariants::{Checker, Verdict};
use super::name;
use super::services::Purse;
use crate::clock::Now;
use crate::flow_counts::OpenFlows;
use crate::names::BackendName;
use crate::recovery::event::Event;
use crate::recovery::journal::{Record, Standing};
use crate::recovery::policy::Policy;
use crate::recovery::report::Report;
use crate::recovery::{Coordinator, CutFlow, Finding, Input, Instance, Output, RequestId, State, Steering};

/// How often flows are counted while something drains, and otherwise.
const SCAN_MS: [u64; 2] = [50, 500];
const SAMPLE_MS: u64 = 500;
const JOURNAL_RETRY_MS: u64 = 1_000;
const FRESH_BYTES: u64 = 100;
/// After this long without an answer to an order the runtime says so.
const PATIENCE_MS: u64 = 3_000;
/// How long hooks think, and a diagnosis takes.
pub(super) const HOOK_MS: u64 = 30;
pub(super) const DIAGNOSIS_MS: u64 = 400;

/// What goes wrong by itself, in a thousand.
#[derive(Clone, Debug, Default)]
pub(super) struct Faults {
    pub(super) start_fails: u32,
    pub(super) stop_fails: u32,
    pub(super) check_flaps: u32,
    pub(super) journal_fails: u32,
    /// The controller dies in the middle of a step.
    pub(super) crashes: u32,
    /// A start or a stop is carried out or not, and all that is heard of it is that nothing was.
    pub(super) orders_lost: u32,
    /// Whoever measures a backend is silent.
    pub(super) samples_lost: u32,
    /// A report is on its way for up to this.
    pub(super) latency_ms: u64,
    pub(super) warm_up_fails: u32,
    /// Nothing is heard of a warm-up.
    pub(super) warm_up_lost: u32,
    /// Hooks refuse, or fail.
    pub(super) vetoes: u32,
    /// The answer of hooks or of a diagnosis never comes.
    pub(super) lost_answers: u32,
}

/// One life of a command.
#[derive(Clone, Debug)]
pub(super) struct Life {
    pub(super) instance: Instance,
    listens_at: u64,
    /// Its checks are not answered.
    pub(super) wedged: bool,
    /// Its clients are not answered either.
    pub(super) mute: bool,
    /// Checks and clients are reset.
    pub(super) resets: bool,
    pub(super) memory: u64,
}

/// Where a backend's command runs.
#[derive(Clone, Debug)]
pub(super) struct Machine {
    pub(super) life: Option<Life>,
    pub(super) flows: u64,
    /// Clients who may come back to it.
    pub(super) leases: u64,
    /// Starts that fail before one succeeds.
    pub(super) bad_starts: u32,
    /// How much a new life needs.
    pub(super) fresh_bytes: u64,
    pub(super) starts: u32,
    /// Warm-ups that it was sent.
    pub(super) warm_ups: u32,
    /// Requests that it has begun to answer, as the packet path counts them.
    turns: u64,
    /// Flows that clients have begun with it.
    asked: u64,
    /// Resets that it has sent them.
    resets: u64,
}

impl Machine {
    fn new() -> Self {
        Self {
            life: None,
            flows: 0,
            leases: 0,
            bad_starts: 0,
            fresh_bytes: FRESH_BYTES,
            starts: 0,
            turns: 0,
            asked: 0,
            resets: 0,
            warm_ups: 0,
        }
    }
}

/// What happens next.
#[derive(Clone, Debug)]
enum Happening {
    Heard(Input),
    Starts(BackendName),
    Ends(BackendName, Vec<CutFlow>),
    Check(BackendName),
    Sample(BackendName),
    Scan,
}

/// All of it.
pub(super) struct World {
    pub(super) now: Now,
    pub(super) policy: Policy,
    pub(super) coordinator: Coordinator,
    pub(super) machines: BTreeMap<BackendName, Machine>,
    pub(super) word: Steering,
    pub(super) journal: Vec<Record>,
    pub(super) journal_works: bool,
    journal_failed_at: Option<Now>,
    pub(super) faults: Faults,
    /// Clients begin flows all the time; else there are hardly any.
    pub(super) clients_ask: bool,
    pub(super) rng: SmallRng,
    pub(super) checker: Checker,
    pub(super) events: Vec<Event>,
    pub(super) reports: Vec<Report>,
    pub(super) answers: BTreeMap<RequestId, Result<Option<Box<Report>>, String>>,
    pub(super) unanswered: BTreeSet<RequestId>,
    pub(super) orders: Vec<Output>,
    /// Prints what is heard and ordered.
    pub(super) traces: bool,
    /// Inputs that the coordinator was told.
    pub(super) steps: u64,
    /// Its share of a budget, if it has one.
    pub(super) purse: Option<Purse>,
    requests: RequestId,
    agenda: BTreeMap<(u64, u64), Happening>,
    serial: u64,
}

impl World {
    /// Everything has been told to start.
    pub(super) fn new(policy: Policy, names: &[&str], seed: u64) -> Self {
        let now = Now { boot_ms: 1_000_000, unix_ms: 1_700_000_000_000 };
        let backends = names.iter().map(|text| name(text));
        let (coordinator, outputs) =
            Coordinator::new("web".parse().unwrap(), policy.clone(), backends.clone(), &[], now);
        let mut world = Self {
            now,
            checker: Checker::new(policy.clone(), names, now),
            policy,
            coordinator,
            machines: backends.clone().map(|name| (name, Machine::new())).collect(),
            word: Steering::default(),
            journal: Vec::new(),
            journal_works: true,
            journal_failed_at: None,
            faults: Faults::default(),
            clients_ask: false,
            rng: SmallRng::seed_from_u64(seed),
            events: Vec::new(),
            reports: Vec::new(),
            answers: BTreeMap::new(),
            unanswered: BTreeSet::new(),
            orders: Vec::new(),
            traces: false,
            steps: 0,
            purse: None,
            requests: 0,
            agenda: BTreeMap::new(),
            serial: 0,
        };
        for backend in backends {
            world.watch(backend);
        }
        world.later(0, Happening::Scan);
        world.carry_out(outputs).unwrap();
        world
    }

    fn watch(&mut self, backend: BackendName) {
        self.later(0, Happening::Check(backend.clone()));
        self.later(0, Happening::Sample(backend));
    }

    /// Two backends, of which `a` serves and `b` waits; nothing goes wrong by itself.
    pub(super) fn up(policy: Policy) -> Self {
        let mut world = Self::new(policy, &["a", "b"], 1);
        // A head start, so that it is always the same one that serves.
        world.machines.get_mut(&name("b")).unwrap().bad_starts = 1;
        world.run_until("a active, b standby");
        world.run(2_000);
        world
    }

    /// A pool that serves; nothing goes wrong by itself.
    pub(super) fn pool(policy: &Policy, names: &[&str]) -> Self {
        let mut world = Self::new(Policy { spread: true, ..policy.clone() }, names, 1);
        world.run(3_000);
        assert_eq!(world.active(), names.join(" "));
        world
    }

    /// Lets time pass.
    pub(super) fn run(&mut self, ms: u64) {
        let end = self.now.boot_ms + ms;
        while let Some(entry) = self.agenda.first_entry().filter(|entry| entry.key().0 <= end) {
            let (at, happening) = (entry.key().0, entry.remove());
            self.now = self.now.plus_ms(at.saturating_sub(self.now.boot_ms));
            self.happen(happening);
        }
        self.now = self.now.plus_ms(end - self.now.boot_ms);
    }

    /// Lets time pass until the backends stand like this.
    pub(super) fn run_until(&mut self, standing: &str) {
        for _ in 0..10_000 {
            if self.standing() == standing {
                return;
            }
            self.run(10);
        }
        panic!("{} and never {standing}: {:#?}", self.standing(), self.events);
    }

    /// A backend's process ends by itself.
    pub(super) fn kill(&mut self, backend: &str) {
        let Some(life) = self.machine(backend).life.take() else { return };
        self.hear_later(Input::Exited {
            backend: name(backend),
            instance: life.instance,
            status: "killed by signal 9".into(),
        });
    }

    /// The report that answered a request.
    pub(super) fn report_of(&self, request: RequestId) -> &Report {
        self.answers[&request].as_ref().expect("done").as_ref().expect("with a report")
    }

    /// The active backends, in one line.
    pub(super) fn active(&self) -> String {
        let active: Vec<_> = self.word.active.iter().map(ToString::to_string).collect();
        active.join(" ")
    }

    /// The controller dies before anything that it has ordered is done.
    pub(super) fn kill_controller_before_its_actions(&mut self) {
        self.agenda.retain(|_, what| !matches!(what, Happening::Starts(_) | Happening::Ends(..)));
        self.crash();
    }

    /// The controller dies and the next one takes over.
    pub(super) fn crash(&mut self) {
        for (key, happening) in std::mem::take(&mut self.agenda) {
            match happening {
                // What was under way may have been done, and nobody heard of it.
                Happening::Starts(backend) if self.rng.random() => self.begin_life(&backend),
                Happening::Ends(backend, _) if self.rng.random() => self.end_life(&backend),
                Happening::Heard(_) | Happening::Starts(_) | Happening::Ends(..) => {}
                periodic => drop(self.agenda.insert(key, periodic)),
            }
        }
        self.unanswered.clear();
        self.journal_failed_at = None;
        self.resume();
    }

    fn resume(&mut self) {
        self.trace(&"a new controller");
        // Ids of backends that have left the configuration say nothing to it.
        self.word.active.retain(|name| self.machines.contains_key(name));
        self.word.draining = self.word.draining.take().filter(|name| self.machines.contains_key(name));
        let lives = self.machines.iter();
        let alive: BTreeMap<_, _> =
            lives.map(|(name, m)| (name.clone(), m.life.as_ref().map(|life| life.instance))).collect();
        self.checker.crash(&alive, self.now);
        if let Some(purse) = &self.purse {
            purse.interrupt(self.checker.cycle_of.as_ref().map(|(cycle, _)| *cycle));
        }
        let (service, policy) = ("web".parse().unwrap(), self.policy.clone());
        let taken_up =
            Coordinator::resume(service, policy, &alive, self.word.clone(), &self.journal, self.now);
        self.go_on_with(taken_up);
    }

    /// The machine is started anew: what ran has ended, nothing is steered, and the journal is all that is left.
    pub(super) fn reboot(&mut self) {
        self.trace(&"a reboot");
        let is_periodic =
            |what: &Happening| matches!(what, Happening::Check(_) | Happening::Sample(_) | Happening::Scan);
        self.agenda.retain(|_, what| is_periodic(what));
        for machine in self.machines.values_mut() {
            (machine.life, machine.flows, machine.leases) = (None, 0, 0);
        }
        self.word = Steering::default();
        self.unanswered.clear();
        self.journal_failed_at = None;
        self.checker.reboot(self.now);
        if let Some(purse) = &self.purse {
            purse.interrupt(None);
        }
        let (service, names) = ("web".parse().unwrap(), self.machines.keys().cloned().collect::<Vec<_>>());
        let made = Coordinator::new(service, self.policy.clone(), names, &self.journal, self.now);
        self.go_on_with(made);
    }

    /// A controller takes its first step.
    fn go_on_with(&mut self, (coordinator, outputs): (Coordinator, Vec<Output>)) {
        self.coordinator = coordinator;
        let records = records(&outputs);
        if self.journal_writes() {
            self.store(records);
        }
        self.carry_out(outputs).unwrap();
        self.checker.settled(&self.coordinator, self.now).unwrap();
        // How it stands is known to the budget before anybody else asks.
        if let Some(purse) = &self.purse {
            purse.ask(&self.coordinator, self.now);
        }
    }

    /// Gives one input, and then the budget's answers.
    pub(super) fn tell(&mut self, input: &Input) {
        self.tell_once(input);
        while let Some(leave) = self.purse.as_ref().and_then(|purse| purse.ask(&self.coordinator, self.now)) {
            if self.coordinator.heard(&leave) {
                break;
            }
            self.tell_once(&Input::Leave(leave));
        }
    }

    fn tell_once(&mut self, input: &Input) {
        self.trace(input);
        self.checker.hear(input, self.now);
        self.step(input, |coordinator, now| coordinator.step(now, input.clone()));
    }

    /// As the runtime does: a step counts only if its records are on disk.
    fn step(&mut self, what: &dyn std::fmt::Debug, step: impl Fn(&mut Coordinator, Now) -> Vec<Output>) {
        self.steps += 1;
        for attempt in 0.. {
            assert!(attempt < 3, "a step never comes to an end: {what:?}");
            let mut next = self.coordinator.clone();
            let outputs = step(&mut next, self.now);
            let records = records(&outputs);
            if !records.is_empty() && !self.journal_writes() {
                self.journal_failed_at = Some(self.now);
                let error = Input::Journal(Err("no space left on device".into()));
                let outputs = self.coordinator.step(self.now, error);
                self.carry_out(outputs).unwrap();
                continue;
            }
            if self.chance(self.faults.crashes) {
                return self.crash_within(records, &outputs);
            }
            self.coordinator = next;
            self.store(records);
            self.carry_out(outputs).unwrap();
            break;
        }
        self.checker.settled(&self.coordinator, self.now).unwrap_or_else(|broken| {
            panic!("{broken} after {what:?}");
        });
    }

    /// Only some of the records get to the disk, or all of them and some of what follows is done.
    fn crash_within(&mut self, mut records: Vec<Record>, outputs: &[Output]) {
        let done = self.rng.random_range(0..=records.len() + outputs.len());
        let written = done.min(records.len());
        let carried_out = done - written;
        records.truncate(written);
        self.store(records);
        self.carry_out(outputs[..carried_out].to_vec()).unwrap();
        self.crash();
    }

    /// Does what is ordered, after the checker has agreed.
    pub(super) fn carry_out(&mut self, outputs: Vec<Output>) -> Verdict {
        for output in outputs {
            self.trace(&output);
            self.checker.order(&output, self.now)?;
            self.orders.push(output.clone());
            match output {
                Output::Journal(_) | Output::Refuse(_) => {}
                Output::Steer(word) => self.word = word,
                Output::Start(backend) => {
                    let ms = self.rng.random_range(1..50);
                    self.later(ms, Happening::Starts(backend));
                }
                Output::Stop(backend, _) => {
                    let cut = (0..self.machines[&backend].flows).map(cut_flow).collect();
                    let ms = self.rng.random_range(1..200);
                    self.later(ms, Happening::Ends(backend, cut));
                }
                Output::Hook(call) => self.answer_hooks(&call),
                Output::Diagnose { backend, .. } => self.answer_diagnosis(backend),
                Output::Event(event) => {
                    if let Some(purse) = &self.purse {
                        let standing = Standing::of(&self.journal);
                        purse.hear(&event, |backend| standing.held_out.contains(backend))?;
                    }
                    self.events.push(event);
                }
                Output::Report(report) => self.reports.push(*report),
                Output::Answer { request, result } => {
                    let was_open = self.unanswered.remove(&request);
                    assert!(was_open, "request {request} is answered twice, or was never made");
                    self.answers.insert(request, result);
                }
                Output::WarmUp { backend, instance } => self.warm_up(backend, instance),
            }
        }
        Ok(())
    }

    fn happen(&mut self, happening: Happening) {
        match happening {
            Happening::Heard(input) => self.tell(&input),
            Happening::Starts(backend) => self.start(backend),
            Happening::Ends(backend, cut) => self.end(backend, cut),
            Happening::Check(backend) => self.check(backend),
            Happening::Sample(backend) => {
                let lost = self.chance(self.faults.samples_lost);
                if let Some(life) = self.machines[&backend].life.as_ref().filter(|_| !lost) {
                    let (instance, memory_rss_bytes) = (life.instance, life.memory);
                    self.hear_later(Input::Sampled { backend: backend.clone(), instance, memory_rss_bytes });
                }
                self.later(SAMPLE_MS, Happening::Sample(backend));
            }
            Happening::Scan => self.scan(),
        }
    }

    fn check(&mut self, backend: BackendName) {
        let flaps = self.chance(self.faults.check_flaps);
        let now = self.now.boot_ms;
        let mut takes = 1;
        let machine = self.machines.get_mut(&backend).unwrap();
        if let Some(life) = &machine.life {
            machine.turns += u64::from(!life.mute && !life.resets);
            machine.asked += u64::from(self.clients_ask);
            machine.resets += u64::from(life.resets);
            let (turns, flows, resets) = (machine.turns, machine.asked, machine.resets);
            let result = match life {
                Life { resets: true, .. } => Err(Finding::Reset),
                Life { wedged: true, .. } => Err(Finding::TimedOut),
                life if life.listens_at > now || flaps => Err(Finding::Refused),
                _ => Ok(()),
            };
            takes = if result == Err(Finding::TimedOut) { 1_000 } else { 1 };
            let failed = result.is_err();
            let input = Input::Checked { backend: backend.clone(), instance: life.instance, result };
            let late = self.latency();
            if failed {
                let evidence = Input::Answered { backend: backend.clone(), turns };
                self.later(takes + late, Happening::Heard(evidence));
                let asked = Input::Asked { backend: backend.clone(), flows, resets };
                self.later(takes + late, Happening::Heard(asked));
            }
            self.later(takes + late, Happening::Heard(input));
        }
        self.later(takes.max(self.policy.check_period_ms), Happening::Check(backend));
    }

    fn scan(&mut self) {
        let due = self.journal_failed_at.is_some_and(|at| self.now.ms_since(at) >= JOURNAL_RETRY_MS);
        if due && self.journal_works {
            self.journal_failed_at = None;
            self.tell(&Input::Journal(Ok(())));
        }
        let wanted = self.coordinator.wants_flows();
        if wanted {
            let counts: Vec<_> =
                self.machines.iter().map(|(name, m)| (name.clone(), m.flows, m.leases)).collect();
            for (backend, established, leases) in counts {
                let open = OpenFlows { established, ..OpenFlows::default() };
                self.tell(&Input::Flows { backend, open, leases });
            }
        } else {
            self.tell(&Input::Tick);
        }
        self.later(SCAN_MS[usize::from(!wanted)], Happening::Scan);
    }

    /// The machine of a backend.
    pub(super) fn machine(&mut self, backend: &str) -> &mut Machine {
        self.machines.get_mut(&name(backend)).unwrap()
    }

    /// The life of a backend that runs.
    pub(super) fn life(&mut self, backend: &str) -> &mut Life {
        self.machine(backend).life.as_mut().expect("it runs")
    }

    /// Every backend's state, in one line.
    pub(super) fn standing(&self) -> String {
        let states: Vec<_> =
            self.coordinator.states().map(|(name, state)| format!("{name} {state}")).collect();
        states.join(", ")
    }

    pub(super) fn state(&self, backend: &str) -> State {
        self.coordinator.states().find(|(name, _)| name.as_str() == backend).unwrap().1
    }

    /// What has been said, a line an event.
    pub(super) fn said(&self) -> String {
        self.events.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
    }

    fn trace(&self, what: &dyn std::fmt::Debug) {
        if self.traces {
            let service = self.purse.as_ref().map_or_else(String::new, |purse| format!("{} ", purse.service));
            println!("{:>9} {service}{what:?}", self.now.boot_ms);
        }
    }

    fn store(&mut self, records: Vec<Record>) {
        for record in records {
            self.checker.store(record.clone());
            self.journal.push(record);
        }
    }

    fn journal_writes(&mut self) -> bool {
        self.journal_works && !self.chance(self.faults.journal_fails)
    }

    fn hear_later(&mut self, input: Input) {
        let late = self.latency();
        self.later(1 + late, Happening::Heard(input));
    }

    fn latency(&mut self) -> u64 {
        self.rng.random_range(0..=self.faults.latency_ms)
    }

    fn later(&mut self, ms: u64, happening: Happening) {
        self.serial += 1;
        self.agenda.insert((self.now.boot_ms + ms, self.serial), happening);
    }

    fn chance(&mut self, per_thousand: u32) -> bool {
        per_thousand > 0 && self.rng.random_range(0..1_000) < per_thousand
    }
}

fn records(outputs: &[Output]) -> Vec<Record> {
    let record = |output: &Output| match output {
        Output::Journal(record) => Some(record.clone()),
        _ => None,
    };
    outputs.iter().filter_map(record).collect()
}

fn cut_flow(number: u64) -> CutFlow {
    CutFlow {
        client: Some(([10, 0, 0, 1], 1_024 + number as u16).into()),
        state: "established".into(),
        idle_ms: 0,
        awaiting_response: false,
    }
}
