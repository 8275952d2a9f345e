//! How the operations on packs fail.

use std::io;
use std::path::{Path, PathBuf};

use haul_snapshot::bundle::FrameError;
use haul_types::Digest;

use crate::database::{DatabaseError, Fault};

/// A file operation that failed.
#[derive(Debug, thiserror::Error)]
#[error("cannot {attempt} {}", path.display())]
pub struct FileError {
    /// What was attempted, as a verb that the path follows.
    pub attempt: &'static str,
    /// The file.
    pub path: PathBuf,
    /// The reason.
    #[source]
    pub source: io::Error,
}

impl FileError {
    pub(super) fn new(attempt: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self {
            attempt,
            path,
            source,
        }
    }

    fn is_out_of_space(&self) -> bool {
        matches!(
            self.source.kind(),
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded
        )
    }
}

/// Why a frame was not taken.
#[derive(Debug, thiserror::Error)]
pub enum AppendError {
    /// It is not what it claims; the sender is at fault.
    #[error("the frame is refused")]
    Frame(#[from] FrameError),
    /// It could not be written. Nothing of it counts; the upload can go on when the reason is gone.
    #[error(transparent)]
    File(#[from] FileError),
}

impl AppendError {
    /// Whether waiting for room on the disk would help.
    #[must_use]
    pub fn is_out_of_space(&self) -> bool {
        matches!(self, Self::File(error) if error.is_out_of_space())
    }
}

/// Why an upload could not be finished. Nothing of it is visible.
#[derive(Debug, thiserror::Error)]
pub enum FinishError {
    /// A pack could not be written out.
    #[error(transparent)]
    File(#[from] FileError),
    /// The index could not be written.
    #[error("cannot write the index of the chunks")]
    Index(#[source] DatabaseError),
}

impl FinishError {
    /// Whether waiting for room on the disk would help.
    #[must_use]
    pub fn is_out_of_space(&self) -> bool {
        match self {
            Self::File(error) => error.is_out_of_space(),
            Self::Index(error) => error.fault() == Fault::NoSpace,
        }
    }
}

impl From<rusqlite::Error> for FinishError {
    fn from(error: rusqlite::Error) -> Self {
        Self::Index(error.into())
    }
}

/// Why chunks could not be looked up or read.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// It is not here.
    #[error("chunk {0} is not stored")]
    Unknown(Digest),
    /// The index could not be read.
    #[error("cannot read the index of the chunks")]
    Index(#[source] DatabaseError),
    /// A pack could not be read.
    #[error("chunk {chunk} cannot be read")]
    File {
        /// The chunk wanted.
        chunk: Digest,
        /// The reason.
        #[source]
        source: FileError,
    },
    /// A pack does not hold what was written to it.
    #[error("pack {} is damaged at byte {start}, where chunk {chunk} should be", pack.display())]
    Damaged {
        /// The file.
        pack: PathBuf,
        /// Where the frame begins.
        start: u64,
        /// The chunk wanted.
        chunk: Digest,
        /// What is wrong with the frame; absent if the bytes are other than those written.
        #[source]
        source: Option<FrameError>,
    },
}

impl From<rusqlite::Error> for LoadError {
    fn from(error: rusqlite::Error) -> Self {
        Self::Index(error.into())
    }
}

/// Why garbage could not be collected. What had been done by then is complete in itself.
#[derive(Debug, thiserror::Error)]
pub enum CollectError {
    /// The index could not be read.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// A new pack or the index could not be written.
    #[error(transparent)]
    Write(#[from] FinishError),
}

impl From<rusqlite::Error> for CollectError {
    fn from(error: rusqlite::Error) -> Self {
        Self::Load(error.into())
    }
}

impl From<FileError> for CollectError {
    fn from(error: FileError) -> Self {
        Self::Write(error.into())
    }
}
