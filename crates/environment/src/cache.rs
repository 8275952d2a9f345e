//! uv's own cache below the cache directory: how much it takes, and giving that back.
//!
//! uv alone changes what is in it: it is trimmed (`uv cache prune`, what no build can use any more) or emptied (`uv cache
//! clean`) by the uv that builds use. A build holds the cache's lock shared while it runs uv, trimming holds it
//! exclusively and never waits for a build. Emptying it costs no environment: each has its files by names of its own. A
//! cache that the node has put elsewhere (`UV_CACHE_DIR`) is shared with others, and neither counted nor touched.

use std::collections::HashMap;
use std::collections::hash_map::Entry as Slot;
use std::ffi::{OsStr, OsString};
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use haul_types::ByteSize;

use crate::entry::Layout;
use crate::environments::{Environments, Shared, blocking};
use crate::error::UvError;
use crate::lock;
use crate::process::{self, Answer};
use crate::prune::PrunePolicy;

/// How long uv may take: it removes files, and a slow disk holds hundreds of thousands of them.
const LIMIT: Duration = Duration::from_secs(300);

/// Why uv's cache was left as it is.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CacheError {
    /// It cannot be measured or locked.
    #[error("cannot use uv's cache {}", path.display())]
    Disk {
        /// The cache or its lock.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A build uses it.
    #[error("uv's cache is in use by a build")]
    InUse,
    /// The uv that was named does not work.
    #[error("uv's cache needs a uv")]
    Uv(#[from] UvError),
    /// There is no uv.
    #[error("uv's cache is there, but no uv is on this node")]
    NoUv,
    /// uv did not do it.
    #[error("`uv cache {verb}` failed: {said}")]
    Failed {
        /// What it was told.
        verb: &'static str,
        /// What it said.
        said: String,
    },
}

impl Environments {
    /// What emptying uv's cache would free: files that an environment has too are counted there. None for a cache that
    /// the node has put elsewhere.
    pub async fn cache_size(&self) -> io::Result<Option<ByteSize>> {
        let Some(path) = self.shared.own_cache() else {
            return Ok(None);
        };
        blocking(move || unshared(&path)).await.map(Some)
    }
}

impl Shared {
    /// uv's cache, if it is below the cache directory.
    fn own_cache(&self) -> Option<PathBuf> {
        let elsewhere = self.config.var("UV_CACHE_DIR").is_some();
        (!elsewhere).then(|| self.layout.uv_cache())
    }

    /// Makes room in uv's cache as `policy` says, with `environments` being what they take. What was freed, and what it
    /// takes still.
    pub(crate) async fn prune_cache(
        self: &Arc<Self>,
        policy: &PrunePolicy,
        environments: ByteSize,
    ) -> Result<(ByteSize, ByteSize), CacheError> {
        let Some(path) = self.own_cache().filter(|path| path.is_dir()) else {
            return Ok(<_>::default());
        };
        let before = measured(&path).await?;
        let too_much = |cache: ByteSize| {
            policy
                .keep_bytes
                .is_some_and(|keep| environments.0.saturating_add(cache.0) > keep.0)
        };
        if !policy.all && policy.unused_for.is_none() && !too_much(before) {
            return Ok((ByteSize(0), before));
        }
        let lock_path = self.layout.cache_lock();
        let failed = |source| CacheError::Disk {
            path: lock_path.clone(),
            source,
        };
        let lock = lock::try_exclusive(&lock_path).map_err(failed)?;
        // A uv whose agent was killed holds its environment's lock alone.
        let shared = Arc::clone(self);
        let infos = blocking(move || shared.infos()).await.map_err(failed)?;
        let building = infos.iter().any(|info| !info.complete && info.in_use);
        let Some(_lock) = lock.filter(|_| !building) else {
            return Err(CacheError::InUse);
        };
        let mut left = before;
        if !policy.all {
            self.uv_cache("prune", &path).await?;
            left = measured(&path).await?;
        }
        // Also if nothing of it is unshared: what environments that go now leave to the cache would not be free.
        if policy.all || too_much(left) {
            self.uv_cache("clean", &path).await?;
            left = measured(&path).await?;
        }
        Ok((ByteSize(before.0.saturating_sub(left.0)), left))
    }

    async fn uv_cache(&self, verb: &'static str, path: &Path) -> Result<(), CacheError> {
        let uv = self.uvs.find(&self.config, &self.layout).await?;
        let uv = uv.ok_or(CacheError::NoUv)?;
        let env = process::changed(
            &self.config.node_env,
            [
                ("NO_COLOR", Some(OsString::from("1"))),
                ("UV_CACHE_DIR", Some(path.into())),
            ],
        );
        let args = [OsStr::new("cache"), OsStr::new(verb)];
        let failed = |said: String| CacheError::Failed { verb, said };
        match process::ask(&uv.path, &args, &env, LIMIT).await {
            Ok(Answer::Said { code: Some(0), .. }) => Ok(()),
            Ok(Answer::Said { said, .. }) => Err(failed(said.trim().to_owned())),
            Ok(Answer::Silent) => Err(failed(format!("it took more than {} seconds", LIMIT.as_secs()))),
            Err(error) => Err(failed(error.to_string())),
        }
    }
}

/// Keeps uv's cache from being trimmed while uv runs.
pub(crate) async fn hold(layout: &Layout) -> io::Result<fs::File> {
    lock::shared(&layout.cache_lock()).await
}

async fn measured(path: &Path) -> Result<ByteSize, CacheError> {
    let dir = path.to_owned();
    let failed = |source| CacheError::Disk {
        path: path.to_owned(),
        source,
    };
    blocking(move || unshared(&dir)).await.map_err(failed)
}

/// What a tree takes of files all of whose names are in it. A build may change it meanwhile.
fn unshared(root: &Path) -> io::Result<ByteSize> {
    let gone = |error: &io::Error| error.kind() == io::ErrorKind::NotFound;
    // Of files with several names: how many are elsewhere or not yet seen.
    let mut names: HashMap<u64, u64> = HashMap::new();
    let mut blocks = 0;
    let mut dirs = vec![root.to_owned()];
    while let Some(dir) = dirs.pop() {
        let files = match fs::read_dir(&dir) {
            Err(error) if gone(&error) => continue,
            files => files?,
        };
        for file in files {
            let file = file?;
            let meta = match file.metadata() {
                Err(error) if gone(&error) => continue,
                meta => meta?,
            };
            if meta.is_dir() {
                dirs.push(file.path());
                blocks += meta.blocks();
                continue;
            }
            let left = match names.entry(meta.ino()) {
                _ if meta.nlink() == 1 => 0,
                Slot::Vacant(slot) => *slot.insert(meta.nlink() - 1),
                Slot::Occupied(mut slot) => {
                    let left = slot.get_mut();
                    *left = left.saturating_sub(1);
                    *left
                }
            };
            if left == 0 {
                blocks += meta.blocks();
            }
        }
    }
    Ok(ByteSize(blocks * 512))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_an_environment_has_too_is_not_the_caches() {
        let dir = tempfile::tempdir().unwrap();
        let (cache, env) = (dir.path().join("uv"), dir.path().join("envs"));
        assert_eq!(unshared(&cache).unwrap(), ByteSize(0), "there is none yet");
        fs::create_dir_all(cache.join("a")).unwrap();
        fs::create_dir(&env).unwrap();
        let empty = unshared(&cache).unwrap();
        let of = |bytes: u64| ByteSize(empty.0 + bytes);
        for name in ["own", "twice", "shared"] {
            fs::write(cache.join(name), vec![1; 1 << 16]).unwrap();
        }
        fs::hard_link(cache.join("twice"), cache.join("a/twice")).unwrap();
        fs::hard_link(cache.join("shared"), env.join("shared")).unwrap();
        assert_eq!(unshared(&cache).unwrap(), of(2 << 16));
        fs::remove_file(env.join("shared")).unwrap();
        assert_eq!(
            unshared(&cache).unwrap(),
            of(3 << 16),
            "only the cache has it now"
        );
    }
}
