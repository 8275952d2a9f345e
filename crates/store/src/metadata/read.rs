//! Queries as rows. Each reader has a connection to itself and sees one commit's state.

use std::collections::{HashMap, HashSet};
use std::ops::RangeInclusive;

use haul_types::{
    Digest, JobId, JobRecord, NodeRecord, TargetRecord, TaskCounts, TaskId, TaskIndex, TaskRecord, TaskState,
};
use rusqlite::types::ValueRef;
use rusqlite::{Connection, Params, Row, params};

use super::apply::{exit_of, id_number, number};
use super::error::ReadError;
use super::row::{ActiveJob, JobCursor, JobFilter, JobSummary, TaskFilter};
use super::{extend_ranges, fleet, timeline};
use crate::database::{self, PooledConnection, ReadPool};

/// The columns that [`summary`] and [`job_row`] read.
macro_rules! job_columns {
    () => {
        "id, seq, name, state, created_unix_ms, ended_unix_ms,
         queued, preparing, running, finalizing, succeeded, failed, canceled, cancel_requested, given_up,
         owner"
    };
}
/// The columns that [`task_row`] reads.
macro_rules! task_columns {
    () => {
        "job, task_index, state, attempt, node, exit, outputs, logs, setup_bytes, stdout_bytes, stderr_bytes, timeline, \
         cancel_requested"
    };
}
/// That the job of a query for tasks is not being removed; looked up once a query.
macro_rules! of_shown_job {
    () => {
        "(SELECT removed FROM job WHERE id = ?1) = 0"
    };
}

const JOB: &str = concat!(
    "SELECT ",
    job_columns!(),
    ", spec FROM job JOIN job_spec ON job = id WHERE id = ?1 AND removed = 0"
);
const OPEN_JOBS: &str = concat!(
    "SELECT ",
    job_columns!(),
    ", spec FROM job JOIN job_spec ON job = id WHERE state < 5 AND removed = 0 ORDER BY seq"
);
const JOBS: &str = concat!(
    "SELECT ",
    job_columns!(),
    " FROM job WHERE seq < ?1 AND (1 << state) & ?2 <> 0 AND removed = 0 ORDER BY seq DESC LIMIT ?3"
);
const JOBS_OPEN: &str = concat!(
    "SELECT ",
    job_columns!(),
    " FROM job WHERE seq < ?1 AND (1 << state) & ?2 <> 0 AND state < 5 AND removed = 0 ORDER BY seq DESC LIMIT ?3"
);
const TASK: &str = concat!(
    "SELECT ",
    task_columns!(),
    " FROM task WHERE job = ?1 AND task_index = ?2 AND ",
    of_shown_job!()
);
const TASKS: &str = concat!(
    "SELECT ",
    task_columns!(),
    " FROM task WHERE job = ?1 AND task_index >= ?2 AND (1 << state) & ?3 <> 0 AND ",
    of_shown_job!(),
    " ORDER BY task_index LIMIT ?4"
);
const TASKS_OF_STATE: &str = concat!(
    "SELECT ",
    task_columns!(),
    " FROM task WHERE job = ?1 AND task_index >= ?2 AND state = ?3 AND state <> 5 AND ",
    of_shown_job!(),
    " ORDER BY task_index LIMIT ?4"
);
// One statement each for all jobs that have not ended: a hundred thousand of them wait for a controller to start.
const OPEN_TASKS: &str = concat!(
    "SELECT ",
    task_columns!(),
    " FROM task INDEXED BY task_not_succeeded WHERE job IN (SELECT id FROM job WHERE state < 5) AND state < 5 \
     AND state <> 5 ORDER BY job, task_index"
);
const ENDED: &str = "
    SELECT job, task_index FROM task
    WHERE job IN (SELECT id FROM job WHERE state < 5) AND state >= 5
    ORDER BY job, task_index";
/// Two digests a row, either of which may be NULL. One pass over the tasks and no sorting in SQLite: a set holds what was
/// seen. No index: with a million random digests in it, putting tasks a thousand at a time wrote six times the log and took
/// eight times the processor, to save a collection, which comes once an hour, less than half a second.
const LIVE_SNAPSHOTS: &str = "
    SELECT snapshot, NULL FROM job_spec
    UNION ALL SELECT outputs, logs FROM task WHERE outputs IS NOT NULL OR logs IS NOT NULL
    UNION ALL SELECT root, NULL FROM snapshot_ref WHERE until_unix_ms >= ?1";

/// The first four states, which are not terminal.
const OPEN_MASK: u32 = 0b1_1110;

/// How a query fails: in SQLite, or over what a row says.
pub(super) enum Fault {
    Sqlite(rusqlite::Error),
    Damaged(ReadError),
}

impl From<rusqlite::Error> for Fault {
    fn from(error: rusqlite::Error) -> Self {
        Self::Sqlite(error)
    }
}

/// A connection at work on one question.
pub(super) struct Reader<'a> {
    pub(super) connection: PooledConnection<'a>,
    pool: &'a ReadPool,
    what: &'static str,
}

impl<'a> Reader<'a> {
    /// A reader to answer `what`, as an error would put it.
    pub(super) fn begin(pool: &'a ReadPool, what: &'static str) -> Result<Self, ReadError> {
        let connection = pool.get().map_err(|error| database_error(pool, what, error))?;
        Ok(Self {
            connection,
            pool,
            what,
        })
    }

    pub(super) fn told<T>(&self, result: Result<T, Fault>) -> Result<T, ReadError> {
        result.map_err(|fault| match fault {
            Fault::Sqlite(error) => database_error(self.pool, self.what, error),
            Fault::Damaged(error) => error,
        })
    }

    pub(super) fn job(&self, id: JobId) -> Result<Option<JobRecord>, ReadError> {
        let rows = self.told(collect(&self.connection, JOB, [id_number(id)], job_row))?;
        Ok(rows.into_iter().next())
    }

    pub(super) fn jobs(&self, filter: &JobFilter) -> Result<Vec<JobSummary>, ReadError> {
        let before = filter.before.map_or(i64::MAX, |cursor| number(cursor.to_bits()));
        let mask = mask(&filter.states);
        let sql = if mask & !OPEN_MASK == 0 { JOBS_OPEN } else { JOBS };
        self.told(collect(
            &self.connection,
            sql,
            params![before, mask, limit(filter.limit)],
            summary,
        ))
    }

    pub(super) fn ids_in(
        &self,
        range: &RangeInclusive<JobId>,
        at_most: usize,
    ) -> Result<Vec<JobId>, ReadError> {
        let sql = "SELECT id FROM job WHERE id BETWEEN ?1 AND ?2 AND removed = 0 ORDER BY id LIMIT ?3";
        let params = params![id_number(*range.start()), id_number(*range.end()), limit(at_most)];
        self.told(collect(&self.connection, sql, params, id))
    }

    pub(super) fn last_job(&self) -> Result<Option<JobId>, ReadError> {
        let sql = "SELECT id FROM job WHERE removed = 0 ORDER BY seq DESC LIMIT 1";
        Ok(self.told(collect(&self.connection, sql, [], id))?.pop())
    }

    pub(super) fn task(&self, id: TaskId) -> Result<Option<TaskRecord>, ReadError> {
        let params = params![id_number(id.job), id.index];
        Ok(self
            .told(collect(&self.connection, TASK, params, task_row))?
            .pop())
    }

    pub(super) fn tasks(&self, job: JobId, filter: &TaskFilter) -> Result<Vec<TaskRecord>, ReadError> {
        self.told(tasks(&self.connection, job, filter))
    }

    pub(super) fn active(&self) -> Result<Vec<ActiveJob>, ReadError> {
        self.told(active(&self.connection))
    }

    pub(super) fn nodes(&self) -> Result<Vec<NodeRecord>, ReadError> {
        self.told(collect(&self.connection, fleet::NODES, [], |row| {
            fleet::node(row)?.map_err(|(row, problem)| damaged(row, problem))
        }))
    }

    pub(super) fn targets(&self) -> Result<Vec<TargetRecord>, ReadError> {
        self.told(collect(&self.connection, fleet::TARGETS, [], |row| {
            fleet::target(row)?.map_err(|(row, problem)| damaged(row, problem))
        }))
    }

    pub(super) fn live_snapshots(&self, now_unix_ms: u64) -> Result<Vec<Digest>, ReadError> {
        let result = (|| {
            let mut live = HashSet::new();
            let mut statement = self.connection.prepare_cached(LIVE_SNAPSHOTS)?;
            let mut rows = statement.query([number(now_unix_ms)])?;
            while let Some(row) = rows.next()? {
                for column in 0..2 {
                    let named = digest(row.get_ref(column)?, || "reference to a snapshot".to_owned())?;
                    live.extend(named);
                }
            }
            Ok(live.into_iter().collect())
        })();
        self.told(result)
    }

    pub(super) fn check(&self) -> Result<Vec<String>, ReadError> {
        let result = (|| {
            let transaction = self.connection.unchecked_transaction()?;
            let mut problems = database::integrity_problems(&transaction)?;
            let jobs = concat!(
                "SELECT ",
                job_columns!(),
                ", spec FROM job LEFT JOIN job_spec ON job = id"
            );
            find_damage(&transaction, jobs, |row| job_row(row).map(drop), &mut problems)?;
            let tasks = concat!("SELECT ", task_columns!(), " FROM task");
            find_damage(&transaction, tasks, |row| task_row(row).map(drop), &mut problems)?;
            super::identity::read::find_damaged(&transaction, &mut problems)?;
            let node = |row: &Row<'_>| fleet::node(row)?.map_err(|(row, problem)| damaged(row, problem));
            find_damage(
                &transaction,
                fleet::NODES,
                |row| node(row).map(drop),
                &mut problems,
            )?;
            let target = |row: &Row<'_>| fleet::target(row)?.map_err(|(row, problem)| damaged(row, problem));
            find_damage(
                &transaction,
                fleet::TARGETS,
                |row| target(row).map(drop),
                &mut problems,
            )?;
            Ok(problems)
        })();
        self.told(result)
    }
}

fn database_error(pool: &ReadPool, what: &'static str, error: rusqlite::Error) -> ReadError {
    ReadError::Database {
        what,
        path: pool.file().to_owned(),
        source: error.into(),
    }
}

/// Every row of a query.
pub(super) fn collect<T>(
    connection: &Connection,
    sql: &str,
    params: impl Params,
    mut read: impl FnMut(&Row<'_>) -> Result<T, Fault>,
) -> Result<Vec<T>, Fault> {
    let mut statement = connection.prepare_cached(sql)?;
    let mut rows = statement.query(params)?;
    let mut found = Vec::new();
    while let Some(row) = rows.next()? {
        found.push(read(row)?);
    }
    Ok(found)
}

/// Reads every row of a query and notes those that cannot be.
pub(super) fn find_damage(
    connection: &Connection,
    sql: &str,
    read: impl Fn(&Row<'_>) -> Result<(), Fault>,
    problems: &mut Vec<String>,
) -> Result<(), Fault> {
    let mut statement = connection.prepare(sql)?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        match read(row) {
            Ok(()) => {}
            Err(Fault::Damaged(error)) => problems.push(error.to_string()),
            Err(Fault::Sqlite(error)) => problems.push(error.to_string()),
        }
    }
    Ok(())
}

fn tasks(connection: &Connection, job: JobId, filter: &TaskFilter) -> Result<Vec<TaskRecord>, Fault> {
    let transaction = connection.unchecked_transaction()?;
    let job = id_number(job);
    let mask = mask(&filter.states);
    if mask & (1 << TaskState::Succeeded as u32) != 0 {
        let params = params![job, filter.from_index, mask, limit(filter.limit)];
        return collect(&transaction, TASKS, params, task_row);
    }
    // The rest are few among many: each state from its index, merged.
    let mut found = Vec::new();
    for state in TaskState::ALL
        .into_iter()
        .filter(|&state| mask & (1 << state as u32) != 0)
    {
        let params = params![job, filter.from_index, state as u8, limit(filter.limit)];
        found.append(&mut collect(&transaction, TASKS_OF_STATE, params, task_row)?);
    }
    found.sort_unstable_by_key(|task: &TaskRecord| task.id);
    found.truncate(filter.limit);
    Ok(found)
}

fn active(connection: &Connection) -> Result<Vec<ActiveJob>, Fault> {
    let transaction = connection.unchecked_transaction()?;
    let mut open: HashMap<JobId, Vec<TaskRecord>> = HashMap::new();
    for task in collect(&transaction, OPEN_TASKS, [], task_row)? {
        open.entry(task.id.job).or_default().push(task);
    }
    let mut ended: HashMap<JobId, Vec<RangeInclusive<TaskIndex>>> = HashMap::new();
    let mut statement = transaction.prepare_cached(ENDED)?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        extend_ranges(ended.entry(id(row)?).or_default(), row.get(1)?);
    }
    let jobs = collect(&transaction, OPEN_JOBS, [], job_row)?.into_iter();
    let with_tasks = jobs.map(|job| ActiveJob {
        open: open.remove(&job.id).unwrap_or_default(),
        ended: ended.remove(&job.id).unwrap_or_default(),
        job,
    });
    Ok(with_tasks.collect())
}

fn id(row: &Row<'_>) -> Result<JobId, Fault> {
    let number: i64 = row.get(0)?;
    JobId::from_bits(number.cast_unsigned()).map_err(|error| damaged(format!("job {number}"), error))
}

fn summary(row: &Row<'_>) -> Result<JobSummary, Fault> {
    let id = id(row)?;
    let mut counts = TaskCounts::default();
    for (place, count) in counts.0.iter_mut().enumerate() {
        *count = row.get(6 + place)?;
    }
    Ok(JobSummary {
        id,
        cursor: JobCursor::from_bits(row.get::<_, i64>(1)?.cast_unsigned()),
        name: row.get(2)?,
        state: timeline::state(row.get(3)?).map_err(|problem| damaged(format!("job {id}"), problem))?,
        created_unix_ms: row.get::<_, i64>(4)?.cast_unsigned(),
        ended_unix_ms: row.get::<_, Option<i64>>(5)?.map(i64::cast_unsigned),
        counts,
        owner: row.get(15)?,
    })
}

fn job_row(row: &Row<'_>) -> Result<JobRecord, Fault> {
    let summary = summary(row)?;
    let id = summary.id;
    let spec = match row.get_ref(16)? {
        ValueRef::Text(json) => serde_json::from_slice(json)
            .map_err(|error| damaged(format!("job {id}"), format!("its specification: {error}")))?,
        _ => return Err(damaged(format!("job {id}"), "it has no specification")),
    };
    Ok(JobRecord {
        id,
        owner: summary.owner,
        spec: std::sync::Arc::new(spec),
        created_unix_ms: summary.created_unix_ms,
        state: summary.state,
        counts: summary.counts,
        ended_unix_ms: summary.ended_unix_ms,
        cancel_requested: row.get(13)?,
        given_up: row
            .get::<_, Option<u8>>(14)?
            .map(timeline::reason)
            .transpose()
            .map_err(|problem| damaged(format!("job {id}"), problem))?,
    })
}

fn task_row(row: &Row<'_>) -> Result<TaskRecord, Fault> {
    let id = TaskId {
        job: id(row)?,
        index: row.get(1)?,
    };
    let bad = |problem: String| damaged(format!("task {id}"), problem);
    let name = || format!("task {id}");
    let blob = row
        .get_ref(11)?
        .as_blob()
        .map_err(|error| bad(format!("its timeline: {error}")))?;
    Ok(TaskRecord {
        id,
        state: timeline::state(row.get(2)?).map_err(bad)?,
        attempt: row.get(3)?,
        node: row.get(4)?,
        exit: row
            .get::<_, Option<i64>>(5)?
            .map(exit_of)
            .transpose()
            .map_err(bad)?,
        outputs: digest(row.get_ref(6)?, name)?,
        logs: digest(row.get_ref(7)?, name)?,
        stream_lengths: [
            row.get::<_, i64>(8)?.cast_unsigned(),
            row.get::<_, i64>(9)?.cast_unsigned(),
            row.get::<_, i64>(10)?.cast_unsigned(),
        ],
        timeline: timeline::decode(blob).map_err(bad)?,
        cancel_requested: row.get(12)?,
    })
}

pub(super) fn digest(value: ValueRef<'_>, row: impl Fn() -> String) -> Result<Option<Digest>, Fault> {
    let bytes = value.as_blob_or_null().map_err(|error| damaged(row(), error))?;
    bytes
        .map(Digest::try_from)
        .transpose()
        .map_err(|error| damaged(row(), error))
}

pub(super) fn damaged(row: String, problem: impl std::fmt::Display) -> Fault {
    Fault::Damaged(ReadError::Damaged {
        row,
        problem: problem.to_string(),
    })
}

/// A bit for each state, at its number; all of them for an empty list.
fn mask(states: &[TaskState]) -> u32 {
    let states = if states.is_empty() {
        &TaskState::ALL[..]
    } else {
        states
    };
    states.iter().fold(0, |mask, &state| mask | 1 << state as u32)
}

/// A limit as SQLite takes it.
fn limit(at_most: usize) -> i64 {
    at_most.try_into().unwrap_or(i64::MAX)
}
