//! From one configuration to the next while all services go on.

use std::collections::{BTreeMap, BTreeSet};

use super::super::definition::is_embedded;
use super::shared::SharedPlane;
use super::{Fleet, FleetError, Running, notify};
use crate::config::{self, Change, Config, Effect, Subject, What};
use crate::names::ServiceName;

impl Fleet {
    /// Reads the configuration again and brings about what has changed.
    pub(super) async fn reload(&mut self) -> Result<String, String> {
        notify::reloading();
        let result = match (self.options.reread)(&self.options.file) {
            Ok(config) => self.change_to(config).await.map_err(|error| error.to_string()),
            Err(findings) => Err(findings),
        };
        match &result {
            Ok(summary) => tracing::info!("the configuration was read again: {summary}"),
            Err(error) => tracing::error!("the configuration stays as it was: {error}"),
        }
        notify::ready(&self.summary());
        result
    }

    async fn change_to(&mut self, config: Config) -> Result<String, FleetError> {
        self.ensure_something_stays(&config)?;
        let changes = config::changes(&self.config, &config);
        self.ensure_allowed(&changes)?;
        if self.shared.is_none() && config.services.iter().any(|service| !is_embedded(service)) {
            self.shared = Some(SharedPlane::open(&self.paths, &config)?);
        } else if let Some(shared) = &self.shared {
            shared.attach(&config.data_plane)?;
            shared.plane.remember_for(&config.data_plane.timeouts);
        }
        let wanted: BTreeMap<_, _> = config.services.iter().map(|s| (&s.name, s)).collect();
        let is_stale = |(name, running): &(&ServiceName, &Running)| {
            wanted.get(name).is_none_or(|service| **service != running.definition)
        };
        let stale: Vec<ServiceName> =
            self.running.iter().filter(is_stale).map(|(name, _)| name.clone()).collect();
        let summary = if changes.is_empty() {
            "nothing has changed".to_owned()
        } else {
            changes.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
        };
        let removed: BTreeSet<_> = stale.iter().filter(|name| !wanted.contains_key(name)).cloned().collect();
        self.budget.change(&config.budget);
        self.config = config;
        for name in stale {
            let drain = self.running.get(&name).map(|running| running.definition.drain.deadline);
            let runtime = self.end(&name).await;
            if removed.contains(&name) {
                self.let_go(name, drain, runtime.map(|runtime| runtime.into_parts()));
            }
        }
        self.take_up_all().await;
        self.let_go_of_the_rest()?;
        Ok(summary)
    }

    /// An error if nothing would be left: a file that lost its services, cut off or emptied, looks just like one that
    /// is to have none.
    fn ensure_something_stays(&self, config: &Config) -> Result<(), FleetError> {
        if self.running.is_empty() || !config.services.is_empty() {
            return Ok(());
        }
        let running: Vec<_> = self.running.keys().map(ToString::to_string).collect();
        Err(FleetError::Settings(format!(
            "the file has no service, and these are running: {}; if all are to go, end the controller and `baton unload` \
             what it leaves",
            running.join(", ")
        )))
    }

    /// An error if something would have to change that cannot while it serves.
    fn ensure_allowed(&self, changes: &[Change]) -> Result<(), FleetError> {
        let embedded = |name: &ServiceName| {
            self.config.services.iter().any(|service| service.name == *name && is_embedded(service))
        };
        let is_refused = |change: &&Change| match (&change.subject, change.effect) {
            (_, Effect::Refused | Effect::NewService) => true,
            // The namespaces of backends that Baton runs are made once.
            (Subject::Backend(service, _), effect) if embedded(service) => {
                effect == Effect::NewBackend || matches!(change.what, What::Added | What::Removed)
            }
            _ => false,
        };
        let refused: Vec<String> = changes.iter().filter(is_refused).map(ToString::to_string).collect();
        if refused.is_empty() {
            return Ok(());
        }
        Err(FleetError::Settings(format!(
            "what serves cannot become this: {}; give what is new another name, and remove what is old once its clients \
             have moved",
            refused.join("; ")
        )))
    }
}
