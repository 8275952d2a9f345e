//! Holding an environment, so that nobody removes it.
//!
//! A lease is a shared `flock`, which ends with its process. A job outlives its agent, so a lease may also be written
//! down under its holder's name: that record survives the agent, and the next one takes the lease again by key and
//! name, or drops the records of holders that are no more.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use haul_types::Digest;

/// An environment in use, for as long as this is held. Empty for a Python that is not ours to remove.
#[derive(Debug, Default)]
#[must_use = "the environment may be removed as soon as its lease is dropped"]
pub struct Lease(Option<Held>);

#[derive(Debug)]
struct Held {
    key: Digest,
    /// `<cache>/leases/<key>`.
    records: PathBuf,
    /// Ours, if it was written down.
    record: Option<PathBuf>,
    lock: File,
}

/// Why a lease cannot be written down or taken again.
#[derive(Debug, thiserror::Error)]
pub enum LeaseError {
    /// The environment is not there any more.
    #[error("environment {key} is not there any more")]
    Gone {
        /// Which.
        key: Digest,
    },
    /// The disk said no.
    #[error("the lease of {holder:?} at {} cannot be recorded", path.display())]
    Record {
        /// Who.
        holder: String,
        /// Where.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

impl Lease {
    pub(crate) fn new(key: Digest, records: PathBuf, lock: File) -> Self {
        Self(Some(Held {
            key,
            records,
            record: None,
            lock,
        }))
    }

    /// The environment's key; none for a Python of the node.
    #[must_use]
    pub fn key(&self) -> Option<Digest> {
        self.0.as_ref().map(|held| held.key)
    }

    /// Writes down who holds it, by a name that no other lease has at the time, as an attempt's id. From here on the
    /// environment is in use until this lease is dropped, or, if the process dies first, until the lease is taken
    /// again and dropped.
    pub fn assign(&mut self, holder: &str) -> Result<(), LeaseError> {
        let Some(held) = &mut self.0 else { return Ok(()) };
        // A holder's name need not be a file's name.
        let path = held
            .records
            .join(&Digest::of(holder.as_bytes()).to_string()[..32]);
        let write = || {
            fs::create_dir_all(&held.records)?;
            let temporary = path.with_extension("new");
            fs::write(&temporary, holder)?;
            fs::rename(&temporary, &path)
        };
        write().map_err(|source| LeaseError::Record {
            holder: holder.to_owned(),
            path: path.clone(),
            source,
        })?;
        if let Some(previous) = held.record.replace(path.clone())
            && previous != path
        {
            remove_record(&previous);
        }
        Ok(())
    }

    /// Lets go of it but leaves the record, for an agent that stops while its jobs run on.
    pub fn leave(mut self) {
        if let Some(held) = &mut self.0 {
            held.record = None;
        }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        // The record first: never unlocked and recorded by us.
        if let Some(record) = self.record.take() {
            remove_record(&record);
        }
        // Said, not left to closing: a process that is just being started has a copy of the descriptor until its
        // `exec`, and would make it look held.
        if let Err(error) = self.lock.unlock() {
            tracing::debug!(key = %self.key, %error, "a lease ends with its descriptor");
        }
    }
}

fn remove_record(record: &Path) {
    if let Err(error) = fs::remove_file(record)
        && error.kind() != io::ErrorKind::NotFound
    {
        tracing::warn!(record = %record.display(), %error, "a lease's record stays; the environment counts as in use");
    }
}

/// The named holders of the environment whose records are in `records`, sorted.
pub(crate) fn holders(records: &Path) -> io::Result<Vec<String>> {
    let mut holders = Vec::new();
    for (_, holder) in all(records)? {
        holders.push(holder);
    }
    holders.sort();
    Ok(holders)
}

/// Removes the records of holders that `lives` does not know. How many.
pub(crate) fn forget(records: &Path, lives: &dyn Fn(&str) -> bool) -> io::Result<usize> {
    let mut forgotten = 0;
    for (path, holder) in all(records)? {
        if !lives(&holder) {
            fs::remove_file(path)?;
            forgotten += 1;
        }
    }
    Ok(forgotten)
}

fn all(records: &Path) -> io::Result<Vec<(PathBuf, String)>> {
    let mut found = Vec::new();
    let entries = match fs::read_dir(records) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(found),
        Err(error) => return Err(error),
    };
    for entry in entries {
        let path = entry?.path();
        if path.extension().is_some() {
            continue;
        }
        match fs::read_to_string(&path) {
            Ok(holder) => found.push((path, holder)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    Ok(found)
}
