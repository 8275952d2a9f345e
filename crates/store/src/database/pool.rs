//! Connections that only read, kept open between uses.

use std::ops::Deref;
use std::path::{Path, PathBuf};

use crossbeam_channel::{Receiver, Sender, bounded};
use rusqlite::{Connection, OpenFlags};

use super::{BUSY, STATEMENTS};

/// Connections kept when nobody uses them. More readers than this open their own (a tenth of a millisecond) and
/// close it afterwards; how many there are at a time is bounded by the caller's threads.
const KEPT: usize = 4;

/// Gives out read-only connections to one database.
#[derive(Debug)]
pub(crate) struct ReadPool {
    file: PathBuf,
    put: Sender<Connection>,
    take: Receiver<Connection>,
}

impl ReadPool {
    /// A pool for `file`, which exists; no connection is opened yet.
    pub(crate) fn new(file: PathBuf) -> Self {
        let (put, take) = bounded(KEPT);
        Self { file, put, take }
    }

    /// The database file.
    pub(crate) fn file(&self) -> &Path {
        &self.file
    }

    /// A connection that nobody else uses; it goes back when dropped.
    pub(crate) fn get(&self) -> rusqlite::Result<PooledConnection<'_>> {
        let connection = match self.take.try_recv() {
            Ok(connection) => connection,
            Err(_) => self.open()?,
        };
        Ok(PooledConnection {
            connection: Some(connection),
            pool: self,
        })
    }

    fn open(&self) -> rusqlite::Result<Connection> {
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = Connection::open_with_flags(&self.file, flags)?;
        connection.busy_timeout(BUSY)?;
        connection.set_prepared_statement_cache_capacity(STATEMENTS);
        connection.execute_batch("PRAGMA trusted_schema = OFF; PRAGMA temp_store = MEMORY;")?;
        Ok(connection)
    }
}

/// A connection on loan from a [`ReadPool`].
#[derive(Debug)]
pub(crate) struct PooledConnection<'a> {
    connection: Option<Connection>,
    pool: &'a ReadPool,
}

impl Deref for PooledConnection<'_> {
    type Target = Connection;

    fn deref(&self) -> &Connection {
        self.connection
            .as_ref()
            .expect("only drop takes the connection out")
    }
}

impl Drop for PooledConnection<'_> {
    fn drop(&mut self) {
        // A full pool drops the connection, and one that a panic left inside a transaction is not kept.
        if let Some(connection) = self.connection.take().filter(Connection::is_autocommit) {
            let _ = self.pool.put.try_send(connection);
        }
    }
}
