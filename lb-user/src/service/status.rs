//! What a running controller knows, put into the document that `baton status` shows.

use std::collections::BTreeMap;

use super::runtime::Runtime;
use crate::api::status::{BackendStatus, PacketCount, ServiceStatus};
use crate::clock::Now;
use crate::flow_counts::FlowCounts;
use crate::names::BackendName;
use crate::recovery::State;

impl Runtime {
    pub(super) fn status(&self) -> ServiceStatus {
        let flows = self.parts.dataplane.count_flows(&self.spec.timeouts);
        let states: BTreeMap<_, _> = self.coordinator.states().collect();
        let backends =
            self.parts.backends.keys().map(|name| self.backend_status(name, &flows, states.get(name)));
        let packets = self.parts.dataplane.reasons().unwrap_or_default();
        ServiceStatus {
            service: self.spec.name.clone(),
            vip: self.spec.vip,
            controller: Some(std::process::id()),
            epoch: self.coordinator.steering().epoch,
            rejuvenations: self.coordinator.cycles(),
            paused: self.coordinator.is_paused(),
            activity: self.coordinator.activity(Now::read()),
            backends: backends.flatten().collect(),
            packets: packets
                .into_iter()
                .filter(|count| count.packets > 0)
                .map(|count| PacketCount { reason: count.reason.to_owned(), packets: count.packets })
                .collect(),
        }
    }

    fn backend_status(
        &self,
        name: &BackendName,
        flows: &[FlowCounts],
        state: Option<&State>,
    ) -> Option<BackendStatus> {
        let backend = self.parts.backends.get(name)?;
        let running = backend.driver.running();
        let sample = self.samples.get(name).and_then(|sample| *sample.borrow());
        let counters = self.parts.dataplane.backend_counters(backend.id).unwrap_or_default();
        Some(BackendStatus {
            name: name.clone(),
            state: state.map(ToString::to_string).unwrap_or_default(),
            address: backend.address,
            pid: running.as_ref().map(|running| running.instance.pid),
            started_unix_ms: running.map(|running| running.started_unix_ms),
            memory_rss_bytes: sample.map(|sample| sample.memory_rss_bytes),
            memory_limit_bytes: self.spec.policy.memory_limit_bytes,
            flows: flows[usize::from(backend.id)],
            flows_total: counters.flows_new,
        })
    }
}
