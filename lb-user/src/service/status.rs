//! What a running controller knows, put into the document that `baton status` shows.

use std::collections::BTreeMap;

use lb_common::response::Times;

use super::runtime::Runtime;
use crate::api::status::{BackendStatus, FirstByte, PacketCount, ServiceStatus, WatchStatus, WindowStatus};
use crate::clock::Now;
use crate::flow_counts::FlowCounts;
use crate::names::BackendName;
use crate::recovery::window::Openness;
use crate::recovery::{Standing, State};

impl Runtime {
    pub(super) fn status(&self) -> ServiceStatus {
        let now = Now::read();
        let flows = self.parts.plane.counts(now);
        let states: BTreeMap<_, _> = self.coordinator.states().collect();
        let backends =
            self.parts.backends.keys().map(|name| self.backend_status(name, &flows, states.get(name)));
        let packets = self.parts.plane.tables().service_reasons(Some(self.parts.id)).unwrap_or_default();
        ServiceStatus {
            service: self.service.name.clone(),
            vip: self.service.vip,
            controller: Some(std::process::id()),
            epoch: self.coordinator.steering().epoch,
            rejuvenations: self.coordinator.cycles(),
            activity: self.coordinator.activity(now),
            hooks: self.coordinator.objections(now),
            paused: self.coordinator.is_paused(),
            maintenance: self.coordinator.is_in_maintenance(),
            waits: self.coordinator.all_waits(),
            window: window(&self.policy.openness(now)),
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
        let (started, now) = (backend.driver.running(), Now::read());
        let alive = backend.driver.alive().filter(|instance| instance.is_known());
        let begun = backend
            .driver
            .alive()
            .map(|instance| now.unix_ms.saturating_sub(now.boot_ms.saturating_sub(instance.began_ms())));
        let sample = self.samples.get(name).and_then(|sample| *sample.borrow());
        let tables = self.parts.plane.tables();
        let counters = tables.backend_counters(backend.id).unwrap_or_default();
        let times = tables.response_times(backend.id).unwrap_or_default();
        Some(BackendStatus {
            name: name.clone(),
            state: state.map(ToString::to_string).unwrap_or_default(),
            address: backend.address,
            pid: alive.map(|instance| instance.pid),
            started_unix_ms: started.map(|started| started.started_unix_ms).or(begun),
            memory_rss_bytes: sample.map(|sample| sample.memory_rss_bytes),
            memory_limit_bytes: self.policy.memory_limit_bytes,
            flows: flows[usize::from(backend.id)],
            flows_total: counters.flows_new,
            counters: counters.named().map(|(counter, count, _)| (counter.to_owned(), count)).collect(),
            first_byte: first_byte(&times),
            watch: self.watch_status(name),
            recovery: self.coordinator.recovery(name),
            warm_up: self.coordinator.last_warm_up(name).cloned(),
        })
    }

    fn watch_status(&self, name: &BackendName) -> WatchStatus {
        let standing = self.coordinator.standing(name, Now::read()).unwrap_or_default();
        let Standing { finding, ejections, stays_out_ms, shadow_ejections, shadow_rejuvenations } = standing;
        let agent = self.advice.get(name).map(|advice| advice.last.clone());
        WatchStatus { finding, ejections, stays_out_ms, shadow_ejections, shadow_rejuvenations, agent }
    }
}

fn window(openness: &Openness) -> Option<WindowStatus> {
    match openness {
        Openness::Always => None,
        Openness::Open { opening, until } => {
            Some(WindowStatus { open: true, opening: Some(*opening), changes: until.clone() })
        }
        Openness::Closed { next, when } => {
            Some(WindowStatus { open: false, opening: *next, changes: when.clone() })
        }
    }
}

fn first_byte(times: &Times) -> Vec<FirstByte> {
    let buckets = times.0.iter().enumerate().filter(|(_, responses)| **responses > 0);
    buckets
        .map(|(bucket, responses)| FirstByte { before_us: Times::upper_us(bucket), responses: *responses })
        .collect()
}
