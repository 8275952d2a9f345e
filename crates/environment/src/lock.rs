//! `flock`s on files that may be removed by whoever holds them exclusively.
//!
//! A lock on a file that was removed meanwhile locks nothing that others can see, so every acquisition checks that
//! the path still leads to the file that was locked, and starts over when not.

use std::fs::{File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use tokio::sync::oneshot;

/// An exclusive lock, unless somebody holds the file.
pub(crate) fn try_exclusive(path: &Path) -> io::Result<Option<File>> {
    try_with(path, File::try_lock)
}

/// A shared lock, unless somebody holds the file exclusively.
pub(crate) fn try_shared(path: &Path) -> io::Result<Option<File>> {
    try_with(path, File::try_lock_shared)
}

fn try_with(path: &Path, lock: fn(&File) -> Result<(), TryLockError>) -> io::Result<Option<File>> {
    loop {
        let file = open(path)?;
        match lock(&file) {
            Ok(()) if is_at(&file, path)? => return Ok(Some(file)),
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Ok(None),
            Err(TryLockError::Error(error)) => return Err(error),
        }
    }
}

/// An exclusive lock, waited for.
pub(crate) async fn exclusive(path: &Path) -> io::Result<File> {
    match try_exclusive(path)? {
        Some(file) => Ok(file),
        None => wait(path, File::lock).await,
    }
}

/// A shared lock, waited for.
pub(crate) async fn shared(path: &Path) -> io::Result<File> {
    match try_shared(path)? {
        Some(file) => Ok(file),
        None => wait(path, File::lock_shared).await,
    }
}

/// The kernel is what wakes a thread of our own: it may wait as long as another process builds, which neither the
/// runtime's threads nor its shutdown should. If the caller goes away, the lock is let go as soon as it is had.
async fn wait(path: &Path, lock: fn(&File) -> io::Result<()>) -> io::Result<File> {
    let (sender, receiver) = oneshot::channel();
    let path = PathBuf::from(path);
    let work = move || loop {
        let file = open(&path)?;
        lock(&file)?;
        if is_at(&file, &path)? {
            return Ok(file);
        }
    };
    std::thread::Builder::new()
        .name("haul-env-lock".to_owned())
        .spawn(move || {
            let _ = sender.send(work());
        })?;
    receiver
        .await
        .unwrap_or_else(|_| Err(io::Error::other("the thread that waited for the lock panicked")))
}

/// Makes an exclusive lock a shared one. The kernel may give it to another in between, so what it protects has to be
/// looked at again. It is the open file that changes, not the descriptor: a process that is just being started, and
/// has a copy of the descriptor until its `exec`, cannot keep it exclusive, as it could if it were let go and taken
/// again.
pub(crate) fn downgrade(file: &File, path: &Path) -> io::Result<bool> {
    file.lock_shared()?;
    is_at(file, path)
}

fn open(path: &Path) -> io::Result<File> {
    OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .open(path)
}

fn is_at(file: &File, path: &Path) -> io::Result<bool> {
    let ours = file.metadata()?;
    match path.metadata() {
        Ok(theirs) => Ok((ours.dev(), ours.ino()) == (theirs.dev(), theirs.ino())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_waiter_gets_the_file_that_is_there_not_the_removed_one() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lock");
        let first = try_exclusive(&path).unwrap().unwrap();
        assert!(try_shared(&path).unwrap().is_none());
        let waiting = exclusive(&path);
        tokio::pin!(waiting);
        assert!(futures_pending(&mut waiting).await);
        std::fs::remove_file(&path).unwrap();
        drop(first);
        let second = waiting.await.unwrap();
        assert!(is_at(&second, &path).unwrap());
        assert!(try_shared(&path).unwrap().is_none());
        drop(second);
        let _a = try_shared(&path).unwrap().unwrap();
        assert!(try_shared(&path).unwrap().is_some());
        assert!(try_exclusive(&path).unwrap().is_none());
    }

    async fn futures_pending(future: &mut (impl Future<Output = io::Result<File>> + Unpin)) -> bool {
        std::future::poll_fn(|cx| {
            std::task::Poll::Ready(std::pin::Pin::new(&mut *future).poll(cx).is_pending())
        })
        .await
    }
}
