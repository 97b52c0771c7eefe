//! The parts of a service on their way to be there.

use std::collections::BTreeSet;
use std::fs;

use nix::fcntl::Flock;

use super::super::parts::{Parts, Place, open_shared};
use super::super::registration::{self, Registration};
use super::super::runtime::Start;
use super::super::{OwnNetwork, embedded_parts};
use super::FleetError;
use crate::config;
use crate::dataplane::FlowTimeouts;
use crate::names::{BackendName, PlaneName};
use crate::paths::Roots;

/// A service whose parts are about to be opened.
pub(super) struct Opening {
    pub(super) roots: Roots,
    pub(super) service: config::Service,
    /// What makes this process its one controller, unless that is so already.
    pub(super) lock: Option<Flock<fs::File>>,
    /// The controller, by its data plane.
    pub(super) run_by: PlaneName,
    pub(super) network: Network,
}

/// Where its packets are to be steered.
pub(super) enum Network {
    /// In a data plane that services share.
    Shared {
        place: Place,
        /// The backends that were known where they are now, if the service was there.
        known: Option<BTreeSet<BackendName>>,
        timeouts: FlowTimeouts,
    },
    /// In one of its own.
    Own(OwnNetwork),
}

impl Opening {
    /// Opens the parts, and says in which way the service is taken up with them.
    pub(super) async fn open(mut self) -> (Self, Result<(Parts, Start), FleetError>) {
        let opened = self.open_parts().await;
        (self, opened)
    }

    async fn open_parts(&mut self) -> Result<(Parts, Start), FleetError> {
        let (service, run_by) = (&self.service, Some(self.run_by.clone()));
        match &mut self.network {
            Network::Own(network) => {
                Ok(embedded_parts(&self.roots, service, network, run_by, Start::New).await?)
            }
            Network::Shared { place, known, timeouts } => {
                let paths = self.roots.service(&service.name);
                let mut registration = Registration::of(service, place.id, &place.backends, timeouts);
                (registration.plane, registration.run_by) = (run_by.clone(), run_by);
                let start = known.take().map_or(Start::New, |known| Start::Adopted { known });
                let parts = open_shared(&paths, service, place.clone()).await?;
                registration::store(&paths, &registration)?;
                Ok((parts, start))
            }
        }
    }
}
