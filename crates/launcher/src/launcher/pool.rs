//! The supervisors of one launcher: which are idle, which wait for an acknowledgement, which are gone.

use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::path::PathBuf;
use std::process::Child;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use haul_types::AttemptId;
use tokio_util::task::TaskTracker;

use super::books::{Books, SupervisorNumber};
use super::link::{Link, say};
use super::making::{log_tail, spawn};
use super::remains::{lost, read_when_free, remove_directory};
use super::syncing::Syncing;
use super::{AcknowledgeError, LauncherConfig, StartError};
use crate::frame::Incoming;
use crate::journal::{FILE_NAME, MAX_UNACKNOWLEDGED};
use crate::message::{FromSupervisor, ToSupervisor};
use crate::order::ExitRecord;
use crate::supervisors_dir;

/// A supervisor is not used again after an attempt of this length.
const RETIRE_AFTER: Duration = Duration::from_secs(1);
/// The sequence number of an end that no journal holds.
const LOST_SEQUENCE: u64 = u64::MAX;
/// One supervisor that this launcher talks to.
#[derive(Debug)]
pub(super) struct Supervisor {
    pub(super) number: SupervisorNumber,
    pub(super) directory: PathBuf,
    pub(super) link: Link,
    /// Absent for an adopted one, which is not this process's child and takes no further order.
    pub(super) child: Option<Child>,
}

#[derive(Debug, Default)]
struct State {
    idle: Vec<Supervisor>,
    /// Those that wait until their ends are acknowledged, and whether they are given up then.
    parked: HashMap<SupervisorNumber, (Supervisor, bool)>,
    /// Directories of those that are gone and whose ends are not all acknowledged.
    gone: HashMap<SupervisorNumber, PathBuf>,
    books: Books,
    busy: usize,
    /// The most that were ever busy at once.
    peak: usize,
    /// Alive or about to be, busy ones included, given up ones not.
    alive: usize,
    next: SupervisorNumber,
    /// Given up; not waited for yet.
    ending: Vec<Child>,
}

/// The supervisors of one launcher.
#[derive(Debug)]
pub(super) struct Pool {
    pub(super) state_dir: PathBuf,
    config: LauncherConfig,
    state: Mutex<State>,
    pub(super) tasks: TaskTracker,
    pub(super) syncing: Syncing,
    _lock: File,
}

impl Pool {
    pub(super) fn new(state_dir: PathBuf, config: LauncherConfig, lock: File) -> Self {
        Self {
            state_dir,
            config,
            state: Mutex::default(),
            tasks: TaskTracker::new(),
            syncing: Syncing::default(),
            _lock: lock,
        }
    }

    pub(super) const fn config(&self) -> &LauncherConfig {
        &self.config
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Nothing in here panics halfway through a change.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A number was found in use by an earlier agent's supervisor.
    pub(super) fn note_number(&self, number: SupervisorNumber) {
        let mut state = self.state();
        state.next = state.next.max(number.saturating_add(1));
    }

    /// An idle supervisor, made if need be; it counts as busy from now on.
    pub(super) async fn take(self: &Arc<Self>) -> Result<Supervisor, StartError> {
        let (idle, refill) = {
            let mut state = self.state();
            let idle = state.idle.pop();
            state.busy += 1;
            state.peak = state.peak.max(state.busy);
            if idle.is_none() {
                state.alive += 1;
            }
            let refill = state.idle.is_empty() && state.alive < state.peak + self.config.spare;
            state.alive += usize::from(refill);
            (idle, refill)
        };
        if refill {
            let pool = Arc::clone(self);
            self.tasks.spawn(async move {
                // What fails here fails again for the attempt that finds no spare one, and is told there.
                match pool.make().await {
                    Ok(spare) => pool.state().idle.push(spare),
                    Err(_) => pool.state().alive -= 1,
                }
            });
        }
        match idle {
            Some(supervisor) => Ok(supervisor),
            None => self.make().await.inspect_err(|_| {
                let mut state = self.state();
                state.busy -= 1;
                state.alive -= 1;
            }),
        }
    }

    /// Makes spare supervisors until there are as many as configured.
    pub(super) async fn warm_up(self: &Arc<Self>) -> Result<(), StartError> {
        loop {
            {
                let mut state = self.state();
                if state.idle.len() >= self.config.spare {
                    return Ok(());
                }
                state.alive += 1;
            }
            let made = self.make().await;
            let mut state = self.state();
            match made {
                Ok(spare) => state.idle.push(spare),
                Err(error) => {
                    state.alive -= 1;
                    return Err(error);
                }
            }
        }
    }

    /// How far the ends in this supervisor's journal are acknowledged.
    pub(super) fn acknowledged(&self, number: SupervisorNumber) -> u64 {
        self.state().books.acknowledged(number)
    }

    /// Takes a supervisor back whose attempt has ended.
    pub(super) fn give_back(&self, supervisor: Supervisor, sequence: u64, record: &ExitRecord) {
        let mut state = self.state();
        let number = supervisor.number;
        state.books.enter(number, sequence, record.attempt);
        if supervisor.child.is_none() {
            state.gone.insert(number, supervisor.directory);
            return;
        }
        state.busy -= 1;
        let retire = record.duration > RETIRE_AFTER || state.alive > state.peak + self.config.spare;
        if retire {
            state.alive -= 1;
        }
        if retire || state.books.open(number) >= MAX_UNACKNOWLEDGED {
            state.parked.insert(number, (supervisor, retire));
        } else {
            state.idle.push(supervisor);
        }
    }

    /// Drops a supervisor that broke before it had an order.
    pub(super) fn discard(&self, supervisor: Supervisor) {
        let mut state = self.state();
        state.busy -= 1;
        state.alive -= 1;
        state.gone.insert(supervisor.number, supervisor.directory);
        state.ending.extend(supervisor.child);
        state
            .ending
            .retain_mut(|child| matches!(child.try_wait(), Ok(None)));
    }

    /// Finds out what became of an attempt whose supervisor is gone, after ending what is left of it. Blocks until
    /// the supervisor is gone for good.
    pub(super) fn settle(&self, mut supervisor: Supervisor, attempt: AttemptId) -> ExitRecord {
        drop(supervisor.link);
        let adopted = supervisor.child.is_none();
        if let Some(child) = &mut supervisor.child {
            // It closed its end of the socket. If it can be asked nothing, it is to do nothing either.
            let _ = child.kill();
            let _ = child.wait();
        }
        let reading = read_when_free(&supervisor.directory).unwrap_or_default();
        let known = reading.ends.into_iter().find(|(_, end)| end.attempt == attempt);
        let (sequence, record) = known.unwrap_or_else(|| {
            let begun = reading
                .unfinished
                .filter(|unfinished| unfinished.attempt == attempt);
            (
                LOST_SEQUENCE,
                lost(attempt, begun.as_ref(), &supervisor.directory),
            )
        });
        let mut state = self.state();
        if !adopted {
            state.busy -= 1;
            state.alive -= 1;
        }
        state.books.enter(supervisor.number, sequence, attempt);
        state.gone.insert(supervisor.number, supervisor.directory);
        record
    }

    /// Notes what the journal of a supervisor holds that an earlier agent started.
    pub(super) fn enter_found(
        &self,
        number: SupervisorNumber,
        ends: &[(u64, ExitRecord)],
        lost: Option<AttemptId>,
    ) {
        let mut state = self.state();
        for (sequence, end) in ends {
            state.books.enter(number, *sequence, end.attempt);
        }
        if let Some(attempt) = lost {
            state.books.enter(number, LOST_SEQUENCE, attempt);
        }
    }

    /// Notes that a supervisor is gone; its directory stays until its ends are acknowledged.
    pub(super) fn note_gone(&self, number: SupervisorNumber, directory: PathBuf) {
        self.state().gone.insert(number, directory);
    }

    /// Whose journal has to be synced before this attempt's end may be told.
    pub(super) fn unsynced(&self, attempt: AttemptId) -> Option<SupervisorNumber> {
        self.state().books.unsynced(attempt)
    }

    /// Syncs one journal.
    pub(super) fn sync(&self, number: SupervisorNumber) -> io::Result<()> {
        let Some(covered) = self.state().books.to_sync(number) else {
            return Ok(());
        };
        let journal = supervisors_dir::of(&self.state_dir, &number.to_string()).join(FILE_NAME);
        match File::open(journal).and_then(|journal| journal.sync_data()) {
            Ok(()) => self.state().books.note_synced(number, covered),
            // All its ends were acknowledged meanwhile.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
        Ok(())
    }

    pub(super) fn acknowledge(&self, attempt: AttemptId) -> Result<(), AcknowledgeError> {
        let directory = {
            let mut state = self.state();
            let number = state
                .books
                .acknowledge(attempt)
                .ok_or(AcknowledgeError::Unknown(attempt))?;
            let open = state.books.open(number);
            if let Some((supervisor, retire)) = state.parked.remove(&number) {
                if !retire {
                    state.idle.push(supervisor);
                } else if open == 0 {
                    state.dismiss(supervisor);
                } else {
                    state.parked.insert(number, (supervisor, retire));
                }
            }
            if open > 0 {
                return Ok(());
            }
            let Some(directory) = state.gone.remove(&number) else {
                return Ok(());
            };
            state.books.close(number);
            directory
        };
        remove_directory(&directory)
    }

    async fn make(self: &Arc<Self>) -> Result<Supervisor, StartError> {
        let number = {
            let mut state = self.state();
            state
                .ending
                .retain_mut(|child| matches!(child.try_wait(), Ok(None)));
            state.next += 1;
            state.next - 1
        };
        let directory = supervisors_dir::of(&self.state_dir, &number.to_string());
        let pool = Arc::clone(self);
        let made_in = directory.clone();
        let spawned = self
            .tasks
            .spawn_blocking(move || spawn(&pool.config, &pool.state_dir, number, &made_in));
        let prepare = |source| StartError::Prepare {
            path: directory.clone(),
            source,
        };
        let (stream, mut child) = spawned
            .await
            .map_err(|error| prepare(io::Error::other(error)))??;
        let mut link = Link::new(stream, Incoming::default()).map_err(prepare)?;
        if matches!(link.receive().await, Some(FromSupervisor::Ready)) {
            return Ok(Supervisor {
                number,
                directory,
                link,
                child: Some(child),
            });
        }
        let log = log_tail(&directory);
        // It has closed its end of the socket.
        let _ = child.kill();
        self.state().ending.push(child);
        let _ = std::fs::remove_dir_all(&directory);
        Err(StartError::GaveUp { log })
    }
}

impl State {
    /// Lets an idle supervisor go, whose directory it removes itself if it knows that all is acknowledged.
    fn dismiss(&mut self, supervisor: Supervisor) {
        let acknowledged = self.books.acknowledged(supervisor.number);
        // Always encodable: a number. If it cannot be said, the supervisor is gone already.
        let _ = say(supervisor.link.side(), &ToSupervisor::Quit { acknowledged });
        self.books.close(supervisor.number);
        self.ending.extend(supervisor.child);
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        let state = self.state.get_mut().unwrap_or_else(PoisonError::into_inner);
        for supervisor in std::mem::take(&mut state.idle) {
            state.dismiss(supervisor);
        }
        for (_, (supervisor, _)) in std::mem::take(&mut state.parked) {
            state.dismiss(supervisor);
        }
        state
            .ending
            .retain_mut(|child| matches!(child.try_wait(), Ok(None)));
    }
}
