//! Metadata: jobs, tasks and the snapshots they need, nodes and targets, tokens and the nodes they let in, in one SQLite
//! database.
//!
//! ```text
//!   commit(ops, done) ──▶ queue ──▶ writer thread: BEGIN, every submission that waits, COMMIT ──▶ done(Ok)
//!   job(), tasks(), …  ──▶ a read-only connection of the pool: the last commit
//! ```
//!
//! Invariants:
//! - `done` is called with `Ok` only after the submission is on the disk.
//! - Submissions are applied in the order of the calls, each wholly or not at all.
//! - A task of a job that has no row is queued and has never been anything else: a job of a million tasks is one row
//!   when it is submitted.
//! - A removed job is gone for every reader at once; the rows of its tasks go in batches between other commits.
//! - One process has the directory at a time.
//!
//! It does not judge: whether a task may go from one state to another is the caller's business.

mod apply;
mod error;
mod fleet;
mod identity;
mod op;
mod prefix;
mod read;
mod removal;
mod row;
mod timeline;
mod writer;

use std::ops::RangeInclusive;
use std::path::Path;
use std::sync::Arc;

use haul_types::{Digest, JobId, JobRecord, NodeId, NodeRecord, TargetRecord, TaskId, TaskRecord};

pub use error::{CommitError, ReadError};
pub use identity::{CertificateRow, EnrolledNode, IdentityOp, IdentityRefusal, TokenRecord, TokenUse};
pub use op::Op;
pub use row::{ActiveJob, JobCursor, JobFilter, JobSummary, TaskFilter};

use crate::database::{self, OpenError, ReadPool, Schema};
use crate::lock::DirectoryLock;
use writer::Writer;

/// The database's name within the directory.
const FILE_NAME: &str = "metadata.db";
/// Every version of the schema.
pub(crate) const SCHEMA: Schema = Schema {
    migrations: &[
        include_str!("metadata/schema/0001.sql"),
        include_str!("metadata/schema/0002.sql"),
        include_str!("metadata/schema/0003.sql"),
        include_str!("metadata/schema/0004.sql"),
        include_str!("metadata/schema/0005.sql"),
    ],
};

/// The metadata store. Clones share it; when the last one is dropped, what was submitted is committed and the
/// directory is free.
#[derive(Clone, Debug)]
pub struct Metadata {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    // Dropped first: readers must be gone when the writer gives the directory back.
    pool: ReadPool,
    writer: Writer,
}

impl Metadata {
    /// Opens the store in `directory`: creates what is missing, takes the directory for this process and brings the
    /// schema to the newest version.
    pub fn open(directory: &Path) -> Result<Self, OpenError> {
        let lock = DirectoryLock::take(directory)?;
        let file = directory.join(FILE_NAME);
        let connection = database::open_writer(&file, &SCHEMA)?;
        let writer = Writer::start(connection, lock).map_err(|source| OpenError::Thread {
            path: directory.to_owned(),
            source,
        })?;
        let pool = ReadPool::new(file);
        Ok(Self {
            inner: Arc::new(Inner { pool, writer }),
        })
    }

    /// Applies `ops` in one transaction, together with whatever else waits, and calls `done` once they are on the
    /// disk. The order of the calls is the order of application. A submission that breaks a rule is rolled back
    /// alone.
    ///
    /// Never blocks. `done` runs on the writer's thread, which everyone waits for: it should hand the result on and
    /// return. It is dropped uncalled only if that thread has died.
    ///
    /// After an error other than [`CommitError::JobExists`], [`CommitError::UnknownJob`] and [`CommitError::Identity`] nothing of the submission
    /// is visible; but if the fault was in the last step, the sync, a crash right after it may still bring it back.
    pub fn commit(&self, ops: Vec<Op>, done: impl FnOnce(Result<(), CommitError>) + Send + 'static) {
        self.inner.writer.submit(ops, Box::new(done));
    }

    /// One job, or none of that id.
    pub fn job(&self, id: JobId) -> Result<Option<JobRecord>, ReadError> {
        self.reader("a job")?.job(id)
    }

    /// Jobs, newest first.
    pub fn jobs(&self, filter: &JobFilter) -> Result<Vec<JobSummary>, ReadError> {
        self.reader("the list of jobs")?.jobs(filter)
    }

    /// At most `limit` jobs whose printed id begins with `prefix` (upper or lower case), in the order of their ids.
    /// What cannot begin an id begins none.
    pub fn find_by_prefix(&self, prefix: &str, limit: usize) -> Result<Vec<JobId>, ReadError> {
        match prefix::range(prefix) {
            Some(range) => self.reader("job ids")?.ids_in(&range, limit),
            None => Ok(Vec::new()),
        }
    }

    /// The job submitted last.
    pub fn last_job(&self) -> Result<Option<JobId>, ReadError> {
        self.reader("the last job")?.last_job()
    }

    /// One task; none if it is still queued for the first time or does not exist.
    pub fn task(&self, id: TaskId) -> Result<Option<TaskRecord>, ReadError> {
        self.reader("a task")?.task(id)
    }

    /// Tasks of a job that have a row, by index.
    pub fn tasks(&self, job: JobId, filter: &TaskFilter) -> Result<Vec<TaskRecord>, ReadError> {
        self.reader("tasks")?.tasks(job, filter)
    }

    /// Every job that has not ended, oldest first, as of one moment: what a controller starts with.
    pub fn active(&self) -> Result<Vec<ActiveJob>, ReadError> {
        self.reader("active jobs")?.active()
    }

    /// Every node, in order of name.
    pub fn nodes(&self) -> Result<Vec<NodeRecord>, ReadError> {
        self.reader("nodes")?.nodes()
    }

    /// Every target, in order of name.
    pub fn targets(&self) -> Result<Vec<TargetRecord>, ReadError> {
        self.reader("targets")?.targets()
    }

    /// The roots of every snapshot that a job, a task's outputs or logs, or a reference that has not run out at
    /// `now_unix_ms` keeps alive; each once, in no order. Passes over
    /// every task row once, and reads no timeline.
    pub fn live_snapshots(&self, now_unix_ms: u64) -> Result<Vec<Digest>, ReadError> {
        self.reader("live snapshots")?.live_snapshots(now_unix_ms)
    }

    /// Every token, newest first.
    pub fn tokens(&self) -> Result<Vec<TokenRecord>, ReadError> {
        self.reader("tokens")?.tokens()
    }

    /// The token of this hash.
    pub fn token(&self, hash: &Digest) -> Result<Option<TokenRecord>, ReadError> {
        self.reader("a token")?.token(hash)
    }

    /// Every node that was ever enrolled, in order of name; those that were revoked too.
    pub fn enrolled_nodes(&self) -> Result<Vec<EnrolledNode>, ReadError> {
        self.reader("the enrolled nodes")?.enrolled_nodes()
    }

    /// The node of this id.
    pub fn enrolled_node(&self, id: NodeId) -> Result<Option<EnrolledNode>, ReadError> {
        self.reader("an enrolled node")?.enrolled_node(id)
    }

    /// What is wrong with the stored data, in words; nothing if it is sound. Reads everything.
    pub fn check(&self) -> Result<Vec<String>, ReadError> {
        self.reader("everything")?.check()
    }

    fn reader(&self, what: &'static str) -> Result<read::Reader<'_>, ReadError> {
        read::Reader::begin(&self.inner.pool, what)
    }
}

/// Adds `index` to ranges that are in order and end before it.
fn extend_ranges(ranges: &mut Vec<RangeInclusive<u32>>, index: u32) {
    match ranges.last_mut() {
        Some(last) if last.end().checked_add(1) == Some(index) => *last = *last.start()..=index,
        _ => ranges.push(index..=index),
    }
}

#[cfg(test)]
mod tests;
