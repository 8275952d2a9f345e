//! Reads a directory into a manifest.
//!
//! Walk, look up in the stat cache, hash what is not known, build the manifest. What the [rules] leave out
//! is not read at all. What cannot travel is refused by name, all of it at once. A scan of an unchanged tree costs a
//! stat per file.

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use haul_types::{ByteSize, Digest};

mod cache;
mod error;
mod hash;
pub mod rules;
mod send;
#[cfg(test)]
mod tests;
mod walk;

use crate::beneath::Beneath;
use crate::manifest::{self, Entry, EntryKind, Manifest, PageView, Totals};
use crate::stamp::Stamp;

pub use error::{BadRule, Refusal, ScanError};
pub use rules::{IgnoreRules, IgnoredBy, ignored_reason};
pub use send::BundleError;

/// Refusals shown in one error.
const SHOWN: usize = 20;

/// What to read and how.
#[derive(Clone, Debug)]
pub struct ScanOptions {
    /// The directory.
    pub root: PathBuf,
    /// A file that remembers digests between scans of this directory; made if absent.
    pub stat_cache: Option<PathBuf>,
    /// Threads to use; 0 means one per CPU.
    pub threads: usize,
    /// Refuse a tree with more bytes in files than this.
    pub max_bytes: Option<ByteSize>,
    /// Which files stay behind.
    pub rules: IgnoreRules,
    /// What to do about what cannot travel.
    pub special_files: SpecialFiles,
}

impl ScanOptions {
    /// The usual scan of a user's directory.
    #[must_use]
    pub fn new(root: impl Into<PathBuf>) -> Self {
        Self {
            root: root.into(),
            stat_cache: None,
            threads: 0,
            max_bytes: None,
            rules: IgnoreRules::FromTree,
            special_files: SpecialFiles::Refuse,
        }
    }
}

/// What to do about files that cannot travel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SpecialFiles {
    /// The scan fails and names them.
    Refuse,
    /// The scan leaves them out and reports them in [`Scan::skipped`]: for outputs, which no error may lose.
    Skip,
}

/// Told how a scan or a transfer comes along, from several threads.
pub trait ScanProgress: Sync {
    /// So many more entries were found.
    fn on_found(&self, entries: u64) {
        let _ = entries;
    }
    /// So many more files and bytes were read and hashed.
    fn on_hashed(&self, files: u64, bytes: u64) {
        let _ = (files, bytes);
    }
    /// So many more chunks, and bytes in them, were handed to the sink.
    fn on_sent(&self, chunks: u64, bytes: u64) {
        let _ = (chunks, bytes);
    }
}

/// Tells nobody.
impl ScanProgress for () {}

/// A directory as it was when it was read.
#[derive(Debug)]
pub struct Scan {
    /// The list.
    pub manifest: Manifest,
    /// What was left out because it cannot travel; empty under [`SpecialFiles::Refuse`].
    pub skipped: Vec<Refusal>,
    /// Lines of ignore files that are no patterns.
    pub bad_rules: Vec<BadRule>,
    /// How many files were read, because the cache did not know them.
    pub hashed: u64,
    root: Beneath,
}

impl Scan {
    /// The snapshot's id.
    #[must_use]
    pub fn id(&self) -> Digest {
        self.manifest.id()
    }

    /// The encoded root object.
    #[must_use]
    pub fn root_object(&self) -> &[u8] {
        self.manifest.root_object()
    }

    /// The manifest's pages.
    pub fn pages(&self) -> impl ExactSizeIterator<Item = PageView<'_>> {
        self.manifest.pages()
    }

    /// Files, directories and bytes.
    #[must_use]
    pub fn totals(&self) -> Totals {
        self.manifest.totals()
    }

    /// Reads the wanted chunks again (file chunks, pages, the root object) and hands them over in frames, in any
    /// order. A file that is no longer what was scanned is [`BundleError::Changed`]: scan again.
    ///
    /// `threads` threads read and compress, at most a few frames ahead of `sink`, which runs on the caller's thread.
    pub fn write_bundle<E>(
        &self,
        wanted: &HashSet<Digest>,
        threads: usize,
        sink: &mut dyn FnMut(crate::bundle::Frame) -> Result<(), E>,
        progress: &dyn ScanProgress,
    ) -> Result<(), BundleError<E>> {
        send::write_bundle(self, wanted, thread_count(threads), sink, progress)
    }
}

/// A file or link found by the walk, or a directory.
struct Found {
    path: Vec<u8>,
    what: FoundKind,
}

enum FoundKind {
    File(Stamp),
    Dir(u16),
    Link(Vec<u8>),
}

/// Reads the directory.
pub fn scan(options: &ScanOptions, progress: &dyn ScanProgress) -> Result<Scan, ScanError> {
    let root_error = |source: rustix::io::Errno| ScanError::Root {
        root: options.root.clone(),
        source: source.into(),
    };
    let threads = thread_count(options.threads);
    let started = SystemTime::now();
    let root = Beneath::open(&options.root).map_err(root_error)?;
    let walked = walk::walk(&root, options.rules, threads, progress).map_err(root_error)?;
    let mut found = walked.found;
    let mut refusals = walked.refusals;
    found.sort_unstable_by(|a, b| manifest::path_order(&a.path, &b.path));
    refuse_links(&mut found, &mut refusals);
    check_size(options, &found)?;
    if options.special_files == SpecialFiles::Refuse {
        refuse(&options.root, &mut refusals)?;
    }
    let cached = options.stat_cache.as_deref().map(cache::Cache::load);
    let hashed = hash::hash_all(&root, &found, cached.as_ref(), started, threads, progress);
    refusals.extend(hashed.refusals);
    if options.special_files == SpecialFiles::Refuse {
        refuse(&options.root, &mut refusals)?;
    }
    if let (Some(path), Some(cached), false) = (&options.stat_cache, &cached, hashed.as_cached) {
        cached
            .update(path, &found, &hashed.contents)
            .map_err(|source| ScanError::Cache {
                path: path.clone(),
                source,
            })?;
    }
    let entries = entries_of(found, hashed.contents);
    let manifest = Manifest::from_entries(entries).map_err(|source| ScanError::Manifest {
        root: options.root.clone(),
        source,
    })?;
    refusals.sort_by(|a, b| a.path().cmp(b.path()));
    Ok(Scan {
        manifest,
        skipped: refusals,
        bad_rules: walked.bad_rules,
        hashed: hashed.files,
        root,
    })
}

fn thread_count(asked: usize) -> usize {
    match asked {
        0 => std::thread::available_parallelism().map_or(1, usize::from),
        threads => threads,
    }
}

/// Fails if there is anything to refuse.
fn refuse(root: &Path, refusals: &mut Vec<Refusal>) -> Result<(), ScanError> {
    if refusals.is_empty() {
        return Ok(());
    }
    refusals.sort_by(|a, b| a.path().cmp(b.path()));
    let more = refusals.len().saturating_sub(SHOWN);
    refusals.truncate(SHOWN);
    Err(ScanError::Refused {
        root: root.to_owned(),
        refusals: std::mem::take(refusals),
        more,
    })
}

fn check_size(options: &ScanOptions, found: &[Found]) -> Result<(), ScanError> {
    let Some(max) = options.max_bytes else {
        return Ok(());
    };
    let mut sizes: Vec<(u64, &[u8])> = found
        .iter()
        .filter_map(|found| match &found.what {
            FoundKind::File(stamp) => Some((stamp.size, found.path.as_slice())),
            _ => None,
        })
        .collect();
    let total: u64 = sizes
        .iter()
        .fold(0, |sum, (size, _)| u64::saturating_add(sum, *size));
    if total <= max.0 {
        return Ok(());
    }
    sizes.sort_unstable_by(|a, b| b.cmp(a));
    Err(ScanError::TooLarge {
        root: options.root.clone(),
        total: ByteSize(total),
        max,
        largest: sizes
            .into_iter()
            .take(5)
            .map(|(size, path)| (path.into(), ByteSize(size)))
            .collect(),
    })
}

/// Takes out the links that lead outside; again, because without one another may read differently.
fn refuse_links(found: &mut Vec<Found>, refusals: &mut Vec<Refusal>) {
    loop {
        let links: std::collections::HashMap<&[u8], &[u8]> = found
            .iter()
            .filter_map(|found| match &found.what {
                FoundKind::Link(target) => Some((found.path.as_slice(), target.as_slice())),
                _ => None,
            })
            .collect();
        let lookup = |at: &[u8]| {
            links.get(at).map_or(manifest::LinkTarget::Other, |target| {
                manifest::LinkTarget::Link(target)
            })
        };
        let bad: Vec<Refusal> = links
            .iter()
            .filter_map(|(path, target)| {
                let problem = manifest::resolve_link(path, target, lookup).err()?;
                Some(Refusal::Link {
                    path: (*path).into(),
                    target: (*target).into(),
                    problem,
                })
            })
            .collect();
        if bad.is_empty() {
            return;
        }
        let gone: HashSet<Vec<u8>> = bad.iter().map(|bad| bad.path().as_bytes().to_vec()).collect();
        found.retain(|found| !gone.contains(&found.path));
        refusals.extend(bad);
    }
}

fn entries_of(found: Vec<Found>, contents: Vec<Option<hash::Content>>) -> Vec<Entry> {
    found
        .into_iter()
        .zip(contents)
        .filter_map(|(found, content)| {
            let kind = match found.what {
                FoundKind::Dir(mode) => EntryKind::Dir { mode },
                FoundKind::Link(target) => EntryKind::Symlink { target },
                FoundKind::File(_) => {
                    let content = content?;
                    EntryKind::File {
                        size: content.stamp.size,
                        mode: content.stamp.permissions(),
                        chunks: content.chunks,
                    }
                }
            };
            Some(Entry {
                path: found.path,
                kind,
            })
        })
        .collect()
}
