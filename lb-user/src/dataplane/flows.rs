//! Flow scans and ageing: what is pinned where, and what may be forgotten.

use std::io;
use std::net::SocketAddr;

use aya::maps::{HashMap, Map, MapData};
use lb_common::{BackendId, Endpoint, Flow, FlowKey, FlowState, ServiceId, Ticks};
use nix::time::{ClockId, clock_gettime};
use serde::{Deserialize, Serialize};

use super::{Dataplane, TableError, absent, batch, refused};

/// One flow, as a scan saw it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FlowRecord {
    /// The client.
    pub client: SocketAddr,
    /// The service.
    pub service: ServiceId,
    /// Where it is pinned.
    pub backend: BackendId,
    /// What both directions show.
    pub state: FlowState,
    /// A request is under way that no response has begun to answer.
    pub awaits_response: bool,
    /// Milliseconds since its last packet.
    pub idle_ms: u64,
}

/// How long a flow without packets is remembered, by state.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FlowTimeouts {
    /// A handshake that does not get on, or a flow that only one side claims.
    pub half_open_ms: u64,
    /// An established flow: long, for a client may come back to an idle connection any time.
    pub established_ms: u64,
    /// One side has finished and the other says nothing.
    pub half_closed_ms: u64,
    /// Both have finished; kept for late packets, as `TIME_WAIT` is.
    pub closed_ms: u64,
}

impl Default for FlowTimeouts {
    fn default() -> Self {
        Self {
            half_open_ms: 20_000,
            established_ms: 24 * 3600 * 1000,
            half_closed_ms: 120_000,
            closed_ms: 60_000,
        }
    }
}

impl FlowTimeouts {
    /// Whether a flow has been without packets for longer than its state allows.
    pub fn expired(&self, state: FlowState, idle_ms: u64) -> bool {
        idle_ms
            > match state {
                FlowState::HalfOpen => self.half_open_ms,
                FlowState::Established => self.established_ms,
                FlowState::HalfClosed => self.half_closed_ms,
                FlowState::Closed => self.closed_ms,
            }
    }
}

/// The time of flow entries, as the packet path reads it.
pub fn clock_ticks() -> Ticks {
    let now = clock_gettime(ClockId::CLOCK_MONOTONIC_COARSE)
        .map_or(0, |t| t.tv_sec().cast_unsigned() * 1_000_000_000 + t.tv_nsec().cast_unsigned());
    Ticks::from_ns(now)
}

impl Dataplane {
    /// Every flow of the table, closed ones included.
    pub fn flows(&self) -> io::Result<Vec<FlowRecord>> {
        let now = clock_ticks();
        let mut flows = Vec::new();
        self.visit_flows(|key, flow| flows.push(record(key, flow, now)))?;
        Ok(flows)
    }

    /// Forgets flows that have been silent for longer than their state allows; returns how many.
    pub fn forget_expired(&mut self, timeouts: &FlowTimeouts) -> io::Result<usize> {
        let now = clock_ticks();
        let mut expired = Vec::new();
        self.visit_flows(|key, flow| {
            if timeouts.expired(flow.state(), flow.idle_ms(now)) {
                expired.push(*key);
            }
        })?;
        let mut table = self.flow_table().map_err(io::Error::other)?;
        let mut forgotten = 0;
        for key in &expired {
            // Looked at again: a new flow may have begun under the key since the scan.
            let still = table.get(key, 0).is_ok_and(|flow| timeouts.expired(flow.state(), flow.idle_ms(now)));
            if still && table.remove(key).is_ok() {
                forgotten += 1;
            }
        }
        Ok(forgotten)
    }

    fn visit_flows(&self, visit: impl FnMut(&FlowKey, &Flow)) -> io::Result<()> {
        let Some(Map::HashMap(table)) = self.ebpf.map("FLOWS") else {
            return Err(io::Error::other(absent("FLOWS")));
        };
        batch::for_each(table.fd(), visit)
    }

    fn flow_table(&mut self) -> Result<HashMap<&mut MapData, FlowKey, Flow>, TableError> {
        self.ebpf.map_mut("FLOWS").ok_or(absent("FLOWS"))?.try_into().map_err(refused("FLOWS"))
    }
}

fn record(key: &FlowKey, flow: &Flow, now: Ticks) -> FlowRecord {
    FlowRecord {
        client: Endpoint::from_wire(key.client, key.client_port, lb_common::endpoint::TCP).socket(),
        service: key.service,
        backend: flow.backend,
        state: flow.state(),
        awaits_response: flow.awaits_response(),
        idle_ms: flow.idle_ms(now),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_idle_established_flow_lives_for_a_day_and_a_closed_one_for_a_minute() {
        let timeouts = FlowTimeouts::default();
        assert!(!timeouts.expired(FlowState::Established, 23 * 3600 * 1000));
        assert!(timeouts.expired(FlowState::Established, 25 * 3600 * 1000));
        assert!(!timeouts.expired(FlowState::Closed, 59_000));
        assert!(timeouts.expired(FlowState::Closed, 61_000));
    }
}
