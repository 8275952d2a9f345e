//! The agent's end of the conversation with a launcher of its own.
//!
//! A lost connection is no end of anything: attempts go on, and what was said and not answered is said again when the
//! launcher is back. Each attempt is a slot that says how far it is known to have got; those who wait watch it.

mod attempt;
mod session;
mod slots;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use haul_types::AttemptId;
use tokio::sync::mpsc;
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;

pub use self::attempt::RemoteAttempt;
use self::slots::{Progress, Slots};
use crate::cgroup::Enforced;
use crate::handle::TakeBackError;
use crate::launcher::{Found, StartError};
use crate::order::AttemptOrder;
use crate::protocol::{Standing, ToLauncher};

/// Why there is no launcher to talk to.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// Nobody answers on the socket.
    #[error("cannot reach the launcher at {}: is haul-launcher running, and this user the agent's?", path.display())]
    Reach {
        /// Which socket.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// It does not want this agent.
    #[error("the launcher refused: {0}")]
    Refused(String),
    /// It is none, or closed the connection at once: it does that to other users than the agent's.
    #[error("whoever answers at {} is no launcher for this user", .0.display())]
    NoLauncher(PathBuf),
}

/// A launcher of its own. Dropping it harms no attempt.
#[derive(Debug)]
pub struct Remote {
    shared: Arc<Shared>,
    users: u32,
    enforced: Enforced,
    _ends: DropGuard,
}

/// What a launcher has to give.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Looked {
    /// Attempts that may run at a time.
    pub users: u32,
    /// What can be limited there.
    pub enforced: Enforced,
}

/// Asks a launcher of its own what it has to give. The agent that is connected to it notices nothing.
pub async fn look(socket: &Path) -> Result<Looked, ConnectError> {
    let welcome = session::look(socket).await?;
    Ok(Looked {
        users: welcome.users,
        enforced: welcome.enforced,
    })
}

/// What the parts of this side share.
#[derive(Debug)]
struct Shared {
    socket: PathBuf,
    slots: Mutex<Slots>,
    tasks: TaskTracker,
}

impl Shared {
    fn slots(&self) -> MutexGuard<'_, Slots> {
        // Nothing in here panics halfway through a change.
        self.slots.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Remote {
    /// Connects, and tells which attempts there are. To be called within a runtime.
    pub async fn connect(socket: &Path) -> Result<(Self, Vec<Found<RemoteAttempt>>), ConnectError> {
        let (session, welcome) = session::connect(socket).await?;
        let shared = Arc::new(Shared {
            socket: socket.to_owned(),
            slots: Mutex::default(),
            tasks: TaskTracker::new(),
        });
        let found = welcome
            .attempts
            .into_iter()
            .map(|(attempt, standing)| match standing {
                Standing::Ended(record) => {
                    shared
                        .slots()
                        .found(attempt, Progress::Ended(Box::new(record.clone())));
                    Found::Ended(record)
                }
                Standing::Running => {
                    let progress = shared.slots().found(attempt, Progress::Running);
                    Found::Running(RemoteAttempt::new(Arc::clone(&shared), attempt, progress))
                }
            })
            .collect();
        let ends = CancellationToken::new();
        shared
            .tasks
            .spawn(session::keep(Arc::clone(&shared), session, ends.clone()));
        let remote = Self {
            shared,
            users: welcome.users,
            enforced: welcome.enforced,
            _ends: ends.drop_guard(),
        };
        Ok((remote, found))
    }

    /// Attempts that may run at a time.
    pub(crate) const fn users(&self) -> u32 {
        self.users
    }

    /// What can be limited there.
    pub(crate) const fn enforced(&self) -> Enforced {
        self.enforced
    }

    pub(crate) async fn start(
        &self,
        order: AttemptOrder,
        workdir: &Path,
    ) -> Result<RemoteAttempt, StartError> {
        let attempt = order.attempt;
        let message = ToLauncher::Start {
            order: Box::new(order),
            workdir: workdir.to_owned(),
        };
        let mut progress = self.shared.slots().start(attempt, message);
        // An error: the slot is gone, which it is not before it was answered.
        let settled = progress.wait_for(|it| !matches!(it, Progress::Ordered)).await;
        if let Ok(Progress::Refused(why)) = settled.as_deref() {
            let why = why.clone();
            drop(settled);
            self.shared.slots().forget(attempt);
            return Err(StartError::LauncherRefused { why });
        }
        drop(settled);
        Ok(RemoteAttempt::new(Arc::clone(&self.shared), attempt, progress))
    }

    pub(crate) fn acknowledge(&self, attempt: AttemptId) {
        self.shared.slots().acknowledge(attempt);
    }

    pub(crate) async fn take_back(&self, workdir: &Path) -> Result<(), TakeBackError> {
        let answer = self.shared.slots().take_back(workdir.to_owned());
        match answer.await {
            Ok(None) => Ok(()),
            Ok(Some(why)) => Err(TakeBackError(why)),
            Err(_) => Err(TakeBackError("the agent is ending".to_owned())),
        }
    }
}

/// Messages on their way to the launcher.
type Outgoing = mpsc::UnboundedSender<ToLauncher>;
