//! All services of a configuration file under one controller: `baton run`.
//!
//! Services whose backends Baton runs have a network and a data plane of their own, as with `baton up`; all
//! others share one data plane on the host's interfaces. Each service has its own [`Runtime`].
//!
//! What always holds:
//! - The end of the controller ends no service: whoever comes next adopts them.
//! - A configuration that is not right changes nothing; the one before goes on.
//! - Services that a reload does not change do not notice it.

mod leaving;
mod lock;
mod notify;
mod reload;
mod shared;
mod unload;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::path::PathBuf;
use std::time::Duration;

use lb_common::LAYOUT_VERSION;
use nix::fcntl::Flock;
use thiserror::Error;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::task::AbortOnDropHandle;

use super::budget::Budget;
use super::definition::is_embedded;
use super::ids::NoId;
use super::parts::open_shared;
use super::registration::{self, Registration};
use super::runtime::{Runtime, Start};
use super::{OwnNetwork, UpError, begin, lock, open_embedded, try_lock};
use crate::api::fleet as api;
use crate::clock::Now;
use crate::config::{self, Config};
use crate::driver::netns::DEFAULT_POOL;
use crate::names::{PlaneName, ServiceName};
use crate::paths::{PlanePaths, Roots};

use leaving::Leaving;
use shared::SharedPlane;
pub use unload::unload;

/// How often those are looked at that leave, or that could not be taken up.
const TICK: Duration = Duration::from_millis(500);
/// A service that could not be taken up is tried again after this long.
const RETRY_MS: u64 = 5_000;

/// Why a controller of many services cannot start, or cannot take up a configuration.
#[derive(Debug, Error)]
pub enum FleetError {
    /// Another controller has the data plane.
    #[error(
        "a controller of data plane `{0}` is running: `baton status` shows its services, `baton reload` makes it read its configuration again"
    )]
    Running(PlaneName),
    /// Another version of Baton has made it.
    #[error(
        "the data plane in {pins} is of another version of Baton: it has layout {layout}, and this version, of layout \
         {LAYOUT_VERSION}, cannot take over its flows. It was left running, untouched. Go on with the version that \
         started it, or end it, and the connections that it has, with `baton unload`"
    )]
    ForeignLayout {
        /// The layout of its maps.
        layout: u32,
        /// Where they are pinned.
        pins: PathBuf,
    },
    /// It is not known which id belongs to whom.
    #[error(
        "{path}: {source}; without it nobody knows which flows belong to which backend: `baton unload` removes the data plane"
    )]
    Ids {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: io::Error,
    },
    /// The configuration cannot be brought about.
    #[error("{0}")]
    Settings(String),
    /// There is no room.
    #[error(transparent)]
    NoId(#[from] NoId),
    /// A service, or what it stands on.
    #[error(transparent)]
    Up(#[from] UpError),
}

/// What a controller of many services is run with.
#[derive(Clone, Debug)]
pub struct FleetOptions {
    /// The data plane.
    pub plane: PlaneName,
    /// Reads the configuration again; the error is for people.
    pub reread: fn(&std::path::Path) -> Result<Config, String>,
    /// The configuration file.
    pub file: PathBuf,
}

/// A service that runs in a task of its own.
struct Running {
    /// Ends the task and leaves the service serving.
    end: oneshot::Sender<()>,
    definition: config::Service,
    _lock: Flock<fs::File>,
}

/// What a task leaves: the runtime, unless the service could not go on.
type Ended = (ServiceName, Box<Runtime>, Result<(), UpError>);

/// A controller of many services.
pub struct Fleet {
    roots: Roots,
    paths: PlanePaths,
    options: FleetOptions,
    config: Config,
    shared: Option<SharedPlane>,
    running: BTreeMap<ServiceName, Running>,
    tasks: JoinSet<Ended>,
    /// Services that this controller has taken up, whether or not they run at this moment.
    taken_up: BTreeSet<ServiceName>,
    leaving: BTreeMap<ServiceName, Leaving>,
    retry_at: Option<Now>,
    /// What could not be done at the last tick.
    trouble: Option<String>,
    budget: Budget,
    /// What takes and gives back the lock of the site.
    keepers: Vec<AbortOnDropHandle<()>>,
    _lock: Flock<fs::File>,
}

impl Fleet {
    /// Takes up all services of a configuration. Call it, and [`Fleet::run`], on a `LocalSet`.
    ///
    /// A service that cannot be taken up is tried again; what all of them stand on has to be there.
    pub async fn open(roots: &Roots, options: FleetOptions, config: Config) -> Result<Self, FleetError> {
        let paths = roots.plane(&options.plane);
        let locked = try_lock(&paths.run_dir(), &paths.lock())?;
        let lock = locked.ok_or_else(|| FleetError::Running(options.plane.clone()))?;
        let identity = lock::identity(config.budget.fleet_lock.as_ref())?;
        let budget = Budget::new(&config.budget);
        let needs_shared = config.services.iter().any(|service| !is_embedded(service));
        let shared = if needs_shared || !paths.pinned().is_empty() {
            Some(SharedPlane::open(&paths, &config)?)
        } else {
            None
        };
        let mut fleet = Self {
            roots: roots.clone(),
            paths,
            options,
            config,
            shared,
            running: BTreeMap::new(),
            tasks: JoinSet::new(),
            taken_up: BTreeSet::new(),
            leaving: BTreeMap::new(),
            retry_at: None,
            trouble: None,
            budget,
            keepers: Vec::new(),
            _lock: lock,
        };
        fleet.take_up_all().await;
        fleet.budget.open();
        // Not before it is known what is under way: that keeps the lock.
        fleet.keepers = lock::keep(identity, &fleet.paths, &fleet.budget);
        fleet.let_go_of_the_rest()?;
        Ok(fleet)
    }

    /// Serves until `end` comes; `reloads` asks for the configuration to be read again.
    pub async fn run(
        mut self,
        mut reloads: mpsc::Receiver<()>,
        end: impl Future<Output = ()>,
    ) -> Result<(), FleetError> {
        let (asked, mut questions) = mpsc::channel(16);
        let _served =
            api::serve(&self.paths.socket(), asked).map_err(UpError::files(&self.paths.socket()))?;
        notify::ready(&self.summary());
        let mut ticks = interval(TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let _watchdog = notify::watchdog_period().map(|period| {
            AbortOnDropHandle::new(tokio::task::spawn_local(async move {
                // A change of the configuration may take longer than the service manager waits.
                let mut ticks = interval(period);
                loop {
                    ticks.tick().await;
                    notify::alive();
                }
            }))
        });
        let mut end = std::pin::pin!(end);
        loop {
            tokio::select! {
                () = &mut end => break,
                Some(()) = reloads.recv() => {
                    // The log is all that a signal can be answered by.
                    let _ = self.reload().await;
                }
                Some(api::Question::Reload(answer)) = questions.recv() => {
                    let result = self.reload().await;
                    // Whoever asked may have gone.
                    let _ = answer.send(result);
                }
                Some(ended) = self.tasks.join_next() => self.note_end(ended),
                _ = ticks.tick() => self.tick().await,
            }
        }
        notify::stopping();
        self.end_all().await;
        Ok(())
    }

    /// Takes up every service that does not run yet.
    async fn take_up_all(&mut self) {
        self.retry_at = None;
        for service in self.config.services.clone() {
            if self.running.contains_key(&service.name) {
                continue;
            }
            self.leaving.remove(&service.name);
            if let Err(error) = self.take_up(service.clone()).await {
                tracing::error!(service = %service.name, "{error}; it is tried again in {} s", RETRY_MS / 1000);
                self.retry_at = Some(Now::read().plus_ms(RETRY_MS));
            }
        }
    }

    async fn take_up(&mut self, service: config::Service) -> Result<(), FleetError> {
        let paths = self.roots.service(&service.name);
        let lock = lock(&paths, &service.name)?;
        let left = registration::load(&paths)?;
        let owner = left.as_ref().map(|left| left.run_by.clone());
        if owner.is_some_and(|owner| owner.as_ref() != Some(&self.options.plane)) {
            return Err(FleetError::Settings(format!(
                "service `{name}` is there from another controller: take it down with `baton down --name {name}`, or \
                 give this one another name",
                name = service.name
            )));
        }
        let mut runtime = if is_embedded(&service) {
            let (network, run_by) = (self.own_network(), Some(self.options.plane.clone()));
            open_embedded(&self.roots, service.clone(), &network, run_by, Start::New, Some(&self.budget))
                .await?
        } else {
            let no_plane =
                || format!("service `{}` needs a data plane on the host's interfaces", service.name);
            let shared = self.shared.as_mut().ok_or_else(|| FleetError::Settings(no_plane()))?;
            // Files of a service whose tables are gone tell nothing of how it is now.
            let is_there = shared.plane.tables().adopted() || self.taken_up.contains(&service.name);
            let start = if left.is_some() && is_there { Start::Adopted } else { Start::New };
            let place = shared.place(&service)?;
            let mut registration =
                Registration::of(&service, place.id, &place.backends, &self.config.data_plane.timeouts);
            registration.plane = Some(self.options.plane.clone());
            registration.run_by = Some(self.options.plane.clone());
            let parts = open_shared(&paths, &service, place).await?;
            registration::store(&paths, &registration)?;
            begin(&paths, service.clone(), parts, start, Some(&self.budget))?
        };
        let (end, ended) = oneshot::channel();
        let name = service.name.clone();
        self.tasks.spawn_local(async move {
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
        self.running.insert(service.name.clone(), Running { end, definition: service, _lock: lock });
        Ok(())
    }

    /// What a service needs that has a network of its own.
    fn own_network(&self) -> OwnNetwork {
        let settings = &self.config.data_plane;
        OwnNetwork {
            mode: settings.xdp,
            pool: DEFAULT_POOL,
            resolv_conf: None,
            timeouts: settings.timeouts.clone(),
            flow_table: settings.flow_table,
        }
    }

    /// Ends a service's task; the service goes on serving.
    async fn end(&mut self, name: &ServiceName) -> Option<Box<Runtime>> {
        let running = self.running.remove(name)?;
        self.budget.interrupt(name);
        // One that has ended already hears nothing.
        let _ = running.end.send(());
        while let Some(ended) = self.tasks.join_next().await {
            match ended {
                Ok((ended, runtime, _)) if ended == *name => return Some(runtime),
                other => self.note_end(other),
            }
        }
        None
    }

    async fn end_all(&mut self) {
        let services = self.running.len();
        for (_, running) in std::mem::take(&mut self.running) {
            let _ = running.end.send(());
        }
        while self.tasks.join_next().await.is_some() {}
        tracing::info!(services, "the controller has ended; the services go on, `baton unload` ends them");
    }

    /// A task has ended by itself: its service is taken up again.
    fn note_end(&mut self, ended: Result<Ended, tokio::task::JoinError>) {
        match ended {
            Ok((name, _, result)) => {
                if self.running.remove(&name).is_none() {
                    return;
                }
                self.budget.interrupt(&name);
                if let Err(error) = result {
                    tracing::error!(service = %name, "{error}; it goes on serving and is taken up again");
                }
            }
            Err(error) => tracing::error!(%error, "a task broke off; its service is taken up again"),
        }
        self.retry_at.get_or_insert_with(Now::read);
    }

    /// Does what is due. What fails is tried again at the next tick: a disk that is full, say, ends no controller.
    async fn tick(&mut self) {
        let now = Now::read();
        if self.retry_at.is_some_and(|at| now.boot_ms >= at.boot_ms) {
            self.take_up_all().await;
        }
        let seen_off = self.see_off(now).await;
        let released = match &mut self.shared {
            Some(shared) => shared.release_backends(&self.config.services, now),
            None => Ok(()),
        };
        let trouble = seen_off.and(released).err().map(|error| error.to_string());
        // Said once for as long as it lasts.
        match trouble.as_ref().filter(|_| trouble != self.trouble) {
            Some(error) => tracing::error!("{error}; it is tried again until it succeeds"),
            None if trouble.is_none() && self.trouble.is_some() => {
                tracing::info!("what failed has succeeded");
            }
            None => {}
        }
        self.trouble = trouble;
    }

    fn summary(&self) -> String {
        let all = self.config.services.len();
        format!("{} of {all} services taken up, {} leaving", self.running.len(), self.leaving.len())
    }
}
