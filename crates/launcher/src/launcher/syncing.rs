//! Makes ends durable: those of many attempts with one sync of each journal.
//!
//! ```text
//!            an end is waited for              its patience is over
//!   ┌──────┐ ───────────────────▶ ┌───────────┐ ──────────────────▶ ┌─────────┐
//!   │ idle │                      │ gathering │                     │ syncing │ ──▶ all that were gathered are told
//!   └──────┘ ◀─────────────────── └───────────┘ ◀────────────────── └─────────┘
//!             nothing is waited for            what came meanwhile
//! ```

use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use haul_types::AttemptId;
use tokio::sync::{Notify, oneshot};
use tokio::time::{Instant, timeout_at};

use super::books::SupervisorNumber;
use super::pool::Pool;
use crate::supervisors_dir;

/// Why an end is not durable as far as is known.
#[derive(Clone, Debug, thiserror::Error)]
pub enum SyncError {
    /// The disk did not take it.
    #[error("syncing the journal in {}", directory.display())]
    Sync {
        /// Of which supervisor.
        directory: PathBuf,
        /// Why.
        #[source]
        source: Arc<io::Error>,
    },
    /// The runtime is being shut down.
    #[error("nobody is left to sync the journal")]
    Stopped,
}

type Outcome = Result<(), SyncError>;

/// Ends that are waited for.
#[derive(Debug, Default)]
pub(super) struct Syncing {
    state: Mutex<State>,
    /// Told when the next sync is due earlier than it was.
    earlier: Notify,
}

#[derive(Debug, Default)]
struct State {
    waiting: Vec<(SupervisorNumber, oneshot::Sender<Outcome>)>,
    /// When the first of them must be seen to.
    due: Option<Instant>,
    at_work: bool,
}

impl Syncing {
    fn state(&self) -> MutexGuard<'_, State> {
        // Nothing in here panics halfway through a change.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// See [`super::Launcher::durable`].
pub(super) fn durable(
    pool: &Arc<Pool>,
    attempt: AttemptId,
    patience: Duration,
) -> impl Future<Output = Outcome> + use<> {
    let waiting = pool.unsynced(attempt).map(|number| wait(pool, number, patience));
    async move {
        match waiting {
            Some(done) => done.await.unwrap_or(Err(SyncError::Stopped)),
            None => Ok(()),
        }
    }
}

fn wait(pool: &Arc<Pool>, number: SupervisorNumber, patience: Duration) -> oneshot::Receiver<Outcome> {
    let (sender, done) = oneshot::channel();
    let due = Instant::now() + patience;
    let mut state = pool.syncing.state();
    state.waiting.push((number, sender));
    let earlier = state.due.is_none_or(|before| due < before);
    if earlier {
        state.due = Some(due);
    }
    let at_work = std::mem::replace(&mut state.at_work, true);
    drop(state);
    if !at_work {
        pool.tasks.spawn(work(Arc::clone(pool)));
    } else if earlier {
        pool.syncing.earlier.notify_one();
    }
    done
}

/// Syncs until nothing is waited for.
async fn work(pool: Arc<Pool>) {
    loop {
        let due = {
            let mut state = pool.syncing.state();
            let Some(due) = state.due else {
                state.at_work = false;
                return;
            };
            due
        };
        if due > Instant::now() && timeout_at(due, pool.syncing.earlier.notified()).await.is_ok() {
            continue;
        }
        let gathered = {
            let mut state = pool.syncing.state();
            state.due = None;
            std::mem::take(&mut state.waiting)
        };
        let mut outcomes: BTreeMap<SupervisorNumber, Outcome> = gathered
            .iter()
            .map(|(number, _)| (*number, Err(SyncError::Stopped)))
            .collect();
        let syncing = Arc::clone(&pool);
        let synced = pool.tasks.spawn_blocking(move || {
            for (number, outcome) in &mut outcomes {
                *outcome = syncing.sync(*number).map_err(|source| SyncError::Sync {
                    directory: supervisors_dir::of(&syncing.state_dir, &number.to_string()),
                    source: Arc::new(source),
                });
            }
            outcomes
        });
        // It fails only when the runtime is shut down under it.
        let outcomes = synced.await.unwrap_or_default();
        for (number, done) in gathered {
            let outcome = outcomes.get(&number).cloned().unwrap_or(Err(SyncError::Stopped));
            // Whoever asked may have lost interest.
            let _ = done.send(outcome);
        }
    }
}
