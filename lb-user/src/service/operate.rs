//! What operators want of a running controller, done or only rehearsed.

use tokio::sync::oneshot;

use super::runtime::Runtime;
use crate::api::server::{Command, How, Operated, Verb};
use crate::api::status::{Cut, Done};
use crate::clock::Now;
use crate::recovery::{Input, Output, RequestId};

impl Runtime {
    pub(super) fn obey(&mut self, command: Command) {
        match command {
            // Whoever asked may have gone.
            Command::Status(answer) => drop(answer.send(self.status())),
            Command::Events(answer) => drop(answer.send(self.history.follow())),
            Command::Operate { verb, how, answer } => self.operate(verb, how, answer),
        }
    }

    pub(super) fn operate(&mut self, verb: Verb, how: How, answer: oneshot::Sender<Operated>) {
        self.next_request += 1;
        let request = self.next_request;
        let Some(input) = input(verb, request) else {
            // Whoever asked may have gone.
            let _ = answer.send(self.cut(how.dry_run));
            return;
        };
        if how.dry_run {
            // Whoever asked may have gone.
            let _ = answer.send(self.rehearse(&input));
            return;
        }
        self.waiting.insert(request, answer);
        self.step(&input);
        // Still unanswered means begun.
        if !how.wait
            && let Some(answer) = self.waiting.remove(&request)
        {
            let waits = self.coordinator.waits().map(str::to_owned);
            let _ = answer.send(Ok(Done { waits, ..Done::default() }));
        }
    }

    /// Ends the drain that is under way: what is open when the backend is stopped is cut.
    fn cut(&mut self, dry_run: bool) -> Operated {
        let Some(backend) = self.coordinator.draining_backend().cloned() else {
            return Err("nothing drains, so there is nothing to cut".into());
        };
        let then = self.coordinator.after_cut(&backend);
        if dry_run {
            let flows = self.open_flows(&backend).len();
            let plan = vec![format!("cut {flows} connections on backend {backend}, {then}")];
            return Ok(Done { plan, ..Done::default() });
        }
        let flows = self.refuse_flows(&backend) as u64;
        tracing::info!(%backend, flows, "the operator ends the drain");
        self.step(&Input::Cut);
        self.parts.plane.forget_counts();
        self.report_flows();
        Ok(Done { cut: Some(Cut { backend, flows, then }), ..Done::default() })
    }

    /// What a step would do at this moment, without doing it.
    fn rehearse(&self, input: &Input) -> Operated {
        let (mut rehearsed, now) = (self.coordinator.clone(), Now::read());
        let mut outputs = rehearsed.step(now, input.clone());
        if let Some(leave) = self.would_have_leave(&rehearsed) {
            outputs.extend(rehearsed.step(now, Input::Leave(leave)));
        }
        // What other verbs leave waiting is a rule's.
        let waits = rehearsed.waits().filter(|_| matches!(input, Input::Rejuvenate { .. }));
        planned(outputs, waits.map(str::to_owned))
    }
}

/// What a rehearsal has come to, and what that would wait for.
fn planned(outputs: Vec<Output>, waits: Option<String>) -> Operated {
    let mut plan = Vec::new();
    for output in outputs {
        match output {
            Output::Event(event) => plan.push(event.to_string()),
            Output::Answer { result: Err(why), .. } => return Err(why),
            _ => {}
        }
    }
    // No event says again what a rule waits for already.
    plan.extend(waits.clone().filter(|waits| !plan.contains(waits)));
    Ok(Done { plan, waits, ..Done::default() })
}

/// What a verb is to the coordinator; a cut takes the flow table, too.
fn input(verb: Verb, request: RequestId) -> Option<Input> {
    Some(match verb {
        Verb::Rejuvenate { backend, in_window } => Input::Rejuvenate { request, backend, in_window },
        Verb::Drain(backend) => Input::Drain { request, backend },
        Verb::Ready(backend) => Input::Ready { request, backend },
        Verb::Pause => Input::Pause { request },
        Verb::Resume => Input::Resume { request },
        Verb::Maintenance(on) => Input::Maintenance { request, on },
        Verb::Cut => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::recovery::event::Event;
    use crate::recovery::report::Reason;

    #[test]
    fn a_rehearsal_says_what_would_be_waited_for_whether_or_not_that_was_said_before() {
        let why = "for the next window, Sun 2026-03-29 02:30 UTC".to_owned();
        let said = Event::RejuvenationWaits { reason: Reason::Operator, why };
        let waits = said.to_string();
        for outputs in [Vec::new(), vec![Output::Event(said)]] {
            let done = planned(outputs, Some(waits.clone())).unwrap();
            assert_eq!((done.plan, done.waits), (vec![waits.clone()], Some(waits.clone())));
        }
        assert_eq!(planned(Vec::new(), None), Ok(Done::default()));
    }
}
