//! The machines round a balancer, and what they serve and ask for.

use std::net::SocketAddr;

use lb_common::Forwarding;
use lb_common::endpoint::TCP;

use super::machine::Running;
use super::wiring::Wiring;
use super::{BACKEND_PORT, Machine, Options, VIP_PORT};
use crate::lab::eventually;

/// Machines on their cables; who is the balancer is told elsewhere how to balance.
pub struct Site {
    /// What it was made from.
    pub options: Options,
    pub(super) wiring: Wiring,
    pub(super) services: Vec<Running>,
}

impl Site {
    /// Lays the cables.
    pub fn new(options: Options) -> Self {
        Self { wiring: Wiring::lay(&options), options, services: Vec::new() }
    }

    /// Where clients reach the service.
    pub fn vip(&self) -> SocketAddr {
        let is_rewritten = matches!(self.options.forwarding, Forwarding::Nat);
        (self.wiring.vip, if is_rewritten { VIP_PORT } else { BACKEND_PORT }).into()
    }

    /// A client's machine.
    pub fn client(&self, number: usize) -> &Machine {
        &self.wiring.clients[number]
    }

    /// A backend's machine.
    pub fn backend(&self, number: usize) -> &Machine {
        &self.wiring.backends[number]
    }

    /// The balancer's machine.
    pub fn balancer(&self) -> &Machine {
        &self.wiring.balancer
    }

    /// Where the service listens on a backend.
    pub fn listens_on(&self, backend: usize) -> SocketAddr {
        let address = match self.options.forwarding {
            Forwarding::Nat => self.backend(backend).address,
            Forwarding::Dsr | Forwarding::Ipip => self.wiring.vip,
        };
        (address, BACKEND_PORT).into()
    }

    /// Starts the service on every backend: HTTP for TCP, an echo for UDP. Each answers with its own name, which
    /// is the number of its backend.
    pub fn serve(&mut self) {
        for number in 0..self.options.backends {
            let (machine, address) = (&self.wiring.backends[number], self.listens_on(number));
            if self.options.forwarding == Forwarding::Ipip {
                self.services.push(machine.decapsulate());
            }
            self.services.push(if self.options.protocol == TCP {
                machine.serve_http(address, &number.to_string())
            } else {
                machine.serve_echo(address, number as u8)
            });
        }
    }

    /// Waits until no client has a connection to a backend, as the backend's own kernel sees it.
    pub fn until_drained(&self, backend: usize) {
        let machine = self.backend(backend);
        eventually(&format!("backend {backend} is drained"), || machine.connections(BACKEND_PORT) == 0);
    }
}
