//! The thread that writes. It owns the only connection that can, and commits in groups.
//!
//! ```text
//!         ┌──────────────── idle and log not empty: checkpoint ◀─┐ (after IDLE)
//!         ▼                                                      │
//!   wait for a submission ──▶ BEGIN ──▶ apply it and all that wait ──▶ COMMIT ──▶ tell everyone ──▶ log long? checkpoint
//!                                         │ refused: roll back that one, tell it at the end too      │
//!                                         └ the transaction is gone (disk full): tell everyone       └──▶ wait …
//! ```
//!
//! A removed job's tasks are deleted between two groups, one batch each time, and batch after batch while nobody waits.
//!
//! While one commit waits for the disk, submissions gather and become the next group: nobody waits for a timer, and
//! the busier it is the fewer syncs each submission costs.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, TrySendError, bounded};
use rusqlite::Connection;

use super::apply::Applier;
use super::error::CommitError;
use super::op::Op;
use super::removal;
use crate::database::{self, CHECKPOINT_PAGES};
use crate::lock::DirectoryLock;

/// Submissions that may wait: half a second's worth at the full rate. Past it a caller is refused rather than blocked,
/// because callers are often asynchronous tasks.
const QUEUE: usize = 16 * 1024;
/// Operations after which a group is committed even though more wait: some 40 ms of work, and a log of bounded length.
const GROUP_OPS: usize = 4096;
/// How long nothing must come before the log is copied back.
const IDLE: Duration = Duration::from_millis(200);

/// Told how its submission went.
pub(super) type Done = Box<dyn FnOnce(Result<(), CommitError>) + Send>;

struct Submission {
    ops: Vec<Op>,
    done: Done,
}

/// The writer's end of the store.
#[derive(Debug)]
pub(super) struct Writer {
    /// Taken when the store is dropped, which ends the thread once the queue is empty.
    queue: Option<Sender<Submission>>,
    thread: Option<JoinHandle<()>>,
}

impl Writer {
    /// Starts the thread, which keeps `connection` and then `lock` until it ends.
    pub(super) fn start(connection: Connection, lock: DirectoryLock) -> io::Result<Self> {
        let (queue, submissions) = bounded(QUEUE);
        let removals = Removals::left(&connection);
        let thread = thread::Builder::new()
            .name("metadata-writer".to_owned())
            .spawn(move || {
                // A tuple's parts are dropped in order: the database is closed before the directory is free.
                let held = (connection, lock);
                run(&held.0, &submissions, removals);
            })?;
        Ok(Self {
            queue: Some(queue),
            thread: Some(thread),
        })
    }

    /// Queues a submission, or tells it at once that it cannot be.
    pub(super) fn submit(&self, ops: Vec<Op>, done: Done) {
        let queue = self.queue.as_ref().expect("only drop takes the queue out");
        match queue.try_send(Submission { ops, done }) {
            Ok(()) => {}
            Err(TrySendError::Full(refused)) => (refused.done)(Err(CommitError::Busy)),
            Err(TrySendError::Disconnected(refused)) => (refused.done)(Err(CommitError::Closed)),
        }
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.queue = None;
        if let Some(thread) = self.thread.take() {
            // The last handle may live in a callback, which runs on that very thread; it ends by itself then.
            if thread.thread().id() != thread::current().id() && thread.join().is_err() {
                tracing::error!("the writer of the metadata panicked");
            }
        }
    }
}

/// Serves until every sender is gone and the queue is empty. A removal that is not done by then waits for the next start.
fn run(connection: &Connection, submissions: &Receiver<Submission>, mut removals: Removals) {
    let mut blob = Vec::new();
    let mut group = Vec::new();
    let mut log = Log::default();
    loop {
        let limit = if removals.due() {
            Duration::ZERO
        } else if log.pending {
            IDLE
        } else {
            Duration::MAX
        };
        let first = match submissions.recv_timeout(limit) {
            Ok(first) => first,
            Err(RecvTimeoutError::Timeout) if removals.due() => {
                removals.step(connection);
                log.on_commit(connection);
                continue;
            }
            Err(RecvTimeoutError::Timeout) => {
                log.checkpoint(connection);
                continue;
            }
            Err(RecvTimeoutError::Disconnected) => break,
        };
        let committed = commit_group(
            connection,
            first,
            submissions,
            &mut group,
            &mut blob,
            &mut removals.pending,
        );
        for (done, result) in group.drain(..) {
            tell(done, committed.clone().and(result));
        }
        // In turns: while others keep coming, a removal still gets on.
        removals.failed &= committed.is_err();
        if removals.due() {
            removals.step(connection);
        }
        log.on_commit(connection);
    }
    log.checkpoint(connection);
}

/// Applies `first` and what waits behind it in one transaction. `group` gets everyone's own result; the one returned
/// is for all of them.
fn commit_group(
    connection: &Connection,
    first: Submission,
    submissions: &Receiver<Submission>,
    group: &mut Vec<(Done, Result<(), CommitError>)>,
    blob: &mut Vec<u8>,
    removals: &mut bool,
) -> Result<(), CommitError> {
    let mut first = Some(first);
    let result = (|| {
        connection.prepare_cached("BEGIN IMMEDIATE")?.execute([])?;
        let mut applier = Applier::new(connection, removals)?;
        let mut ops = 0;
        while let Some(submission) = first.take().or_else(|| submissions.try_recv().ok()) {
            ops += submission.ops.len();
            let result = applier.apply(&submission.ops, blob);
            if connection.is_autocommit() {
                // SQLite has rolled everything back: this one's error is everyone's.
                group.push((submission.done, Ok(())));
                return Err(result.err().unwrap_or(CommitError::Closed));
            }
            group.push((submission.done, result));
            if ops >= GROUP_OPS {
                break;
            }
        }
        connection.prepare_cached("COMMIT")?.execute([])?;
        Ok(())
    })();
    if let Some(unapplied) = first {
        group.push((unapplied.done, Ok(())));
    }
    if result.is_err()
        && !connection.is_autocommit()
        && let Err(error) = connection.execute_batch("ROLLBACK")
    {
        tracing::error!(%error, "a failed transaction could not be rolled back");
    }
    result
}

/// Calls back; a callback that panics harms only itself.
fn tell(done: Done, result: Result<(), CommitError>) {
    if catch_unwind(AssertUnwindSafe(|| done(result))).is_err() {
        tracing::error!("a callback of a commit panicked");
    }
}

/// Jobs whose tasks are being deleted, a batch at a time.
#[derive(Debug)]
struct Removals {
    /// Whether there may be any.
    pending: bool,
    /// Whether the last batch failed: the next is tried once something else has been committed.
    failed: bool,
}

impl Removals {
    /// What the process before left undone.
    fn left(connection: &Connection) -> Self {
        // If that cannot be told, the first batch tells.
        let pending = removal::is_pending(connection).unwrap_or(true);
        Self {
            pending,
            failed: false,
        }
    }

    fn due(&self) -> bool {
        self.pending && !self.failed
    }

    fn step(&mut self, connection: &Connection) {
        match removal::step(connection) {
            Ok(some) => self.pending = some,
            Err(error) => {
                tracing::warn!(%error, "tasks of a removed job cannot be deleted yet");
                self.failed = true;
            }
        }
    }
}

/// When to copy the log back into the database.
#[derive(Debug, Default)]
struct Log {
    /// Whether there is something to copy when it becomes idle.
    pending: bool,
    /// The length at which to copy though busy. Raised after a copy that failed or that a long read held up, so that
    /// it is not tried again at every commit.
    limit_pages: u32,
}

impl Log {
    fn on_commit(&mut self, connection: &Connection) {
        self.pending = true;
        match database::log_state(connection) {
            Ok(log) if log.pages >= self.limit_pages.max(CHECKPOINT_PAGES) => self.checkpoint(connection),
            Ok(_) => {}
            Err(error) => tracing::warn!(%error, "cannot tell the length of the metadata's log"),
        }
    }

    fn checkpoint(&mut self, connection: &Connection) {
        self.pending = false;
        match database::checkpoint(connection) {
            Ok(log) if log.copied >= log.pages => self.limit_pages = CHECKPOINT_PAGES,
            Ok(log) => self.limit_pages = log.pages.saturating_add(CHECKPOINT_PAGES),
            Err(error) => {
                // Nothing is lost: the log holds it, and is read as well. It is tried again after the next commit.
                tracing::warn!(%error, "the metadata's log cannot be copied into the database");
                let pages = database::log_state(connection).map_or(0, |log| log.pages);
                self.limit_pages = pages.saturating_add(CHECKPOINT_PAGES);
            }
        }
    }
}
