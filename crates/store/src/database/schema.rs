//! Schemas as a list of numbered SQL files: version `n` is what the first `n` files make.
//!
//! A file that has been released never changes; a change of the schema is a new file at the end of the list, and a
//! dump of a database of each version under `fixtures/` that a test migrates. The version is SQLite's own
//! `user_version`, written in the same transaction as the change.

use std::path::Path;

use rusqlite::{Connection, TransactionBehavior};

use super::OpenError;

/// A database's schema, through all its versions.
#[derive(Debug)]
pub(crate) struct Schema {
    /// The SQL that leads from version `n` to version `n + 1`, at place `n`.
    pub(crate) migrations: &'static [&'static str],
}

impl Schema {
    /// The newest version.
    pub(crate) fn newest(&self) -> u32 {
        u32::try_from(self.migrations.len()).expect("a schema has fewer than 2^32 versions")
    }

    /// Brings the database to the newest version; refuses one that is newer still.
    pub(super) fn migrate(&self, connection: &mut Connection, file: &Path) -> Result<(), OpenError> {
        let failed = |attempt| {
            move |source: rusqlite::Error| OpenError::Database {
                path: file.to_owned(),
                attempt,
                source: source.into(),
            }
        };
        let found: u32 = connection
            .query_row("PRAGMA user_version", [], |row| row.get(0))
            .map_err(failed("read the schema version of"))?;
        let pending = self
            .migrations
            .get(found as usize..)
            .ok_or_else(|| OpenError::NewerSchema {
                path: file.to_owned(),
                found,
                known: self.newest(),
            })?;
        for (version, sql) in (found + 1..).zip(pending) {
            let mut migrate = || {
                let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
                transaction.execute_batch(sql)?;
                transaction.pragma_update(None, "user_version", version)?;
                transaction.commit()
            };
            migrate().map_err(failed("migrate"))?;
        }
        Ok(())
    }
}
