//! What must always be so, held against what the coordinator was told and what it ordered.
//!
//! The checker keeps its own account from inputs and orders alone and shares no decision with the coordinator;
//! it outlives crashes, so a resumed coordinator is bound by what its predecessor began.

mod recovery;
mod settled;
mod takeover;
mod warmth;

use std::collections::{BTreeMap, BTreeSet};

use super::known::{Known, WarmUp};
use crate::clock::Now;
use crate::names::BackendName;
use crate::recovery::State;
use crate::recovery::event::Event;
use crate::recovery::hook::Phase;
use crate::recovery::journal::Record;
use crate::recovery::message::{Input, Instance, Output, Steering};
use crate::recovery::policy::Policy;
use crate::recovery::report::Reason;

/// What is broken, as a sentence.
pub(super) type Verdict = Result<(), String>;

/// A pass is no older than this beyond two periods of the checks.
const PASS_AGE_MS: u64 = 1_000;

/// The coordinator looks at least as often as this whether a time is over.
const LOOK_MS: u64 = 600;

/// Flows that are being waited for.
#[derive(Clone, Debug)]
struct Drain {
    cycle: u64,
    from: BackendName,
    to: Option<BackendName>,
    begun: Now,
    deadline_ms: u64,
    reason: Reason,
    /// The life that drains.
    life: Option<Instance>,
}

/// The account.
#[derive(Clone, Debug)]
pub(super) struct Checker {
    pub(super) policy: Policy,
    backends: BTreeMap<BackendName, Known>,
    ended: BTreeSet<(u32, u64)>,
    word: Steering,
    pub(super) durable: Vec<Record>,
    drain: Option<Drain>,
    /// The life that each cycle has ended.
    restarted: BTreeMap<u64, Instance>,
    /// Whom operators hold out, as far as was said.
    held_out: BTreeSet<BackendName>,
    /// Whom they were said to hold out no more, though that could perhaps not be written down.
    released: BTreeSet<BackendName>,
    /// Until when members were said to stay out for failing again and again, in milliseconds of the boot clock.
    stay_out: BTreeMap<BackendName, u64>,
    /// The numbers of the steps that were done to the machine of each backend since it was last well.
    machine_steps: BTreeMap<BackendName, BTreeSet<u64>>,
    /// What the present coordinator has asked hooks, by the number of the call.
    asked: BTreeMap<u64, (Phase, BackendName)>,
    /// What they consent to, and since when.
    consents: BTreeMap<Phase, (BackendName, Now)>,
    /// Since when they have been asked about the stop of the backend that drains.
    stop_asked: Option<(BackendName, Now)>,
    /// Operators leave no action to Baton.
    pub(super) maintenance: bool,
    /// The backend of the rejuvenation that is under way.
    pub(super) cycle_of: Option<(u64, BackendName)>,
    /// Whom they took back, who may be dead and is started again then.
    pub(super) taken_back: BTreeSet<BackendName>,
}

impl Checker {
    pub(super) fn new(policy: Policy, names: &[&str], now: Now) -> Self {
        let known = |text: &&str| (super::name(text), Known::new(None, now));
        Self {
            policy,
            backends: names.iter().map(known).collect(),
            ended: BTreeSet::new(),
            word: Steering::default(),
            durable: Vec::new(),
            drain: None,
            restarted: BTreeMap::new(),
            held_out: BTreeSet::new(),
            released: BTreeSet::new(),
            stay_out: BTreeMap::new(),
            machine_steps: BTreeMap::new(),
            asked: BTreeMap::new(),
            consents: BTreeMap::new(),
            stop_asked: None,
            maintenance: false,
            cycle_of: None,
            taken_back: BTreeSet::new(),
        }
    }

    /// From now on this is what the coordinator is bound by.
    pub(super) fn change_policy(&mut self, policy: Policy, now: Now) {
        // Whom hooks could hold back no longer they do not hold back again.
        let is_over = |at: Now| now.ms_since(at) >= self.policy.veto_limit_ms;
        if let Some((backend, at)) = self.stop_asked.clone().filter(|(_, at)| is_over(*at)) {
            self.consents.insert(Phase::BeforeStop, (backend, at));
        }
        let is_judged_anew = !policy.judges_like(&self.policy);
        for known in self.backends.values_mut() {
            known.overdue |= known.is_overdue(&self.policy, now);
            if is_judged_anew {
                known.forget_checks(now);
            }
        }
        self.policy = policy;
    }

    /// A backend is taken out of the configuration: whatever was said of it is over.
    pub(super) fn dismiss(&mut self, name: &BackendName) {
        self.backends.remove(name);
        self.held_out.remove(name);
        self.stay_out.remove(name);
        self.machine_steps.remove(name);
        self.taken_back.remove(name);
        self.drain = self.drain.take().filter(|drain| drain.from != *name);
    }

    /// A backend comes into the configuration.
    pub(super) fn welcome(&mut self, name: &BackendName, now: Now) {
        self.backends.insert(name.clone(), Known::new(None, now));
        self.released.insert(name.clone());
    }

    /// Takes note of what the coordinator is about to be told.
    pub(super) fn hear(&mut self, input: &Input, now: Now) {
        match input {
            Input::Started { backend, instance } => {
                let ended = self.ended.contains(&(instance.pid, instance.start_ticks));
                let known = self.known_mut(backend);
                // The time to become ready runs from the order to start.
                let Known { unready_since, out, .. } = *known;
                let life = Some(*instance).filter(|_| !ended);
                *known = Known { unready_since, out, ..Known::new(life, now) };
            }
            Input::Checked { backend, instance, result } => {
                let policy = self.policy.clone();
                let known = self.known_mut(backend);
                if known.life == Some(*instance) {
                    known.hear_check(result, &policy, now);
                }
            }
            Input::Answered { backend, turns } => {
                let known = self.known_mut(backend);
                known.turns = Some(known.since_first(known.turns, *turns));
            }
            Input::Asked { backend, flows, resets } => {
                let known = self.known_mut(backend);
                known.asked = Some(known.since_first(known.asked, *flows));
                known.resets = Some(known.since_first(known.resets, *resets));
            }
            Input::Exited { backend, instance, .. } => {
                self.ended.insert((instance.pid, instance.start_ticks));
                let known = self.known_mut(backend);
                known.life = known.life.filter(|life| life != instance);
            }
            Input::Flows { backend, open, leases } => {
                self.known_mut(backend).open = Some(open.total() + leases);
            }
            Input::Stopped { backend, .. } => {
                let known = self.known_mut(backend);
                *known = Known { out: known.out, ..Known::new(None, now) };
            }
            Input::StartFailed { backend, .. } => {
                // What hangs while it is stopped does not count as living.
                let known = self.known_mut(backend);
                (known.life, known.stopping) = (None, false);
            }
            Input::WarmedUp { backend, instance, result } => {
                self.hear_warm_up(backend, *instance, result.failed == 0);
            }
            Input::Cut => {
                if let Some(drain) = &mut self.drain {
                    drain.deadline_ms = drain.deadline_ms.min(now.boot_ms);
                }
            }
            Input::Hooked { call, reports } => {
                let consents = reports.iter().all(|report| report.failure.is_none());
                self.hear_hooks(*call, consents, now);
            }
            Input::Ready { backend, .. } => drop(self.taken_back.insert(backend.clone())),
            Input::Tick
            | Input::Diagnosed { .. }
            | Input::Sampled { .. }
            | Input::Rejuvenate { .. }
            | Input::Drain { .. }
            | Input::Pause { .. }
            | Input::Resume { .. }
            | Input::Maintenance { .. }
            | Input::Leave(_)
            | Input::Journal(_) => {}
        }
    }

    fn hear_hooks(&mut self, call: u64, consents: bool, now: Now) {
        let is_newest = |phase: Phase| {
            let calls = self.asked.iter().filter(|(_, (asked, _))| *asked == phase);
            calls.map(|(number, _)| number).max() == Some(&call)
        };
        // An answer to what is not asked any more counts for nothing.
        let asked = self.asked.get(&call).filter(|(phase, _)| consents && is_newest(*phase));
        if let Some((phase, backend)) = asked {
            self.consents.insert(*phase, (backend.clone(), now));
        }
    }

    /// The life of a backend, as far as the coordinator was told.
    pub(super) fn life(&self, name: &BackendName) -> Option<Instance> {
        self.backends[name].life
    }

    /// A record is on disk.
    pub(super) fn store(&mut self, record: Record) {
        match &record {
            Record::MaintenanceBegan => self.maintenance = true,
            Record::MaintenanceEnded => self.maintenance = false,
            Record::Handover { cycle, from, .. } => self.cycle_of = Some((*cycle, from.clone())),
            // What the step does beside that is done while it is under way: its end is said last.
            Record::Recovered { backend } => drop(self.machine_steps.remove(backend)),
            _ => {}
        }
        self.durable.push(record);
    }

    /// Holds an order against the account and takes note of it.
    pub(super) fn order(&mut self, output: &Output, now: Now) -> Verdict {
        match output {
            Output::Steer(new) => {
                self.may_steer(new, now)?;
                self.steer(new);
            }
            Output::Stop(name, step) => {
                self.may_act(name)?;
                self.may_stop(name, now)?;
                self.may_be_done(name, *step)?;
                let cycle = self.drain.as_ref().filter(|drain| drain.from == *name).map(|drain| drain.cycle);
                // A death may be answered without a record, and then the number of its cycle is used again.
                let known = self.backends.get_mut(name).unwrap();
                known.stopping = true;
                if let (Some(life), Some(cycle)) = (known.life, cycle) {
                    known.out = true;
                    if self.durable.contains(&Record::Stopping { cycle, instance: Some(life) }) {
                        self.restarted.insert(cycle, life);
                    }
                }
            }
            Output::Event(event) => {
                self.has_consent(event, now)?;
                self.may_rule(event, now)?;
                self.hear_event(event, now);
            }
            Output::Hook(call) => {
                if call.phase == Phase::BeforeStop && self.stop_asked.is_none() {
                    self.stop_asked = Some((call.backend.clone(), now));
                }
                self.asked.insert(call.call, (call.phase, call.backend.clone()));
            }
            Output::Start(name) => self.may_touch(name)?,
            Output::WarmUp { backend, .. } => self.order_warm_up(backend, now)?,
            Output::Refuse(name) if !self.is_dead(name, now) => {
                return Err(format!("the flows of {name} are reset, and it is not dead"));
            }
            Output::Journal(_)
            | Output::Refuse(_)
            | Output::Report(_)
            | Output::Diagnose { .. }
            | Output::Answer { .. } => {}
        }
        Ok(())
    }

    /// 1, 2 and 5: new flows go to backends that have just passed their checks, or back to the old one; and
    /// away from one that has not failed only after that was written down, and if enough others are left.
    fn may_steer(&self, new: &Steering, now: Now) -> Verdict {
        let changed = new.active != self.word.active;
        if new.epoch != self.word.epoch + u32::from(changed) {
            return Err(format!("epoch {} after {:?} for {new:?}", new.epoch, self.word));
        }
        if !self.policy.spread && new.active.len() > 1 {
            return Err(format!("{:?} are active, and it is no pool", new.active));
        }
        let fit = new.active.iter().filter(|name| !self.has_failed(name)).count();
        for to in new.active.difference(&self.word.active) {
            self.may_touch(to)?;
            let doubted = self.policy.spread && fit < self.policy.floor() && self.backends[to].life.is_some();
            if !self.is_ready(to, now) && !self.can_return_to(to, now) && !doubted {
                return Err(format!("new flows go to {to}, which has not just passed its checks"));
            }
            if !self.may_serve_cold(to, now) {
                return Err(format!("new flows go to {to}, which has not been warmed up"));
            }
        }
        // What was a pool, and is none any more, keeps one.
        let narrows = !self.policy.spread && self.word.active.len() > 1 && new.active.len() == 1;
        let left = self.word.active.difference(&new.active);
        for from in left.filter(|from| !self.has_failed(from) && !narrows) {
            let written = self.last_handover().is_some_and(|record| {
                matches!(record, Record::Handover { from: f, to, epoch, .. }
                    if f == from
                        && *epoch == new.epoch
                        && to.as_ref().is_none_or(|to| new.active.contains(to)))
            });
            if !written {
                return Err(format!("new flows leave {from} without a record"));
            }
            if fit < self.policy.floor() {
                return Err(format!("new flows leave {from}, and {fit} fit backends are left"));
            }
        }
        Ok(())
    }

    /// New flows go there from now on.
    pub(super) fn steer(&mut self, new: &Steering) {
        self.word = new.clone();
        for name in &new.active {
            let known = self.known_mut(name);
            (known.warm, known.warm_up) = (Some(true), WarmUp::default());
        }
        if self.drain.as_ref().is_some_and(|drain| new.active.contains(&drain.from)) {
            self.drain = None;
        }
        let Some(Record::Handover { cycle, from, to, epoch, reason, at, drain_deadline_ms, .. }) =
            self.last_handover()
        else {
            return;
        };
        let led = to.as_ref().map_or(!new.active.contains(from), |to| new.active.contains(to));
        let is_known = self.backends.contains_key(from);
        // One that could not be written down may have begun since.
        let is_last = self.drain.as_ref().is_none_or(|drain| drain.cycle <= *cycle);
        if is_known && is_last && led && *epoch == new.epoch && Some(from) == new.draining.as_ref() {
            self.drain = Some(Drain {
                cycle: *cycle,
                from: from.clone(),
                to: to.clone(),
                begun: *at,
                deadline_ms: *drain_deadline_ms,
                reason: reason.clone(),
                life: self.backends[from].life,
            });
        }
    }

    /// 2, 3 and 5: what lives and was fit is stopped only once its flows are gone or their time is over, while
    /// somebody else serves, after it was written down, and once.
    fn may_stop(&self, name: &BackendName, now: Now) -> Verdict {
        let known = &self.backends[name];
        if known.stopping {
            return Err(format!("{name} is stopped twice"));
        }
        let Some(life) = known.life else { return Ok(()) };
        self.may_touch(name)?;
        if self.is_dead(name, now) {
            return Ok(());
        }
        if known.warm == Some(false) || known.warm_up.is_overdue(&self.policy, now) {
            // No client has met this life.
            return Ok(());
        }
        let unready = known.overdue || known.is_overdue(&self.policy, now);
        // A life that followed the one that drained, and does not become ready, is one like any other.
        let drains = |drain: &&Drain| drain.from == *name && (drain.life == Some(life) || !unready);
        let Some(drain) = self.drain.as_ref().filter(drains) else {
            let verdict = format!("{name} lives and is stopped without a rejuvenation");
            return if unready { Ok(()) } else { Err(verdict) };
        };
        if known.open != Some(0) && now.boot_ms < drain.deadline_ms {
            return Err(format!("{name} is stopped with {:?} flows before its deadline", known.open));
        }
        let fit = self.word.active.iter().filter(|active| !self.has_failed(active)).count();
        let served = fit >= self.policy.floor();
        let unfit = known.has_fallen(&self.policy);
        let out = self.backends.iter().find(|(other, known)| {
            // Whom operators hold out they have decided about.
            *other != name && known.out && !self.held_out.contains(*other)
        });
        if let Some((other, _)) = out.filter(|_| !unfit) {
            return Err(format!("{name} is stopped while {other} is out"));
        }
        if !served && !unfit {
            return Err(format!("{name} is stopped while {fit} others serve"));
        }
        self.may_be_stopped(name, now)?;
        let record = Record::Stopping { cycle: drain.cycle, instance: Some(life) };
        if !self.durable.contains(&record) {
            return Err(format!("{name} is stopped without a record"));
        }
        match self.restarted.get(&drain.cycle).filter(|before| **before != life) {
            Some(before) => Err(format!("rejuvenation {} stops {before:?} and {life:?}", drain.cycle)),
            None => Ok(()),
        }
    }

    /// 7: operators decide about those whom they hold out.
    fn may_touch(&self, name: &BackendName) -> Verdict {
        if self.held_out.contains(name) { Err(format!("{name} is held out")) } else { Ok(()) }
    }

    /// It has ended; or it fell in silence and answered no client, while another one passes its checks.
    fn is_dead(&self, name: &BackendName, now: Now) -> bool {
        let known = &self.backends[name];
        let limit = 2 * self.policy.check_period_ms + PASS_AGE_MS;
        let passes = |other: &Known| {
            let fresh = other.last_pass.is_some_and(|at| now.ms_since(at) <= limit);
            other.life.is_some() && other.passed > 0 && fresh
        };
        let others = self.backends.iter().filter(|(other, _)| *other != name);
        let unanswered = known.turns.is_some_and(|(first, last)| first == last);
        let silent = known.has_fallen(&self.policy) && known.silent && unanswered;
        known.life.is_none() || silent && others.map(|(_, other)| other).any(passes)
    }

    fn hear_event(&mut self, event: &Event, now: Now) {
        match event {
            Event::Handover { cycle, from, .. } => self.cycle_of = Some((*cycle, from.clone())),
            Event::RejuvenationEnded { cycle, .. } => self.forget_cycle(*cycle),
            _ => {}
        }
        match event {
            Event::Handover { cycle, from, to, reason }
                if !matches!(reason, Reason::Died { .. })
                    && self.drain.as_ref().is_none_or(|drain| drain.cycle != *cycle) =>
            {
                self.drain = Some(Drain {
                    cycle: *cycle,
                    from: from.clone(),
                    to: to.clone(),
                    begun: now,
                    deadline_ms: self.policy.drain_deadline(now),
                    reason: reason.clone(),
                    life: self.backends[from].life,
                });
            }
            Event::State { backend, to: State::Draining | State::Drained, .. } if self.drain.is_none() => {
                self.take_up(backend, now);
            }
            Event::HeldOut { backend } => {
                self.held_out.insert(backend.clone());
                self.released.remove(backend);
            }
            Event::Ready { backend } => {
                self.held_out.remove(backend);
                self.released.insert(backend.clone());
            }
            // Taken back, it has as long to become ready as one that was started.
            Event::State {
                backend,
                from: State::Maintenance | State::Draining | State::Drained | State::Warming,
                to: State::Starting,
                ..
            } => {
                let known = self.known_mut(backend);
                known.unready_since = known.unready_since.or(Some(now));
            }
            Event::State { backend, from: State::Warming, to: State::Failed | State::Recovering, .. } => {
                self.give_up_warm_up(backend);
            }
            Event::StaysOut { backend, for_ms, .. } => {
                assert!(*for_ms <= self.policy.ejection_most_ms, "{event:?}");
                self.stay_out.insert(backend.clone(), now.plus_ms(*for_ms).boot_ms);
            }
            Event::RejuvenationEnded { cycle, .. } => {
                self.drain = self.drain.take().filter(|drain| drain.cycle != *cycle);
            }
            _ => {}
        }
    }

    /// A drain that could not be written down goes on under the last one that was, with all its time anew.
    fn take_up(&mut self, backend: &BackendName, now: Now) {
        let Some(Record::Handover { cycle, from, to, reason, at, .. }) = self.last_handover() else { return };
        if from == backend {
            self.drain = Some(Drain {
                cycle: *cycle,
                from: from.clone(),
                to: to.clone(),
                begun: *at,
                deadline_ms: self.policy.drain_deadline(now),
                reason: reason.clone(),
                life: self.backends[from].life,
            });
        }
    }

    fn went_back(&self, now: Now) -> Verdict {
        let Some(drain) = &self.drain else { return Ok(()) };
        let Some(to) = drain.to.as_ref().filter(|_| !self.policy.spread) else { return Ok(()) };
        let stays = self.word.active.contains(to);
        if stays && self.has_failed(to) && self.can_return_to(&drain.from, now) {
            return Err(format!("{to} has failed and new flows do not go back to {}", drain.from));
        }
        Ok(())
    }

    fn last_handover(&self) -> Option<&Record> {
        self.durable.iter().rev().find(|record| matches!(record, Record::Handover { .. }))
    }

    fn is_ready(&self, name: &BackendName, now: Now) -> bool {
        let known = &self.backends[name];
        let limit = 2 * self.policy.check_period_ms + PASS_AGE_MS;
        let fresh = known.last_pass.is_some_and(|at| now.ms_since(at) <= limit);
        known.life.is_some() && known.passed >= self.policy.rise && fresh
    }

    fn has_failed(&self, name: &BackendName) -> bool {
        self.backends.get(name).is_none_or(|known| known.life.is_none() || known.has_fallen(&self.policy))
    }

    /// It still drains, and was fit a short while ago.
    fn can_return_to(&self, name: &BackendName, now: Now) -> bool {
        let known = &self.backends[name];
        self.drain.as_ref().is_some_and(|drain| {
            let was_fit =
                matches!(drain.reason, Reason::Ceiling { .. } | Reason::Age { .. } | Reason::Operator);
            let observed = now.ms_since(drain.begun) <= self.policy.observation_ms;
            drain.from == *name
                && !known.stopping
                && known.life == drain.life
                && !self.has_failed(name)
                && (was_fit && observed || self.is_ready(name, now))
        })
    }

    fn known_mut(&mut self, name: &BackendName) -> &mut Known {
        self.backends.get_mut(name).unwrap()
    }
}
