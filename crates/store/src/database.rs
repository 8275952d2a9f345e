//! SQLite as both stores use it: how a connection is set up, how a schema grows, how a fault is told.
//!
//! WAL with `synchronous=FULL`: a commit is on the disk when it returns. The log file is kept at its length (it is
//! neither truncated nor deleted, and grown ahead of use when the store is opened), so that a commit overwrites blocks
//! that exist, which costs half of what appending does.

mod fault;
mod pool;
mod schema;

use std::fs::OpenOptions;
use std::io::{self, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::config::DbConfig;
use rusqlite::{Connection, OpenFlags};

pub use fault::DatabaseError;
pub(crate) use fault::Fault;
pub(crate) use pool::{PooledConnection, ReadPool};
pub(crate) use schema::Schema;

/// Pages of log after which the writer checkpoints even though it is busy; 4 MiB.
pub(crate) const CHECKPOINT_PAGES: u32 = 1024;
/// SQLite's own page size; fixed when the file is created.
const PAGE_BYTES: u64 = 4096;
/// What a page takes in the log: itself and a header of 24 bytes; and the log's own header of 32.
const LOG_BYTES: u64 = 32 + CHECKPOINT_PAGES as u64 * (PAGE_BYTES + 24);
/// Statements each connection keeps prepared; more than either store has.
const STATEMENTS: usize = 64;
/// How long a connection waits for another. Only a checkpoint at the wrong moment makes one wait at all.
const BUSY: Duration = Duration::from_secs(10);

/// Why a store could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The directory or a file in it could not be used.
    #[error("cannot {attempt} {}", path.display())]
    Directory {
        /// The store's directory, or the file in it.
        path: PathBuf,
        /// What was attempted, as a verb that the path follows.
        attempt: &'static str,
        /// The reason.
        #[source]
        source: io::Error,
    },
    /// Another process has it.
    #[error(
        "another controller{} is using {}: stop it, or give this one another state directory",
        holder.map(|pid| format!(" (process {pid})")).unwrap_or_default(),
        path.display()
    )]
    Locked {
        /// The store's directory.
        path: PathBuf,
        /// The process that holds it, if it said.
        holder: Option<u32>,
    },
    /// It was written by a newer Haul.
    #[error(
        "{} has schema version {found}, and this Haul knows versions up to {known}: run the newer Haul that wrote it, \
         or restore a copy from before the upgrade", path.display()
    )]
    NewerSchema {
        /// The database file.
        path: PathBuf,
        /// The version it has.
        found: u32,
        /// The newest version this build knows.
        known: u32,
    },
    /// SQLite could not open it, set it up or migrate it.
    #[error("cannot {attempt} {}", path.display())]
    Database {
        /// The database file.
        path: PathBuf,
        /// What was attempted, as a verb that the path follows.
        attempt: &'static str,
        /// The reason.
        #[source]
        source: DatabaseError,
    },
    /// The writer's thread could not be started.
    #[error("cannot start the thread that writes to {}", path.display())]
    Thread {
        /// The store's directory.
        path: PathBuf,
        /// The reason.
        #[source]
        source: io::Error,
    },
}

/// Opens `file` for writing, creating it, and brings it to the newest version of `schema`.
///
/// The caller holds the directory's lock: this connection is the only one that writes.
pub(crate) fn open_writer(file: &Path, schema: &Schema) -> Result<Connection, OpenError> {
    let failed = |attempt| {
        move |source: rusqlite::Error| OpenError::Database {
            path: file.to_owned(),
            attempt,
            source: source.into(),
        }
    };
    let flags =
        OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let mut connection = Connection::open_with_flags(file, flags).map_err(failed("open"))?;
    configure(&connection).map_err(failed("set up"))?;
    schema.migrate(&mut connection, file)?;
    // A log that could not be grown (a full disk, say) still works, only slower.
    if let Err(error) = grow_log(file) {
        tracing::debug!(file = %file.display(), %error, "the log is not grown ahead of use");
    }
    Ok(connection)
}

fn configure(connection: &Connection) -> rusqlite::Result<()> {
    connection.busy_timeout(BUSY)?;
    connection.set_prepared_statement_cache_capacity(STATEMENTS);
    // Closing the last connection would delete the log, and its blocks with it.
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)?;
    // A corrupt schema must not run anything.
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_DEFENSIVE, true)?;
    connection.execute_batch(
        "PRAGMA page_size = 4096;
         PRAGMA journal_mode = WAL;
         PRAGMA synchronous = FULL;
         PRAGMA foreign_keys = ON;
         PRAGMA trusted_schema = OFF;
         PRAGMA temp_store = MEMORY;
         PRAGMA cache_size = -16384;
         PRAGMA wal_autocheckpoint = 0;",
    )
}

/// Writes zeros after the log's end up to the length it has at a checkpoint. SQLite's recovery ends at the first frame
/// whose salt and checksum do not fit, so zeros after the last frame mean nothing to it.
fn grow_log(file: &Path) -> io::Result<()> {
    let mut log = OpenOptions::new().append(true).open(log_path(file))?;
    let length = log.seek(SeekFrom::End(0))?;
    if length < LOG_BYTES {
        io::copy(&mut io::Read::take(io::repeat(0), LOG_BYTES - length), &mut log)?;
        log.sync_all()?;
    }
    Ok(())
}

/// Where SQLite keeps the log of `file`.
fn log_path(file: &Path) -> PathBuf {
    let mut name = file.as_os_str().to_owned();
    name.push("-wal");
    name.into()
}

/// Pages in the log, and how many of them are in the database file already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct LogState {
    /// Pages in the log.
    pub(crate) pages: u32,
    /// Pages of those that a checkpoint has copied.
    pub(crate) copied: u32,
}

/// How long the log is. Costs microseconds and does no I/O.
pub(crate) fn log_state(connection: &Connection) -> rusqlite::Result<LogState> {
    checkpoint_pragma(connection, "PRAGMA wal_checkpoint(NOOP)")
}

/// Copies the log into the database file, as far as readers allow, so that the next commit starts it over.
pub(crate) fn checkpoint(connection: &Connection) -> rusqlite::Result<LogState> {
    checkpoint_pragma(connection, "PRAGMA wal_checkpoint(PASSIVE)")
}

fn checkpoint_pragma(connection: &Connection, pragma: &str) -> rusqlite::Result<LogState> {
    connection.prepare_cached(pragma)?.query_row([], |row| {
        // Minus one in both when there is no log yet.
        Ok(LogState {
            pages: row.get::<_, i64>(1)?.try_into().unwrap_or(0),
            copied: row.get::<_, i64>(2)?.try_into().unwrap_or(0),
        })
    })
}

/// What SQLite itself finds wrong in a file: damaged pages, indices that do not fit, rows without their parent.
pub(crate) fn integrity_problems(connection: &Connection) -> rusqlite::Result<Vec<String>> {
    let mut problems = Vec::new();
    let mut statement = connection.prepare("PRAGMA integrity_check")?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        let line: String = row.get(0)?;
        if line != "ok" {
            problems.push(line);
        }
    }
    let mut statement = connection.prepare("PRAGMA foreign_key_check")?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        let (table, parent): (String, String) = (row.get(0)?, row.get(2)?);
        problems.push(format!("a row of {table} has no row of {parent} to belong to"));
    }
    Ok(problems)
}

#[cfg(test)]
mod tests;
