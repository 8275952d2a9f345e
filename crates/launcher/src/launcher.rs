//! The agent's half: keeps supervisors, hands them attempts, and takes over what an earlier agent left.
//!
//! A state directory belongs to one launcher at a time, by a lock. Supervisors are kept for the next attempt when one
//! has ended, and a few more are kept warm, so that starting does not wait for a process to be made. A supervisor is
//! given up after an attempt of more than a second: making a new one costs nothing beside that, and gives exact
//! figures of what the next one used.
//!
//! A supervisor says that an attempt has ended as soon as that is written down, and takes the next one; the end is told
//! to others only when it is [`durable`], for which one sync serves the ends of many attempts.
//!
//! Ends are kept until they are acknowledged, at least once each: an agent that dies right after [`acknowledge`]
//! may find the same end again.
//!
//! [`acknowledge`]: Launcher::acknowledge
//! [`durable`]: Launcher::durable

mod adopt;
mod books;
mod link;
mod making;
mod placement;
mod pool;
mod remains;
mod running;
mod syncing;

use std::ffi::OsString;
use std::fs::{DirBuilder, File, TryLockError};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use haul_types::AttemptId;

pub use self::adopt::{AdoptedAttempt, Found};
pub use self::placement::{Placement, Scope};
use self::pool::Pool;
pub use self::running::{RunningAttempt, Stopper};
pub use self::syncing::SyncError;
use crate::cgroup::Enforced;
use crate::order::AttemptOrder;
use crate::supervisors_dir::{LOCK, SUPERVISORS};
use crate::user::JobUser;

/// The program that becomes a supervisor: one that calls [`crate::supervisor::main_if_asked`] first.
#[derive(Clone, Debug)]
pub struct SupervisorProgram(OsString);

impl SupervisorProgram {
    /// This very program, also when its file was replaced by a newer one since.
    #[must_use]
    pub fn this_one() -> Self {
        Self("/proc/self/exe".into())
    }

    /// The program at `path`.
    #[must_use]
    pub fn at(path: impl Into<OsString>) -> Self {
        Self(path.into())
    }
}

/// How a launcher works.
#[derive(Clone, Debug)]
pub struct LauncherConfig {
    /// What supervisors are made of.
    pub program: SupervisorProgram,
    /// Supervisors kept beyond those that are busy. Each takes about 2 MiB and no time.
    pub spare: usize,
    /// Where supervisors and the control groups of their attempts belong.
    pub placement: Placement,
}

impl LauncherConfig {
    /// One spare supervisor of `program`.
    #[must_use]
    pub const fn new(program: SupervisorProgram) -> Self {
        Self {
            program,
            spare: 1,
            placement: Placement::Own,
        }
    }
}

/// Why a launcher cannot work in a state directory.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The directory could not be made.
    #[error("making the directory {}", path.display())]
    Make {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Another launcher works there.
    #[error("{} is in use by another agent", .0.display())]
    InUse(PathBuf),
    /// The lock could not be opened or taken.
    #[error("locking {}", path.display())]
    Lock {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// What an earlier agent left could not be read.
    #[error("reading {}", path.display())]
    Read {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
}

/// Why an attempt could not be handed to a supervisor. It was not started, and never will be by this order.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// A supervisor's directory or log could not be made.
    #[error("preparing {} for a supervisor", path.display())]
    Prepare {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The supervisor's process could not be made.
    #[error("starting the supervisor {}", program.display())]
    Spawn {
        /// Of which program.
        program: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The supervisor's process was made and gave up before it took an order.
    #[error("the supervisor gave up: {log}")]
    GaveUp {
        /// The end of what it said.
        log: String,
    },
    /// The order is larger than any program's arguments can be.
    #[error("the order for {attempt} cannot be sent")]
    Order {
        /// Whose.
        attempt: AttemptId,
        /// Why.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// A launcher of its own did not want the order.
    #[error("the launcher refused: {why}")]
    LauncherRefused {
        /// In its words.
        why: String,
    },
    /// Supervisors died as soon as they were given the order.
    #[error("no supervisor took the order for {0}")]
    Refused(AttemptId),
}

/// Why an end could not be forgotten.
#[derive(Debug, thiserror::Error)]
pub enum AcknowledgeError {
    /// No unacknowledged end of that attempt is known.
    #[error("no end of {0} waits to be acknowledged")]
    Unknown(AttemptId),
    /// The directory of a supervisor that is gone could not be removed; the end will be found again.
    #[error("removing {}", path.display())]
    Remove {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
}

/// Starts and adopts attempts in one state directory. Dropping it harms no attempt.
#[derive(Debug)]
pub struct Launcher {
    pool: Arc<Pool>,
}

impl Launcher {
    /// Takes the state directory over, and tells what an earlier agent left there. Blocks while processes of lost
    /// attempts are ended; usually for less than a millisecond for each supervisor.
    pub fn open(state_dir: &Path, config: LauncherConfig) -> Result<(Self, Vec<Found>), OpenError> {
        let supervisors = state_dir.join(SUPERVISORS);
        // Nobody else is to see what jobs run, or to stop them.
        let made = DirBuilder::new().recursive(true).mode(0o700).create(&supervisors);
        made.and_then(|()| state_dir.canonicalize())
            .map_err(|source| OpenError::Make {
                path: supervisors,
                source,
            })
            .and_then(|state_dir| {
                let lock = lock(&state_dir.join(LOCK))?;
                let pool = Arc::new(Pool::new(state_dir, config, lock));
                let found = adopt::scan(&pool)?;
                Ok((Self { pool }, found))
            })
    }

    /// Hands the order to a supervisor. When this returns, the attempt has been accepted and will end in exactly one
    /// [`crate::ExitRecord`]. Not to be called twice for one attempt: it is the caller who fences attempts.
    ///
    /// Dropping the future before it is ready leaves open whether the attempt was started; a started one shows up
    /// at the next [`Launcher::open`] only. Let it finish, and stop the attempt.
    pub async fn start(&self, order: AttemptOrder) -> Result<RunningAttempt, StartError> {
        RunningAttempt::start(&self.pool, order, None).await
    }

    /// The same, as another user.
    pub(crate) async fn start_as(
        &self,
        order: AttemptOrder,
        user: JobUser,
    ) -> Result<RunningAttempt, StartError> {
        RunningAttempt::start(&self.pool, order, Some(user)).await
    }

    /// Waits until the end of this attempt is durable: not before may it be told to anybody. It may wait for so long
    /// until others can be made durable with it. What is asked for is done even if the future is dropped.
    pub fn durable(
        &self,
        attempt: AttemptId,
        patience: Duration,
    ) -> impl Future<Output = Result<(), SyncError>> + use<> {
        syncing::durable(&self.pool, attempt, patience)
    }

    /// Forgets the end of this attempt: it is known durably elsewhere.
    pub fn acknowledge(&self, attempt: AttemptId) -> Result<(), AcknowledgeError> {
        self.pool.acknowledge(attempt)
    }

    /// What can be limited here, found out anew. Makes a scope for it, where there are to be scopes.
    #[must_use]
    pub fn enforced(&self) -> Enforced {
        placement::enforced(self.pool.config())
    }

    /// Makes the spare supervisors, so that the first attempts find them warm.
    pub async fn warm_up(&self) -> Result<(), StartError> {
        self.pool.warm_up().await
    }
}

fn lock(path: &Path) -> Result<File, OpenError> {
    let failed = |source| OpenError::Lock {
        path: path.to_owned(),
        source,
    };
    let file = File::options()
        .write(true)
        .create(true)
        .truncate(false)
        .open(path)
        .map_err(failed)?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(OpenError::InUse(path.to_owned())),
        Err(TryLockError::Error(source)) => Err(failed(source)),
    }
}
