//! The launcher as an agent sees it: within its own process, or a process of its own behind a socket.

use std::path::Path;
use std::time::Duration;

use haul_types::AttemptId;

use crate::cgroup::Enforced;
use crate::launcher::{
    AcknowledgeError, AdoptedAttempt, Found, Launcher, RunningAttempt, StartError, SyncError,
};
use crate::order::{AttemptOrder, ExitRecord, StopReason};
use crate::remote::{Remote, RemoteAttempt};

/// One of the two.
#[derive(Debug)]
pub enum LauncherHandle {
    /// In this process; jobs run as its user.
    Here(Launcher),
    /// In another; jobs run as users that have no rights.
    There(Remote),
}

impl LauncherHandle {
    /// Starts an attempt in the working directory `workdir`, as [`Launcher::start`] does.
    pub async fn start(&self, order: AttemptOrder, workdir: &Path) -> Result<AttemptHandle, StartError> {
        match self {
            Self::Here(launcher) => launcher.start(order).await.map(AttemptHandle::Here),
            Self::There(remote) => remote.start(order, workdir).await.map(AttemptHandle::There),
        }
    }

    /// Makes a working directory the agent's own again, in which nothing runs any more.
    pub async fn take_back(&self, workdir: &Path) -> Result<(), TakeBackError> {
        match self {
            Self::Here(_) => Ok(()),
            Self::There(remote) => remote.take_back(workdir).await,
        }
    }

    /// Waits until an attempt's end is durable, as [`Launcher::durable`] does. A launcher of its own tells no other.
    pub async fn durable(&self, attempt: AttemptId, patience: Duration) -> Result<(), SyncError> {
        match self {
            Self::Here(launcher) => launcher.durable(attempt, patience).await,
            Self::There(_) => Ok(()),
        }
    }

    /// Forgets an attempt's end: it is known durably elsewhere.
    pub fn acknowledge(&self, attempt: AttemptId) -> Result<(), AcknowledgeError> {
        match self {
            Self::Here(launcher) => launcher.acknowledge(attempt),
            Self::There(remote) => {
                remote.acknowledge(attempt);
                Ok(())
            }
        }
    }

    /// What can be limited on this node.
    #[must_use]
    pub fn enforced(&self) -> Enforced {
        match self {
            Self::Here(launcher) => launcher.enforced(),
            Self::There(remote) => remote.enforced(),
        }
    }

    /// Attempts that may run at a time, if the launcher bounds them.
    #[must_use]
    pub fn slots(&self) -> Option<u32> {
        match self {
            Self::Here(_) => None,
            Self::There(remote) => Some(remote.users()),
        }
    }
}

/// Why a directory could not be taken back.
#[derive(Debug, thiserror::Error)]
#[error("the launcher did not hand the working directory back: {0}")]
pub struct TakeBackError(pub(crate) String);

/// An attempt that a supervisor has. Dropping it leaves the attempt alone.
#[derive(Debug)]
pub enum AttemptHandle {
    /// Started by this process.
    Here(RunningAttempt),
    /// Started by an earlier one.
    Adopted(AdoptedAttempt),
    /// Of a launcher of its own.
    There(RemoteAttempt),
}

impl AttemptHandle {
    /// Which attempt.
    #[must_use]
    pub const fn attempt(&self) -> AttemptId {
        match self {
            Self::Here(running) => running.attempt(),
            Self::Adopted(adopted) => adopted.attempt(),
            Self::There(remote) => remote.attempt(),
        }
    }

    /// Waits until not one process of the attempt is left and its end is written down durably. May be dropped and
    /// called again.
    pub async fn ended(&mut self) -> ExitRecord {
        match self {
            Self::Here(running) => running.ended().await,
            Self::Adopted(adopted) => adopted.wait().await,
            Self::There(remote) => remote.ended().await,
        }
    }

    /// Asks for the end of the attempt, as [`RunningAttempt::stop`] does.
    pub fn stop(&self, why: StopReason) {
        match self {
            Self::Here(running) => running.stop(why),
            Self::Adopted(adopted) => adopted.stop(why),
            Self::There(remote) => remote.stop(why),
        }
    }

    /// The same, for somebody else to call.
    pub fn stopper(&self) -> impl Fn(StopReason) + Send + Sync + 'static {
        let (here, there) = match self {
            Self::Here(running) => (Some(running.stopper()), None),
            Self::Adopted(adopted) => (adopted.stopper(), None),
            Self::There(remote) => (None, Some(remote.stopper())),
        };
        move |why| {
            if let Some(here) = &here {
                here.stop(why);
            }
            if let Some(there) = &there {
                there.stop(why);
            }
        }
    }
}

impl<R> Found<R> {
    /// The same, with what runs put otherwise.
    pub(crate) fn map<T>(self, running: impl FnOnce(R) -> T) -> Found<T> {
        match self {
            Self::Running(it) => Found::Running(running(it)),
            Self::Ended(record) => Found::Ended(record),
            Self::Lost {
                attempt,
                boot,
                killed_leftovers,
            } => Found::Lost {
                attempt,
                boot,
                killed_leftovers,
            },
        }
    }
}

impl LauncherHandle {
    /// A launcher in this process, and what it found.
    #[must_use]
    pub fn here(opened: (Launcher, Vec<Found>)) -> (Self, Vec<Found<AttemptHandle>>) {
        let (launcher, found) = opened;
        let found = found
            .into_iter()
            .map(|it| it.map(AttemptHandle::Adopted))
            .collect();
        (Self::Here(launcher), found)
    }

    /// A launcher of its own, and what it found.
    #[must_use]
    pub fn there(connected: (Remote, Vec<Found<RemoteAttempt>>)) -> (Self, Vec<Found<AttemptHandle>>) {
        let (remote, found) = connected;
        let found = found.into_iter().map(|it| it.map(AttemptHandle::There)).collect();
        (Self::There(remote), found)
    }
}
