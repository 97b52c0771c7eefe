//! Leave to begin: operators' rejuvenations that wait, windows, and the budget.
//!
//! What a service wants to begin is found anew at each step. What it may begin is told it from outside, and counts
//! for the step in which it is told: by the next one another service may have taken the room.

use super::Coordinator;
use crate::clock::Now;
use crate::names::BackendName;
use crate::recovery::budget::{Leave, Need, Wish};
use crate::recovery::event::Event;
use crate::recovery::gate::Gate;
use crate::recovery::hook::Phase;
use crate::recovery::message::{Output, RequestId};
use crate::recovery::report::Reason;
use crate::recovery::window::Openness;

/// An operator's rejuvenation that has not begun.
#[derive(Clone, Debug)]
pub(super) struct Pending {
    pub(super) request: RequestId,
    pub(super) backend: Option<BackendName>,
    in_window: bool,
    /// It could have begun when it was asked for, but for windows, the budget and hooks: whatever else comes in
    /// between is waited for, too.
    is_accepted: bool,
    /// It could not begin whoever gave it leave, and so holds up no rule.
    pub(super) is_held_back: bool,
    /// What it waits for, as last said.
    said: Option<String>,
}

impl Pending {
    pub(super) fn new(request: RequestId, backend: Option<BackendName>, in_window: bool) -> Self {
        Self { request, backend, in_window, is_accepted: false, is_held_back: false, said: None }
    }
}

impl Coordinator {
    /// What this service needs of the budget, as of the last step.
    pub fn need(&self) -> Need {
        match (&self.cycle, &self.wish) {
            (Some(cycle), _) => {
                Need::UnderWay { backend: cycle.from.clone(), planned: cycle.reason.is_planned() }
            }
            (None, Some(wish)) => Need::Begin(wish.clone()),
            (None, None) => Need::Nothing,
        }
    }

    /// What a rejuvenation that is wanted waits for, for people: an operator's before a rule's.
    pub fn waits(&self) -> Option<&str> {
        self.waits.first().map(String::as_str)
    }

    /// The same of all that are wanted.
    pub fn all_waits(&self) -> Option<String> {
        (!self.waits.is_empty()).then(|| self.waits.join("; "))
    }

    pub(super) fn requested(&mut self, pending: Pending) {
        let why = match &self.pending {
            Some(_) => {
                Some("a rejuvenation that an operator asked for waits already: `baton status` says for what")
            }
            None if self.maintenance => Some("the service is in maintenance: end that first"),
            None => None,
        };
        match why {
            Some(why) => {
                self.out.push(Output::Answer { request: pending.request, result: Err(why.to_owned()) });
            }
            None => self.pending = Some(pending),
        }
    }

    /// Begins what an operator has asked for, as soon as it may.
    pub(super) fn watch_request(&mut self, now: Now) {
        let Some(pending) = self.pending.clone() else { return };
        let Pending { request, backend, in_window, is_accepted, .. } = pending.clone();
        let found = self.whom_to_renew(backend.clone(), now);
        let never = backend.as_ref().and_then(|name| self.why_never_renewed(name));
        let is_hopeless = !is_accepted || self.is_too_small();
        if let Some(why) = never.or_else(|| found.clone().err().filter(|_| is_hopeless)) {
            self.pending = None;
            return self.withdraw(&pending, why);
        }
        let found = found.and_then(|found| match self.why_closed(now).filter(|_| in_window) {
            Some(why) => Err(why),
            None => Ok(found),
        });
        if let Some(pending) = &mut self.pending {
            (pending.is_accepted, pending.is_held_back) = (true, found.is_err());
        }
        let (from, to) = match found {
            Ok(found) => found,
            Err(why) => return self.wait(Reason::Operator, why),
        };
        if self.has_leave(&from, &Reason::Operator) && self.hooks_consent(&from, &Reason::Operator, true, now)
        {
            self.pending = None;
            self.begin_cycle(&from, to.as_ref(), Reason::Operator, Some(request), now);
        } else if self.waits.is_empty() && self.gates.get(&Phase::BeforeHandover).is_some_and(Gate::is_asked)
        {
            self.waits
                .push(format!("rejuvenation ({}) waits: for its hooks, which may refuse", Reason::Operator));
        }
    }

    /// An operator's rejuvenation is not going to begin.
    pub(super) fn withdraw(&mut self, pending: &Pending, why: String) {
        if pending.is_accepted {
            // Whoever asked for it may not be there any more.
            self.out.push(Output::Event(Event::RejuvenationWithdrawn { why: why.clone() }));
        }
        self.out.push(Output::Answer { request: pending.request, result: Err(why) });
    }

    /// Says what a rejuvenation waits for, once.
    pub(super) fn wait(&mut self, reason: Reason, why: String) {
        // The times in it change with every look, the state does not.
        let key = Some(why.split('(').next().unwrap_or_default().to_owned());
        self.waits.push(format!("rejuvenation ({reason}) waits: {why}"));
        let said = match &mut self.pending {
            Some(pending) if reason == Reason::Operator => &mut pending.said,
            _ => &mut self.waits_for,
        };
        if *said != key {
            *said = key;
            self.out.push(Output::Event(Event::RejuvenationWaits { reason, why }));
        }
    }

    /// Whether what a rule wants may begin at this moment; else it is said, once, what that waits for.
    pub(super) fn may_begin(&mut self, from: &BackendName, reason: &Reason, now: Now) -> bool {
        let breaks = self.policy.ceiling_breaks_window && matches!(reason, Reason::Ceiling { .. });
        if let Some(why) = self.why_closed(now).filter(|_| !breaks) {
            self.wait(reason.clone(), why);
            return false;
        }
        // Who is refused by hooks holds up nobody else meanwhile.
        !self.is_vetoed(now) && self.has_leave(from, reason)
    }

    fn why_closed(&self, now: Now) -> Option<String> {
        match self.policy.openness(now) {
            Openness::Always | Openness::Open { .. } => None,
            Openness::Closed { when, .. } => Some(format!("for the next window, {when}")),
        }
    }

    fn has_leave(&mut self, from: &BackendName, reason: &Reason) -> bool {
        if !self.policy.asks {
            return true;
        }
        let wish = Wish { backend: from.clone(), by_operator: *reason == Reason::Operator };
        // It stays wanted for as long as hooks think about it.
        self.wish = Some(wish.clone());
        let known = self.leave.as_ref().filter(|(wanted, _)| *wanted == wish).map(|(_, leave)| leave.clone());
        match known {
            Some(Leave::Granted) => self.leave_is_fresh,
            Some(Leave::Waits(why)) => {
                self.wait(reason.clone(), why);
                false
            }
            None => false,
        }
    }

    /// The answer to what was wanted at the last step.
    pub(super) fn hear_leave(&mut self, leave: Leave) {
        self.leave = self.wish.clone().map(|wish| (wish, leave));
    }

    /// Whether this answer need not be told: it is the one that was, and nothing would come of it.
    pub fn heard(&self, leave: &Leave) -> bool {
        let is_known = self.leave.as_ref().is_some_and(|(_, known)| known == leave);
        is_known && (self.leave_is_fresh || *leave != Leave::Granted)
    }

    /// What is not wanted any more needs no leave.
    pub(super) fn forget_leave(&mut self) {
        if self.cycle.is_some() {
            self.wish = None;
        }
        self.leave = self.leave.take().filter(|(wanted, _)| self.wish.as_ref() == Some(wanted));
    }
}
