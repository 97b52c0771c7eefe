//! What the shell does about the checks: weighs each that has ended against what the packet path has counted and
//! against whether this process was there to make it, and tells the coordinator.

use std::time::Duration;

use super::definition::sees_turns;
use super::runtime::Runtime;
use crate::check::{self, AgentWord, Wanted};
use crate::clock::Now;
use crate::names::BackendName;
use crate::recovery::{Finding, Input, Instance, RequestId, State};

/// What the tasks that watch a backend have seen of it.
#[derive(Debug)]
pub(super) enum Seen {
    /// A check has ended.
    Check(CheckEnd),
    /// Its agent has spoken.
    Agent(BackendName, AgentWord),
}

/// What the agent of a backend has said so far.
#[derive(Clone, Debug, Default)]
pub(super) struct Advice {
    /// Its last words, for people.
    pub(super) last: String,
    /// The word for what is wrong with the backend.
    unwell: Option<&'static str>,
    /// It wants the backend held out, and that was asked of the coordinator.
    asked_to_hold: bool,
}

/// A check that has ended.
#[derive(Debug)]
pub(super) struct CheckEnd {
    pub(super) backend: BackendName,
    /// The life that was checked.
    pub(super) instance: Instance,
    pub(super) result: Result<(), Finding>,
    pub(super) took: Duration,
}

impl Runtime {
    /// Takes in what was seen of a backend.
    pub(super) fn see(&mut self, seen: Seen) {
        match seen {
            Seen::Check(end) => self.check_ended(end),
            Seen::Agent(backend, word) => self.agent_said(&backend, &word),
        }
    }

    fn agent_said(&mut self, backend: &BackendName, word: &AgentWord) {
        let advice = self.advice.entry(backend.clone()).or_default();
        let said = word.to_string();
        if advice.last != said {
            tracing::info!(%backend, %said, "the agent of a backend says something else than before");
            advice.last = said;
        }
        advice.unwell = word.health.map_or(advice.unwell, Result::err);
        let held = advice.asked_to_hold;
        match word.wanted {
            Some(Wanted::Drain) => self.hold_for_agent(backend),
            // What an operator holds out, only an operator takes back.
            Some(Wanted::Ready) if held => {
                self.obey_agent(|request| Input::Ready { request, backend: backend.clone() });
                self.advice.entry(backend.clone()).or_default().asked_to_hold = false;
            }
            Some(Wanted::Ready) | None => {}
        }
        if let Some(percent) = word.percent {
            self.weigh_by_agent(backend, percent);
        }
    }

    /// Holds a backend out as an operator would, again and again until that is possible.
    fn hold_for_agent(&mut self, backend: &BackendName) {
        let state = self.coordinator.states().find(|(name, _)| *name == backend).map(|(_, state)| state);
        if matches!(state, Some(State::Active | State::Standby | State::Starting)) {
            self.obey_agent(|request| Input::Drain { request, backend: backend.clone() });
            let is_held = self.coordinator.is_held(backend);
            self.advice.entry(backend.clone()).or_default().asked_to_hold = is_held;
        }
    }

    /// Nobody waits for the answer.
    fn obey_agent(&mut self, input: impl FnOnce(RequestId) -> Input) {
        self.next_request += 1;
        self.step(&input(self.next_request));
    }

    fn weigh_by_agent(&mut self, backend: &BackendName, percent: u16) {
        let configured = self.service.backends.iter().find(|known| known.name == *backend);
        let Some(configured) = configured.map(|known| u32::from(known.weight)) else { return };
        let weight = (configured * u32::from(percent)).div_ceil(100);
        let weight = u16::try_from(weight).unwrap_or(u16::MAX);
        let Some(parts) = self.parts.backends.get_mut(backend) else { return };
        if std::mem::replace(&mut parts.weight, weight) != weight {
            self.parts.steer(self.coordinator.steering());
        }
    }

    /// A check has ended: its result, and what clients had meanwhile.
    fn check_ended(&mut self, end: CheckEnd) {
        let CheckEnd { backend, instance, mut result, took } = end;
        let id =
            self.parts.backends.get(&backend).map(|parts| parts.id).filter(|_| sees_turns(&self.service));
        // Without the counters nobody is declared dead who may live, or slow who may be busy.
        let counters = id.and_then(|id| self.parts.plane.tables().backend_counters(id).ok());
        if let Some(counters) = counters {
            let ended = check::Ended { life: instance, took, turns: counters.turns };
            result = self.paces.weigh(&backend, ended, result, Now::read());
            if result.is_err() {
                self.step(&Input::Answered { backend: backend.clone(), turns: counters.turns });
                let (flows, resets) = (counters.flows_new, counters.resets_out);
                self.step(&Input::Asked { backend: backend.clone(), flows, resets });
            }
        }
        let unwell = self.advice.get(&backend).and_then(|advice| advice.unwell);
        if let (Ok(()), Some(word)) = (&result, unwell) {
            result = Err(Finding::WrongAnswer(format!("its agent says `{word}`")));
        }
        self.step(&Input::Checked { backend, instance, result });
    }
}

/// Whether a check failed for want of this process: it was not there to make it in time, so it says nothing of
/// the backend. `late` is how much later than planned the check began, `took` how long it took until its end was
/// seen, `limit` its time.
pub(super) fn without_prober(
    result: Result<(), Finding>,
    late: Duration,
    took: Duration,
    limit: Duration,
) -> Result<(), Finding> {
    let held_up = late.max(took.saturating_sub(limit));
    match result {
        Err(Finding::TimedOut) if held_up > limit / 2 => Err(Finding::Unchecked(format!(
            "the controller itself was held up for {} ms",
            held_up.as_millis()
        ))),
        result => result,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_check_that_nobody_was_there_to_make_says_nothing_of_the_backend() {
        let ms = Duration::from_millis;
        let weighed = |late, took, result| without_prober(result, ms(late), ms(took), ms(1_000));
        let timed_out = || Err(Finding::TimedOut);
        assert_eq!(weighed(3, 1_001, timed_out()), timed_out());
        assert!(matches!(weighed(900, 1_001, timed_out()), Err(Finding::Unchecked(_))));
        let held_up = "the controller itself was held up for 2000 ms".to_owned();
        assert_eq!(weighed(3, 3_000, timed_out()), Err(Finding::Unchecked(held_up)));
        assert_eq!(weighed(900, 5, Err(Finding::Refused)), Err(Finding::Refused));
        assert_eq!(weighed(900, 5, Ok(())), Ok(()));
    }
}
