//! Pack files: their names, how they are written, read and removed.
//!
//! A file is made under its final name and counts from the moment the index names it. One that the index does not name
//! is the rest of an upload that was cut off, and is removed when the store is opened.

use std::collections::HashSet;
use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use super::error::FileError;

/// What a pack file's name ends with: it is a bundle like any other.
const EXTENSION: &str = ".tar.zst";

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
    file: File,
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
            file,
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
        Ok(start)
    }

    /// Waits until the content is on the disk; the name may not be yet.
    pub(super) fn sync(&self) -> Result<(), FileError> {
        // What a failed append left behind the end.
        self.file
            .set_len(self.length)
            .and_then(|()| self.file.sync_data())
            .map_err(FileError::new("sync", &self.path))
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
