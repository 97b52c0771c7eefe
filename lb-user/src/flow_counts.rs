//! Flows of a backend, counted by what they are: one type for the drain, the status and the reports.

use lb_common::FlowState;
use serde::{Deserialize, Serialize};

/// An established flow without a request under way is quiet after this long without a packet.
pub const QUIET_MS: u64 = 5_000;

/// Flows that a restart of their backend would cut.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct OpenFlows {
    /// Handshakes, and flows that only one side claims.
    pub half_open: u64,
    /// Established flows.
    pub established: u64,
    /// One side has finished.
    pub half_closed: u64,
    /// Of all these: a request is under way that no response has begun to answer.
    pub awaiting_response: u64,
    /// Of the established ones: no request is under way and no packet has come for [`QUIET_MS`].
    #[serde(default)]
    pub quiet: u64,
}

impl OpenFlows {
    /// All of them.
    pub fn total(&self) -> u64 {
        self.half_open + self.established + self.half_closed
    }
}

/// Flows by state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct FlowCounts {
    /// Those that a restart would cut.
    #[serde(flatten)]
    pub open: OpenFlows,
    /// Ended, and remembered for late packets.
    pub closed: u64,
    /// Clients whose new flows go there for as long as their affinity lasts.
    #[serde(skip)]
    pub leases: u64,
}

impl FlowCounts {
    /// Counts one flow.
    pub fn add(&mut self, state: FlowState, awaits_response: bool, idle_ms: u64) {
        let open = &mut self.open;
        match state {
            FlowState::HalfOpen => open.half_open += 1,
            FlowState::Established => {
                open.established += 1;
                open.quiet += u64::from(!awaits_response && idle_ms >= QUIET_MS);
            }
            FlowState::HalfClosed => open.half_closed += 1,
            FlowState::Closed => {
                self.closed += 1;
                return;
            }
        }
        open.awaiting_response += u64::from(awaits_response);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_closed_flow_awaits_nothing_and_a_busy_one_is_not_quiet() {
        let mut counts = FlowCounts::default();
        counts.add(FlowState::Closed, true, 0);
        counts.add(FlowState::Established, true, QUIET_MS);
        counts.add(FlowState::Established, false, QUIET_MS);
        counts.add(FlowState::Established, false, QUIET_MS - 1);
        counts.add(FlowState::HalfOpen, false, QUIET_MS);
        let open = OpenFlows {
            half_open: 1,
            established: 3,
            awaiting_response: 1,
            quiet: 1,
            ..OpenFlows::default()
        };
        assert_eq!(counts, FlowCounts { open, closed: 1, leases: 0 });
        assert_eq!(open.total(), 4);
    }
}
