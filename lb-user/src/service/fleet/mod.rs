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
mod opening;
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
use tokio::task::{self, JoinSet};
use tokio::time::{MissedTickBehavior, interval, timeout};
use tokio_util::task::AbortOnDropHandle;

use super::budget::Budget;
use super::change::Change;
use super::definition::is_embedded;
use super::ids::NoId;
use super::runtime::Runtime;
use super::{OwnNetwork, UpError, try_lock};
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
/// Commands that are under way for longer when the controller ends are left to the next one.
const END_LIMIT: Duration = Duration::from_secs(15);
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

/// How a controller has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FleetEnd {
    /// Everything that it had ordered is done.
    Done,
    /// Commands are under way, which the next controller waits for: they must outlive this process, so it has to
    /// exit without dropping what runs them.
    Leaves,
}

/// A service that runs in a task of its own.
struct Running {
    /// Ends the task and leaves the service serving.
    end: oneshot::Sender<()>,
    /// What it is to become.
    changes: mpsc::Sender<Box<Change>>,
    /// Held by the last change until it is brought about.
    changing: oneshot::Receiver<()>,
    task: task::Id,
    definition: config::Service,
    lock: Flock<fs::File>,
}

impl Running {
    /// Whether it is what is `wanted`, and no longer stands on the backends that it had before.
    fn has_become(&mut self, wanted: &config::Service) -> bool {
        let is_changing = matches!(self.changing.try_recv(), Err(oneshot::error::TryRecvError::Empty));
        self.definition == *wanted && !is_changing
    }
}

/// A service that has left the configuration, and whose task has not ended yet.
struct Ending {
    task: task::Id,
    /// How long its flows may take.
    drain: Duration,
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
    ending: BTreeMap<ServiceName, Ending>,
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
            ending: BTreeMap::new(),
            taken_up: BTreeSet::new(),
            leaving: BTreeMap::new(),
            retry_at: None,
            trouble: None,
            budget,
            keepers: Vec::new(),
            _lock: lock,
        };
        // Those that fail are named in the log, and tried again.
        let _ = fleet.take_up_all().await;
        fleet.budget.open();
        // Not before it is known what is under way: that keeps the lock.
        fleet.keepers = lock::keep(identity, &fleet.paths, &fleet.budget);
        // What cannot be read is named in the log, and those that are taken up do not depend on it.
        let _ = fleet.let_go_of_the_rest();
        Ok(fleet)
    }

    /// Serves until `end` comes; `reloads` asks for the configuration to be read again.
    pub async fn run(
        mut self,
        mut reloads: mpsc::Receiver<()>,
        end: impl Future<Output = ()>,
    ) -> Result<FleetEnd, FleetError> {
        let (asked, mut questions) = mpsc::channel(16);
        let _served =
            api::serve(&self.paths.socket(), asked).map_err(UpError::files(&self.paths.socket()))?;
        notify::ready(&self.summary());
        let mut ticks = interval(TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let _watchdog = notify::watchdog_period().map(|period| {
            AbortOnDropHandle::new(task::spawn_local(async move {
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
        Ok(self.end_all().await)
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

    /// Ends the task of a service that has left the configuration, and lets go of the service when it has ended.
    fn end(&mut self, name: &ServiceName) {
        let Some(Running { end, task, definition, lock, .. }) = self.running.remove(name) else { return };
        self.budget.interrupt(name);
        if let Some(shared) = &self.shared {
            shared.close(name);
        }
        // One that has ended already hears nothing.
        let _ = end.send(());
        let ending = Ending { task, drain: definition.drain.deadline, _lock: lock };
        self.ending.insert(name.clone(), ending);
    }

    async fn end_all(&mut self) -> FleetEnd {
        let services = self.running.len();
        for (_, running) in std::mem::take(&mut self.running) {
            let _ = running.end.send(());
        }
        let all = async { while self.tasks.join_next().await.is_some() {} };
        let is_done = timeout(END_LIMIT, all).await.is_ok();
        tracing::info!(services, "the controller has ended; the services go on, `baton unload` ends them");
        if is_done {
            return FleetEnd::Done;
        }
        tracing::info!("commands are still under way: the next controller waits for them");
        FleetEnd::Leaves
    }

    /// A task has ended: because its service has left, or by itself, and then its service is taken up again.
    fn note_end(&mut self, ended: Result<Ended, task::JoinError>) {
        let (name, parts) = match ended {
            Ok((name, runtime, result)) => {
                if let Err(error) = result {
                    tracing::error!(service = %name, "{error}; it goes on serving");
                }
                (Some(name), Some(runtime.into_parts()))
            }
            Err(error) => {
                tracing::error!(%error, "a task broke off; its service goes on serving");
                (self.name_of(error.id()), None)
            }
        };
        let Some(name) = name else { return };
        self.retry_at.get_or_insert_with(Now::read);
        self.budget.interrupt(&name);
        if let Some(ending) = self.ending.remove(&name) {
            let is_wanted = self.config.services.iter().any(|service| service.name == name);
            if !is_wanted {
                self.let_go(name, Some(ending.drain), parts);
            }
        } else {
            self.running.remove(&name);
        }
    }

    fn name_of(&self, task: task::Id) -> Option<ServiceName> {
        let running = self.running.iter().map(|(name, running)| (name, running.task));
        let ending = self.ending.iter().map(|(name, ending)| (name, ending.task));
        running.chain(ending).find(|(_, id)| *id == task).map(|(name, _)| name.clone())
    }

    /// Does what is due. What fails is tried again at the next tick: a disk that is full, say, ends no controller.
    async fn tick(&mut self) {
        let now = Now::read();
        if self.retry_at.is_some_and(|at| now.boot_ms >= at.boot_ms) {
            let _ = self.take_up_all().await;
        }
        let seen_off = self.see_off(now).await;
        let released = self.release_backends(now);
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

    /// Gives back the ids of backends that are in no service any more.
    fn release_backends(&mut self, now: Now) -> Result<(), FleetError> {
        let Some(shared) = &mut self.shared else { return Ok(()) };
        let (wanted, running) = (self.config.services.iter(), &mut self.running);
        let settled = wanted.filter(|service| {
            running.get_mut(&service.name).is_some_and(|running| running.has_become(service))
        });
        shared.release_backends(&settled.map(|service| service.name.clone()).collect(), now)
    }

    fn summary(&self) -> String {
        let all = self.config.services.len();
        format!("{} of {all} services taken up, {} leaving", self.running.len(), self.leaving.len())
    }
}
