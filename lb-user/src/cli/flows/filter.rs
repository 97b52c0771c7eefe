//! Which flows are shown.

use std::net::IpAddr;
use std::str::FromStr;
use std::time::Duration;

use clap::ValueEnum;
use ipnet::IpNet;
use lb_common::{BackendId, FlowState, ServiceId};

use crate::dataplane::{Clients, FlowRecord, FlowTimeouts, FlowView};

/// A flow that is shown passes each of these.
#[derive(Clone, Debug)]
pub(super) struct Filter {
    /// Its service; any, in a table that one service has for itself.
    pub(super) service: Option<ServiceId>,
    /// Its backend.
    pub(super) backend: Option<BackendId>,
    /// It is one of these; none given means any.
    pub(super) states: Vec<StateFilter>,
    /// Where its client is.
    pub(super) client: Option<Network>,
    /// It has been silent for longer.
    pub(super) idle_over: Option<Duration>,
    /// It has not been silent for so long that it is forgotten.
    pub(super) timeouts: FlowTimeouts,
}

/// What a flow may be asked to be: its state, or what it does in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum StateFilter {
    /// A handshake, or a flow that only one side claims.
    HalfOpen,
    /// Both sides have spoken and neither has finished.
    Established,
    /// One side has finished.
    HalfClosed,
    /// Ended, and remembered for late packets.
    Closed,
    /// A request is under way that no response has begun to answer.
    AwaitingResponse,
    /// Established, no request under way, and silent for 5 s.
    Quiet,
}

impl StateFilter {
    fn admits(self, flow: &FlowRecord) -> bool {
        match self {
            Self::HalfOpen => flow.state == FlowState::HalfOpen,
            Self::Established => flow.state == FlowState::Established,
            Self::HalfClosed => flow.state == FlowState::HalfClosed,
            Self::Closed => flow.state == FlowState::Closed,
            // As in every count of flows: what has ended awaits nothing.
            Self::AwaitingResponse => flow.awaits_response && flow.state != FlowState::Closed,
            Self::Quiet => flow.is_quiet(),
        }
    }
}

/// A network, or one address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Network(IpNet);

impl FromStr for Network {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let network = text.parse().or_else(|_| text.parse::<IpAddr>().map(IpNet::from));
        network
            .map(Self)
            .map_err(|_| "give an address or a network, such as 10.1.2.3 or fd00::/64".to_owned())
    }
}

impl Filter {
    /// The flows of a table that pass.
    pub(super) fn flows(&self, view: &mut FlowView, clients: Clients) -> impl Iterator<Item = FlowRecord> {
        view.flows(&self.timeouts, clients).filter(|flow| self.admits(flow))
    }

    fn admits(&self, flow: &FlowRecord) -> bool {
        let idle = Duration::from_millis(flow.idle_ms);
        self.service.is_none_or(|service| Some(service) == flow.service)
            && self.backend.is_none_or(|backend| backend == flow.backend)
            && (self.states.is_empty() || self.states.iter().any(|state| state.admits(flow)))
            && self.idle_over.is_none_or(|over| idle > over)
            && self.client.is_none_or(|Network(network)| {
                flow.client.is_some_and(|client| network.contains(&client.ip()))
            })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ANY: fn() -> Filter = || Filter {
        service: None,
        backend: None,
        states: Vec::new(),
        client: None,
        idle_over: None,
        timeouts: FlowTimeouts::default(),
    };

    fn flow(state: FlowState, awaits_response: bool, idle_ms: u64) -> FlowRecord {
        let client = Some("10.1.2.3:40001".parse().unwrap());
        FlowRecord { client, service: Some(0), backend: 1, epoch: 4, state, awaits_response, idle_ms }
    }

    #[test]
    fn a_flow_passes_if_it_is_in_one_of_the_states() {
        let idle = flow(FlowState::Established, false, 6000);
        let busy = flow(FlowState::Established, true, 6000);
        let ended = flow(FlowState::Closed, true, 0);
        let among = |states: &[StateFilter], flow| Filter { states: states.to_vec(), ..ANY() }.admits(flow);
        assert!(among(&[], &ended));
        assert!(among(&[StateFilter::Closed, StateFilter::Quiet], &ended));
        assert!(among(&[StateFilter::Closed, StateFilter::Quiet], &idle));
        assert!(!among(&[StateFilter::Closed, StateFilter::Quiet], &busy));
        assert!(among(&[StateFilter::AwaitingResponse], &busy));
        assert!(!among(&[StateFilter::AwaitingResponse], &ended));
        assert!(!among(&[StateFilter::HalfOpen, StateFilter::HalfClosed], &busy));
    }

    #[test]
    fn in_a_table_that_services_share_a_flow_passes_by_its_service() {
        let own = flow(FlowState::Established, false, 0);
        for (service, passes) in [(None, true), (Some(0), true), (Some(1), false)] {
            assert_eq!(Filter { service, ..ANY() }.admits(&own), passes);
        }
        assert!(!Filter { service: Some(0), ..ANY() }.admits(&FlowRecord { service: None, ..own }));
    }

    #[test]
    fn a_flow_passes_by_its_backend_its_client_and_its_silence() {
        let flow = flow(FlowState::Established, false, 3000);
        for (backend, passes) in [(None, true), (Some(1), true), (Some(2), false)] {
            assert_eq!(Filter { backend, ..ANY() }.admits(&flow), passes);
        }
        for (network, passes) in
            [("10.1.2.3", true), ("10.1.0.0/16", true), ("10.2.0.0/16", false), ("::/0", false)]
        {
            let client = Some(network.parse().unwrap());
            assert_eq!(Filter { client, ..ANY() }.admits(&flow), passes, "{network}");
            assert!(!Filter { client, ..ANY() }.admits(&FlowRecord { client: None, ..flow }));
        }
        for (ms, passes) in [(2999, true), (3000, false)] {
            let idle_over = Some(Duration::from_millis(ms));
            assert_eq!(Filter { idle_over, ..ANY() }.admits(&flow), passes);
        }
    }

    #[test]
    fn what_is_no_network_is_refused() {
        for bad in ["", "10.1.2", "10.1.2.3/33", "shop", "10.1.2.3:80"] {
            assert!(bad.parse::<Network>().is_err(), "{bad}");
        }
    }
}
