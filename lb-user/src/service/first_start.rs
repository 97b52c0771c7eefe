//! Until a service is up for the first time: its commands must come up, or `baton up` says why they do not.

use super::UpError;
use super::runtime::Runtime;
use crate::clock::Now;
use crate::driver::process::diagnosis;
use crate::outlet;
use crate::recovery::{Input, State};

/// Lines of a command's output that an error message repeats.
const LAST_LINES: usize = 5;

impl Runtime {
    /// A command that ends before the service was ever up will not get better by being started again.
    pub(super) fn check_first_start(&mut self, input: &Input) -> Result<(), UpError> {
        if self.up_before.is_none() {
            return Ok(());
        }
        let (backend, why) = match input {
            Input::Exited { backend, status, .. } => {
                (backend, format!("the command {status} before it was ready"))
            }
            Input::StartFailed { backend, error } => (backend, error.clone()),
            _ => return Ok(()),
        };
        let lines =
            self.parts.backends.get(backend).map(|b| b.driver.last_lines(LAST_LINES)).unwrap_or_default();
        Err(UpError::NeverReady(diagnosis::with_last_lines(why, &lines)))
    }

    pub(super) fn check_first_ready(&mut self) -> Result<(), UpError> {
        let Some(deadline) = self.up_before else { return Ok(()) };
        let is_ready = |state| matches!(state, State::Active | State::Standby | State::Maintenance);
        if self.coordinator.states().all(|(_, state)| is_ready(state)) {
            self.up_before = None;
            let (service, roles) = (&self.service, self.roles());
            outlet::output().line(&format!("service {} is up at {}: {roles}", service.name, service.vip));
            return Ok(());
        }
        if Now::read().boot_ms < deadline.boot_ms {
            return Ok(());
        }
        let late =
            self.coordinator.states().find(|(_, state)| !is_ready(*state)).map(|(name, _)| name.clone());
        let backend = late.and_then(|name| self.parts.backends.get(&name));
        let pid = backend.and_then(|backend| backend.driver.alive()).map_or(0, |instance| instance.pid);
        let lines = backend.map(|backend| backend.driver.last_lines(LAST_LINES)).unwrap_or_default();
        let why = diagnosis::explain(
            backend.map_or(0, |backend| backend.address.port()),
            &diagnosis::listeners(pid),
            &lines,
        );
        let seconds = self.policy.ready_deadline_ms as f64 / 1000.0;
        Err(UpError::NeverReady(format!("not ready within {seconds} s: {why}")))
    }

    fn roles(&self) -> String {
        let roles: Vec<_> =
            self.coordinator.states().map(|(name, state)| format!("{name} is {state}")).collect();
        roles.join(", ")
    }
}
