//! Manifests as directories on a node: made, made pristine again after a job, restored, removed.
//!
//! Every write goes beneath a handle on the root by paths that the kernel resolves without links (see
//! [`Materializer`]), so whatever a manifest, a frame or a job that used the directory before says, nothing outside the
//! root is touched. Modes hold permission bits only: nothing becomes setuid. Owners are not part of a snapshot.
//!
//! ```text
//! create ──► Materializer ──accept(frame)…──► finish ──► TreeState ──hand_over──► a job runs
//!    ▲                                                                               │
//!    └───── what is missing ◄───── reset(dir, state, manifest) ◄─────────────────────┘
//! ```

use std::path::{Path, PathBuf};

use haul_types::Digest;

mod materialize;
mod remove;
mod reset;
mod restore;
mod state;
#[cfg(test)]
mod tests;
mod untouched;

pub use materialize::Materializer;
pub use remove::remove_tree;
pub use reset::{ResetPlan, reset};
pub use restore::{Overwrite, restore};
pub use state::{StateError, TreeState};
pub use untouched::is_untouched;

use crate::beneath::Beneath;
use crate::manifest::Manifest;
use crate::name::Name;

/// Missing chunks named in one error.
const NAMED: usize = 5;

/// Why a directory could not be made what a manifest says.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum UnpackError {
    /// The root cannot be made, opened or listed.
    #[error("cannot use the directory {}", .dir.display())]
    Root {
        /// The directory.
        dir: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// A new tree needs an empty directory.
    #[error("{} is not empty", .dir.display())]
    NotEmpty {
        /// The directory.
        dir: PathBuf,
    },
    /// Something is in the way and may not be overwritten.
    #[error("{} of {count} exist already in {}: {}", if *.count == 1 { "one" } else { "some" }, .dir.display(), list(.paths))]
    Exists {
        /// The directory.
        dir: PathBuf,
        /// The first of them.
        paths: Vec<Name>,
        /// How many there are.
        count: usize,
    },
    /// A system call failed.
    #[error("cannot {action} {path} in {}", .dir.display())]
    Io {
        /// The directory.
        dir: PathBuf,
        /// What was tried.
        action: &'static str,
        /// On what.
        path: Name,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// A chunk has another length than the manifest says.
    #[error("chunk {digest} is {found} bytes, the manifest says {expected}")]
    Length {
        /// The chunk.
        digest: Digest,
        /// What the manifest says.
        expected: u32,
        /// What came.
        found: usize,
    },
    /// Not every chunk came.
    #[error("{count} chunks never came, among them {}", list(.some))]
    Missing {
        /// A few of them.
        some: Vec<Digest>,
        /// How many there are.
        count: usize,
    },
    /// An extra directory is part of the manifest, or no plain name.
    #[error("{name:?} cannot be an extra directory: it is no plain name, or the snapshot holds it")]
    ExtraDir {
        /// The name.
        name: String,
    },
}

fn list<T: std::fmt::Display>(items: &[T]) -> String {
    let names: Vec<String> = items.iter().map(T::to_string).collect();
    names.join(", ")
}

/// Begins a new tree in `dir`, which is made if need be and must be empty: makes directories, links, empty files and
/// room for large ones. The [`Materializer`] says what is needed for the rest.
pub fn create(dir: &Path, manifest: &Manifest) -> Result<Materializer, UnpackError> {
    let root = open_new(dir)?;
    let mut buffer = vec![std::mem::MaybeUninit::uninit(); crate::beneath::LIST_BUFFER];
    let listed = root
        .dir(b"")
        .and_then(|fd| crate::beneath::list(std::os::fd::AsFd::as_fd(&fd), &mut buffer));
    match listed {
        Ok(names) if names.is_empty() => {}
        Ok(_) => return Err(UnpackError::NotEmpty { dir: dir.to_owned() }),
        Err(errno) => return Err(root_error(dir, errno)),
    }
    Materializer::prepare(dir, root, manifest, Vec::new(), false)
}

/// Opens `dir`, making it and its parents first.
fn open_new(dir: &Path) -> Result<Beneath, UnpackError> {
    std::fs::create_dir_all(dir).map_err(|source| UnpackError::Root {
        dir: dir.to_owned(),
        source,
    })?;
    Beneath::open(dir).map_err(|errno| root_error(dir, errno))
}

fn root_error(dir: &Path, errno: rustix::io::Errno) -> UnpackError {
    UnpackError::Root {
        dir: dir.to_owned(),
        source: errno.into(),
    }
}
