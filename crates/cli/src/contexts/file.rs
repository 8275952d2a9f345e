//! The files of contexts, read and replaced as wholes.

use std::fs::{self, DirBuilder, File};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use haul_identity::Secret;

use super::Contexts;

/// The directory of contexts.
#[derive(Clone, Debug)]
pub(crate) struct ContextFile {
    directory: PathBuf,
}

/// Why contexts could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// A file or directory could not be used.
    #[error("cannot {attempt} {}", path.display())]
    Io {
        /// What was tried, as a verb that the path follows.
        attempt: &'static str,
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The list cannot be understood.
    #[error("{} cannot be read", path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// Where and why.
        source: Box<toml::de::Error>,
    },
    /// The list cannot be written down.
    #[error("the list of contexts cannot be written")]
    Unwritable(#[source] Box<toml::ser::Error>),
}

impl StoreError {
    fn io(attempt: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io {
            attempt,
            path,
            source,
        }
    }
}

impl ContextFile {
    pub(crate) const fn at(directory: PathBuf) -> Self {
        Self { directory }
    }

    fn list(&self) -> PathBuf {
        self.directory.join("contexts.toml")
    }

    fn credential_path(&self, name: &str) -> PathBuf {
        self.directory.join("credentials").join(name)
    }

    /// All contexts; none when there is no file yet.
    pub(crate) fn read(&self) -> Result<Contexts, StoreError> {
        let path = self.list();
        let text = match fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Contexts::default()),
            Err(error) => return Err(StoreError::io("read", &path)(error)),
        };
        toml::from_str(&text).map_err(|source| StoreError::Malformed {
            path,
            source: Box::new(source),
        })
    }

    /// Changes the list. Two commands at once do not lose each other's change.
    pub(crate) fn change<T>(&self, change: impl FnOnce(&mut Contexts) -> T) -> Result<T, StoreError> {
        make_directory(&self.directory)?;
        let lock_path = self.directory.join("lock");
        let lock = File::create(&lock_path).map_err(StoreError::io("make", &lock_path))?;
        lock.lock().map_err(StoreError::io("lock", &lock_path))?;
        let mut contexts = self.read()?;
        let answer = change(&mut contexts);
        let text =
            toml::to_string_pretty(&contexts).map_err(|error| StoreError::Unwritable(Box::new(error)))?;
        self.replace(&self.list(), text.as_bytes())?;
        Ok(answer)
    }

    /// What proves who asks in this context, and the file it is in.
    pub(crate) fn credential(&self, name: &str) -> Result<(PathBuf, String), StoreError> {
        let path = self.credential_path(name);
        let text = fs::read_to_string(&path).map_err(StoreError::io("read", &path))?;
        Ok((path, text))
    }

    /// Keeps what proves who asks, for this user alone.
    pub(crate) fn keep_credential(&self, name: &str, secret: &Secret) -> Result<(), StoreError> {
        let path = self.credential_path(name);
        make_directory(path.parent().unwrap_or(&self.directory))?;
        self.replace(&path, format!("{}\n", secret.reveal()).as_bytes())
    }

    /// Forgets it.
    pub(crate) fn forget_credential(&self, name: &str) -> Result<(), StoreError> {
        let path = self.credential_path(name);
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(StoreError::io("remove", &path)(error))
            }
            _ => Ok(()),
        }
    }

    /// Writes beside it, syncs, and renames: a reader sees the old file or the new one.
    fn replace(&self, path: &Path, content: &[u8]) -> Result<(), StoreError> {
        let next = path.with_extension(format!("new.{}", std::process::id()));
        let written = (|| {
            let mut file = File::options()
                .write(true)
                .create(true)
                .truncate(true)
                .mode(0o600)
                .open(&next)?;
            file.write_all(content)?;
            file.sync_all()?;
            fs::rename(&next, path)
        })();
        written.map_err(StoreError::io("write", path))
    }
}

/// Makes a directory for this user alone, and what it is in.
fn make_directory(path: &Path) -> Result<(), StoreError> {
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .map_err(StoreError::io("make", path))
}
