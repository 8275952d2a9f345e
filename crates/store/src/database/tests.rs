//! The log's length, and what a connection is set up with.

use rusqlite::Connection;

use super::*;

const SCHEMA: Schema = Schema {
    migrations: &["CREATE TABLE t (a INTEGER PRIMARY KEY, b BLOB) STRICT;"],
};

fn open() -> (tempfile::TempDir, PathBuf, Connection) {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("test.db");
    let connection = open_writer(&file, &SCHEMA).unwrap();
    (directory, file, connection)
}

fn log_length(file: &Path) -> u64 {
    std::fs::metadata(log_path(file)).unwrap().len()
}

#[test]
fn the_log_is_grown_ahead_and_keeps_its_length() {
    let (_directory, file, connection) = open();
    assert_eq!(log_length(&file), LOG_BYTES);
    for _ in 0..3 {
        for _ in 0..CHECKPOINT_PAGES / 8 {
            connection
                .execute("INSERT INTO t (b) VALUES (zeroblob(8000))", [])
                .unwrap();
        }
        let log = log_state(&connection).unwrap();
        assert!(log.pages > 0 && log.copied < log.pages, "{log:?}");
        let log = checkpoint(&connection).unwrap();
        assert_eq!(log.copied, log.pages);
        assert_eq!(log_length(&file), LOG_BYTES, "a checkpoint starts the log over");
    }
    drop(connection);
    assert_eq!(log_length(&file), LOG_BYTES, "closing keeps it");
    let connection = open_writer(&file, &SCHEMA).unwrap();
    let rows: u32 = connection
        .query_row("SELECT count(*) FROM t", [], |row| row.get(0))
        .unwrap();
    assert_eq!(rows, 3 * CHECKPOINT_PAGES / 8);
}

#[test]
fn commits_are_durable_and_rules_are_kept() {
    let (_directory, _file, connection) = open();
    let pragma = |name: &str| -> String {
        connection
            .query_row(
                &format!("SELECT CAST({name} AS TEXT) FROM pragma_{name}"),
                [],
                |row| row.get(0),
            )
            .unwrap()
    };
    assert_eq!(pragma("journal_mode"), "wal");
    assert_eq!(pragma("synchronous"), "2");
    assert_eq!(pragma("foreign_keys"), "1");
}

#[test]
fn readers_see_the_last_commit_and_cannot_write() {
    let (_directory, file, connection) = open();
    let pool = ReadPool::new(file);
    let count = |reader: &Connection| -> u32 {
        reader
            .query_row("SELECT count(*) FROM t", [], |row| row.get(0))
            .unwrap()
    };
    let (one, two) = (pool.get().unwrap(), pool.get().unwrap());
    assert_eq!((count(&one), count(&two)), (0, 0));
    connection.execute("INSERT INTO t DEFAULT VALUES", []).unwrap();
    assert_eq!((count(&one), count(&two)), (1, 1));
    assert!(one.execute("DELETE FROM t", []).is_err());
}
