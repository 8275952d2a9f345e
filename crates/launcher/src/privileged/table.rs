//! The attempts of one launcher, until they are acknowledged. Plain bookkeeping, no I/O.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use haul_types::AttemptId;

use crate::order::{ExitRecord, StopReason};
use crate::protocol::Standing;

/// What stops an attempt.
pub(crate) type Stop = Box<dyn Fn(StopReason) + Send + Sync>;

/// One attempt.
enum Entry {
    /// On its way to a supervisor. A stop that comes meanwhile is given on.
    Starting {
        workdir: PathBuf,
        stop: Option<StopReason>,
    },
    /// With a supervisor; of one that was adopted the directory is not known.
    Running {
        workdir: Option<PathBuf>,
        stop: Stop,
    },
    Ended(ExitRecord),
}

/// All of them.
#[derive(Default)]
pub(crate) struct Table(BTreeMap<AttemptId, Entry>);

impl Table {
    /// Takes an order; `false` if the attempt is known already.
    pub(crate) fn enter(&mut self, attempt: AttemptId, workdir: PathBuf) -> bool {
        let new = !self.0.contains_key(&attempt);
        if new {
            self.0.insert(attempt, Entry::Starting { workdir, stop: None });
        }
        new
    }

    /// It has a supervisor; what is to be said to that at once.
    pub(crate) fn running(
        &mut self,
        attempt: AttemptId,
        workdir: Option<PathBuf>,
        stop: Stop,
    ) -> Option<StopReason> {
        match self.0.insert(attempt, Entry::Running { workdir, stop }) {
            Some(Entry::Starting { stop, .. }) => stop,
            _ => None,
        }
    }

    pub(crate) fn ended(&mut self, record: ExitRecord) {
        self.0.insert(record.attempt, Entry::Ended(record));
    }

    /// It was not started, or is acknowledged.
    pub(crate) fn remove(&mut self, attempt: AttemptId) {
        self.0.remove(&attempt);
    }

    pub(crate) fn stop(&mut self, attempt: AttemptId, why: StopReason) {
        match self.0.get_mut(&attempt) {
            Some(Entry::Starting { stop, .. }) => *stop = Some(why),
            Some(Entry::Running { stop, .. }) => stop(why),
            Some(Entry::Ended(_)) | None => {}
        }
    }

    /// Whether it has ended and is not acknowledged.
    pub(crate) fn has_ended(&self, attempt: AttemptId) -> bool {
        matches!(self.0.get(&attempt), Some(Entry::Ended(_)))
    }

    /// Whether an attempt that is known to use the directory runs, other than `except`.
    pub(crate) fn uses(&self, directory: &Path, except: Option<AttemptId>) -> bool {
        let mut others = self.0.iter().filter(|(attempt, _)| Some(**attempt) != except);
        others.any(|(_, entry)| match entry {
            Entry::Starting { workdir, .. } => workdir == directory,
            Entry::Running { workdir, .. } => workdir.as_deref() == Some(directory),
            Entry::Ended(_) => false,
        })
    }

    /// How each stands that has got so far.
    pub(crate) fn standings(&self) -> Vec<(AttemptId, Standing)> {
        let standing = |entry: &Entry| match entry {
            Entry::Starting { .. } => None,
            Entry::Running { .. } => Some(Standing::Running),
            Entry::Ended(record) => Some(Standing::Ended(record.clone())),
        };
        self.0
            .iter()
            .filter_map(|(&attempt, entry)| Some((attempt, standing(entry)?)))
            .collect()
    }
}
