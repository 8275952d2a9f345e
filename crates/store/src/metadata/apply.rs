//! Operations as SQL. Runs inside the writer's transaction.

use haul_types::{Digest, ExitStatus, JobId, JobRecord, TaskRecord};
use rusqlite::{CachedStatement, Connection, ffi, params};

use super::error::CommitError;
use super::fleet;
use super::identity;
use super::op::Op;
use super::removal;
use super::timeline;

const INSERT_JOB: &str = "
    INSERT INTO job (id, seq, name, state, created_unix_ms, ended_unix_ms, cancel_requested,
                     queued, preparing, running, finalizing, succeeded, failed, canceled, given_up, owner)
    VALUES (?1, (SELECT coalesce(max(seq), 0) + 1 FROM job), ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14,
            ?15)";
const INSERT_SPEC: &str = "INSERT INTO job_spec (job, snapshot, spec) VALUES (?1, ?2, ?3)";
const PUT_TASK: &str = "
    INSERT INTO task (job, task_index, state, attempt, node, exit, outputs, logs,
                      setup_bytes, stdout_bytes, stderr_bytes, timeline, cancel_requested)
    VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13)
    ON CONFLICT (job, task_index) DO UPDATE SET
        state = excluded.state, attempt = excluded.attempt, node = excluded.node, exit = excluded.exit,
        outputs = excluded.outputs, logs = excluded.logs, setup_bytes = excluded.setup_bytes,
        stdout_bytes = excluded.stdout_bytes, stderr_bytes = excluded.stderr_bytes, timeline = excluded.timeline,
        cancel_requested = excluded.cancel_requested";
const PUT_JOB: &str = "
    UPDATE job SET state = ?2, ended_unix_ms = ?3, queued = ?4, preparing = ?5, running = ?6, finalizing = ?7,
                   succeeded = ?8, failed = ?9, canceled = ?10, cancel_requested = ?11, given_up = ?12
    WHERE id = ?1 AND removed = 0";
const PUT_SNAPSHOT_REF: &str = "
    INSERT INTO snapshot_ref (root, until_unix_ms) VALUES (?1, ?2)
    ON CONFLICT (root) DO UPDATE SET until_unix_ms = excluded.until_unix_ms";
const REMOVE_SNAPSHOT_REFS: &str = "DELETE FROM snapshot_ref WHERE until_unix_ms < ?1";

/// The statements of one transaction's operations. Those for tasks are looked up once, not once a row.
pub(super) struct Applier<'c> {
    connection: &'c Connection,
    put_task: CachedStatement<'c>,
    /// Whether jobs may be there that were removed, to which nothing is added any more.
    removals: &'c mut bool,
}

impl<'c> Applier<'c> {
    pub(super) fn new(connection: &'c Connection, removals: &'c mut bool) -> rusqlite::Result<Self> {
        Ok(Self {
            connection,
            removals,
            put_task: connection.prepare_cached(PUT_TASK)?,
        })
    }

    /// Applies the operations of one submission: all of them, or none if one is refused.
    ///
    /// SQLite undoes a statement that fails, so that only a submission of several needs a savepoint. Some faults (a
    /// full disk, an I/O error) end the whole transaction instead; the caller sees that by asking the connection.
    pub(super) fn apply(&mut self, ops: &[Op], blob: &mut Vec<u8>) -> Result<(), CommitError> {
        if let [op @ (Op::PutTask(_) | Op::PutJob(_))] = ops {
            return self.apply_one(op, blob);
        }
        self.connection
            .prepare_cached("SAVEPOINT submission")?
            .execute([])?;
        let applied = ops.iter().try_for_each(|op| self.apply_one(op, blob));
        if applied.is_err() && !self.connection.is_autocommit() {
            self.connection
                .prepare_cached("ROLLBACK TO submission")?
                .execute([])?;
        }
        if !self.connection.is_autocommit() {
            self.connection
                .prepare_cached("RELEASE submission")?
                .execute([])?;
        }
        applied
    }

    fn apply_one(&mut self, op: &Op, blob: &mut Vec<u8>) -> Result<(), CommitError> {
        match op {
            Op::InsertJob(job) => self.insert_job(job),
            Op::PutTask(task) => self.put_task(task, blob),
            Op::PutJob(job) => self.put_job(job),
            Op::RemoveJob(id) => {
                // Stays set if this is rolled back; the writer looks for what there is to do and finds nothing.
                *self.removals |= removal::begin(self.connection, *id)?;
                Ok(())
            }
            Op::PutNode(node) => fleet::put_node(self.connection, node),
            Op::RemoveNode(name) => self.run(fleet::REMOVE_NODE, params![name.as_str()]),
            Op::PutTarget(target) => fleet::put_target(self.connection, target),
            Op::RemoveTarget(name) => self.run(fleet::REMOVE_TARGET, params![name.as_str()]),
            Op::PutSnapshotRef { root, until_unix_ms } => {
                self.run(PUT_SNAPSHOT_REF, params![root.as_bytes(), number(*until_unix_ms)])
            }
            Op::RemoveSnapshotRefs { before_unix_ms } => {
                self.run(REMOVE_SNAPSHOT_REFS, params![number(*before_unix_ms)])
            }
            Op::Identity(op) => identity::apply::apply(self.connection, op),
        }
    }

    fn run(&self, sql: &str, params: &[&dyn rusqlite::ToSql]) -> Result<(), CommitError> {
        self.connection.prepare_cached(sql)?.execute(params)?;
        Ok(())
    }

    fn insert_job(&self, job: &JobRecord) -> Result<(), CommitError> {
        let spec = serde_json::to_string(&*job.spec).map_err(|source| CommitError::Unstorable {
            job: job.id,
            source: source.into(),
        })?;
        if *self.removals {
            removal::finish(self.connection, job.id)?;
        }
        let id = id_number(job.id);
        let [
            queued,
            preparing,
            running,
            finalizing,
            succeeded,
            failed,
            canceled,
        ] = job.counts.0;
        self.connection
            .prepare_cached(INSERT_JOB)?
            .execute(params![
                id,
                job.spec.name,
                job.state as u8,
                number(job.created_unix_ms),
                job.ended_unix_ms.map(number),
                job.cancel_requested,
                queued,
                preparing,
                running,
                finalizing,
                succeeded,
                failed,
                canceled,
                job.given_up.map(|reason| reason as u8),
                job.owner,
            ])
            .map_err(|error| {
                if constraint(&error) == Some(ffi::SQLITE_CONSTRAINT_PRIMARYKEY) {
                    CommitError::JobExists(job.id)
                } else {
                    error.into()
                }
            })?;
        self.run(INSERT_SPEC, params![id, job.spec.snapshot.as_bytes(), spec])
    }

    fn put_task(&mut self, task: &TaskRecord, blob: &mut Vec<u8>) -> Result<(), CommitError> {
        if *self.removals && removal::is_removed(self.connection, task.id.job)? {
            return Err(CommitError::UnknownJob(task.id.job));
        }
        timeline::encode(&task.timeline, blob);
        let [setup, stdout, stderr] = task.stream_lengths.map(number);
        self.put_task
            .execute(params![
                id_number(task.id.job),
                task.id.index,
                task.state as u8,
                task.attempt,
                task.node,
                task.exit.map(exit_number),
                task.outputs.as_ref().map(Digest::as_bytes),
                task.logs.as_ref().map(Digest::as_bytes),
                setup,
                stdout,
                stderr,
                blob.as_slice(),
                task.cancel_requested,
            ])
            .map_err(|error| {
                if constraint(&error) == Some(ffi::SQLITE_CONSTRAINT_FOREIGNKEY) {
                    CommitError::UnknownJob(task.id.job)
                } else {
                    error.into()
                }
            })?;
        Ok(())
    }

    fn put_job(&self, job: &JobRecord) -> Result<(), CommitError> {
        let [
            queued,
            preparing,
            running,
            finalizing,
            succeeded,
            failed,
            canceled,
        ] = job.counts.0;
        let changed = self.connection.prepare_cached(PUT_JOB)?.execute(params![
            id_number(job.id),
            job.state as u8,
            job.ended_unix_ms.map(number),
            queued,
            preparing,
            running,
            finalizing,
            succeeded,
            failed,
            canceled,
            job.cancel_requested,
            job.given_up.map(|reason| reason as u8),
        ])?;
        if changed == 1 {
            Ok(())
        } else {
            Err(CommitError::UnknownJob(job.id))
        }
    }
}

/// Which rule an error broke, as SQLite's extended code.
pub(super) fn constraint(error: &rusqlite::Error) -> Option<i32> {
    error
        .sqlite_error()
        .filter(|error| error.code == rusqlite::ErrorCode::ConstraintViolation)
        .map(|error| error.extended_code)
}

/// A job's id as stored: its 60 bits, never negative.
pub(super) fn id_number(id: JobId) -> i64 {
    id.to_bits().cast_signed()
}

/// An unsigned number in SQLite's signed column; the same bits, so that every value survives. Values past 2⁶³, which no
/// clock and no file reaches, would sort wrongly.
pub(super) fn number(value: u64) -> i64 {
    value.cast_signed()
}

fn exit_number(exit: ExitStatus) -> u16 {
    match exit {
        ExitStatus::Code(code) => code.into(),
        ExitStatus::Signal(signal) => 256 + u16::from(signal),
    }
}

/// The exit status of a stored number.
pub(super) fn exit_of(number: i64) -> Result<ExitStatus, String> {
    let bad = |_| format!("unknown exit status {number}");
    if number < 256 {
        u8::try_from(number).map(ExitStatus::Code).map_err(bad)
    } else {
        u8::try_from(number - 256).map(ExitStatus::Signal).map_err(bad)
    }
}
