//! What can go wrong, one enum for each operation.

use std::io;
use std::path::{Path, PathBuf};

use haul_types::StreamKey;

use crate::block::BadPayload;

/// Opening a spool failed.
#[derive(Debug, thiserror::Error)]
pub enum SpoolError {
    /// The directory cannot be listed.
    #[error("cannot list the spool {}", path.display())]
    List {
        /// The directory.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A segment cannot be opened, read or repaired.
    #[error("cannot read the segment {}", path.display())]
    Segment {
        /// The segment.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The options make no sense.
    #[error("cannot compress at level {level}")]
    Level {
        /// The level asked for.
        level: i32,
        /// Why.
        #[source]
        source: io::Error,
    },
}

/// Appending failed. What the spool held before, it holds still.
#[derive(Debug, thiserror::Error)]
pub enum AppendError {
    /// Bytes between what is held and `offset` are missing: send from `held` on.
    #[error("{} of task {}, attempt {}: bytes from {offset} on were offered, those from {held} on are missing", key.kind, key.task, key.attempt)]
    Gap {
        /// The stream.
        key: StreamKey,
        /// Its length here.
        held: u64,
        /// Where the offered bytes begin.
        offset: u64,
    },
    /// The stream would pass 2⁶⁴ bytes.
    #[error("{length} bytes at offset {offset} end past the largest offset")]
    TooLong {
        /// Where the offered bytes begin.
        offset: u64,
        /// How many there are.
        length: usize,
    },
    /// The disk or a quota is full. Append again when there is room.
    #[error("no space left to write {}", path.display())]
    NoSpace {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The disk failed.
    #[error("cannot write {}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// An earlier sync failed, after which the kernel no longer knows what is on the disk: open the spool again.
    #[error("the spool {} is out of use since a sync failed; open it again", path.display())]
    Broken {
        /// The spool's directory.
        path: PathBuf,
    },
}

/// Making the spool durable failed: nothing since the last good sync may be acknowledged.
#[derive(Debug, thiserror::Error)]
pub enum SyncError {
    /// The disk or a quota is full. Sync again when there is room.
    #[error("no space left to write {}", path.display())]
    NoSpace {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The disk failed.
    #[error("cannot write {}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// This or an earlier sync failed after the data was handed to the kernel: open the spool again.
    #[error("the spool {} is out of use since a sync failed; open it again", path.display())]
    Broken {
        /// The spool's directory.
        path: PathBuf,
    },
}

/// Reading a stream failed. Other places and other streams are not affected.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The segment cannot be opened or read.
    #[error("cannot read the segment {}", path.display())]
    Io {
        /// The segment.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The block with this offset is damaged.
    #[error("{} of task {}, attempt {}, offset {offset}: the block at {position} of {} is damaged; the stream goes on at {resumes}", key.kind, key.task, key.attempt, path.display())]
    Damaged {
        /// The stream.
        key: StreamKey,
        /// The offset that was to be read.
        offset: u64,
        /// The segment.
        path: PathBuf,
        /// Where in the segment the block begins.
        position: u64,
        /// The next offset after it that may be readable.
        resumes: u64,
        /// What is wrong with it; `None` when its header is.
        #[source]
        source: Option<BadPayload>,
    },
    /// No block holds this offset: damage took its header.
    #[error("{} of task {}, attempt {}, offset {offset}: lost to damage; the stream goes on at {resumes}", key.kind, key.task, key.attempt)]
    Lost {
        /// The stream.
        key: StreamKey,
        /// The offset that was to be read.
        offset: u64,
        /// The next offset that may be readable.
        resumes: u64,
    },
}

/// Checking a spool failed (damage is no failure: it is the report).
#[derive(Debug, thiserror::Error)]
pub enum CheckError {
    /// The directory cannot be listed.
    #[error("cannot list the spool {}", path.display())]
    List {
        /// The directory.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A segment cannot be opened or read.
    #[error("cannot read the segment {}", path.display())]
    Segment {
        /// The segment.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
}

/// Removing spools failed.
#[derive(Debug, thiserror::Error)]
pub enum SweepError {
    /// The folder of all spools cannot be listed.
    #[error("cannot list the spools in {}", path.display())]
    List {
        /// The folder.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A spool cannot be removed.
    #[error("cannot remove the spool {}", path.display())]
    Remove {
        /// The spool's directory.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
}

/// Writing failed; becomes the error of the operation that wrote.
#[derive(Debug)]
pub(crate) enum WriteError {
    NoSpace { path: PathBuf, source: io::Error },
    Io { path: PathBuf, source: io::Error },
    Broken { path: PathBuf },
}

impl WriteError {
    pub(crate) fn new(path: &Path, source: io::Error) -> Self {
        let path = path.to_owned();
        match source.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Self::NoSpace { path, source },
            _ => Self::Io { path, source },
        }
    }
}

impl From<WriteError> for AppendError {
    fn from(error: WriteError) -> Self {
        match error {
            WriteError::NoSpace { path, source } => Self::NoSpace { path, source },
            WriteError::Io { path, source } => Self::Io { path, source },
            WriteError::Broken { path } => Self::Broken { path },
        }
    }
}

impl From<WriteError> for SyncError {
    fn from(error: WriteError) -> Self {
        match error {
            WriteError::NoSpace { path, source } => Self::NoSpace { path, source },
            WriteError::Io { path, source } => Self::Io { path, source },
            WriteError::Broken { path } => Self::Broken { path },
        }
    }
}
