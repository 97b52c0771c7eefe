//! The lives of the backends as the shell follows them: whose end is waited for, and whose start or stop is ordered.

use super::runtime::Runtime;
use super::tasks;
use crate::names::BackendName;
use crate::recovery::{Input, Instance};

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
        match input {
            Input::Started { backend, instance } => {
                self.ordered.remove(backend);
                // Reports of others than the life that goes on have changed nothing.
                if self.coordinator.life(backend) == Some(*instance) {
                    self.watch_end(backend, *instance);
                }
            }
            Input::StartFailed { backend, .. } | Input::Stopped { backend, .. } => {
                // A stop is followed by a start at once.
                let is_over = !self.coordinator.awaits_report(backend);
                is_over.then(|| self.ordered.remove(backend));
            }
            _ => {}
        }
    }
}
