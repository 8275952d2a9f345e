//! Pack files: their names, how they are written, read and removed.
//!
//! A file is made under its final name and counts from the moment the index names it. One that the index does not name
//! is the rest of an upload that was cut off, and is removed when the store is opened.

use std::collections::HashSet;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use super::error::FileError;

/// What a pack file's name ends with: it is a bundle like any other.
const EXTENSION: &str = ".tar.zst";
/// After so many bytes the disk is set to work on what has come of a pack, so that finishing it waits for the rest only.
const SYNC_AHEAD: u64 = 32 << 20;

/// The file of a pack.
pub(super) fn path(directory: &Path, pack: u64) -> PathBuf {
    directory.join(format!("{pack:012}{EXTENSION}"))
}

/// A pack that is being written.
#[derive(Debug)]
pub(super) struct PackFile {
    pub(super) id: u64,
    pub(super) length: u64,
    path: PathBuf,
    file: Arc<File>,
    /// What was there when the last sync ahead began.
    ahead: u64,
    /// The sync ahead that may still be going on.
    syncing: Option<JoinHandle<io::Result<()>>>,
    /// Whether a sync has failed. The kernel tells of what it could not write once and forgets it: another sync would
    /// succeed.
    lost: bool,
    /// Whether dropping it removes the file.
    remove: bool,
}

impl PackFile {
    pub(super) fn create(directory: &Path, id: u64) -> Result<Self, FileError> {
        let path = path(directory, id);
        let file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .open(&path)
            .map_err(FileError::new("create", &path))?;
        Ok(Self {
            id,
            length: 0,
            path,
            file: Arc::new(file),
            ahead: 0,
            syncing: None,
            lost: false,
            remove: true,
        })
    }

    /// Writes at the end and says where. After an error the end is where it was.
    pub(super) fn append(&mut self, bytes: &[u8]) -> Result<u64, FileError> {
        let start = self.length;
        self.file
            .write_all_at(bytes, start)
            .map_err(FileError::new("write to", &self.path))?;
        self.length += bytes.len() as u64;
        if self.length - self.ahead >= SYNC_AHEAD {
            self.sync_ahead();
        }
        Ok(start)
    }

    /// Sets another thread to bring what is here to the disk, unless one is at it: then the next append tries again.
    fn sync_ahead(&mut self) {
        if self
            .syncing
            .as_ref()
            .is_some_and(|syncing| !syncing.is_finished())
        {
            return;
        }
        self.lost |= self.wait_for_sync_ahead().is_err();
        let file = Arc::clone(&self.file);
        let thread = std::thread::Builder::new().name("pack-sync".to_owned());
        // If there can be no thread, the sync at the end has all to do.
        self.syncing = thread.spawn(move || file.sync_data()).ok();
        self.ahead = self.length;
    }

    fn wait_for_sync_ahead(&mut self) -> io::Result<()> {
        match self.syncing.take().map(JoinHandle::join) {
            None => Ok(()),
            Some(Ok(synced)) => synced,
            Some(Err(panic)) => std::panic::resume_unwind(panic),
        }
    }

    /// Waits until the content is on the disk; the name may not be yet. Once this has failed it always fails.
    pub(super) fn sync(&mut self) -> Result<(), FileError> {
        let ahead = self.wait_for_sync_ahead();
        let synced = if self.lost {
            Err(io::Error::other("a part of it could not be written"))
        } else {
            // What a failed append left behind the end.
            ahead
                .and_then(|()| self.file.set_len(self.length))
                .and_then(|()| self.file.sync_data())
        };
        self.lost |= synced.is_err();
        synced.map_err(FileError::new("sync", &self.path))
    }

    /// Leaves the file where it is from now on: the index names it, or may.
    pub(super) fn keep(&mut self) {
        self.remove = false;
    }
}

impl Drop for PackFile {
    fn drop(&mut self) {
        if self.remove {
            remove(&self.path);
        }
    }
}

/// Makes the names in the directory last.
pub(super) fn sync_directory(directory: &Path) -> Result<(), FileError> {
    File::open(directory)
        .and_then(|directory| directory.sync_all())
        .map_err(FileError::new("sync", directory))
}

/// Reads part of a pack.
pub(super) fn read(file: &File, path: &Path, start: u64, length: u32) -> Result<Vec<u8>, FileError> {
    let mut bytes = vec![0; length as usize];
    file.read_exact_at(&mut bytes, start)
        .map_err(FileError::new("read", path))?;
    Ok(bytes)
}

/// Removes the pack files that are not in `known`, and says how many there were.
pub(super) fn remove_leftovers(directory: &Path, known: &HashSet<u64>) -> Result<usize, FileError> {
    let listing = FileError::new("list", directory);
    let entries: Vec<_> = fs::read_dir(directory)
        .and_then(Iterator::collect)
        .map_err(listing)?;
    let mut removed = 0;
    for entry in entries {
        let name = entry.file_name();
        let pack = name.to_str().and_then(|name| name.strip_suffix(EXTENSION));
        let Some(pack) = pack.and_then(|pack| pack.parse().ok()) else {
            continue;
        };
        if !known.contains(&pack) {
            fs::remove_file(entry.path()).map_err(FileError::new("remove", &entry.path()))?;
            removed += 1;
        }
    }
    Ok(removed)
}

fn remove(path: &Path) {
    if let Err(error) = fs::remove_file(path) {
        // The next opening tries again.
        tracing::warn!(path = %path.display(), %error, "a pack that is not needed cannot be removed");
    }
}

/// A time during which no pack file goes away. Readers hold the epoch in which they asked the index; files that a
/// collection took out of the index go when the last reader of that epoch and of all before it is done.
#[derive(Debug, Default)]
pub(super) struct Epoch {
    end: Mutex<Option<End>>,
}

/// How an epoch ended.
#[derive(Debug)]
struct End {
    doomed: Vec<PathBuf>,
    /// Kept alive, so that later epochs do not remove files before this one's readers are done.
    _next: Arc<Epoch>,
}

impl Epoch {
    /// Ends `current`: these files are no longer in the index.
    pub(super) fn end(current: &mut Arc<Self>, doomed: Vec<PathBuf>) {
        let next = Arc::new(Self::default());
        let ended = std::mem::replace(current, Arc::clone(&next));
        let mut end = ended.end.lock().unwrap_or_else(PoisonError::into_inner);
        *end = Some(End { doomed, _next: next });
        drop(end);
    }
}

impl Drop for Epoch {
    fn drop(&mut self) {
        let end = self.end.get_mut().unwrap_or_else(PoisonError::into_inner);
        for path in end.iter().flat_map(|end| &end.doomed) {
            remove(path);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A pack whose every byte is taken and none is kept: syncing what is no file fails.
    fn hole() -> PackFile {
        let path = PathBuf::from("/dev/null");
        let file = OpenOptions::new().write(true).open(&path).expect("it is there");
        PackFile {
            id: 1,
            length: 0,
            path,
            file: Arc::new(file),
            ahead: 0,
            syncing: None,
            lost: false,
            remove: false,
        }
    }

    #[test]
    fn what_a_sync_ahead_could_not_write_is_never_taken_for_written() {
        let mut pack = hole();
        let piece = vec![1; SYNC_AHEAD as usize / 2];
        pack.append(&piece).expect("a hole takes everything");
        assert!(pack.syncing.is_none(), "there is little to sync yet");
        pack.append(&piece).expect("a hole takes everything");
        while !pack.syncing.as_ref().is_some_and(JoinHandle::is_finished) {
            std::thread::yield_now();
        }
        pack.append(&piece).expect("a hole takes everything");
        pack.append(&piece).expect("a hole takes everything");
        assert!(pack.lost, "the append found what came of it");
        for _ in 0..2 {
            let error = pack.sync().expect_err("a part was lost");
            assert_eq!(error.source.to_string(), "a part of it could not be written");
        }
    }

    #[test]
    fn a_sync_that_failed_goes_on_failing() {
        let mut pack = hole();
        pack.append(b"bytes").expect("a hole takes everything");
        pack.sync().expect_err("a hole cannot be synced");
        let error = pack.sync().expect_err("the kernel forgets, the pack must not");
        assert_eq!(error.source.to_string(), "a part of it could not be written");
    }
}
