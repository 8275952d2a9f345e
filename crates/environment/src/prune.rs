//! Removing environments: one, or those that a policy no longer wants. One in use is never removed.

use std::fs;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use haul_types::{ByteSize, Digest};

use crate::entry::{Entry, EnvironmentInfo};
use crate::environments::{Environments, Shared, blocking};
use crate::lease;
use crate::lock;

/// What to remove among what nobody uses. Unfinished builds go always. uv's cache gives way before any environment: it
/// is emptied for `all` and where `keep_bytes` asks for it, and else rid of what no build can use any more.
#[derive(Clone, Copy, Debug, Default)]
pub struct PrunePolicy {
    /// What was not used for so long.
    pub unused_for: Option<Duration>,
    /// The least recently used, until what is left is no more than this.
    pub keep_bytes: Option<ByteSize>,
    /// Everything.
    pub all: bool,
}

/// What was removed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pruned {
    /// The keys, in the order of removal.
    pub removed: Vec<Digest>,
    /// Their sizes in sum; see [`EnvironmentInfo::bytes`].
    pub bytes: ByteSize,
    /// What uv's cache takes less; see [`Environments::cache_size`].
    pub cache_bytes: ByteSize,
}

/// One that was removed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Removed {
    /// Its key.
    pub key: Digest,
    /// Its size.
    pub bytes: ByteSize,
}

/// Why an environment was not removed.
#[derive(Debug, thiserror::Error)]
pub enum RemoveError {
    /// Nothing has such a key.
    #[error("there is no environment {prefix:?}; `haul env ls` lists what there is")]
    NotFound {
        /// What was asked for.
        prefix: String,
    },
    /// More than one has.
    #[error("{prefix:?} is the start of {} environments' keys; give more of it: {}", keys.len(), joined(keys))]
    Ambiguous {
        /// What was asked for.
        prefix: String,
        /// What it could mean.
        keys: Vec<Digest>,
    },
    /// Somebody holds it.
    #[error("environment {key} is in use by {}; wait for it or cancel it", named(holders))]
    InUse {
        /// Which.
        key: Digest,
        /// Who, where the holder was named.
        holders: Vec<String>,
    },
    /// The disk said no.
    #[error("environment {prefix:?} cannot be removed")]
    Disk {
        /// What was asked for.
        prefix: String,
        /// Why.
        source: io::Error,
    },
}

/// Why pruning stopped.
#[derive(Debug, thiserror::Error)]
pub enum PruneError {
    /// What there is cannot be read.
    #[error("the environments cannot be listed")]
    List {
        /// Why.
        source: io::Error,
    },
    /// One could not be removed; those before it are.
    #[error("environment {key} cannot be removed")]
    Remove {
        /// Which.
        key: Digest,
        /// Why.
        source: io::Error,
    },
}

impl Environments {
    /// Removes the environment whose key starts with `key_or_prefix`.
    pub async fn remove(&self, key_or_prefix: &str) -> Result<Removed, RemoveError> {
        let shared = Arc::clone(&self.shared);
        let prefix = key_or_prefix.to_ascii_lowercase();
        blocking(move || shared.remove(prefix)).await
    }

    /// Removes what `policy` says, the least recently used first. That uv's cache is in use, or that there is no uv to
    /// trim it, keeps no environment from going; the log says so.
    pub async fn prune(&self, policy: PrunePolicy) -> Result<Pruned, PruneError> {
        Arc::clone(&self.shared).prune(policy).await
    }
}

impl Shared {
    fn remove(&self, prefix: String) -> Result<Removed, RemoveError> {
        let disk = |source| RemoveError::Disk {
            prefix: prefix.clone(),
            source,
        };
        let mut entries = self.layout.entries().map_err(disk)?;
        entries.retain(|entry| entry.key.to_string().starts_with(&prefix));
        let entry = match entries.as_slice() {
            [] => return Err(RemoveError::NotFound { prefix }),
            [entry] => entry,
            many => {
                let keys = many.iter().map(|entry| entry.key).collect();
                return Err(RemoveError::Ambiguous { prefix, keys });
            }
        };
        let bytes = entry
            .record()
            .map_or_else(ByteSize::default, |record| record.bytes);
        let key = entry.key;
        match take_away(entry).map_err(disk)? {
            Taken::Gone => Ok(Removed { key, bytes }),
            Taken::InUse(holders) => Err(RemoveError::InUse { key, holders }),
        }
    }

    pub(crate) async fn prune(self: Arc<Self>, mut policy: PrunePolicy) -> Result<Pruned, PruneError> {
        let list = Arc::clone(&self);
        let infos = blocking(move || list.infos())
            .await
            .map_err(|source| PruneError::List { source })?;
        let taken = ByteSize(infos.iter().map(|info| info.bytes.0).sum());
        let (freed, left) = match self.prune_cache(&policy, taken).await {
            Ok(cache) => cache,
            Err(error) => {
                tracing::warn!(
                    error = &error as &dyn std::error::Error,
                    "uv's cache stays as it is"
                );
                // Environments need not go in the stead of what the next round takes.
                <_>::default()
            }
        };
        if let Some(keep) = &mut policy.keep_bytes {
            keep.0 = keep.0.saturating_sub(left.0);
        }
        let mut pruned = blocking(move || self.prune_environments(&policy)).await?;
        pruned.cache_bytes = freed;
        Ok(pruned)
    }

    fn prune_environments(&self, policy: &PrunePolicy) -> Result<Pruned, PruneError> {
        let mut infos = self.infos().map_err(|source| PruneError::List { source })?;
        let mut pruned = Pruned::default();
        for info in doomed(&mut infos, policy) {
            let removed = take_away(&self.layout.entry(info.key)).map_err(|source| PruneError::Remove {
                key: info.key,
                source,
            })?;
            // Somebody may have taken it since it was listed.
            if matches!(removed, Taken::Gone) {
                pruned.removed.push(info.key);
                pruned.bytes.0 += info.bytes.0;
            }
        }
        Ok(pruned)
    }
}

/// Those that have to go, in order.
fn doomed<'i>(infos: &'i mut [EnvironmentInfo], policy: &PrunePolicy) -> Vec<&'i EnvironmentInfo> {
    infos.sort_by_key(|info| info.last_used);
    let mut total: u64 = infos.iter().map(|info| info.bytes.0).sum();
    let mut doomed = Vec::new();
    for info in infos.iter().filter(|info| !info.in_use) {
        let stale = policy
            .unused_for
            .is_some_and(|limit| info.last_used.elapsed().is_ok_and(|age| age >= limit));
        let too_much = policy.keep_bytes.is_some_and(|keep| total > keep.0);
        if policy.all || !info.complete || stale || too_much {
            total -= info.bytes.0;
            doomed.push(info);
        }
    }
    doomed
}

enum Taken {
    Gone,
    InUse(Vec<String>),
}

/// Removes an environment that nobody holds, and its lock with it.
fn take_away(entry: &Entry) -> io::Result<Taken> {
    let lock = lock::try_exclusive(&entry.lock)?;
    let holders = lease::holders(&entry.leases)?;
    let Some(_lock) = lock.filter(|_| holders.is_empty()) else {
        return Ok(Taken::InUse(holders));
    };
    entry.delete()?;
    for gone in [fs::remove_dir_all(&entry.leases), fs::remove_file(&entry.lock)] {
        match gone {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    Ok(Taken::Gone)
}

fn joined(keys: &[Digest]) -> String {
    let keys: Vec<String> = keys.iter().map(|key| key.to_string()[..12].to_owned()).collect();
    keys.join(", ")
}

fn named(holders: &[String]) -> String {
    if holders.is_empty() {
        "a job that is being prepared or a build".to_owned()
    } else {
        holders.join(", ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::SystemTime;

    fn info(name: u8, bytes: u64, age: u64, in_use: bool, complete: bool) -> EnvironmentInfo {
        EnvironmentInfo {
            key: Digest::of(&[name]),
            kind: "venv".to_owned(),
            description: String::new(),
            bytes: ByteSize(bytes),
            created: SystemTime::UNIX_EPOCH,
            last_used: SystemTime::now() - Duration::from_secs(age),
            in_use,
            holders: Vec::new(),
            complete,
        }
    }

    #[test]
    fn the_oldest_that_nobody_uses_go_first() {
        let mut infos = vec![
            info(0, 10, 0, false, true),
            info(1, 10, 500, true, true),
            info(2, 10, 400, false, true),
            info(3, 10, 300, false, true),
            info(4, 0, 1, false, false),
        ];
        let mut names = |policy: PrunePolicy| -> Vec<usize> {
            let doomed: Vec<Digest> = doomed(&mut infos, &policy).iter().map(|info| info.key).collect();
            doomed
                .iter()
                .map(|key| (0..5).find(|n| Digest::of(&[*n as u8]) == *key).unwrap())
                .collect()
        };
        let keep = |bytes| PrunePolicy {
            keep_bytes: Some(ByteSize(bytes)),
            ..PrunePolicy::default()
        };
        assert_eq!(names(keep(40)), [4], "an unfinished build goes always");
        assert_eq!(names(keep(30)), [2, 4]);
        assert_eq!(
            names(keep(0)),
            [2, 3, 4, 0],
            "the one in use stays, whatever the budget"
        );
        let stale = PrunePolicy {
            unused_for: Some(Duration::from_secs(350)),
            ..PrunePolicy::default()
        };
        assert_eq!(names(stale), [2, 4]);
        assert_eq!(
            names(PrunePolicy {
                all: true,
                ..PrunePolicy::default()
            }),
            [2, 3, 4, 0]
        );
    }
}
