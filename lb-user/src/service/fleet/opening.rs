//! Services that are taken up: their parts on the way to be there, and the task that runs them.

use std::collections::BTreeSet;
use std::fs;
use std::time::Duration;

use futures::future::join_all;
use nix::fcntl::Flock;
use tokio::sync::mpsc::error::SendTimeoutError;
use tokio::sync::{mpsc, oneshot};

use super::super::change::{Change, Settings};
use super::super::definition::is_embedded;
use super::super::parts::{Parts, Place, open_shared};
use super::super::registration::{self, Registration};
use super::super::runtime::Start;
use super::super::{OwnNetwork, begin, embedded_parts, lock};
use super::{Fleet, FleetError, RETRY_MS, Running};
use crate::clock::Now;
use crate::config;
use crate::dataplane::FlowTimeouts;
use crate::names::{BackendName, PlaneName, ServiceName};
use crate::paths::Roots;
use crate::recovery::journal;

/// A task that does not hear of a change within this has ended, but for what it has ordered and waits for.
const CHANGE_LIMIT: Duration = Duration::from_secs(1);

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

/// Tells the task of a service what that is to become; an error if it does not listen. The controller does nothing
/// else meanwhile.
async fn tell<T>(changes: &mpsc::Sender<T>, change: T, service: &ServiceName) -> Result<(), FleetError> {
    match changes.send_timeout(change, CHANGE_LIMIT).await {
        // A task that has ended is noticed by itself, and its service taken up again.
        Ok(()) | Err(SendTimeoutError::Closed(_)) => Ok(()),
        Err(SendTimeoutError::Timeout(_)) => Err(FleetError::Settings(format!(
            "service `{service}` is ending after an error, which the log names, and hears of nothing new until it is \
             taken up again, with the settings of that time"
        ))),
    }
}

impl Fleet {
    /// Takes up every service that does not run as it should yet, all at the same time; what cannot be is said, and
    /// tried again later.
    pub(super) async fn take_up_all(&mut self) -> Vec<String> {
        self.retry_at = None;
        let mut failures = Vec::new();
        let mut openings = Vec::new();
        for service in self.config.services.clone() {
            let runs = self.running.get(&service.name).is_some_and(|running| running.definition == service);
            if let Some(shared) = self.shared.as_mut().filter(|_| runs && !is_embedded(&service)) {
                failures.extend(shared.keep_place(&service).err().map(|error| (service.name.clone(), error)));
            }
            if runs || self.ending.contains_key(&service.name) {
                continue;
            }
            self.leaving.remove(&service.name);
            let name = service.name.clone();
            match self.prepare(service) {
                Ok(opening) => openings.push(opening),
                Err(error) => failures.push((name, error)),
            }
        }
        // Each may wait for neighbours that are not there.
        let opened = join_all(openings.into_iter().map(Opening::open)).await;
        for (opening, parts) in opened {
            let name = opening.service.name.clone();
            let result = match parts {
                Ok((parts, start)) => self.go_on_with(opening, parts, &start).await,
                Err(error) => Err(error),
            };
            failures.extend(result.err().map(|error| (name, error)));
        }
        let mut said = Vec::new();
        for (service, error) in failures {
            self.count_what_is_under_way(&service);
            let when = RETRY_MS / 1000;
            tracing::error!(%service, "{error}; it is tried again in {when} s");
            said.push(format!("service {service}: {error}; it is tried again every {when} s"));
            self.retry_at = Some(Now::read().plus_ms(RETRY_MS));
        }
        said
    }

    /// A rejuvenation of a service that could not be taken up goes on by itself as far as it can, and counts.
    fn count_what_is_under_way(&self, service: &ServiceName) {
        let paths = self.roots.service(service);
        // Without a registration the machine was started since, and what the journal says is over.
        let was_there = !matches!(registration::load(&paths), Ok(None));
        if self.running.contains_key(service) || !was_there {
            return;
        }
        if let Some((backend, planned)) = journal::under_way(&paths.journal()) {
            self.budget.note_under_way(service, backend, planned, Now::read());
        }
    }

    /// Sees to all that a service needs of what others share.
    fn prepare(&mut self, service: config::Service) -> Result<Opening, FleetError> {
        let paths = self.roots.service(&service.name);
        let is_running = self.running.contains_key(&service.name);
        let lock = if is_running { None } else { Some(lock(&paths, &service.name)?) };
        let left = registration::load(&paths)?;
        let owner = left.as_ref().map(|left| left.run_by.clone());
        if owner.is_some_and(|owner| owner.as_ref() != Some(&self.options.plane)) {
            return Err(FleetError::Settings(format!(
                "service `{name}` is there from another controller: take it down with `baton down --name {name}`, or \
                 give this one another name",
                name = service.name
            )));
        }
        let run_by = self.options.plane.clone();
        let network = if is_embedded(&service) {
            Network::Own(self.own_network())
        } else {
            let no_plane =
                || format!("service `{}` needs a data plane on the host's interfaces", service.name);
            let shared = self.shared.as_mut().ok_or_else(|| FleetError::Settings(no_plane()))?;
            // Files of a service whose tables are gone tell nothing of how it is now.
            let is_there = shared.plane.tables().adopted() || self.taken_up.contains(&service.name);
            let known = left.filter(|_| is_there).map(|left| left.known(&service));
            let place = shared.place(&service)?;
            Network::Shared { place, known, timeouts: self.config.data_plane.timeouts.clone() }
        };
        Ok(Opening { roots: self.roots.clone(), service, lock, run_by, network })
    }

    /// Begins to run a service whose parts are there, or lets the one that runs become this one.
    async fn go_on_with(&mut self, opening: Opening, parts: Parts, start: &Start) -> Result<(), FleetError> {
        let Opening { service, lock, .. } = opening;
        let settings = Settings::of(service.clone(), Some(&self.budget))?;
        if let Some(running) = self.running.get_mut(&service.name) {
            let (until_done, changing) = oneshot::channel();
            let change = Box::new(Change { settings, parts, until_done });
            tell(&running.changes, change, &service.name).await?;
            (running.definition, running.changing) = (service, changing);
            return Ok(());
        }
        let Some(lock) = lock else {
            return Err(FleetError::Settings(format!("service `{}` has just ended", service.name)));
        };
        let (mut runtime, changes) = begin(&self.roots.service(&service.name), settings, parts, start)?;
        let (end, ended) = oneshot::channel();
        let name = service.name.clone();
        let task = self.tasks.spawn_local(async move {
            let end = async {
                // A controller that is gone wants its services to end, too.
                let _ = ended.await;
            };
            let result = runtime.run(end).await;
            // A start that is under way must not outrun whoever takes the service up next.
            runtime.settle().await;
            (name, Box::new(runtime), result)
        });
        self.taken_up.insert(service.name.clone());
        // It is what it is to be from its first step on.
        let (_, changing) = oneshot::channel();
        let running = Running { end, changes, changing, task: task.id(), definition: service.clone(), lock };
        self.running.insert(service.name, running);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_task_that_does_not_listen_is_not_waited_for() {
        let name = "shop".parse().unwrap();
        let (changes, mut heard) = mpsc::channel(1);
        tell(&changes, 1, &name).await.unwrap();
        let refused = tell(&changes, 2, &name).await.unwrap_err();
        assert!(refused.to_string().contains("service `shop` is ending"), "{refused}");
        assert_eq!(heard.recv().await, Some(1));
        tell(&changes, 3, &name).await.unwrap();
        drop(heard);
        tell(&changes, 4, &name).await.unwrap();
    }
}
