//! Following one attempt of a launcher of its own.

use std::fmt;
use std::sync::Arc;

use haul_types::AttemptId;
use tokio::sync::watch;

use super::Shared;
use super::slots::Progress;
use crate::order::{Boot, ExitRecord, StopReason};

/// An attempt that the launcher has. Dropping it leaves the attempt alone; its end waits to be acknowledged.
pub struct RemoteAttempt {
    shared: Arc<Shared>,
    attempt: AttemptId,
    progress: watch::Receiver<Progress>,
}

impl fmt::Debug for RemoteAttempt {
    /// Without what it shares with all others.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("RemoteAttempt").field(&self.attempt).finish()
    }
}

impl RemoteAttempt {
    pub(super) const fn new(
        shared: Arc<Shared>,
        attempt: AttemptId,
        progress: watch::Receiver<Progress>,
    ) -> Self {
        Self {
            shared,
            attempt,
            progress,
        }
    }

    pub(crate) const fn attempt(&self) -> AttemptId {
        self.attempt
    }

    pub(crate) async fn ended(&mut self) -> ExitRecord {
        let ended = self
            .progress
            .wait_for(|it| matches!(it, Progress::Ended(_)))
            .await;
        match ended.as_deref() {
            Ok(Progress::Ended(record)) => (**record).clone(),
            // It was acknowledged by somebody else: nothing more will be heard.
            _ => ExitRecord::lost(self.attempt, Boot::Same, 0),
        }
    }

    pub(crate) fn stop(&self, why: StopReason) {
        self.shared.slots().stop(self.attempt, why);
    }

    pub(crate) fn stopper(&self) -> RemoteStopper {
        RemoteStopper {
            shared: Arc::clone(&self.shared),
            attempt: self.attempt,
        }
    }
}

/// Stops one attempt.
#[derive(Debug)]
pub(crate) struct RemoteStopper {
    shared: Arc<Shared>,
    attempt: AttemptId,
}

impl RemoteStopper {
    pub(crate) fn stop(&self, why: StopReason) {
        self.shared.slots().stop(self.attempt, why);
    }
}
