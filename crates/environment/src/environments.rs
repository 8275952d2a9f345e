//! The handle that an agent has: ensure, list, lease again.

use std::collections::HashMap;
use std::ffi::OsString;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use haul_types::{Digest, EnvironmentSpec};
use tokio_util::sync::CancellationToken;

use crate::build::Build;
use crate::config::{EnvironmentsConfig, OpenError};
use crate::entry::{Entry, EnvironmentInfo, Layout};
use crate::error::EnvironmentError;
use crate::flight::{Flight, Flights, SetupSink};
use crate::interpreter::{Interpreter, Interpreters};
use crate::lease::{self, Lease, LeaseError};
use crate::lock;
use crate::plan::{self, Planned};
use crate::prune::PrunePolicy;
use crate::uv::Uvs;

/// How often an environment may vanish between being built and being leased.
const ATTEMPTS: u32 = 3;

/// The environments of one node. One per agent; a handle is cheap to clone.
#[derive(Clone)]
pub struct Environments {
    pub(crate) shared: Arc<Shared>,
}

/// What a flight lands with: the lease keeps the environment until every waiter has its own.
type Landed = Result<(Arc<Lease>, bool), EnvironmentError>;

pub(crate) struct Shared {
    pub(crate) config: Arc<EnvironmentsConfig>,
    pub(crate) layout: Layout,
    pub(crate) interpreters: Interpreters,
    pub(crate) uvs: Uvs,
    flights: Arc<Flights<Landed>>,
    /// Versions that were asked for, and where the Python was found.
    pub(crate) versions: Mutex<HashMap<String, PathBuf>>,
}

/// An environment that is ready.
#[derive(Debug)]
pub struct Ready {
    /// Its interpreter; none when the node has none and none was asked for.
    pub python: Option<PathBuf>,
    /// Variables to set for the script: `PATH` with the environment first, `VIRTUAL_ENV`. Empty when nothing changes.
    pub env: Vec<(OsString, OsString)>,
    /// Keeps it from being removed.
    pub lease: Lease,
    /// Whether it was there already.
    pub reused: bool,
    /// What it is known by; none for a Python of the node.
    pub key: Option<Digest>,
}

impl Environments {
    /// Opens what is kept in the configured directory; makes it when missing. Starts nothing.
    pub fn open(mut config: EnvironmentsConfig) -> Result<Self, OpenError> {
        let root = std::path::absolute(&config.cache_dir).map_err(|source| OpenError::Resolve {
            path: config.cache_dir.clone(),
            source,
        })?;
        config.cache_dir.clone_from(&root);
        let layout = Layout::new(root);
        for path in [layout.envs(), layout.locks(), layout.leases(), layout.tools()] {
            fs::create_dir_all(&path).map_err(|source| OpenError::CreateDir { path, source })?;
        }
        Ok(Self {
            shared: Arc::new(Shared {
                config: Arc::new(config),
                layout,
                interpreters: Interpreters::default(),
                uvs: Uvs::default(),
                flights: Arc::new(Flights::new()),
                versions: Mutex::default(),
            }),
        })
    }

    /// Makes sure that the environment is there: from `source_dir`, the job's directory, to which the paths in `spec`
    /// are relative. It is built once however many ask at once; every one of them gets the build's output in `setup`,
    /// from its start. A build that fails is not remembered.
    ///
    /// When `cancel` is called, or the future dropped, the build goes on if others wait for it; if none do, its
    /// processes are killed and what was made is removed.
    pub async fn ensure(
        &self,
        spec: &EnvironmentSpec,
        source_dir: &Path,
        setup: Arc<dyn SetupSink>,
        cancel: CancellationToken,
    ) -> Result<Ready, EnvironmentError> {
        cancel
            .run_until_cancelled(self.ensure_uncanceled(spec, source_dir, setup))
            .await
            .unwrap_or(Err(EnvironmentError::Canceled))
    }

    async fn ensure_uncanceled(
        &self,
        spec: &EnvironmentSpec,
        source_dir: &Path,
        setup: Arc<dyn SetupSink>,
    ) -> Result<Ready, EnvironmentError> {
        let shared = &self.shared;
        match spec {
            EnvironmentSpec::Node => Ok(Ready {
                python: shared.config.on_path("python3"),
                env: Vec::new(),
                lease: Lease::default(),
                reused: true,
                key: None,
            }),
            EnvironmentSpec::Python { interpreter } => {
                let (path, found) = shared.interpreters.named(&shared.config, interpreter).await?;
                Ok(Ready {
                    env: shared.env_of(&path, &found),
                    python: Some(path),
                    lease: Lease::default(),
                    reused: true,
                    key: None,
                })
            }
            EnvironmentSpec::Venv { requirements, python } => {
                let interpreter = shared.base(python.as_deref(), setup.as_ref()).await?;
                let config = Arc::clone(&shared.config);
                let (requirements, dir) = (requirements.clone(), source_dir.to_owned());
                let planned = blocking(move || plan::venv(&config, interpreter, &requirements, &dir)).await?;
                self.ensure_venv(planned, setup).await
            }
        }
    }

    async fn ensure_venv(
        &self,
        planned: Planned,
        setup: Arc<dyn SetupSink>,
    ) -> Result<Ready, EnvironmentError> {
        let shared = &self.shared;
        let entry = shared.layout.entry(planned.plan.key());
        if let Some(lease) = shared.lease(&entry)? {
            return Ok(shared.ready(&entry, lease, true));
        }
        let mut planned = Some(planned);
        for _ in 0..ATTEMPTS {
            // Only the first of our attempts has the plan; in a later one, somebody else may fly.
            let Some(plan) = planned.take() else { break };
            let flights = Arc::clone(&shared.flights);
            let work = Arc::clone(shared);
            let to_build = entry.clone();
            let mut unused = Some(plan);
            let joined = flights.join(entry.key, Arc::clone(&setup), |flight| {
                let plan = unused.take();
                async move {
                    match plan {
                        Some(plan) => fly(work, to_build, plan, flight).await,
                        None => Err(EnvironmentError::Lost { key: to_build.key }),
                    }
                }
            });
            let landed = joined
                .await
                .unwrap_or(Err(EnvironmentError::Lost { key: entry.key }));
            planned = unused;
            let (held, reused) = landed?;
            let own = shared.lease(&entry)?;
            drop(held);
            if let Some(lease) = own {
                return Ok(shared.ready(&entry, lease, reused));
            }
        }
        Err(EnvironmentError::Vanished {
            key: entry.key,
            attempts: ATTEMPTS,
        })
    }

    /// Takes a lease again after a restart, by key and by the name that it was assigned to.
    pub async fn retake(&self, key: Digest, holder: &str) -> Result<Lease, LeaseError> {
        let entry = self.shared.layout.entry(key);
        let holder = holder.to_owned();
        blocking(move || {
            let failed = |source| LeaseError::Record {
                holder: holder.clone(),
                path: entry.lock.clone(),
                source,
            };
            // Held exclusively, it is being removed or built: by whoever found nobody holding it.
            let lock = lock::try_shared(&entry.lock).map_err(failed)?;
            let lock = lock
                .filter(|_| entry.is_ready())
                .ok_or(LeaseError::Gone { key })?;
            let mut lease = Lease::new(key, entry.leases.clone(), lock);
            lease.assign(&holder)?;
            Ok(lease)
        })
        .await
    }

    /// Drops the records of holders that are no more, as an agent knows once it has adopted what still runs. How
    /// many there were.
    pub async fn forget_holders(&self, lives: impl Fn(&str) -> bool + Send + 'static) -> io::Result<usize> {
        let layout = self.shared.layout.clone();
        blocking(move || {
            let mut forgotten = 0;
            for dir in fs::read_dir(layout.leases())? {
                forgotten += lease::forget(&dir?.path(), &lives)?;
            }
            Ok(forgotten)
        })
        .await
    }

    /// Everything that is there, the last used first.
    pub async fn list(&self) -> Result<Vec<EnvironmentInfo>, io::Error> {
        let shared = Arc::clone(&self.shared);
        blocking(move || shared.infos()).await
    }
}

impl Shared {
    pub(crate) fn infos(&self) -> io::Result<Vec<EnvironmentInfo>> {
        let mut infos = Vec::new();
        for entry in self.layout.entries()? {
            if let Some(mut info) = entry.info()? {
                info.in_use |= self.flights.is_flying(entry.key);
                infos.push(info);
            }
        }
        infos.sort_by_key(|info| std::cmp::Reverse(info.last_used));
        Ok(infos)
    }

    /// A lease of an environment that is there: a lock and two stats.
    fn lease(&self, entry: &Entry) -> Result<Option<Lease>, EnvironmentError> {
        if !entry.is_ready() {
            return Ok(None);
        }
        let failed = || EnvironmentError::disk("cannot lock", &entry.lock);
        let Some(lock) = lock::try_shared(&entry.lock).map_err(failed())? else {
            return Ok(None);
        };
        // Again, now that nobody can take it away.
        if !entry.is_ready() {
            return Ok(None);
        }
        entry
            .touch()
            .map_err(EnvironmentError::disk("cannot note the use of", &entry.dir))?;
        Ok(Some(Lease::new(entry.key, entry.leases.clone(), lock)))
    }

    fn ready(&self, entry: &Entry, lease: Lease, reused: bool) -> Ready {
        Ready {
            python: Some(entry.python()),
            env: self.env_at(&entry.venv()),
            lease,
            reused,
            key: Some(entry.key),
        }
    }

    /// The variables of a virtual environment.
    fn env_at(&self, prefix: &Path) -> Vec<(OsString, OsString)> {
        vec![
            ("VIRTUAL_ENV".into(), prefix.into()),
            ("PATH".into(), self.path_with(&prefix.join("bin"))),
        ]
    }

    /// The variables for a Python that is there: those of its virtual environment; else its directory first on `PATH`,
    /// unless it is on it anyway.
    fn env_of(&self, path: &Path, found: &Interpreter) -> Vec<(OsString, OsString)> {
        if found.is_virtual() {
            return self.env_at(&found.prefix);
        }
        let Some(dir) = path.parent() else {
            return Vec::new();
        };
        let on_path = self
            .config
            .var("PATH")
            .is_some_and(|all| std::env::split_paths(all).any(|one| one == dir));
        if on_path {
            return Vec::new();
        }
        vec![("PATH".into(), self.path_with(dir))]
    }

    fn path_with(&self, first: &Path) -> OsString {
        let mut path = OsString::from(first);
        if let Some(rest) = self.config.var("PATH") {
            path.push(":");
            path.push(rest);
        }
        path
    }
}

/// One build, for all who wait for it.
async fn fly(shared: Arc<Shared>, entry: Entry, planned: Planned, flight: Arc<Flight<Landed>>) -> Landed {
    let said = |line: &[u8]| flight.say(line);
    let cancel = flight.cancel();
    let uv = cancel
        .run_until_cancelled(shared.uvs.ensure(&shared.config, &shared.layout, &said, cancel))
        .await
        .unwrap_or(Err(EnvironmentError::Canceled))?;
    let build = Build {
        config: Arc::clone(&shared.config),
        layout: shared.layout.clone(),
        entry,
        planned,
        uv,
    };
    let built = build.run(&said, cancel).await?;
    if let Some(budget) = shared.config.disk_budget.filter(|_| !built.reused) {
        let policy = PrunePolicy {
            keep_bytes: Some(budget),
            ..PrunePolicy::default()
        };
        match Arc::clone(&shared).prune(policy).await {
            Ok(pruned) if !pruned.removed.is_empty() || pruned.cache_bytes.0 > 0 => {
                tracing::info!(removed = pruned.removed.len(), bytes = %pruned.bytes, cache_bytes = %pruned.cache_bytes, "environments and uv's cache gave way to the disk budget");
            }
            Ok(_) => {}
            // The environment is there; that others are too is no reason to fail.
            Err(error) => tracing::warn!(%error, "the disk budget could not be kept"),
        }
    }
    Ok((Arc::new(built.lease), built.reused))
}

/// Runs `work`, which touches the disk, where it may block.
pub(crate) async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    match tokio::task::spawn_blocking(work).await {
        Ok(value) => value,
        Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
        // Only a runtime that shuts down cancels one, and then nobody polls this any more.
        Err(_) => std::future::pending().await,
    }
}
