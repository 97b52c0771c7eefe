//! The state machine of one service.
//!
//! What always holds (`tests/invariants.rs` checks it after every step of a simulation):
//! 1. Nothing is handed over to a backend that has not just passed its checks, unless so few of a pool pass
//!    them that all who live have to serve.
//! 2. Never are two backends out at once by our doing, and never are fewer active than the floor allows.
//! 3. A backend that was ready is stopped only when it has no flows left, or its drain deadline has passed,
//!    or it is dead; and no life is stopped twice, unless the first stop failed.
//! 4. If the new active backend fails while the old one still drains and is fit, new flows go back; in a
//!    pool, if fewer than the floor would be left.
//! 5. A transition is journaled before it is done; only a failure is answered without a journal.
//! 6. Somebody is active whenever anybody can be.
//! 7. Who is held out by an operator is neither started, nor stopped, nor given new flows.
//! 8. Nothing is handed over to a life that has neither been warmed up nor served, where that is wanted, unless
//!    nobody else could serve.
//! 9. A step of a machine is journaled before it is ordered, and ordered once.
//! 10. What is planned waits for the consent of hooks, a stop not for ever; what answers a failure never does.
//! 11. In maintenance nobody is stopped, but for a rejuvenation that was under way, or by an operator's word.
//! 12. Rules rejuvenate only in a window, unless a ceiling may break it.

mod change;
mod drain;
mod failure;
mod hold;
mod hooks;
mod leave;
mod lives;
mod maintenance;
mod pool;
mod recover;
mod resume;
mod shadow;
mod trigger;
mod warm;

use std::collections::{BTreeMap, BTreeSet};

pub use self::shadow::Standing;
use super::backend::{Backend, State, Warmth};
use super::budget::{Leave, Wish};
use super::cycle::Cycle;
use super::event::Event;
use super::gate::Gate;
use super::hook::{HookReport, Phase};
use super::journal::{self, Record};
use super::message::{Input, Instance, Output, Steering};
use super::policy::Policy;
use crate::clock::Now;
use crate::names::{BackendName, ServiceName};

use leave::Pending;

/// Decides for one service; see the [module](super).
#[derive(Clone, Debug)]
pub struct Coordinator {
    service: ServiceName,
    policy: Policy,
    backends: BTreeMap<BackendName, Backend>,
    steering: Steering,
    cycle: Option<Cycle>,
    cycles: u64,
    /// An operator wants no automatic rejuvenation.
    paused: bool,
    last_handover: Option<Now>,
    journal_error: Option<String>,
    /// What a wanted rejuvenation waits for, as last said.
    waits_for: Option<String>,
    /// The consent of hooks, by what it is to.
    gates: BTreeMap<Phase, Gate>,
    /// Calls of hooks so far.
    calls: u64,
    /// What the hooks have reported that consented to the cycle that comes next.
    hook_reports: Vec<HookReport>,
    /// What wanted rejuvenations wait for, in full, as of the last step.
    waits: Vec<String>,
    /// An operator wants no automatic action.
    maintenance: bool,
    /// What an operator has asked for and has not begun.
    pending: Option<Pending>,
    /// What would begin if it had leave to.
    wish: Option<Wish>,
    /// The answer to a wish.
    leave: Option<(Wish, Leave)>,
    /// It was told in the last step.
    leave_is_fresh: bool,
    out: Vec<Output>,
}

impl Coordinator {
    /// A service whose backends are all to be started, but for those that operators hold out: that is all
    /// that still counts of the `history` in the journal, which another boot of the machine may have left. What
    /// was under way then is written down as over.
    pub fn new(
        service: ServiceName,
        policy: Policy,
        backends: impl IntoIterator<Item = BackendName>,
        history: &[Record],
        now: Now,
    ) -> (Self, Vec<Output>) {
        let standing = journal::Standing::of(history);
        let mut backends: BTreeMap<_, _> =
            backends.into_iter().map(|name| (name, Backend::new(now))).collect();
        for name in &standing.held_out {
            if let Some(backend) = backends.get_mut(name) {
                (backend.held, backend.state) = (true, State::Maintenance);
            }
        }
        if standing.maintenance {
            for backend in backends.values_mut().filter(|backend| !backend.held) {
                backend.state = State::Failed;
            }
        }
        let starting = backends.iter().filter(|(_, backend)| backend.state == State::Starting);
        let starts: Vec<_> = starting.map(|(name, _)| Output::Start(name.clone())).collect();
        let mut this = Self {
            service,
            policy,
            backends,
            steering: Steering::default(),
            cycle: None,
            cycles: history.iter().filter_map(Record::cycle).max().unwrap_or(0),
            paused: standing.paused,
            last_handover: None,
            journal_error: None,
            waits_for: None,
            gates: BTreeMap::new(),
            calls: 0,
            hook_reports: Vec::new(),
            waits: Vec::new(),
            maintenance: standing.maintenance,
            pending: None,
            wish: None,
            leave: None,
            leave_is_fresh: false,
            out: Vec::new(),
        };
        this.close_history(history, &standing, now);
        let mut out = std::mem::take(&mut this.out);
        out.extend(starts);
        (this, out)
    }

    /// Takes in what happened and answers with what to do, in order.
    ///
    /// A step whose journal records cannot be made durable must not have happened: the shell steps a clone,
    /// and if a record fails it drops the clone, says so with [`Input::Journal`], and steps again. Then only
    /// what cannot wait is done, and without records.
    pub fn step(&mut self, now: Now, input: Input) -> Vec<Output> {
        self.leave_is_fresh = matches!(input, Input::Leave(_));
        match input {
            Input::Tick => {}
            Input::Started { backend, instance } => self.started(&backend, instance, now),
            Input::StartFailed { backend, error } => self.start_failed(&backend, error, now),
            Input::Checked { backend, instance, result } => self.checked(&backend, instance, result, now),
            Input::Exited { backend, instance, status } => self.exited(&backend, instance, &status, now),
            Input::Sampled { backend, instance, memory_rss_bytes } => {
                self.sampled(&backend, instance, memory_rss_bytes);
            }
            Input::Flows { backend, open, leases } => self.flows(&backend, open, leases, now),
            Input::Stopped { backend, cut } => self.stopped(&backend, cut, now),
            Input::Rejuvenate { request, backend, in_window } => {
                self.requested(Pending::new(request, backend, in_window));
            }
            Input::Drain { request, backend } => self.drain_requested(request, &backend, now),
            Input::Ready { request, backend } => self.ready_requested(request, &backend, now),
            Input::Pause { request } => self.pause_requested(request, true),
            Input::Resume { request } => self.pause_requested(request, false),
            Input::Answered { backend, turns } => {
                if let Some(backend) = self.backends.get_mut(&backend) {
                    backend.evidence.note_turns(turns);
                }
            }
            Input::Maintenance { request, on } => self.maintenance_requested(request, on, now),
            Input::Leave(leave) => self.hear_leave(leave),
            Input::Cut => self.cut(now),
            Input::Asked { backend, flows, resets } => {
                if let Some(backend) = self.backends.get_mut(&backend) {
                    backend.evidence.note_asked(flows, resets);
                }
            }
            Input::WarmedUp { backend, instance, result } => {
                self.warmed_up(&backend, instance, result, now);
            }
            // Nothing else is decided in this step: what follows from it can wait for the next one, and a
            // step that needs records could fail for the same cause and never come to an end.
            Input::Journal(result) => {
                self.journal(result);
                return std::mem::take(&mut self.out);
            }
            Input::Hooked { call, reports } => self.hooked(call, reports, now),
            Input::Diagnosed { backend, report } => self.diagnosed(&backend, report),
        }
        self.look(now)
    }

    /// Does what is due, now that what happened is known.
    fn look(&mut self, now: Now) -> Vec<Output> {
        self.wish = None;
        self.waits.clear();
        self.watch_hooks(now);
        self.watch_request(now);
        self.watch_drain(now);
        if self.policy.spread {
            self.watch_pool(now);
            self.watch_pool_ceiling(now);
        } else {
            self.watch_active(now);
            self.watch_ceiling(now);
        }
        self.watch_warm_ups(now);
        self.watch_starts(now);
        self.watch_return(now);
        self.watch_quarantine(now);
        self.forget_leave();
        self.announce(now);
        std::mem::take(&mut self.out)
    }

    /// The state of every backend.
    pub fn states(&self) -> impl Iterator<Item = (&BackendName, State)> {
        self.backends.iter().map(|(name, backend)| (name, backend.state))
    }

    /// The life of a backend that goes on, as far as was told.
    pub fn life(&self, name: &BackendName) -> Option<Instance> {
        self.backends.get(name)?.instance
    }

    /// Whether a start or a stop of this backend was ordered and has not been reported.
    pub fn awaits_report(&self, name: &BackendName) -> bool {
        self.backends.get(name).is_some_and(|backend| {
            let starts = backend.state == State::Starting && backend.instance.is_none();
            starts || backend.state == State::Recovering
        })
    }

    /// Whether a backend serves, or is to serve again, with the life and the flows that it has: it is not out, nor on
    /// its way there, nor left as dead as it is.
    pub fn goes_on(&self, name: &BackendName) -> bool {
        let is_in = |backend: &Backend| {
            let waits = matches!(backend.state, State::Starting | State::Warming | State::Standby);
            waits && backend.instance.is_some() && !backend.is_silent(&self.policy)
        };
        self.is_active(name) || self.backends.get(name).is_some_and(is_in)
    }

    /// Where flows go.
    pub fn steering(&self) -> &Steering {
        &self.steering
    }

    /// The backend that drains.
    pub fn draining_backend(&self) -> Option<&BackendName> {
        let from = &self.cycle.as_ref()?.from;
        let drains = matches!(self.backends.get(from)?.state, State::Draining | State::Drained);
        Some(from).filter(|_| drains)
    }

    /// Rejuvenations begun since the journal began.
    pub fn cycles(&self) -> u64 {
        self.cycles
    }

    /// Whether an operator has stopped automatic rejuvenations.
    pub fn is_paused(&self) -> bool {
        self.paused
    }

    /// Whether the flow table is wanted often: something drains.
    pub fn wants_flows(&self) -> bool {
        self.backends.values().any(|b| matches!(b.state, State::Draining | State::Drained))
    }

    /// What is going on beyond serving, for people.
    pub fn activity(&self, now: Now) -> Option<String> {
        let cycle = self.cycle.as_ref()?;
        let old = self.backends.get(&cycle.from)?;
        let what = match old.state {
            State::Draining => {
                let to = cycle.to.as_ref().map_or_else(String::new, |to| format!(" to {to}"));
                let (open, awaiting) = (old.open.total(), old.open.awaiting_response);
                let deadline = cycle.deadline_in_words(now);
                let back = match old.leases {
                    0 => String::new(),
                    clients => format!(", {clients} clients may come back"),
                };
                format!(
                    "{} drains{to}: {open} flows open, {awaiting} awaiting a response{back}, {deadline}",
                    cycle.from
                )
            }
            State::Drained if !self.can_spare(&cycle.from) => {
                format!("{} is drained, and not stopped while another one is out", cycle.from)
            }
            state => format!("{} is {state}", cycle.from),
        };
        Some(format!("rejuvenation {} ({}): {what}", cycle.number, cycle.reason))
    }

    fn journal(&mut self, result: Result<(), String>) {
        let error = result.err();
        if let Some(error) = error.clone().filter(|_| self.journal_error.is_none()) {
            self.out.push(Output::Event(Event::JournalFailed { error }));
        }
        self.journal_error = error;
    }

    fn names_where(&self, wanted: impl Fn(&Backend) -> bool) -> Vec<BackendName> {
        self.backends.iter().filter(|(_, b)| wanted(b)).map(|(name, _)| name.clone()).collect()
    }

    /// Journals, unless that is known to fail: then only what cannot wait goes on, without a record.
    fn record(&mut self, record: Record) {
        if self.journal_error.is_none() {
            self.out.push(Output::Journal(record));
        }
    }

    fn steer(&mut self, active: BTreeSet<BackendName>, draining: Option<BackendName>) {
        let epoch = self.epoch_with(&active);
        self.steering = Steering { active, draining, epoch };
        self.out.push(Output::Steer(self.steering.clone()));
    }

    /// New flows go where they went; old ones without an entry to whoever drains.
    fn steer_old(&mut self, draining: Option<BackendName>) {
        self.steer(self.steering.active.clone(), draining);
    }

    /// The epoch under which new flows go to `active`.
    fn epoch_with(&self, active: &BTreeSet<BackendName>) -> u32 {
        self.steering.epoch.wrapping_add(u32::from(*active != self.steering.active))
    }

    /// The active backend, of which a service that is no pool has one at most.
    fn active(&self) -> Option<&BackendName> {
        self.steering.active.first()
    }

    fn is_active(&self, name: &BackendName) -> bool {
        self.steering.active.contains(name)
    }

    /// The backend that old flows without an entry belong to.
    fn draining(&self) -> Option<BackendName> {
        let from = &self.cycle.as_ref()?.from;
        let drains = self.backends.get(from).is_some_and(|backend| backend.state == State::Draining);
        drains.then(|| from.clone())
    }

    fn set_state(&mut self, name: &BackendName, to: State, why: Option<String>, now: Now) {
        let Some(backend) = self.backends.get_mut(name) else { return };
        if backend.state == to {
            return;
        }
        let from = backend.state;
        backend.state = to;
        backend.since = now;
        backend.has_worked |= to == State::Active;
        if to == State::Active {
            backend.warmth = Warmth::Warm;
        }
        self.out.push(Output::Event(Event::State { backend: name.clone(), from, to, why }));
    }
}
