//! One environment on the disk, and what is known of it.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use haul_types::{ByteSize, Digest};
use serde::{Deserialize, Serialize};

use crate::lease;
use crate::lock;

/// The time of the last use is not written more often than this.
const USED_EVERY: Duration = Duration::from_secs(60);

/// Where things are below the cache directory.
#[derive(Clone, Debug)]
pub(crate) struct Layout {
    root: PathBuf,
}

impl Layout {
    pub(crate) fn new(root: PathBuf) -> Self {
        Self { root }
    }

    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    pub(crate) fn envs(&self) -> PathBuf {
        self.root.join("envs")
    }

    pub(crate) fn locks(&self) -> PathBuf {
        self.root.join("locks")
    }

    pub(crate) fn leases(&self) -> PathBuf {
        self.root.join("leases")
    }

    pub(crate) fn tools(&self) -> PathBuf {
        self.root.join("tools")
    }

    pub(crate) fn uv_cache(&self) -> PathBuf {
        self.root.join("uv")
    }

    /// Held shared by whatever runs uv in its cache, exclusively by what trims that.
    pub(crate) fn cache_lock(&self) -> PathBuf {
        self.locks().join("uv-cache")
    }

    pub(crate) fn entry(&self, key: Digest) -> Entry {
        let name = key.to_string();
        Entry {
            key,
            dir: self.envs().join(&name),
            lock: self.locks().join(&name),
            leases: self.leases().join(&name),
        }
    }

    /// Everything that is there, whole or not.
    pub(crate) fn entries(&self) -> io::Result<Vec<Entry>> {
        let mut entries = Vec::new();
        for file in fs::read_dir(self.envs())? {
            // Whatever else somebody put there is not ours to touch.
            if let Some(key) = file?.file_name().to_str().and_then(|name| name.parse().ok()) {
                entries.push(self.entry(key));
            }
        }
        Ok(entries)
    }
}

/// The paths of one environment.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    pub(crate) key: Digest,
    pub(crate) dir: PathBuf,
    pub(crate) lock: PathBuf,
    pub(crate) leases: PathBuf,
}

/// The record whose presence says that an environment is whole.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct ReadyRecord {
    pub(crate) kind: String,
    pub(crate) description: String,
    pub(crate) bytes: ByteSize,
    /// Seconds since 1970.
    pub(crate) created: u64,
    /// What went into the key, by name; texts are shown as digests, URLs without credentials.
    pub(crate) inputs: Vec<(String, String)>,
}

/// What is known of one environment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct EnvironmentInfo {
    /// What it is known by.
    pub key: Digest,
    /// What built it, as in `venv`.
    pub kind: String,
    /// For people.
    pub description: String,
    /// What it takes on the disk: every file once, however many names it has in the environment. Files that it
    /// shares with uv's cache are counted, although removing the environment alone does not free them.
    pub bytes: ByteSize,
    /// When it was built.
    pub created: SystemTime,
    /// When it was last asked for, to the minute.
    pub last_used: SystemTime,
    /// Whether somebody holds it, builds it or removes it.
    pub in_use: bool,
    /// Who holds it, where the holder was named.
    pub holders: Vec<String>,
    /// Whether it was built to the end.
    pub complete: bool,
}

impl Entry {
    pub(crate) fn venv(&self) -> PathBuf {
        self.dir.join("venv")
    }

    pub(crate) fn python(&self) -> PathBuf {
        self.dir.join("venv/bin/python")
    }

    pub(crate) fn inputs(&self) -> PathBuf {
        self.dir.join("inputs")
    }

    fn ready(&self) -> PathBuf {
        self.dir.join("ready.json")
    }

    /// Whether it was built to the end and its Python still leads somewhere: two stats.
    pub(crate) fn is_ready(&self) -> bool {
        self.ready().is_file() && self.python().is_file()
    }

    /// Whether it was whole once but its Python leads nowhere by now.
    pub(crate) fn is_damaged(&self) -> bool {
        self.ready().is_file() && !self.python().is_file()
    }

    pub(crate) fn record(&self) -> Option<ReadyRecord> {
        serde_json::from_slice(&fs::read(self.ready()).ok()?).ok()
    }

    /// Declares it whole: everything before is on the disk by then.
    pub(crate) fn write_ready(&self, record: &ReadyRecord) -> io::Result<()> {
        let temporary = self.dir.join("ready.json.new");
        let mut file = File::create(&temporary)?;
        file.write_all(&serde_json::to_vec_pretty(record)?)?;
        // The packages are many small files; one call for the file system beats one for each.
        rustix::fs::syncfs(&file)?;
        fs::rename(&temporary, self.ready())?;
        fs::remove_file(self.dir.join("building"))?;
        File::open(&self.dir)?.sync_all()
    }

    /// Empties the place and marks it as being built.
    pub(crate) fn start(&self) -> io::Result<()> {
        self.delete()?;
        fs::create_dir_all(self.inputs())?;
        fs::write(self.dir.join("building"), format!("{}\n", std::process::id()))
    }

    /// Removes it. Under the exclusive lock only. The record goes first, so that half of it is never taken for all.
    pub(crate) fn delete(&self) -> io::Result<()> {
        for gone in [fs::remove_file(self.ready()), fs::remove_dir_all(&self.dir)] {
            match gone {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        Ok(())
    }

    /// Notes a use.
    pub(crate) fn touch(&self) -> io::Result<()> {
        let path = self.dir.join("used");
        let fresh = path
            .metadata()
            .and_then(|meta| meta.modified())
            .is_ok_and(|at| at.elapsed().is_ok_and(|age| age < USED_EVERY));
        if fresh {
            return Ok(());
        }
        File::options()
            .write(true)
            .create(true)
            .truncate(false)
            .open(path)?
            .set_modified(SystemTime::now())
    }

    /// What is known; none when it vanished meanwhile.
    pub(crate) fn info(&self) -> io::Result<Option<EnvironmentInfo>> {
        let Ok(dir) = self.dir.metadata() else {
            return Ok(None);
        };
        let record = self.record();
        let complete = record.is_some();
        let holders = lease::holders(&self.leases)?;
        let in_use = !holders.is_empty() || lock::try_exclusive(&self.lock)?.is_none();
        let made = dir.modified()?;
        let last_used = self
            .dir
            .join("used")
            .metadata()
            .and_then(|meta| meta.modified())
            .unwrap_or(made);
        Ok(Some(EnvironmentInfo {
            key: self.key,
            kind: record
                .as_ref()
                .map_or_else(|| "venv".to_owned(), |r| r.kind.clone()),
            description: record
                .as_ref()
                .map_or_else(|| "an unfinished build".to_owned(), |r| r.description.clone()),
            bytes: record.as_ref().map_or_else(ByteSize::default, |r| r.bytes),
            created: record.map_or(made, |r| UNIX_EPOCH + Duration::from_secs(r.created)),
            last_used,
            in_use,
            holders,
            complete,
        }))
    }
}

/// What a tree takes on the disk, every inode once.
pub(crate) fn disk_usage(root: &Path) -> io::Result<ByteSize> {
    let mut seen = std::collections::HashSet::new();
    let mut blocks = 0;
    let mut dirs = vec![root.to_owned()];
    while let Some(dir) = dirs.pop() {
        for file in fs::read_dir(&dir)? {
            let file = file?;
            let meta = file.metadata()?;
            if meta.is_dir() {
                dirs.push(file.path());
            }
            if meta.nlink() == 1 || meta.is_dir() || seen.insert(meta.ino()) {
                blocks += meta.blocks();
            }
        }
    }
    Ok(ByteSize(blocks * 512))
}
