//! Reading a file that grows, at offsets.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

/// A stream's file on the agent: a script writes it, the agent reads it.
#[derive(Debug)]
pub struct StreamFile {
    path: PathBuf,
    file: File,
}

/// A stream's file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum StreamFileError {
    /// It cannot be opened.
    #[error("cannot open the log {}", path.display())]
    Open {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Its length cannot be asked for.
    #[error("cannot tell the length of the log {}", path.display())]
    Length {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// It cannot be read.
    #[error("cannot read the log {} at {offset}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Where.
        offset: u64,
        /// Why.
        #[source]
        source: io::Error,
    },
}

impl StreamFile {
    /// Opens the file, which must exist.
    ///
    /// # Errors
    ///
    /// When it cannot be opened.
    pub fn open(path: &Path) -> Result<Self, StreamFileError> {
        let file = File::open(path).map_err(|source| StreamFileError::Open {
            path: path.to_owned(),
            source,
        })?;
        Ok(Self {
            path: path.to_owned(),
            file,
        })
    }

    /// Bytes written so far.
    ///
    /// # Errors
    ///
    /// When the file system fails.
    pub fn length(&self) -> Result<u64, StreamFileError> {
        let metadata = self.file.metadata().map_err(|source| StreamFileError::Length {
            path: self.path.clone(),
            source,
        })?;
        Ok(metadata.len())
    }

    /// Appends to `buffer` up to `max` bytes from `offset` on and returns how many; fewer than `max` only at the end. The
    /// buffer is grown to what is there, not to `max`.
    ///
    /// # Errors
    ///
    /// When the file cannot be read; `buffer` is then as it was.
    pub fn read(&self, offset: u64, max: usize, buffer: &mut Vec<u8>) -> Result<usize, StreamFileError> {
        let there = usize::try_from(self.length()?.saturating_sub(offset)).unwrap_or(usize::MAX);
        let start = buffer.len();
        buffer.resize(start + there.min(max), 0);
        let mut filled = start;
        while filled < buffer.len() {
            match self
                .file
                .read_at(&mut buffer[filled..], offset + (filled - start) as u64)
            {
                Ok(0) => break,
                Ok(bytes) => filled += bytes,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(source) => {
                    buffer.truncate(start);
                    return Err(StreamFileError::Read {
                        path: self.path.clone(),
                        offset,
                        source,
                    });
                }
            }
        }
        buffer.truncate(filled);
        Ok(filled - start)
    }
}
