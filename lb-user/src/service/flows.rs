//! What the shell does about the flows of a service: counts them, refuses them, and forgets them.

use lb_common::{BackendState, FlowState};

use super::definition::{honours_affinity, moves_flows};
use super::runtime::Runtime;
use crate::clock::Now;
use crate::driver::Driver;
use crate::flow_counts::{FlowCounts, OpenFlows};
use crate::names::BackendName;
use crate::recovery::event::Event;
use crate::recovery::{CutFlow, Input, Output, State};

impl Runtime {
    /// The flows that a stop of this backend would cut.
    pub(super) fn open_flows(&mut self, name: &BackendName) -> Vec<CutFlow> {
        let Some(id) = self.parts.backends.get(name).map(|backend| backend.id) else { return Vec::new() };
        if moves_flows(&self.service) {
            return Vec::new();
        }
        let plane = &self.parts.plane;
        let flows = plane.tables().flows(&plane.timeouts());
        let open = flows.iter().filter(|flow| flow.backend == id && flow.state != FlowState::Closed);
        open.map(|flow| CutFlow {
            client: flow.client,
            state: flow.state.name().to_owned(),
            idle_ms: flow.idle_ms,
            awaiting_response: flow.awaits_response,
        })
        .collect()
    }

    /// Counts the open flows of each backend and tells the coordinator.
    pub(super) fn report_flows(&mut self) {
        let counts = self.parts.plane.counts(Now::read());
        let backends = self.parts.backends.iter();
        let counts: Vec<_> = backends.map(|(name, b)| (name.clone(), counts[usize::from(b.id)])).collect();
        let (moves, honours) = (moves_flows(&self.service), honours_affinity(&self.service));
        for (backend, FlowCounts { open, leases, .. }) in counts {
            let open = if moves { OpenFlows::default() } else { open };
            self.step(&Input::Flows { backend, open, leases: if honours { leases } else { 0 } });
        }
    }

    /// Answers the flows of a backend with resets from now on; how many are open. Their clients learn at their
    /// next packet, and not when the processes are gone.
    pub(super) fn refuse_flows(&mut self, name: &BackendName) -> usize {
        let open = self.open_flows(name);
        let count = open.len();
        self.parts.set_backend_state(name, BackendState::Refused);
        self.cuts.insert(name.clone(), open);
        count
    }

    /// Lets the flows of backends go on that are to serve again after all: what was cut is told, and a stop that comes
    /// later cuts what is open then.
    pub(super) fn refuse_no_longer(&mut self) {
        let released: Vec<_> = self
            .cuts
            .extract_if(.., |name, _| self.coordinator.goes_on(name))
            .map(|(name, _)| name)
            .collect();
        for name in released {
            self.parts.set_backend_state(&name, BackendState::Present);
        }
    }

    /// Whether a stop ends the backend's processes without delay, so that their sockets tell its clients.
    pub(super) fn is_killed_at_once(&self, name: &BackendName) -> bool {
        let driver = self.parts.backends.get(name).map(|backend| &backend.driver);
        driver.is_some_and(|driver| matches!(driver, Driver::Process(_)) && driver.alive().is_some())
    }

    /// Refuses the flows of the dead that could not be killed after all.
    pub(super) fn refuse_survivors(&mut self, input: &Input) {
        let (Input::Stopped { backend, .. } | Input::StartFailed { backend, .. }) = input else { return };
        if self.dying.remove(backend) && matches!(input, Input::StartFailed { .. }) {
            self.parts.set_backend_state(backend, BackendState::Refused);
        }
    }

    /// Forgets the flows of backends whose life has ended while they were held out, when they are taken back.
    pub(super) fn forget_ended(&self, outputs: &[Output]) {
        for output in outputs {
            let Output::Event(Event::State {
                backend, from: State::Maintenance, to: State::Starting, ..
            }) = output
            else {
                continue;
            };
            let ended = self.parts.backends.get(backend).filter(|_| self.coordinator.life(backend).is_none());
            if let Some(parts) = ended {
                self.parts.plane.forget_backend(parts.id);
            }
        }
    }

    /// Forgets the flows of a backend that has been stopped: nobody is there who could go on with them, unless
    /// somebody else stops and starts it, of whom nothing is known.
    pub(super) fn forget_stopped(&mut self, input: &Input) {
        let Input::Stopped { backend, .. } = input else { return };
        self.cuts.remove(backend);
        let stopped = self.parts.backends.get(backend).filter(|parts| parts.driver.restarts());
        if let Some(parts) = stopped {
            self.parts.plane.forget_backend(parts.id);
        }
    }
}
