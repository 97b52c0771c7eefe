//! Flow scans and ageing: what is pinned where, and what may be forgotten.

use std::net::SocketAddr;

use lb_common::steer::NO_BACKEND;
use lb_common::{BACKENDS_MAX, Backend, BackendId, Flow, FlowState, Halves, ServiceId, Ticks};
use nix::time::{ClockId, clock_gettime};
use serde::{Deserialize, Serialize};

use super::Dataplane;
use super::mapping::ReadWords;
use super::table::Slot;
use crate::flow_counts::{FlowCounts, QUIET_MS};

/// One flow, as a scan saw it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FlowRecord {
    /// The client; `None` if its tuple was lost, which takes more new flows than are written down in time.
    pub client: Option<SocketAddr>,
    /// The service; `None` if its backend belongs to none any longer.
    pub service: Option<ServiceId>,
    /// Where it is pinned.
    pub backend: BackendId,
    /// The service's epoch when it was pinned, modulo 256.
    pub epoch: u8,
    /// What both directions show.
    pub state: FlowState,
    /// A request is under way that no response has begun to answer.
    pub awaits_response: bool,
    /// Milliseconds since its last packet, in steps of 1074.
    pub idle_ms: u64,
}

/// How long a flow without packets is remembered, by state, while the table has room.
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
    /// A conversation of datagrams, whatever its state.
    #[serde(default = "datagram_ms")]
    pub datagram_ms: u64,
}

const fn datagram_ms() -> u64 {
    300_000
}

/// However full the table is, an established flow is remembered for this long.
const ESTABLISHED_LEAST_MS: u64 = 20 * 60 * 1000;
/// Parts of the table in use, in percent: below the first nothing is shortened, above the second all is.
const PRESSURE_PERCENT: [u64; 2] = [50, 90];

impl Default for FlowTimeouts {
    fn default() -> Self {
        Self {
            half_open_ms: 20_000,
            established_ms: 24 * 3600 * 1000,
            half_closed_ms: 120_000,
            closed_ms: 60_000,
            datagram_ms: datagram_ms(),
        }
    }
}

impl FlowTimeouts {
    /// Whether an entry is a flow, and none that has been silent for too long.
    pub(super) fn admits(&self, halves: Halves, now: Ticks) -> bool {
        !halves.is_lease() && !self.expired(halves, now)
    }

    /// Whether a flow has been without packets for longer than its state allows, or a lease has run out.
    pub fn expired(&self, halves: Halves, now: Ticks) -> bool {
        if halves.is_lease() {
            return !halves.lease_holds(now);
        }
        let idle_ms = halves.idle_ms(now);
        idle_ms
            > match halves.state() {
                FlowState::Closed => self.closed_ms,
                _ if halves.is_datagram() => self.datagram_ms,
                FlowState::HalfOpen => self.half_open_ms,
                FlowState::Established => self.established_ms,
                FlowState::HalfClosed => self.half_closed_ms,
            }
    }

    /// The timeouts while `used` of `capacity` entries are in use: an idle established flow is remembered
    /// the shorter the fuller the table is, and never for less than 20 minutes (or as configured).
    #[must_use]
    pub fn under_pressure(&self, used: usize, capacity: usize) -> Self {
        let [eased, full] = PRESSURE_PERCENT;
        let percent = (used as u64 * 100).checked_div(capacity as u64).unwrap_or(100);
        let pressure = percent.clamp(eased, full) - eased;
        let least = self.established_ms.min(ESTABLISHED_LEAST_MS);
        let spare = self.established_ms - least;
        Self { established_ms: self.established_ms - spare / (full - eased) * pressure, ..self.clone() }
    }
}

impl FlowRecord {
    /// What a flow of `client` is at `now`.
    pub(super) fn of(
        flow: &Flow,
        client: Option<SocketAddr>,
        service: Option<ServiceId>,
        now: Ticks,
    ) -> Self {
        Self {
            client,
            service,
            backend: flow.backend,
            epoch: flow.epoch,
            state: state_of(flow.halves, now),
            awaits_response: flow.halves.awaits_response(),
            idle_ms: flow.halves.idle_ms(now),
        }
    }

    /// Whether it is established, has no request under way, and has been silent for [`QUIET_MS`].
    pub fn is_quiet(&self) -> bool {
        self.state == FlowState::Established && !self.awaits_response && self.idle_ms >= QUIET_MS
    }
}

/// The state of a flow as it counts for a drain.
///
/// Where replies pass elsewhere nobody sees the backend finish. Its client has to acknowledge what it sends, and
/// its FIN at last: one that has finished itself and says nothing for [`QUIET_MS`] has nothing more to come.
fn state_of(halves: Halves, now: Ticks) -> FlowState {
    match halves.state() {
        FlowState::HalfClosed if halves.is_one_way() && halves.idle_ms(now) >= QUIET_MS => FlowState::Closed,
        state => state,
    }
}

/// The time of flow entries, as the packet path reads it.
pub(super) fn clock_ticks() -> Ticks {
    let now = clock_gettime(ClockId::CLOCK_MONOTONIC_COARSE)
        .map_or(0, |t| t.tv_sec().cast_unsigned() * 1_000_000_000 + t.tv_nsec().cast_unsigned());
    Ticks::from_ns(now)
}

/// How often entries are gone through that change while their flows are taken from a backend.
const ORPHAN_PASSES: u32 = 10;

impl Dataplane {
    /// Every flow of the table that has not been silent for too long, closed ones included.
    pub fn flows(&mut self, timeouts: &FlowTimeouts) -> Vec<FlowRecord> {
        self.table.absorb_log();
        let now = clock_ticks();
        let services = services_of_backends(&self.backends);
        let record = |slot: Slot| {
            let flow = slot.flow();
            let service = services[usize::from(flow.backend)];
            timeouts
                .admits(flow.halves, now)
                .then(|| FlowRecord::of(&flow, self.table.client(&slot), service, now))
        };
        self.table.slots().filter_map(record).collect()
    }

    /// The flows of each backend, by its id; those that have been silent for too long are left out.
    pub fn count_flows(&self, timeouts: &FlowTimeouts) -> Vec<FlowCounts> {
        let now = clock_ticks();
        let mut counts = vec![FlowCounts::default(); BACKENDS_MAX as usize];
        for slot in self.table.slots() {
            let flow = slot.flow();
            if flow.halves.is_lease() {
                counts[usize::from(flow.backend)].leases += u64::from(flow.halves.lease_holds(now));
            } else if timeouts.admits(flow.halves, now) {
                let (state, awaits) = (state_of(flow.halves, now), flow.halves.awaits_response());
                counts[usize::from(flow.backend)].add(state, awaits, flow.halves.idle_ms(now));
            }
        }
        counts
    }

    /// Entries in use and entries that there are.
    pub fn table_use(&self) -> (usize, usize) {
        (self.table.slots().count(), self.table.capacity())
    }

    /// Flows that the table is made for: half of its entries.
    pub fn made_for(&self) -> u32 {
        self.table.capacity() as u32 / 2
    }

    /// Forgets flows that have been silent for longer than their state allows; returns how many.
    pub fn forget_expired(&mut self, timeouts: &FlowTimeouts) -> usize {
        let now = clock_ticks();
        let (used, capacity) = self.table_use();
        let timeouts = timeouts.under_pressure(used, capacity);
        self.forget(|slot| timeouts.expired(slot.flow().halves, now))
    }

    /// Forgets the flows of a backend that has been stopped: nobody is there to go on with them, and clients that
    /// do go on are pinned anew at their next packet. Its clients' leases stay, for the backend will be there
    /// again.
    pub fn forget_backend(&mut self, backend: BackendId) -> usize {
        self.forget_entries(backend, |halves| !halves.is_lease())
    }

    /// Forgets that clients are to stay with a backend, which has left its service; the flows that it has stay.
    pub fn forget_leases(&mut self, backend: BackendId) -> usize {
        self.forget_entries(backend, Halves::is_lease)
    }

    fn forget_entries(&mut self, backend: BackendId, are_meant: impl Fn(Halves) -> bool) -> usize {
        let is_of = |slot: &Slot| slot.flow().backend == backend && are_meant(slot.flow().halves);
        // Marks of a bucket stand beside its first flow, so an entry may change without its flow's doing.
        for _ in 0..ORPHAN_PASSES {
            let missed = self.table.slots().filter(is_of).filter(|slot| !self.table.orphan(slot)).count();
            if missed == 0 {
                break;
            }
        }
        self.forget(|slot| slot.flow().backend == NO_BACKEND && are_meant(slot.flow().halves))
    }

    fn forget(&mut self, is_over: impl Fn(&Slot) -> bool) -> usize {
        self.table.absorb_log();
        let forgotten =
            self.table.slots().filter(|slot| is_over(slot)).filter(|slot| self.table.free(slot)).count();
        self.table.clear_marks();
        self.table.reclaim_ports(clock_ticks());
        self.settle_loads(&self.count_flows(&FlowTimeouts::default()));
        forgotten
    }
}

/// Words of the mapped table of backends.
pub(super) const BACKEND_WORDS: usize = BACKENDS_MAX as usize * WORDS_PER_BACKEND;
const WORDS_PER_BACKEND: usize = size_of::<Backend>() / 8;

/// The service of each backend, by the backend's id.
pub(super) fn services_of_backends(backends: &ReadWords) -> Vec<Option<ServiceId>> {
    let word = |id: usize| backends.load(id * WORDS_PER_BACKEND + Backend::SERVICE_WORD);
    (0..BACKENDS_MAX as usize).map(|id| Backend::service_in(word(id))).collect()
}

#[cfg(test)]
mod tests {
    use lb_common::flow::Half;
    use lb_common::flow::tcp_flags::{ACK, FIN, RST, SYN};

    use super::*;

    const HOUR_NS: u64 = 3600 * 1_000_000_000;

    fn established() -> Halves {
        let start = Ticks::from_ns(0);
        let halves = Halves::default();
        Halves {
            client: halves.client.after(SYN, false, start).after(ACK, false, start),
            server: halves.server.after(SYN | ACK, false, start),
        }
    }

    #[test]
    fn an_idle_established_flow_lives_for_a_day_and_a_closed_one_for_a_minute() {
        let timeouts = FlowTimeouts::default();
        assert!(!timeouts.expired(established(), Ticks::from_ns(23 * HOUR_NS)));
        assert!(timeouts.expired(established(), Ticks::from_ns(25 * HOUR_NS)));
        let closed =
            Halves { server: established().server.after(RST, false, Ticks::from_ns(0)), ..established() };
        assert!(!timeouts.expired(closed, Ticks::from_ns(HOUR_NS / 61)));
        assert!(timeouts.expired(closed, Ticks::from_ns(HOUR_NS / 58)));
    }

    #[test]
    fn a_client_that_has_finished_ends_a_flow_whose_replies_pass_elsewhere_once_it_is_silent() {
        let [start, later] = [0, 10_000_000_000].map(Ticks::from_ns);
        let client =
            Half::default().after(SYN, false, start).after(ACK, false, start).after(FIN | ACK, false, start);
        let one_way = Halves { client, server: Half::ONE_WAY };
        assert_eq!(
            (state_of(one_way, start), state_of(one_way, later)),
            (FlowState::HalfClosed, FlowState::Closed)
        );
        let both_ways = Halves { client, ..established() };
        assert_eq!(state_of(both_ways, later), FlowState::HalfClosed);
    }

    #[test]
    fn a_fuller_table_remembers_idle_flows_for_a_shorter_time_but_for_more_than_15_minutes() {
        let day = FlowTimeouts::default();
        assert_eq!(day.under_pressure(500, 1000), day);
        let mut last = day.established_ms;
        for used in (510..=900).step_by(10) {
            let shorter = day.under_pressure(used, 1000).established_ms;
            assert!(shorter < last);
            last = shorter;
        }
        let least = day.under_pressure(1000, 1000).established_ms;
        assert!((ESTABLISHED_LEAST_MS..ESTABLISHED_LEAST_MS + 60_000).contains(&least), "{least}");
        let short = FlowTimeouts { established_ms: 1000, ..day };
        assert_eq!(short.under_pressure(1000, 1000), short);
    }
}
