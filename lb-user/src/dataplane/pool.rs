//! Pools of backends: filled where no packet looks, then published by one store.
#![expect(unsafe_code, reason = "membarrier is a bare system call")]

use aya::maps::Array;
use lb_common::pool::{self, Candidate, Policy, Pool, Unfit, steered_to, steering_to};
use lb_common::steer::NO_BACKEND;
use lb_common::{BackendId, ServiceId, Steer};
use thiserror::Error;

use super::{Dataplane, TableError, refused};
use crate::flow_counts::FlowCounts;

/// Why a pool could not be published.
#[derive(Debug, Error)]
pub enum PoolError {
    /// The members make no pool.
    #[error(transparent)]
    Unfit(#[from] Unfit),
    /// The kernel refused it.
    #[error(transparent)]
    Table(#[from] TableError),
}

impl Dataplane {
    /// Spreads the new flows of `service` over these backends from one moment on; `draining` gets what old
    /// flows without entry send, unless a hash tells where they were.
    ///
    /// A backend that is left out keeps its flows and gets no new ones: that is how one of many drains.
    pub fn spread(
        &mut self,
        service: ServiceId,
        policy: Policy,
        candidates: &[Candidate],
        draining: BackendId,
    ) -> Result<(), PoolError> {
        let epoch = self.steering(service).epoch.wrapping_add(1);
        self.spread_in(service, policy, candidates, draining, epoch)
    }

    /// The same, as the handover that `epoch` counts.
    pub fn spread_in(
        &mut self,
        service: ServiceId,
        policy: Policy,
        candidates: &[Candidate],
        draining: BackendId,
        epoch: u32,
    ) -> Result<(), PoolError> {
        let before = self.steering(service);
        // The buffer that steering does not name, or the first one if no pool is in use yet.
        let buffer = steered_to(before.active).map_or(0, |used| used ^ 1);
        let mut filled = Box::new(Pool::EMPTY);
        filled.fill(policy, candidates)?;
        wait_for_readers();
        self.array::<Pool>("POOLS")?
            .set(pool::place(service, buffer), *filled, 0)
            .map_err(refused("POOLS"))?;
        self.steer(service, Steer { active: steering_to(buffer), draining, epoch });
        Ok(())
    }

    /// The backends that new flows of `service` go to: one, those of its pool, or none.
    pub fn active(&self, service: ServiceId) -> Vec<BackendId> {
        let active = self.steering(service).active;
        let Some(buffer) = steered_to(active) else {
            return Some(active).filter(|id| *id != NO_BACKEND).into_iter().collect();
        };
        // A pool that cannot be read names nobody, as a pool that was never filled.
        let pools = self.ebpf.map("POOLS").and_then(|map| Array::<_, Pool>::try_from(map).ok());
        let pool = pools.and_then(|pools| pools.get(&pool::place(service, buffer), 0).ok());
        pool.map(|pool| pool.members().iter().map(|member| member.backend).collect()).unwrap_or_default()
    }

    /// Tells the packet path how many flows each backend really has, by backend id: what it counts itself
    /// drifts by flows that end without a word.
    pub(super) fn settle_loads(&self, counts: &[FlowCounts]) {
        for (backend, count) in counts.iter().enumerate() {
            self.open_flows.store(backend, count.open.total());
        }
    }
}

/// Returns when every packet that was under way at the call has been dealt with, so that nobody still reads
/// a pool that was replaced before: XDP programs run under RCU, and the barrier waits for a grace period.
fn wait_for_readers() {
    const GLOBAL: libc::c_int = 1;
    // SAFETY: the call takes plain integers and touches no memory of ours. It fails only on kernels without
    // it, where a reader may for an instant see a pool that is half new: it would choose another backend.
    unsafe { libc::syscall(libc::SYS_membarrier, GLOBAL, 0, 0) };
}
