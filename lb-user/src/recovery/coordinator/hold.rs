//! What operators decide: who is held out, and whether rules may ask for rejuvenations.
//!
//! Their word is journaled and stands until they take it back, whoever dies and comes again meanwhile.

use super::Coordinator;
use crate::clock::Now;
use crate::names::BackendName;
use crate::recovery::backend::State;
use crate::recovery::event::Event;
use crate::recovery::journal::Record;
use crate::recovery::message::{Output, RequestId};
use crate::recovery::policy::NEVER_MS;
use crate::recovery::report::{Outcome, Reason};

/// How a backend gets from where it stands to where it is held out.
enum Way {
    /// It is there.
    Already,
    /// Nothing has to end first.
    AtOnce,
    /// It drains, and is not restarted afterwards.
    Drains,
    /// Others have to take over; with the backend that does, if one alone does.
    HandsOver(Option<BackendName>),
}

impl Coordinator {
    pub(super) fn drain_requested(&mut self, request: RequestId, name: &BackendName, now: Now) {
        let way = match self.way_out(name, now) {
            Ok(way) => way,
            Err(why) => return self.answer(request, Err(why)),
        };
        if matches!(way, Way::Already) {
            return self.answer(request, Ok(()));
        }
        let Some(backend) = self.backends.get_mut(name) else { return };
        let was_held = std::mem::replace(&mut backend.held, true);
        if !was_held {
            self.record(Record::HeldOut { backend: name.clone() });
        }
        match way {
            Way::HandsOver(to) => self.begin_cycle(name, to.as_ref(), Reason::Operator, Some(request), now),
            Way::Drains => {
                if let Some(cycle) = &mut self.cycle {
                    cycle.requests.push(request);
                    cycle.drain_deadline_ms = NEVER_MS;
                }
                if self.state_of(name) == Some(State::Drained) {
                    self.hold_out(name, now);
                }
            }
            Way::Already | Way::AtOnce => {
                self.hold_out(name, now);
                self.answer(request, Ok(()));
            }
        }
    }

    fn way_out(&self, name: &BackendName, now: Now) -> Result<Way, String> {
        if let Some(why) = self.why_unknown(name).or_else(|| self.why_not_written()) {
            return Err(why);
        }
        let backend = &self.backends[name];
        match backend.state {
            State::Maintenance => Ok(Way::Already),
            State::Draining | State::Drained => Ok(Way::Drains),
            State::Failed => self.way_of_one_without_new_flows(name),
            State::Starting | State::Warming if backend.instance.is_some() => {
                self.way_of_one_without_new_flows(name)
            }
            State::Starting | State::Warming | State::Recovering => {
                Err(format!("{name} is {}: wait until its command runs", backend.state))
            }
            State::Standby => match self.reason_to_refuse() {
                Some(why) => Err(why),
                None => self.way_of_one_without_new_flows(name),
            },
            State::Active => {
                if let Some(why) = self.reason_to_refuse() {
                    return Err(why);
                }
                if self.policy.spread {
                    return self.why_not_spared(name).map_or(Ok(Way::HandsOver(None)), Err);
                }
                let to = self.ready_standby(now).ok_or_else(|| self.why_no_standby(now))?;
                Ok(Way::HandsOver(Some(to)))
            }
        }
    }

    /// A life that has served may have flows yet, though new ones go elsewhere: these have to end first.
    fn way_of_one_without_new_flows(&self, name: &BackendName) -> Result<Way, String> {
        let backend = &self.backends[name];
        if !backend.has_worked || backend.instance.is_none() {
            return Ok(Way::AtOnce);
        }
        if let Some(cycle) = &self.cycle {
            let (number, from) = (cycle.number, &cycle.from);
            return Err(format!("rejuvenation {number} of {from} is under way: wait until it ends"));
        }
        // Where too few serve, one that drains would only be gone back to.
        match self.fit_active().next().filter(|_| !self.policy.spread || self.has_enough()) {
            Some(active) => Ok(Way::HandsOver(Some(active.clone()).filter(|_| !self.policy.spread))),
            None => Ok(Way::AtOnce),
        }
    }

    /// Nothing is in the way of holding a backend out any more.
    pub(super) fn hold_out(&mut self, name: &BackendName, now: Now) {
        if self.steering.draining.as_ref() == Some(name) {
            self.steer_old(None);
        }
        if let Some(backend) = self.backends.get_mut(name) {
            backend.retry_at = None;
        }
        self.end_recovery(name);
        self.set_state(name, State::Maintenance, None, now);
        self.out.push(Output::Event(Event::HeldOut { backend: name.clone() }));
        if let Some(mut cycle) = self.cycle.take_if(|cycle| cycle.from == *name) {
            let detail = cycle.unseen.take();
            self.end_cycle(cycle, Outcome::HeldOut, detail, now);
        }
    }

    pub(super) fn ready_requested(&mut self, request: RequestId, name: &BackendName, now: Now) {
        let is_held = self.is_held(name);
        let left_alone = self.backends.get(name).is_some_and(|backend| backend.ladder.quarantined);
        let why = self.why_unknown(name).or_else(|| self.why_not_written()).or_else(|| {
            let state = self.state_of(name).map_or_else(String::new, |state| state.to_string());
            (!is_held && !left_alone)
                .then(|| format!("{name} is {state} and not held out: there is nothing to take back"))
        });
        if let Some(why) = why {
            return self.answer(request, Err(why));
        }
        self.release(name);
        self.lift_quarantine(name, "the operator wants it");
        // One that died while it drained is started as any other; one that was left alone may have come back by
        // itself.
        let state = self.state_of(name);
        if state == Some(State::Recovering) || !is_held && state != Some(State::Failed) {
            return self.answer(request, Ok(()));
        }
        let drained_so_far = self.cycle.take_if(|cycle| cycle.from == *name);
        let lives = self.backends.get(name).is_some_and(|backend| backend.instance.is_some());
        if lives {
            self.come_back(name, now);
        } else {
            // Whoever held it out may have started it again by hand: nothing is ended first, and a start takes what
            // runs as it is.
            self.set_state(name, State::Starting, Some("no longer held out".to_owned()), now);
            self.out.push(Output::Start(name.clone()));
        }
        if let Some(cycle) = drained_so_far {
            self.end_cycle(cycle, Outcome::CalledOff, Some("the operator wants it back".into()), now);
        }
        self.answer(request, Ok(()));
    }

    /// A backend whose life has gone on meanwhile is what its checks allow, or will be when they pass.
    fn come_back(&mut self, name: &BackendName, now: Now) {
        let is_ready = self.backends.get(name).is_some_and(|backend| backend.is_ready(&self.policy, now));
        let why = Some("no longer held out".to_owned());
        let is_warm = self.backends.get(name).is_some_and(|backend| self.is_warm(backend));
        if is_ready && is_warm && self.policy.spread {
            return self.join(name, why, now);
        }
        // One that is cold yet begins its warm-up at its next check.
        self.set_state(name, if is_ready && is_warm { State::Standby } else { State::Starting }, why, now);
        if self.steering.draining.as_ref() == Some(name) {
            self.steer_old(None);
        }
    }

    /// Whether a backend is held out, or is to be once it has drained.
    pub fn is_held(&self, name: &BackendName) -> bool {
        self.backends.get(name).is_some_and(|backend| backend.held)
    }

    /// A backend is not held out any more, wherever it stands.
    pub(super) fn release(&mut self, name: &BackendName) {
        let Some(backend) = self.backends.get_mut(name).filter(|backend| backend.held) else { return };
        backend.held = false;
        self.record(Record::Ready { backend: name.clone() });
        self.out.push(Output::Event(Event::Ready { backend: name.clone() }));
    }

    pub(super) fn pause_requested(&mut self, request: RequestId, pause: bool) {
        if self.paused != pause {
            if let Some(why) = self.why_not_written() {
                return self.answer(request, Err(why));
            }
            self.paused = pause;
            let (record, event) =
                if pause { (Record::Paused, Event::Paused) } else { (Record::Resumed, Event::Resumed) };
            self.record(record);
            self.out.push(Output::Event(event));
        }
        self.answer(request, Ok(()));
    }

    fn answer(&mut self, request: RequestId, result: Result<(), String>) {
        self.out.push(Output::Answer { request, result: result.map(|()| None) });
    }
}
