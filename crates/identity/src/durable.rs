//! Files that are replaced whole: after a crash at any moment there is the old content or the new, never a mixture.
//!
//! Written beside as `NAME.new`, synced, renamed over `NAME`, and the directory synced. All are for their owner alone,
//! because all hold keys or what belongs to keys.

use std::fs::{DirBuilder, File, OpenOptions, Permissions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

/// What was about to happen; a test stops before each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stage {
    /// Nothing was done.
    Write,
    /// The new content is beside the old, perhaps only in part.
    Sync,
    /// It is on the disk.
    Rename,
    /// It is in the place of the old one; a power cut may still take that back.
    SyncDirectory,
}

/// Why a file of ours cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// The system refused.
    #[error("cannot {attempt} {}", path.display())]
    Io {
        /// What was attempted, as a verb that the path follows.
        attempt: &'static str,
        /// The file or directory.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// It is another user's.
    #[error(
        "{} belongs to user {owner}, and this process runs as user {us}: run it as that user, or give it another \
         state directory",
        path.display()
    )]
    Foreign {
        /// The file or directory.
        path: PathBuf,
        /// Its owner's user id.
        owner: u32,
        /// Ours.
        us: u32,
    },
    /// It can be read by others.
    #[error("{} can be read or written by others: `chmod go= {}`", path.display(), path.display())]
    Open {
        /// The file.
        path: PathBuf,
    },
    /// It does not say what it should.
    #[error("{} is damaged: {problem}; restore a copy", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
}

impl FileError {
    fn io(attempt: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Io {
            attempt,
            path: path.to_owned(),
            source,
        }
    }

    /// Whether the file is not there.
    #[must_use]
    pub fn is_absent(&self) -> bool {
        matches!(self, Self::Io { source, .. } if source.kind() == io::ErrorKind::NotFound)
    }
}

/// Makes a directory that only its owner can enter, with those above it; one that is there must be ours.
pub(crate) fn private_dir(path: &Path) -> Result<(), FileError> {
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .map_err(FileError::io("make", path))?;
    let owner = std::fs::metadata(path)
        .map_err(FileError::io("look at", path))?
        .uid();
    let us = rustix::process::geteuid().as_raw();
    if owner != us {
        return Err(FileError::Foreign {
            path: path.to_owned(),
            owner,
            us,
        });
    }
    std::fs::set_permissions(path, Permissions::from_mode(0o700))
        .map_err(FileError::io("close to others", path))
}

/// Replaces the file by this content.
pub(crate) fn replace(path: &Path, content: &[u8]) -> Result<(), FileError> {
    replace_staged(path, content, &mut |_| Ok(()))
}

/// As [`replace`], and asks before each stage whether to go on.
pub(crate) fn replace_staged(
    path: &Path,
    content: &[u8],
    before: &mut dyn FnMut(Stage) -> io::Result<()>,
) -> Result<(), FileError> {
    let mut beside = path.as_os_str().to_owned();
    beside.push(".new");
    let beside = PathBuf::from(beside);
    let failed = |attempt| FileError::io(attempt, &beside);
    before(Stage::Write).map_err(failed("write"))?;
    // What a crash left there is nobody's, and might have another mode.
    match std::fs::remove_file(&beside) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed("remove")(error)),
        _ => {}
    }
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&beside)
        .map_err(failed("make"))?;
    let written = file
        .write_all(content)
        .and_then(|()| before(Stage::Sync))
        .and_then(|()| file.sync_all());
    written.map_err(failed("write"))?;
    before(Stage::Rename)
        .and_then(|()| std::fs::rename(&beside, path))
        .map_err(failed("rename"))?;
    let directory = path.parent().unwrap_or(Path::new("."));
    before(Stage::SyncDirectory)
        .and_then(|()| File::open(directory)?.sync_all())
        .map_err(FileError::io("sync", directory))
}

/// Reads a file that only its owner, who we are, can read.
pub(crate) fn read(path: &Path) -> Result<Vec<u8>, FileError> {
    let found = std::fs::symlink_metadata(path).map_err(FileError::io("read", path))?;
    let us = rustix::process::geteuid().as_raw();
    if found.uid() != us {
        return Err(FileError::Foreign {
            path: path.to_owned(),
            owner: found.uid(),
            us,
        });
    }
    if found.mode() & 0o077 != 0 {
        return Err(FileError::Open {
            path: path.to_owned(),
        });
    }
    std::fs::read(path).map_err(FileError::io("read", path))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_crash_before_any_stage_leaves_the_old_or_the_new_whole() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("file");
        replace(&path, b"old").unwrap();
        for stage in [Stage::Write, Stage::Sync, Stage::Rename, Stage::SyncDirectory] {
            let error = replace_staged(&path, b"new", &mut |at| {
                if at == stage {
                    Err(io::Error::other("the power is cut"))
                } else {
                    Ok(())
                }
            });
            assert!(error.is_err());
            let expected: &[u8] = if stage == Stage::SyncDirectory {
                b"new"
            } else {
                b"old"
            };
            assert_eq!(read(&path).unwrap(), expected, "before {stage:?}");
            // What is left beside it is in nobody's way.
            replace(&path, b"old").unwrap();
        }
    }

    #[test]
    fn what_others_can_read_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("file");
        replace(&path, b"key").unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
        std::fs::set_permissions(&path, Permissions::from_mode(0o640)).unwrap();
        assert!(matches!(read(&path), Err(FileError::Open { .. })));
        assert!(read(&directory.path().join("none")).unwrap_err().is_absent());
    }

    #[test]
    fn a_private_directory_is_closed_to_others() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a/b");
        private_dir(&path).unwrap();
        private_dir(&path).unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().mode() & 0o777, 0o700);
    }
}
