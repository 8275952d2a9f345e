//! The directories jobs run in.
//!
//! A job gets a directory that holds exactly its snapshot, with empty `outputs/` and `logs/`. When it has ended the
//! directory is kept: the next job of the same or a similar snapshot gets it back after a [`reset`], which proves by
//! stat alone what the job left as it was, and replaces only the rest. So an unchanged tree costs a stat per file
//! rather than a copy, and a changed one the changed files. A small tree that [`is_untouched`] is not even reset.
//!
//! Directories that are handed over to users of jobs are not kept: a change of owner moves the ctime of every file, on
//! which that proof rests.
//!
//! On disk, `work/<number>/`: `tree/`, the directory itself; `state`, what it was when it was handed over; `attempt`,
//! who has it, in a record of fixed size; `home/`, where a user of jobs has it.

use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use haul_client::{Client, FetchError};
use haul_snapshot::manifest::{DecodeError, Manifest};
use haul_snapshot::tree::{self, TreeState, UnpackError, is_untouched, reset};
use haul_types::{AttemptId, Digest};

/// Directories kept for later jobs.
const KEPT: usize = 8;
/// Manifests remembered, newest last.
const MANIFESTS: usize = 4;
/// Directories that each job finds empty.
const EXTRA: [&str; 2] = ["outputs", "logs"];
/// A tree of at most so many entries is looked at in place, which takes less than to hand it to another thread and back.
const LOOKED_AT_IN_PLACE: usize = 32;
/// The name of the record of who has a directory.
const OWNER: &str = "attempt";
/// Bytes of that record; the longest owner takes fewer. Of fixed size, so that each new owner overwrites the one before:
/// ext4 gives the blocks of a file that is emptied back, and sends what is written next to the disk at once.
const OWNER_BYTES: usize = 64;

/// Why no directory could be made.
#[derive(Debug, thiserror::Error)]
pub(crate) enum WorkdirError {
    #[error("the snapshot could not be fetched")]
    Fetch(#[from] FetchError),
    #[error(transparent)]
    Manifest(#[from] DecodeError),
    #[error(transparent)]
    Unpack(#[from] UnpackError),
    #[error("cannot use {}", path.display())]
    Io { path: PathBuf, source: io::Error },
}

impl WorkdirError {
    /// Whether trying again later may help: the controller could not be reached.
    pub(crate) const fn is_passing(&self) -> bool {
        matches!(self, Self::Fetch(error) if error.is_passing())
    }
}

/// A directory in use.
#[derive(Debug)]
pub(crate) struct Workdir {
    number: u64,
    dir: PathBuf,
    state: TreeState,
    pages: Arc<HashSet<Digest>>,
    /// Where its owner is written down.
    owner: File,
}

impl Workdir {
    /// Where the job runs.
    pub(crate) fn tree(&self) -> PathBuf {
        self.dir.join("tree")
    }

    fn note_owner(&self, owner: AttemptId) -> Result<(), WorkdirError> {
        note_owner(&self.owner, owner).map_err(|source| WorkdirError::Io {
            path: self.dir.join(OWNER),
            source,
        })
    }

    /// All that belongs to it.
    pub(crate) fn dir(&self) -> &Path {
        &self.dir
    }
}

/// All of them.
#[derive(Debug)]
pub(crate) struct Workdirs {
    root: PathBuf,
    /// Whether directories are handed over to users of jobs.
    sharing: bool,
    next: AtomicU64,
    /// Longest unused first.
    idle: Mutex<Vec<Workdir>>,
    manifests: Mutex<Vec<Arc<Manifest>>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Workdirs {
    /// Directories kept in `root`. Those of an earlier agent are not taken up before [`Self::take_up`].
    pub(crate) fn open(root: PathBuf, sharing: bool) -> io::Result<Self> {
        std::fs::create_dir_all(&root)?;
        Ok(Self {
            root,
            sharing,
            next: AtomicU64::new(0),
            idle: Mutex::default(),
            manifests: Mutex::default(),
        })
    }

    /// Directories that an earlier agent may have handed over, except those of attempts that are `running`.
    pub(crate) fn handed_over(&self, running: impl Fn(AttemptId) -> bool) -> Vec<PathBuf> {
        if !self.sharing {
            return Vec::new();
        }
        let entries = std::fs::read_dir(&self.root).into_iter().flatten().flatten();
        entries
            .map(|entry| entry.path())
            .filter(|dir| !owner_of(dir).is_some_and(&running))
            .collect()
    }

    /// Takes up what an earlier agent left: gives back the directories of attempts that are still `held`; the others are
    /// free again, or removed where nothing is known of them.
    pub(crate) fn take_up(
        &self,
        held: impl Fn(AttemptId) -> bool,
    ) -> io::Result<HashMap<AttemptId, Workdir>> {
        let mut theirs = HashMap::new();
        for entry in std::fs::read_dir(&self.root)? {
            let dir = entry?.path();
            let number = dir
                .file_name()
                .and_then(|name| name.to_str())
                .and_then(|name| name.parse::<u64>().ok());
            let state = std::fs::read(dir.join("state"))
                .ok()
                .and_then(|bytes| TreeState::decode(&bytes).ok());
            let owner = owner_of(&dir);
            let (Some(number), Some(state), Ok(file)) = (number, state, owner_file(&dir)) else {
                remove(dir);
                continue;
            };
            self.next.fetch_max(number + 1, Ordering::Relaxed);
            let workdir = Workdir {
                number,
                dir,
                state,
                pages: Arc::default(),
                owner: file,
            };
            match owner {
                Some(owner) if held(owner) => drop(theirs.insert(owner, workdir)),
                _ => self.give_back(workdir),
            }
        }
        Ok(theirs)
    }

    /// A directory that holds the snapshot, for `owner`.
    pub(crate) async fn take(
        &self,
        client: &Client,
        id: Digest,
        owner: AttemptId,
    ) -> Result<Workdir, WorkdirError> {
        let manifest = self.manifest(client, id).await?;
        let pages: Arc<HashSet<Digest>> = Arc::new(manifest.pages().map(|page| page.digest()).collect());
        let (workdir, fresh) = match self.most_alike(id, &pages) {
            Some(found) => (found, false),
            None => (self.new_dir(&manifest, Arc::clone(&pages))?, true),
        };
        let extra: Vec<&str> = EXTRA
            .into_iter()
            .filter(|name| manifest.get(name.as_bytes()).is_none())
            .collect();
        if manifest.entries().len() <= LOOKED_AT_IN_PLACE
            && is_untouched(&workdir.tree(), &workdir.state, &manifest, &extra)
        {
            workdir.note_owner(owner)?;
            return Ok(workdir);
        }
        let Workdir {
            number,
            dir,
            state,
            owner: owner_file,
            ..
        } = workdir;
        let tree = dir.join("tree");
        let (prepared, old) = {
            let (tree, manifest) = (tree.clone(), Arc::clone(&manifest));
            blocking(move || {
                let plan = reset(&tree, &state, &manifest, &extra)?;
                Ok::<_, WorkdirError>((plan, state))
            })
            .await?
        };
        let unchanged =
            !fresh && old.manifest() == id && prepared.materializer.missing() == 0 && prepared.hashed == 0;
        let (mut state, _) = client.materialize(prepared.materializer).await?;
        if !unchanged || prepared.kept != manifest.entries().len() {
            state.hand_over();
            write(&dir, "state", &state.encode())?;
        }
        let workdir = Workdir {
            number,
            dir,
            state,
            pages,
            owner: owner_file,
        };
        workdir.note_owner(owner)?;
        Ok(workdir)
    }

    /// The job has ended, and no process of it is left.
    pub(crate) fn give_back(&self, workdir: Workdir) {
        if self.sharing {
            return remove(workdir.dir);
        }
        let mut idle = lock(&self.idle);
        idle.push(workdir);
        let surplus = if idle.len() > KEPT {
            Some(idle.remove(0))
        } else {
            None
        };
        drop(idle);
        if let Some(surplus) = surplus {
            remove(surplus.dir);
        }
    }

    /// The free directory that has most in common with the snapshot; none if none has anything.
    fn most_alike(&self, id: Digest, pages: &HashSet<Digest>) -> Option<Workdir> {
        let mut idle = lock(&self.idle);
        let alike = |workdir: &Workdir| {
            if workdir.state.manifest() == id {
                usize::MAX
            } else {
                workdir.pages.intersection(pages).count()
            }
        };
        // The one used last, of several: its files are in memory.
        let (place, best) = idle
            .iter()
            .enumerate()
            .map(|(place, workdir)| (place, alike(workdir)))
            .max_by_key(|it| it.1)?;
        // A directory with nothing in common is still good for a tiny snapshot, whose whole manifest is one page.
        (best > 0 || (pages.len() <= 1 && idle.len() >= KEPT / 2)).then(|| idle.remove(place))
    }

    fn new_dir(&self, manifest: &Manifest, pages: Arc<HashSet<Digest>>) -> Result<Workdir, WorkdirError> {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let dir = self.root.join(number.to_string());
        let tree = dir.join("tree");
        std::fs::create_dir_all(&tree).map_err(|source| WorkdirError::Io {
            path: tree.clone(),
            source,
        })?;
        if self.sharing {
            crate::sharing::make_home(&dir).map_err(|source| WorkdirError::Io {
                path: dir.clone(),
                source,
            })?;
        }
        let nothing = Manifest::from_entries(Vec::new())?;
        let state = tree::create(&tree, &nothing)?.finish()?;
        debug_assert!(manifest.id() != nothing.id() || manifest.entries().is_empty());
        let owner = owner_file(&dir).map_err(|source| WorkdirError::Io {
            path: dir.join(OWNER),
            source,
        })?;
        Ok(Workdir {
            number,
            dir,
            state,
            pages,
            owner,
        })
    }

    /// The manifest of a snapshot.
    async fn manifest(&self, client: &Client, id: Digest) -> Result<Arc<Manifest>, WorkdirError> {
        if let Some(found) = lock(&self.manifests).iter().find(|manifest| manifest.id() == id) {
            return Ok(Arc::clone(found));
        }
        let known = lock(&self.manifests).clone();
        let manifest = Arc::new(client.manifest(id, &known).await?);
        let mut manifests = lock(&self.manifests);
        manifests.push(Arc::clone(&manifest));
        if manifests.len() > MANIFESTS {
            manifests.remove(0);
        }
        Ok(manifest)
    }
}

fn owner_file(dir: &Path) -> io::Result<File> {
    File::options()
        .write(true)
        .create(true)
        .truncate(false)
        .open(dir.join(OWNER))
}

fn note_owner(file: &File, owner: AttemptId) -> io::Result<()> {
    file.write_all_at(format!("{:<OWNER_BYTES$}", owner.to_string()).as_bytes(), 0)
}

/// Which attempt a directory was made for.
fn owner_of(dir: &Path) -> Option<AttemptId> {
    parse_owner(&std::fs::read(dir.join(OWNER)).ok()?)
}

fn parse_owner(bytes: &[u8]) -> Option<AttemptId> {
    let mut parts = std::str::from_utf8(bytes).ok()?.trim_end().split('.');
    let (job, index, attempt) = (parts.next()?, parts.next()?, parts.next()?);
    Some(AttemptId::new(
        job.parse().ok()?,
        index.parse().ok()?,
        attempt.parse().ok()?,
    ))
}

fn write(dir: &Path, name: &str, content: &[u8]) -> Result<(), WorkdirError> {
    let path = dir.join(name);
    std::fs::write(&path, content).map_err(|source| WorkdirError::Io { path, source })
}

fn remove(dir: PathBuf) {
    std::thread::spawn(move || {
        if let Err(error) = tree::remove_tree(&dir) {
            tracing::warn!(dir = %dir.display(), %error, "cannot remove a working directory");
        }
    });
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    match tokio::task::spawn_blocking(work).await {
        Ok(value) => value,
        Err(error) => std::panic::resume_unwind(error.into_panic()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use haul_types::JobId;

    #[test]
    fn an_owner_replaces_a_longer_one() {
        let dir = tempfile::tempdir().unwrap();
        let job = JobId::random();
        let file = owner_file(dir.path()).unwrap();
        for owner in [AttemptId::new(job, u32::MAX, u32::MAX), AttemptId::new(job, 7, 1)] {
            note_owner(&file, owner).unwrap();
            let bytes = std::fs::read(dir.path().join(OWNER)).unwrap();
            assert_eq!((bytes.len(), parse_owner(&bytes)), (OWNER_BYTES, Some(owner)));
        }
    }
}
