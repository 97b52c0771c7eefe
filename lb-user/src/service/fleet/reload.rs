//! From one configuration to the next while all services go on.

use super::super::definition::is_embedded;
use super::shared::SharedPlane;
use super::{Fleet, FleetError, notify};
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
        let result = match result {
            Ok((summary, failures)) => {
                tracing::info!("the configuration was read again: {summary}");
                if failures.is_empty() {
                    Ok(summary)
                } else {
                    Err(format!("{summary}; but {}", failures.join("; ")))
                }
            }
            Err(error) => {
                tracing::error!("the configuration stays as it was: {error}");
                Err(error)
            }
        };
        notify::ready(&self.summary());
        result
    }

    /// Brings a configuration about; the answer is what has changed, and what could not be done yet.
    async fn change_to(&mut self, config: Config) -> Result<(String, Vec<String>), FleetError> {
        self.ensure_something_stays(&config)?;
        let changes = config::changes(&self.config, &config);
        self.ensure_allowed(&changes)?;
        if self.shared.is_none() && config.services.iter().any(|service| !is_embedded(service)) {
            self.shared = Some(SharedPlane::open(&self.paths, &config)?);
        } else if let Some(shared) = &self.shared {
            shared.attach(&config.data_plane)?;
            shared.plane.remember_for(&config.data_plane.timeouts);
        }
        let is_wanted = |name: &ServiceName| config.services.iter().any(|service| service.name == *name);
        let removed: Vec<_> = self.running.keys().filter(|name| !is_wanted(name)).cloned().collect();
        let summary = if changes.is_empty() {
            "nothing has changed".to_owned()
        } else {
            changes.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
        };
        self.budget.change(&config.budget);
        self.config = config;
        for name in removed {
            self.end(&name);
        }
        let mut failures = self.take_up_all().await;
        failures.extend(self.let_go_of_the_rest());
        Ok((summary, failures))
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

#[cfg(test)]
mod tests {
    use std::fs;

    use tokio::task::LocalSet;

    use super::super::FleetOptions;
    use super::*;
    use crate::paths::Roots;

    fn empty() -> Config {
        Config::parse("", "baton.toml").unwrap().config
    }

    #[tokio::test]
    async fn what_is_damaged_of_a_service_that_is_not_wanted_keeps_no_controller_and_no_change_from_its_way()
    {
        let directory = tempfile::tempdir().unwrap();
        let below = |name: &str| directory.path().join(name);
        let roots =
            Roots { run: below("run"), state: below("lib"), bpf: below("bpf"), netns: below("netns") };
        let left = roots.service(&"lost".parse().unwrap());
        fs::create_dir_all(left.run_dir()).unwrap();
        fs::write(left.registration(), "{").unwrap();
        let options = FleetOptions {
            plane: "host".parse().unwrap(),
            reread: |_| Ok(empty()),
            file: below("baton.toml"),
        };
        let reloaded = Box::pin(async {
            let mut fleet = Fleet::open(&roots, options, empty()).await.unwrap();
            fleet.reload().await
        });
        let said = LocalSet::new().run_until(reloaded).await.unwrap_err();
        assert!(said.starts_with("nothing has changed; but service lost: "), "{said}");
        assert!(said.contains("`baton down` removes what is left"), "{said}");
        assert!(left.registration().exists());
    }
}
