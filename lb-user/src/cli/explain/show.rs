//! An answer for people and for programs.

use std::fmt;
use std::net::SocketAddr;

use lb_common::pool::steered_to;
use lb_common::reason::Action;
use lb_common::{BackendId, Reason};
use serde::Serialize;

use super::packet::{Question, Transport};
use crate::dataplane::{Answer, FlowRecord};
use crate::names::ServiceName;
use crate::net::mac::Mac;
use crate::service::BackendNames;

/// What would become of a packet.
#[derive(Debug, Serialize)]
pub(super) struct Explained {
    service: ServiceName,
    vip: SocketAddr,
    from: SocketAddr,
    protocol: &'static str,
    /// Absent of a datagram.
    flags: Option<String>,
    /// `send`, `pass` (to the stack, untouched), `drop`, or `answer` (the packet is turned into its answer).
    action: &'static str,
    reason: &'static str,
    description: &'static str,
    /// Where it is sent.
    backend: Option<Backend>,
    /// Absent if the stack has to forward it, because the next hop is not known.
    next_hop: Option<NextHop>,
    /// The entry of its flow.
    flow: Option<FlowEntry>,
    /// Where flows of the service go that have no entry; absent if the packet is for no service.
    steering: Option<Steering>,
}

#[derive(Debug, Serialize)]
struct Backend {
    name: String,
    address: SocketAddr,
}

#[derive(Debug, Serialize)]
struct NextHop {
    /// In the balancer's namespace.
    interface: Option<String>,
    ifindex: u32,
    hardware_address: Mac,
}

#[derive(Debug, Serialize)]
struct FlowEntry {
    backend: String,
    epoch: u8,
    state: &'static str,
    awaiting_response: bool,
    quiet: bool,
    idle_ms: u64,
}

/// Stands for a backend where new flows are spread over several; no backend can be called so.
const POOL: &str = "(pool)";

#[derive(Debug, Serialize)]
struct Steering {
    /// [`POOL`] if new flows are spread over several.
    active: Option<String>,
    draining: Option<String>,
    epoch: u32,
}

impl Explained {
    pub(super) fn new(
        service: &ServiceName,
        question: Question,
        answer: &Answer,
        interface: Option<String>,
        names: &BackendNames,
    ) -> Self {
        let name = |id: BackendId| names.shown(id).into_owned();
        let named = |id: BackendId| match steered_to(id) {
            Some(_) => Some(POOL.to_owned()),
            None => (id != 0).then(|| name(id)),
        };
        let (protocol, flags) = match question.transport {
            Transport::Tcp(flags) => ("tcp", Some(flags.to_string())),
            Transport::Udp => ("udp", None),
        };
        let next_hop = answer.ifindex.zip(answer.backend).map(|(ifindex, (_, backend))| NextHop {
            interface,
            ifindex,
            hardware_address: backend.hop.destination.into(),
        });
        Self {
            service: service.clone(),
            vip: question.to,
            from: question.from,
            protocol,
            flags,
            action: action(answer.reason),
            reason: answer.reason.name(),
            description: answer.reason.description(),
            backend: answer
                .backend
                .map(|(id, backend)| Backend { name: name(id), address: backend.endpoint.socket() }),
            next_hop,
            flow: answer.flow.map(|flow| FlowEntry::new(&flow, name(flow.backend))),
            steering: answer.steering.map(|steer| Steering {
                active: named(steer.active),
                draining: named(steer.draining),
                epoch: steer.epoch,
            }),
        }
    }
}

const fn action(reason: Reason) -> &'static str {
    match reason.action() {
        Action::Send => "send",
        Action::Pass => "pass",
        Action::Drop => "drop",
        Action::Answer => "answer",
    }
}

impl FlowEntry {
    fn new(flow: &FlowRecord, backend: String) -> Self {
        Self {
            backend,
            epoch: flow.epoch,
            state: flow.state.name(),
            awaiting_response: flow.awaits_response,
            quiet: flow.is_quiet(),
            idle_ms: flow.idle_ms,
        }
    }
}

impl fmt::Display for Explained {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} -> {} ({}): ", self.from, self.service, self.vip)?;
        match (self.action, &self.backend) {
            ("send", Some(Backend { name, address })) => write!(f, "backend {name} ({address})")?,
            ("drop", _) => write!(f, "dropped")?,
            ("answer", _) => write!(f, "answered by the balancer itself")?,
            _ => write!(f, "left to the stack, untouched")?,
        }
        match &self.next_hop {
            Some(NextHop { interface, ifindex, hardware_address }) => {
                let index = || format!("interface {ifindex}");
                let interface = interface.clone().unwrap_or_else(index);
                write!(f, " by {interface}, next hop {hardware_address}")?;
            }
            None if self.action == "send" => write!(f, " through the stack, for its next hop is not known")?,
            None => {}
        }
        write!(f, "\nbecause: {} - {}", self.reason, as_clause(self.description))?;
        if let Some(flow) = &self.flow {
            let FlowEntry { backend, epoch, state, idle_ms, .. } = flow;
            let goes_there = self.backend.as_ref().is_some_and(|sent| sent.name == *backend);
            let whose =
                if goes_there { String::new() } else { format!("its entry names backend {backend}, ") };
            let awaits = if flow.awaiting_response { ", awaiting a response" } else { "" };
            let (seconds, tenths) = (idle_ms / 1000, idle_ms % 1000 / 100);
            write!(f, "; {whose}pinned in epoch {epoch}, {state}{awaits}, idle {seconds}.{tenths} s")?;
        }
        if let Some(Steering { active, draining, epoch }) = &self.steering {
            match active {
                Some(active) if active == POOL => write!(f, "\nsteering: new flows spread over the pool")?,
                Some(active) => write!(f, "\nsteering: new flows to {active}")?,
                None => write!(f, "\nsteering: new flows to no backend")?,
            }
            if let Some(draining) = draining {
                write!(f, ", old ones without an entry to {draining}, which drains")?;
            }
            write!(f, "; epoch {epoch}")?;
        }
        Ok(())
    }
}

/// A sentence as it goes on after a dash: a small first letter, unless it begins an abbreviation.
fn as_clause(sentence: &str) -> String {
    let mut letters = sentence.chars();
    match (letters.next(), letters.clone().next()) {
        (Some(first), Some(second)) if !second.is_uppercase() => {
            first.to_lowercase().chain(letters).collect()
        }
        _ => sentence.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use lb_common::{Address, Endpoint, FlowState, Steer};
    use serde_json::json;

    use super::*;

    fn backend_names() -> BackendNames {
        [(1, "a"), (2, "b")].into_iter().map(|(id, name)| (id, name.parse().unwrap())).collect()
    }
    use crate::dataplane::{Outcome, XdpAction};

    fn explained(answer: &Answer) -> Explained {
        let transport = Transport::Tcp("ACK".parse().unwrap());
        let (from, to) = ("10.1.2.3:40001".parse().unwrap(), "10.77.0.1:8080".parse().unwrap());
        let interface = answer.ifindex.map(|_| "b".to_owned());
        let question = Question { from, to, transport };
        Explained::new(&"shop".parse().unwrap(), question, answer, interface, &backend_names())
    }

    fn answer() -> Answer {
        let endpoint = Endpoint::tcp("10.77.128.10:8080".parse().unwrap());
        let hop =
            lb_common::NextHop { ifindex: 4, destination: [2, 0xba, 10, 77, 128, 10], ..Default::default() };
        let flow = FlowRecord {
            client: Some("10.1.2.3:40001".parse().unwrap()),
            service: Some(0),
            backend: 2,
            epoch: 4,
            state: FlowState::Established,
            awaits_response: false,
            idle_ms: 3222,
        };
        Answer {
            reason: Reason::PinnedFlow,
            service: Some(0),
            steering: Some(Steer { active: 1, draining: 2, epoch: 5 }),
            backend: Some((2, lb_common::Backend::new(endpoint, hop, Address::default()))),
            ifindex: Some(4),
            flow: Some(flow),
            outcome: Outcome { action: XdpAction::Redirect, frame: Vec::new() },
        }
    }

    #[test]
    fn a_pinned_flow_is_explained_in_three_lines() {
        let expected = "\
10.1.2.3:40001 -> shop (10.77.0.1:8080): backend b (10.77.128.10:8080) by b, next hop 02:ba:0a:4d:80:0a
because: pinned_flow - a packet of a pinned flow, to its backend; pinned in epoch 4, established, idle 3.2 s
steering: new flows to a, old ones without an entry to b, which drains; epoch 5";
        assert_eq!(explained(&answer()).to_string(), expected);
    }

    #[test]
    fn a_packet_that_nobody_takes_is_explained_too() {
        let nobody = Answer {
            reason: Reason::NoBackend,
            steering: Some(Steer::default()),
            backend: None,
            ifindex: None,
            flow: None,
            ..answer()
        };
        let text = explained(&nobody).to_string();
        assert!(
            text.contains("): left to the stack, untouched\nbecause: no_backend - the service"),
            "{text}"
        );
        assert!(text.ends_with("steering: new flows to no backend; epoch 0"), "{text}");
    }

    #[test]
    fn a_packet_that_is_refused_is_explained_by_its_entry() {
        let refused = Answer { reason: Reason::RefusedReset, backend: None, ifindex: None, ..answer() };
        let text = explained(&refused).to_string();
        assert!(
            text.contains("): answered by the balancer itself\nbecause: refused_reset - a segment"),
            "{text}"
        );
        assert!(text.contains("; its entry names backend b, pinned in epoch 4, established"), "{text}");
    }

    #[test]
    fn a_pool_is_no_backend() {
        let steering = Steer { active: lb_common::pool::steering_to(1), draining: 0, epoch: 7 };
        let spread = explained(&Answer { steering: Some(steering), ..answer() });
        assert!(
            spread.to_string().ends_with("\nsteering: new flows spread over the pool; epoch 7"),
            "{spread}"
        );
        assert_eq!(serde_json::to_value(spread).unwrap()["steering"]["active"], "(pool)");
    }

    #[test]
    fn what_is_not_known_of_the_way_is_said() {
        let unresolved = Answer { ifindex: None, ..answer() };
        let text = explained(&unresolved).to_string();
        assert!(text.contains("8080) through the stack, for its next hop is not known\n"), "{text}");
        let mut moved = answer();
        moved.reason = Reason::NewFlow;
        moved.flow = moved.flow.map(|flow| FlowRecord { backend: 1, state: FlowState::Closed, ..flow });
        let text = explained(&moved).to_string();
        assert!(text.contains("; its entry names backend a, pinned in epoch 4, closed, idle"), "{text}");
    }

    #[test]
    fn json_holds_all_of_it() {
        let expected = json!({
            "service": "shop", "vip": "10.77.0.1:8080", "from": "10.1.2.3:40001",
            "protocol": "tcp", "flags": "ACK",
            "action": "send", "reason": "pinned_flow",
            "description": "A packet of a pinned flow, to its backend",
            "backend": { "name": "b", "address": "10.77.128.10:8080" },
            "next_hop": { "interface": "b", "ifindex": 4, "hardware_address": "02:ba:0a:4d:80:0a" },
            "flow": {
                "backend": "b", "epoch": 4, "state": "established",
                "awaiting_response": false, "quiet": false, "idle_ms": 3222
            },
            "steering": { "active": "a", "draining": "b", "epoch": 5 }
        });
        assert_eq!(serde_json::to_value(explained(&answer())).unwrap(), expected);
    }

    #[test]
    fn a_sentence_goes_on_after_a_dash() {
        assert_eq!(as_clause("A SYN of a flow"), "a SYN of a flow");
        assert_eq!(as_clause("IPv4 header with options"), "IPv4 header with options");
        assert_eq!(as_clause(""), "");
    }
}
