//! Failures that are counted, and rules in shadow: what would have been done is said and counted, and not done.

use super::Coordinator;
use crate::clock::Now;
use crate::names::BackendName;
use crate::recovery::backend::State;
use crate::recovery::event::Event;
use crate::recovery::message::Output;
use crate::recovery::report::Reason;

/// What the rules have made of a backend, beyond its state.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Standing {
    /// What its last check found wrong, for people; none if it passed.
    pub finding: Option<String>,
    /// How often it has failed its checks lately.
    pub ejections: u32,
    /// How long it stays out for that yet, in milliseconds.
    pub stays_out_ms: u64,
    /// How often a rule in shadow would have taken it out for its checks.
    pub shadow_ejections: u64,
    /// How often a rule in shadow would have renewed it.
    pub shadow_rejuvenations: u64,
}

impl Coordinator {
    /// What the rules have made of each backend.
    pub fn standing(&self, name: &BackendName, now: Now) -> Option<Standing> {
        let backend = self.backends.get(name)?;
        Some(Standing {
            finding: backend.evidence.last_finding.as_ref().map(ToString::to_string),
            ejections: backend.ejections.times(&self.policy, now),
            stays_out_ms: backend.ejections.left_ms(now),
            shadow_ejections: backend.shadow.ejections,
            shadow_rejuvenations: backend.shadow.rejuvenations,
        })
    }

    /// Counts a failure of a backend that was fit, or speaks of it if that is all that is wanted.
    pub(super) fn note_fall(&mut self, name: &BackendName, now: Now) {
        let Some(backend) = self.backends.get_mut(name) else { return };
        if backend.has_risen(&self.policy) {
            backend.ejections.note_rise();
            backend.shadow.is_fallen = false;
        }
        let is_in =
            matches!(backend.state, State::Active | State::Standby | State::Draining | State::Drained);
        if !is_in || !backend.evidence.is_unfit(&self.policy) {
            return;
        }
        let finding = backend.evidence.last_finding.as_ref().map(ToString::to_string).unwrap_or_default();
        if self.policy.shadow.checks {
            if !std::mem::replace(&mut backend.shadow.is_fallen, true) {
                backend.shadow.ejections += 1;
                self.out.push(Output::Event(Event::WouldEject { backend: name.clone(), finding }));
            }
            return;
        }
        if let Some(wait) = backend.ejections.note_fall(&self.policy, now).filter(|wait| *wait > 0) {
            let times = backend.ejections.times(&self.policy, now);
            self.out.push(Output::Event(Event::StaysOut { backend: name.clone(), times, for_ms: wait }));
        }
    }

    /// If the ceiling is only spoken of, names who is beyond it, once in a life.
    pub(super) fn watch_shadow(&mut self, now: Now) {
        if !self.policy.shadow.ceiling {
            return;
        }
        let over = self.steering.active.iter().find_map(|name| {
            let backend = self.backends.get(name)?;
            let is_new = !backend.shadow.is_over_ceiling && backend.is_of_age(&self.policy, now);
            Some((name.clone(), self.over_ceiling(name).filter(|_| is_new)?))
        });
        if let Some((name, reason)) = over {
            self.speak_of(&name, reason);
        }
    }

    fn speak_of(&mut self, name: &BackendName, reason: Reason) {
        let Some(backend) = self.backends.get_mut(name) else { return };
        backend.shadow.is_over_ceiling = true;
        backend.shadow.rejuvenations += 1;
        self.out.push(Output::Event(Event::WouldRejuvenate { backend: name.clone(), reason }));
    }

    /// Why a rule does not hand over to this backend although it is ready: it has failed too often lately.
    pub(super) fn why_stays_out(&self, name: &BackendName, now: Now) -> Option<String> {
        let ejections = self.backends.get(name)?.ejections;
        let left = ejections.left_ms(now).div_ceil(1_000);
        (left > 0).then(|| {
            format!("{name} has failed its checks again and again (stays out for {left} s yet, unless it is needed)")
        })
    }
}
