//! Removing a job of many tasks without holding up everyone else.
//!
//! ```text
//!   RemoveJob ──▶ job.removed = 1 and a first batch of its tasks ──▶ commit, told ──▶ a batch ──▶ … ──▶ the job's row
//!                     │ few tasks: all of it at once                 (other groups commit between two)
//! ```
//!
//! The mark is in the database: a job whose removal was cut off stays out of sight, and the next start goes on with it.
//! Who deletes, and when, is the writer's business.

use haul_types::JobId;
use rusqlite::{Connection, OptionalExtension as _, params};

use super::apply::id_number;

/// Rows of tasks deleted in one transaction. Small under test, so that few tasks are many batches.
pub(super) const BATCH: u32 = if cfg!(test) { 2 } else { 10_000 };

const MARK: &str = "UPDATE job SET removed = 1 WHERE id = ?1";
const NEXT: &str = "SELECT id FROM job WHERE removed = 1 LIMIT 1";
const IS_REMOVED: &str = "SELECT 1 FROM job WHERE id = ?1 AND removed = 1";
/// The last index of a batch; none if there are no more rows than that.
const END_OF_BATCH: &str = "SELECT task_index FROM task WHERE job = ?1 ORDER BY task_index LIMIT 1 OFFSET ?2";
const DELETE_BATCH: &str = "DELETE FROM task WHERE job = ?1 AND task_index < ?2";
/// What is left of its tasks goes with it.
const DELETE_JOB: &str = "DELETE FROM job WHERE id = ?1";

/// Begins: nobody sees the job from here on. Whether anything is left to do.
pub(super) fn begin(connection: &Connection, job: JobId) -> rusqlite::Result<bool> {
    let id = id_number(job);
    let known = connection.prepare_cached(MARK)?.execute([id])?;
    Ok(known == 1 && !batch(connection, id)?)
}

/// Does what is left of a job that is being removed, however long it takes: its id is wanted again.
pub(super) fn finish(connection: &Connection, job: JobId) -> rusqlite::Result<()> {
    if is_removed(connection, job)? {
        connection.prepare_cached(DELETE_JOB)?.execute([id_number(job)])?;
    }
    Ok(())
}

/// Whether the job is there for nobody but this module.
pub(super) fn is_removed(connection: &Connection, job: JobId) -> rusqlite::Result<bool> {
    connection.prepare_cached(IS_REMOVED)?.exists([id_number(job)])
}

/// Whether a removal is under way.
pub(super) fn is_pending(connection: &Connection) -> rusqlite::Result<bool> {
    connection.prepare_cached(NEXT)?.exists([])
}

/// The next batch of whichever removal is under way, in a transaction of its own. Whether there was one.
pub(super) fn step(connection: &Connection) -> rusqlite::Result<bool> {
    let transaction = connection.unchecked_transaction()?;
    let next: Option<i64> = transaction
        .prepare_cached(NEXT)?
        .query_row([], |row| row.get(0))
        .optional()?;
    let Some(job) = next else { return Ok(false) };
    batch(&transaction, job)?;
    transaction.commit()?;
    Ok(true)
}

/// Deletes at most a batch of a job's tasks, and the job if that was all. Whether it was.
fn batch(connection: &Connection, job: i64) -> rusqlite::Result<bool> {
    let end: Option<i64> = connection
        .prepare_cached(END_OF_BATCH)?
        .query_row(params![job, BATCH], |row| row.get(0))
        .optional()?;
    match end {
        Some(end) => connection.prepare_cached(DELETE_BATCH)?.execute([job, end])?,
        None => connection.prepare_cached(DELETE_JOB)?.execute([job])?,
    };
    Ok(end.is_none())
}
