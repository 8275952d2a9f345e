//! What went wrong in SQLite, sorted by what can be done about it.

use std::fmt;
use std::sync::Arc;

use rusqlite::ErrorCode;

/// An error of the database engine. Cheap to clone: one failed commit is told to everyone who was part of it.
#[derive(Clone)]
pub struct DatabaseError(Arc<rusqlite::Error>);

/// What can be done about an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// Wait until there is room.
    NoSpace,
    /// Make the file system writable.
    ReadOnly,
    /// Restore a copy.
    Corrupt,
    /// Mend what was asked for: a rule of the schema forbids it.
    Constraint,
    /// Ask a person.
    Other,
}

impl DatabaseError {
    /// What can be done about it.
    pub(crate) fn fault(&self) -> Fault {
        match self.0.sqlite_error_code() {
            Some(ErrorCode::DiskFull) => Fault::NoSpace,
            Some(ErrorCode::ReadOnly) => Fault::ReadOnly,
            Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => Fault::Corrupt,
            Some(ErrorCode::ConstraintViolation) => Fault::Constraint,
            _ => Fault::Other,
        }
    }
}

impl From<rusqlite::Error> for DatabaseError {
    fn from(error: rusqlite::Error) -> Self {
        Self(Arc::new(error))
    }
}

impl fmt::Debug for DatabaseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

impl fmt::Display for DatabaseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

impl std::error::Error for DatabaseError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        std::error::Error::source(&*self.0)
    }
}
