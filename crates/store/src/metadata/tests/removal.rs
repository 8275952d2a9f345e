//! Jobs of many tasks go out of sight at once, and their rows in batches, also past a crash.

use rusqlite::Connection;

use super::*;
use crate::metadata::removal;

/// A good many batches, as long as a test's are.
const TASKS: u32 = 40 * removal::BATCH + 1;

fn raw(directory: &Path) -> Connection {
    Connection::open(directory.join(FILE_NAME)).unwrap()
}

fn rows(connection: &Connection) -> (u32, u32) {
    let count = |table: &str| {
        let sql = format!("SELECT count(*) FROM {table}");
        connection.query_row(&sql, [], |row| row.get(0)).unwrap()
    };
    (count("job"), count("task"))
}

/// Waits until nothing is left of any removal: each commit lets the writer do a batch.
pub(super) fn settle(store: &Metadata, directory: &Path) {
    let connection = raw(directory);
    for _ in 0..=TASKS {
        if !removal::is_pending(&connection).unwrap() {
            return;
        }
        commit(store, vec![Op::RemoveSnapshotRefs { before_unix_ms: 0 }]).unwrap();
    }
    panic!("{:?} jobs and tasks are left", rows(&connection));
}

fn many() -> Vec<Op> {
    let tasks = (0..TASKS).map(|index| Op::PutTask(task(1, index, TaskState::Running)));
    [Op::InsertJob(job(1))].into_iter().chain(tasks).collect()
}

/// A store that was killed right after a removal of job 1 had been acknowledged, before anything else.
fn interrupted() -> tempfile::TempDir {
    let (directory, store) = open();
    commit(&store, [many(), vec![Op::InsertJob(job(2))]].concat()).unwrap();
    drop(store);
    let connection = raw(directory.path());
    assert!(removal::begin(&connection, id(1)).unwrap(), "more than one batch");
    assert_eq!(rows(&connection), (2, TASKS - removal::BATCH));
    directory
}

#[test]
fn a_removed_job_is_out_of_sight_while_its_tasks_are_there() {
    let (directory, store) = open();
    commit(&store, many()).unwrap();
    drop(store);
    let connection = raw(directory.path());
    assert!(removal::begin(&connection, id(1)).unwrap());
    // Nothing deletes through this one: there is no writer.
    let pool = ReadPool::new(directory.path().join(FILE_NAME));
    let reader = read::Reader::begin(&pool, "a test").unwrap();
    assert_eq!(reader.job(id(1)).unwrap(), None);
    assert!(reader.jobs(&all_jobs()).unwrap().is_empty());
    let open_jobs = JobFilter {
        states: vec![TaskState::Queued],
        ..all_jobs()
    };
    assert!(reader.jobs(&open_jobs).unwrap().is_empty());
    assert_eq!(reader.last_job().unwrap(), None);
    assert!(reader.ids_in(&(id(0)..=id(9)), 9).unwrap().is_empty());
    assert!(reader.active().unwrap().is_empty());
    let index = TASKS - 1;
    assert_eq!(reader.task(TaskId { job: id(1), index }).unwrap(), None);
    for states in [&[][..], &[TaskState::Running]] {
        assert!(reader.tasks(id(1), &tasks_from(0, 9, states)).unwrap().is_empty());
    }
    assert_eq!(reader.check().unwrap(), Vec::<String>::new());
}

#[test]
fn a_removal_goes_on_after_a_crash_while_others_commit() {
    let directory = interrupted();
    let store = Metadata::open(directory.path()).unwrap();
    let late = commit(&store, vec![Op::PutTask(task(1, 0, TaskState::Running))]);
    assert!(matches!(late, Err(CommitError::UnknownJob(_))), "{late:?}");
    let late = commit(&store, vec![Op::PutJob(job(1))]);
    assert!(matches!(late, Err(CommitError::UnknownJob(_))), "{late:?}");
    commit(&store, vec![Op::PutTask(task(2, 0, TaskState::Running))]).unwrap();
    commit(&store, vec![Op::RemoveJob(id(1))]).unwrap();
    settle(&store, directory.path());
    assert_eq!(rows(&raw(directory.path())), (1, 1), "what is not of job 1");
    assert_eq!(store.job(id(2)).unwrap(), Some(job(2)));
    assert_eq!(store.check().unwrap(), Vec::<String>::new());
}

#[test]
fn a_removal_that_is_rolled_back_removes_nothing() {
    let (directory, store) = open();
    commit(&store, many()).unwrap();
    let refused = commit(&store, vec![Op::RemoveJob(id(1)), Op::PutJob(job(3))]);
    assert!(matches!(refused, Err(CommitError::UnknownJob(_))), "{refused:?}");
    settle(&store, directory.path());
    assert_eq!(rows(&raw(directory.path())), (1, TASKS));
    assert_eq!(store.job(id(1)).unwrap(), Some(job(1)));
}

#[test]
fn an_id_that_is_being_removed_can_be_had_again() {
    let directory = interrupted();
    let store = Metadata::open(directory.path()).unwrap();
    commit(&store, vec![Op::InsertJob(job(1))]).unwrap();
    assert_eq!(store.job(id(1)).unwrap(), Some(job(1)));
    assert!(store.tasks(id(1), &tasks_from(0, 9, &[])).unwrap().is_empty());
    settle(&store, directory.path());
    assert_eq!(rows(&raw(directory.path())), (2, 0));
}

#[test]
fn a_batch_is_a_batch() {
    let directory = interrupted();
    let connection = raw(directory.path());
    let mut left = TASKS - removal::BATCH;
    while removal::step(&connection).unwrap() {
        let (_, now) = rows(&connection);
        assert!(left - now <= removal::BATCH, "{left} to {now}");
        left = now;
    }
    assert_eq!(rows(&connection), (1, 0));
}
