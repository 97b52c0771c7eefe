//! The lives of the backends as the shell follows them: whose end is waited for, and whose start or stop is ordered.

use super::runtime::Runtime;
use super::tasks;
use crate::names::BackendName;
use crate::recovery::{Coordinator, Input, Instance};

impl Runtime {
    pub(super) fn watch_adopted(&mut self) {
        let lives =
            self.parts.backends.iter().filter_map(|(name, b)| Some((name.clone(), b.driver.alive()?)));
        for (name, instance) in lives.collect::<Vec<_>>() {
            self.watch_end(&name, instance);
        }
    }

    fn watch_end(&mut self, name: &BackendName, instance: Instance) {
        let Some(backend) = self.parts.backends.get(name) else { return };
        let driver = backend.driver.clone();
        let watched = tasks::watch_end(name.clone(), driver, instance, self.reporter.clone());
        self.ends.insert(name.clone(), watched);
    }

    /// An order has come to its end.
    pub(super) fn note_report(&mut self, input: &Input) {
        if let Some(backend) = over(input, &self.coordinator) {
            self.ordered.remove(backend);
        }
        // Reports of others than the life that goes on have changed nothing.
        if let Input::Started { backend, instance } = input
            && self.coordinator.life(backend) == Some(*instance)
        {
            self.watch_end(backend, *instance);
        }
    }
}

/// The backend whose last order this report was about, now that the coordinator has heard it. Many a report leads
/// to the next order at once: a stop is followed by a start, and a start that failed by another stop.
fn over<'i>(input: &'i Input, coordinator: &Coordinator) -> Option<&'i BackendName> {
    match input {
        Input::Started { backend, .. }
        | Input::StartFailed { backend, .. }
        | Input::Stopped { backend, .. } => {
            Some(backend).filter(|backend| !coordinator.awaits_report(backend))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Now;
    use crate::recovery::{Evidence, Output, Policy, Rung, Step};

    fn step(coordinator: &mut Coordinator, at_ms: u64, input: &Input) -> Vec<Output> {
        coordinator.step(Now { boot_ms: at_ms, unix_ms: at_ms }, input.clone())
    }

    #[test]
    fn a_start_that_leads_to_a_stop_at_once_leaves_an_order_under_way() {
        let a: BackendName = "a".parse().unwrap();
        let rung = |step| Rung { step, evidence: Evidence::Process };
        let ladders = [(a.clone(), vec![rung(Step::Graceful), rung(Step::Restart)])].into();
        let policy = Policy { ladders, retry_ms: 10, ..Policy::default() };
        let now = Now { boot_ms: 1, unix_ms: 1 };
        let (mut coordinator, _) = Coordinator::new("web".parse().unwrap(), policy, [a.clone()], &[], now);
        let started = |pid| Input::Started { backend: a.clone(), instance: Instance { pid, start_ticks: 1 } };
        let first = started(7);
        step(&mut coordinator, 2, &first);
        assert_eq!(over(&first, &coordinator), Some(&a));
        let status = "killed by signal 9".to_owned();
        step(
            &mut coordinator,
            3,
            &Input::Exited { backend: a.clone(), instance: Instance { pid: 7, start_ticks: 1 }, status },
        );
        step(&mut coordinator, 20, &Input::Tick);
        let stopped = Input::Stopped { backend: a.clone(), cut: Vec::new() };
        let outputs = step(&mut coordinator, 21, &stopped);
        assert!(outputs.contains(&Output::Start(a.clone())), "{outputs:?}");
        assert_eq!(over(&stopped, &coordinator), None);
        // What was to be ended is said to have started: it is ended by force.
        let outputs = step(&mut coordinator, 22, &first);
        assert!(outputs.contains(&Output::Stop(a.clone(), Step::Restart)), "{outputs:?}");
        assert_eq!(over(&first, &coordinator), None);
        step(&mut coordinator, 23, &stopped);
        let next = started(8);
        step(&mut coordinator, 24, &next);
        assert_eq!(over(&next, &coordinator), Some(&a));
    }
}
