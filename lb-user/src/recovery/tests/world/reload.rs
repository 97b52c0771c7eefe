//! Configurations that change in the middle of whatever is under way.

use std::collections::BTreeSet;

use super::super::name;
use super::{Happening, Machine, World};
use crate::names::BackendName;
use crate::recovery::{Input, Policy};

impl World {
    /// The next controller takes over under another policy.
    pub(in crate::recovery::tests) fn change_policy(&mut self, policy: Policy) {
        self.policy = policy.clone();
        self.checker.change_policy(policy, self.now);
        self.crash();
    }

    /// The controller that runs goes on under another policy and with these backends; others of the same name take
    /// the place of those that do not `stay`.
    pub(in crate::recovery::tests) fn reload(&mut self, policy: &Policy, backends: &[&str], stay: &[&str]) {
        self.trace(&("a reload", backends, stay));
        let backends: BTreeSet<_> = backends.iter().map(|text| name(text)).collect();
        let stay: BTreeSet<_> = stay.iter().map(|text| name(text)).collect();
        let left: Vec<_> = self.machines.keys().filter(|known| !stay.contains(known)).cloned().collect();
        if self.agenda.values().any(|what| left.iter().any(|backend| what.is_order_to(backend))) {
            // The runtime waits until that is done.
            return;
        }
        self.policy = policy.clone();
        self.checker.change_policy(policy.clone(), self.now);
        for backend in left {
            self.machines.remove(&backend);
            self.checker.dismiss(&backend);
            self.agenda.retain(|_, what| !what.is_about(&backend));
        }
        for backend in &backends {
            if !self.machines.contains_key(backend) {
                self.machines.insert(backend.clone(), Machine::new());
                self.checker.welcome(backend, self.now);
                self.watch(backend.clone());
            }
        }
        if let Some(purse) = &self.purse {
            purse.change_backends(&backends, &stay);
        }
        self.step(&"a reload", |coordinator, now| coordinator.change(policy.clone(), &backends, &stay, now));
    }
}

impl Happening {
    /// Whether it is about this backend and nobody else.
    fn is_about(&self, name: &BackendName) -> bool {
        match self {
            Self::Heard(input) => about(input) == Some(name),
            Self::Starts(backend) | Self::Ends(backend, _) | Self::Check(backend) | Self::Sample(backend) => {
                backend == name
            }
            Self::Scan => false,
        }
    }

    /// Whether this backend is being started or stopped, or that is about to be told.
    fn is_order_to(&self, name: &BackendName) -> bool {
        let is_order = match self {
            Self::Starts(_) | Self::Ends(..) => true,
            Self::Heard(input) => {
                matches!(input, Input::Started { .. } | Input::StartFailed { .. } | Input::Stopped { .. })
            }
            Self::Check(_) | Self::Sample(_) | Self::Scan => false,
        };
        is_order && self.is_about(name)
    }
}

/// The backend that was seen to be so.
fn about(input: &Input) -> Option<&BackendName> {
    match input {
        Input::Started { backend, .. }
        | Input::StartFailed { backend, .. }
        | Input::Checked { backend, .. }
        | Input::Answered { backend, .. }
        | Input::Asked { backend, .. }
        | Input::Exited { backend, .. }
        | Input::Sampled { backend, .. }
        | Input::Flows { backend, .. }
        | Input::Stopped { backend, .. }
        | Input::WarmedUp { backend, .. }
        | Input::Diagnosed { backend, .. } => Some(backend),
        _ => None,
    }
}
