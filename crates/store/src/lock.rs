//! One process per directory: an exclusive lock on a file in it, held as long as the store is open.
//!
//! The kernel drops the lock when the process ends, however it ends, so a lock is never stale. The process id written
//! into the file is for the error message alone.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read, Seek, Write};
use std::path::Path;

use crate::database::OpenError;

/// The lock's name within the directory.
const FILE_NAME: &str = "lock";

/// Holds the directory for this process until it is dropped.
#[derive(Debug)]
pub(crate) struct DirectoryLock {
    _file: File,
}

impl DirectoryLock {
    /// Creates `directory` if it is missing and takes it, or says who has it.
    pub(crate) fn take(directory: &Path) -> Result<Self, OpenError> {
        let failed = |attempt| {
            move |source| OpenError::Directory {
                path: directory.to_owned(),
                attempt,
                source,
            }
        };
        std::fs::create_dir_all(directory).map_err(failed("create"))?;
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(directory.join(FILE_NAME))
            .map_err(failed("open the lock file in"))?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let mut holder = String::new();
                // Who holds it is a courtesy: a file that cannot be read leaves the name out.
                let _ = file.read_to_string(&mut holder);
                return Err(OpenError::Locked {
                    path: directory.to_owned(),
                    holder: holder.trim().parse().ok(),
                });
            }
            Err(TryLockError::Error(source)) => return Err(failed("lock")(source)),
        }
        // On a full disk the store must still open for reading, so the name may stay unwritten.
        let _ = file
            .set_len(0)
            .and_then(|()| file.rewind())
            .and_then(|()| writeln!(file, "{}", std::process::id()));
        Ok(Self { _file: file })
    }
}
