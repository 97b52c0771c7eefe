//! Counters of the packet path, summed over CPUs.

use aya::maps::PerCpuArray;
use lb_common::{BackendCounters, BackendId, Reason};
use serde::Serialize;

use super::{Dataplane, TableError, absent, refused};

/// How many packets met one end.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ReasonCount {
    /// Stable name of the reason ([`Reason::name`]).
    pub reason: &'static str,
    /// Packets since the program was first loaded.
    pub packets: u64,
}

impl Dataplane {
    /// Packets by reason, in the order of [`Reason::ALL`].
    pub fn reasons(&self) -> Result<Vec<ReasonCount>, TableError> {
        let counters: PerCpuArray<_, u64> = self
            .ebpf
            .map("REASON_COUNTERS")
            .ok_or(absent("REASON_COUNTERS"))?
            .try_into()
            .map_err(refused("REASON_COUNTERS"))?;
        Reason::ALL
            .iter()
            .map(|reason| {
                let per_cpu = counters.get(&(*reason as u32), 0).map_err(refused("REASON_COUNTERS"))?;
                Ok(ReasonCount { reason: reason.name(), packets: per_cpu.iter().sum() })
            })
            .collect()
    }

    /// What the packet path counted for one backend.
    pub fn backend_counters(&self, id: BackendId) -> Result<BackendCounters, TableError> {
        let counters: PerCpuArray<_, BackendCounters> = self
            .ebpf
            .map("BACKEND_COUNTERS")
            .ok_or(absent("BACKEND_COUNTERS"))?
            .try_into()
            .map_err(refused("BACKEND_COUNTERS"))?;
        let per_cpu = counters.get(&u32::from(id), 0).map_err(refused("BACKEND_COUNTERS"))?;
        Ok(per_cpu.iter().fold(BackendCounters::default(), BackendCounters::plus))
    }
}
