//! Counters of the packet path, summed over CPUs.

use aya::Pod;
use aya::maps::{MapData, PerCpuArray, PerCpuValues};
use lb_common::reason::counter;
use lb_common::response::Times;
use lb_common::{BackendCounters, BackendId, Reason, ServiceId};
use serde::Serialize;

use super::{Dataplane, TableError, absent, refused};

/// How many packets met one end.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ReasonCount {
    /// Stable name of the reason ([`Reason::name`]).
    pub reason: &'static str,
    /// Packets since the tables were made.
    pub packets: u64,
}

impl Dataplane {
    /// Packets by reason, of all services and of none, in the order of [`Reason::ALL`].
    pub fn reasons(&self) -> Result<Vec<ReasonCount>, TableError> {
        let services = self.listeners.iter().filter(|(_, listener)| listener.is_vip());
        let groups = services.map(|(_, listener)| Some(listener.service)).chain([None]);
        let mut sums = vec![0; Reason::ALL.len()];
        for group in groups {
            for (sum, count) in sums.iter_mut().zip(self.service_reasons(group)?) {
                *sum += count.packets;
            }
        }
        let counts = Reason::ALL.iter().zip(sums);
        Ok(counts.map(|(reason, packets)| ReasonCount { reason: reason.name(), packets }).collect())
    }

    /// Packets by reason of one service, or of none.
    pub fn service_reasons(&self, service: Option<ServiceId>) -> Result<Vec<ReasonCount>, TableError> {
        let counters = self.per_cpu::<u64>("REASON_COUNTERS")?;
        Reason::ALL
            .iter()
            .map(|reason| {
                let per_cpu =
                    counters.get(&counter(service, *reason), 0).map_err(refused("REASON_COUNTERS"))?;
                Ok(ReasonCount { reason: reason.name(), packets: per_cpu.iter().sum() })
            })
            .collect()
    }

    /// How long the clients of a backend waited for the first byte of responses.
    pub fn response_times(&self, id: BackendId) -> Result<Times, TableError> {
        let per_cpu = self.of_backend::<Times>("RESPONSE_TIMES", id)?;
        Ok(per_cpu.iter().fold(Times::default(), Times::plus))
    }

    /// What the packet path counted for one backend.
    pub fn backend_counters(&self, id: BackendId) -> Result<BackendCounters, TableError> {
        let per_cpu = self.of_backend::<BackendCounters>("BACKEND_COUNTERS", id)?;
        Ok(per_cpu.iter().fold(BackendCounters::default(), BackendCounters::plus))
    }

    /// What each CPU has for one backend.
    fn of_backend<V: Pod>(&self, name: &'static str, id: BackendId) -> Result<PerCpuValues<V>, TableError> {
        self.per_cpu(name)?.get(&u32::from(id), 0).map_err(refused(name))
    }

    fn per_cpu<V: Pod>(&self, name: &'static str) -> Result<PerCpuArray<&MapData, V>, TableError> {
        self.ebpf.map(name).ok_or(absent(name))?.try_into().map_err(refused(name))
    }
}
