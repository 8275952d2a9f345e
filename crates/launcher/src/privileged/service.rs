//! Listening, and what all connections share.

use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use std::{fs, io};

use haul_types::AttemptId;
use tokio::net::UnixListener;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::peers::Peers;
use super::table::Table;
use super::users::Taken;
use super::{HANDED_OVER, PrivilegedConfig, WORK};
use crate::cgroup::Enforced;
use crate::launcher::{Found, Launcher, OpenError};
use crate::order::ExitRecord;
use crate::protocol::FromLauncher;

/// How long an end may wait for others to be made durable with it.
const FOR_OTHERS: Duration = Duration::from_millis(1);

/// Why a launcher cannot serve.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// Supervisors cannot be kept.
    #[error("cannot take up the attempts that were running")]
    Open(#[from] OpenError),
    /// The socket cannot be made.
    #[error("cannot listen on {}", path.display())]
    Listen {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
}

/// What changes.
#[derive(Default)]
pub(super) struct State {
    pub(super) table: Table,
    pub(super) taken: Taken,
    pub(super) peers: Peers,
    /// Users of attempts that were adopted and run.
    adopted: Vec<u32>,
}

impl State {
    /// Whether an attempt that runs has this directory, other than `except`.
    pub(super) fn in_use(&self, workdir: &Path, except: Option<AttemptId>) -> bool {
        let holder = self.taken.holder(workdir);
        self.table.uses(workdir, except) || holder.is_some_and(|uid| self.adopted.contains(&uid))
    }
}

/// What connections share.
pub(super) struct Shared {
    pub(super) config: PrivilegedConfig,
    pub(super) launcher: Launcher,
    pub(super) enforced: Enforced,
    pub(super) tasks: TaskTracker,
    state: Mutex<State>,
}

impl Shared {
    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        // Nothing in here panics halfway through a change.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for an attempt's end, and tells it when it is durable.
    pub(super) fn follow(self: &Arc<Self>, ended: impl Future<Output = ExitRecord> + Send + 'static) {
        let shared = Arc::clone(self);
        self.tasks.spawn(async move {
            let record = ended.await;
            let durable = shared.launcher.durable(record.attempt, FOR_OTHERS).await;
            if let Err(error) = durable {
                // The controller will store it; until then a power cut may make it unknown.
                tracing::error!(attempt = %record.attempt, error = %crate::words(&error), "an end is not known to be durable");
            }
            let mut state = shared.state();
            state.table.ended(record.clone());
            state.peers.say(FromLauncher::Ended(record));
        });
    }

    fn adopt(self: &Arc<Self>, found: Vec<Found>) {
        for found in found {
            match found {
                Found::Ended(record) => {
                    self.state().table.running(record.attempt, None, Box::new(|_| {}));
                    self.follow(std::future::ready(record));
                }
                Found::Lost {
                    attempt,
                    boot,
                    killed_leftovers,
                } => self.state().table.ended(ExitRecord {
                    killed_leftovers,
                    ..ExitRecord::lost(attempt, boot, 0)
                }),
                Found::Running(mut running) => {
                    let attempt = running.attempt();
                    let uid = running.pid().and_then(user_of);
                    let stopper = running.stopper();
                    let stop = Box::new(move |why| {
                        // Without one this process is out of file descriptors.
                        if let Some(stopper) = &stopper {
                            stopper.stop(why);
                        }
                    });
                    {
                        let mut state = self.state();
                        state.table.running(attempt, None, stop);
                        state.adopted.extend(uid);
                    }
                    let shared = Arc::clone(self);
                    self.follow(async move {
                        let record = running.wait().await;
                        shared.state().adopted.retain(|it| Some(*it) != uid);
                        record
                    });
                }
            }
        }
    }
}

/// As whom a process runs.
fn user_of(pid: i32) -> Option<u32> {
    use std::os::unix::fs::MetadataExt;
    Some(fs::metadata(format!("/proc/{pid}")).ok()?.uid())
}

/// A launcher that listens.
pub struct Service {
    shared: Arc<Shared>,
    listener: UnixListener,
}

impl Service {
    /// Takes up what an earlier one left, and listens. To be called within a runtime.
    pub fn open(config: PrivilegedConfig) -> Result<Self, ServeError> {
        let (launcher, found) = Launcher::open(&config.state_dir, config.launcher.clone())?;
        let enforced = launcher.enforced();
        tracing::info!(%enforced, users = config.users.count(), attempts = found.len(), "limits");
        let mut state = State::default();
        note_taken(&config, &mut state.taken);
        let shared = Arc::new(Shared {
            launcher,
            enforced,
            tasks: TaskTracker::new(),
            state: Mutex::new(state),
            config,
        });
        shared.adopt(found);
        let listener = listen(&shared.config).map_err(|source| ServeError::Listen {
            path: shared.config.socket.clone(),
            source,
        })?;
        Ok(Self { shared, listener })
    }

    /// Serves until `shutdown`. Attempts go on without it.
    pub async fn serve(self, shutdown: CancellationToken) {
        let shared = &self.shared;
        loop {
            let accepted = tokio::select! {
                accepted = self.listener.accept() => accepted,
                () = shutdown.cancelled() => break,
            };
            match accepted {
                Ok((stream, _)) => drop(
                    shared
                        .tasks
                        .spawn(Arc::clone(shared).converse(stream, shutdown.clone())),
                ),
                Err(error) => tracing::warn!(%error, "cannot take a connection"),
            }
        }
        let _ = fs::remove_file(&shared.config.socket);
    }
}

/// Directories that are a job's user's still: that user is not free.
fn note_taken(config: &PrivilegedConfig, taken: &mut Taken) {
    use std::os::unix::fs::MetadataExt;
    let entries = fs::read_dir(config.agent_dir.join(WORK));
    for workdir in entries.into_iter().flatten().flatten().map(|entry| entry.path()) {
        let owners = HANDED_OVER.map(|name| fs::symlink_metadata(workdir.join(name)).map(|it| it.uid()));
        for uid in owners
            .into_iter()
            .flatten()
            .filter(|&uid| config.users.contains(uid))
        {
            taken.note(uid, workdir.clone());
        }
    }
}

fn listen(config: &PrivilegedConfig) -> io::Result<UnixListener> {
    match fs::remove_file(&config.socket) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let listener = UnixListener::bind(&config.socket)?;
    // Whoever connected in between is asked who he is.
    chown(&config.socket, None, Some(config.agent_gid))?;
    fs::set_permissions(&config.socket, fs::Permissions::from_mode(0o660))?;
    Ok(listener)
}
