//! What a directory holds, as a canonical, content-addressed list.
//!
//! Entries are sorted by path, component by component (as if `/` were the lowest byte), so that a directory comes right
//! before what is in it. Every directory is listed, except the root itself. The list is cut into pages by the *paths*
//! alone, as far as limits allow: a page ends after an entry whose path's BLAKE3 hash has seven low zero bits. A file
//! whose content changes therefore changes one page; a file added or removed changes one or two.
//!
//! The encoding is canonical: one list of entries has one encoding, decoding refuses every other. See [`wire`] for the
//! bytes, [`check`] for the rules a list must keep.

use haul_types::Digest;

mod check;
mod cut;
mod links;
mod reader;
#[cfg(test)]
mod tests;
mod wire;

pub use check::{MAX_COMPONENT, MAX_DEPTH, MAX_FILE_CHUNKS, MAX_PATH, WHOLE_FILE, path_order};
pub use links::{LinkProblem, LinkTarget, resolve_link};
pub use reader::ManifestReader;
pub use wire::{DecodeError, Root, decode_page};

use check::Sequence;
use cut::Cutter;

/// A piece of a file's content.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Chunk {
    /// The content's digest.
    pub digest: Digest,
    /// Its length in bytes; never 0.
    pub len: u32,
}

/// One thing in a directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The path relative to the root, components joined by `/`. Any bytes but NUL: Unix names are not text.
    pub path: Vec<u8>,
    /// What is there.
    pub kind: EntryKind,
}

/// What an entry is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EntryKind {
    /// A regular file.
    File {
        /// Bytes of content.
        size: u64,
        /// Permission bits, `0o777` at most.
        mode: u16,
        /// The content: none if empty, one up to [`WHOLE_FILE`] bytes, else cut by content.
        chunks: Vec<Chunk>,
    },
    /// A directory.
    Dir {
        /// Permission bits, `0o777` at most.
        mode: u16,
    },
    /// A symbolic link that stays within the root.
    Symlink {
        /// Where it points, as stored.
        target: Vec<u8>,
    },
}

impl Entry {
    /// The file's chunks; none for anything else.
    #[must_use]
    pub fn chunks(&self) -> &[Chunk] {
        match &self.kind {
            EntryKind::File { chunks, .. } => chunks,
            EntryKind::Dir { .. } | EntryKind::Symlink { .. } => &[],
        }
    }
}

/// How much a manifest lists.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Regular files and symbolic links.
    pub files: u64,
    /// Directories.
    pub dirs: u64,
    /// Bytes in files.
    pub bytes: u64,
}

impl Totals {
    /// Counts `entry`; `None` if the sum of sizes does not fit.
    fn add(&mut self, entry: &Entry) -> Option<()> {
        match &entry.kind {
            EntryKind::File { size, .. } => {
                self.files += 1;
                self.bytes = self.bytes.checked_add(*size)?;
            }
            EntryKind::Symlink { .. } => self.files += 1,
            EntryKind::Dir { .. } => self.dirs += 1,
        }
        Some(())
    }
}

/// A page of a manifest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page {
    digest: Digest,
    encoded: Vec<u8>,
    first: usize,
    last: usize,
}

/// A page together with its entries.
#[derive(Clone, Copy, Debug)]
pub struct PageView<'a> {
    page: &'a Page,
    entries: &'a [Entry],
}

impl<'a> PageView<'a> {
    /// The digest of the encoding.
    #[must_use]
    pub fn digest(&self) -> Digest {
        self.page.digest
    }

    /// The encoding.
    #[must_use]
    pub fn encoded(&self) -> &'a [u8] {
        &self.page.encoded
    }

    /// The entries on this page.
    #[must_use]
    pub fn entries(&self) -> &'a [Entry] {
        self.entries
    }

    /// The chunks of the files on this page, in order, repeated when files share them.
    pub fn chunks(&self) -> impl Iterator<Item = Chunk> + use<'a> {
        self.entries.iter().flat_map(Entry::chunks).copied()
    }
}

/// A whole snapshot's list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Manifest {
    entries: Vec<Entry>,
    pages: Vec<Page>,
    totals: Totals,
    root_object: Vec<u8>,
    id: Digest,
}

impl Manifest {
    /// The manifest of these entries, in whatever order they come.
    pub fn from_entries(mut entries: Vec<Entry>) -> Result<Self, DecodeError> {
        entries.sort_unstable_by(|a, b| path_order(&a.path, &b.path));
        let mut totals = Totals::default();
        let mut sequence = Sequence::default();
        let mut cutter = Cutter::default();
        let mut bounds = Vec::new();
        let mut first = 0;
        for (index, entry) in entries.iter().enumerate() {
            sequence.push(entry)?;
            totals.add(entry).ok_or(DecodeError::TotalsOverflow)?;
            if index > first && cutter.cuts_before(entry) {
                bounds.push(first..index);
                first = index;
                cutter = Cutter::default();
            }
            if cutter.cuts_after(entry) {
                bounds.push(first..index + 1);
                first = index + 1;
                cutter = Cutter::default();
            }
        }
        if first < entries.len() {
            bounds.push(first..entries.len());
        }
        links::check_all(&entries)?;
        let pages: Vec<Page> = bounds
            .into_iter()
            .map(|range| {
                let encoded = wire::encode_page(&entries[range.clone()]);
                Page {
                    digest: Digest::of(&encoded),
                    encoded,
                    first: range.start,
                    last: range.end,
                }
            })
            .collect();
        let root = Root {
            pages: pages.iter().map(|page| page.digest).collect(),
            totals,
        };
        let root_object = root.encode()?;
        Ok(Self {
            id: Digest::of(&root_object),
            entries,
            pages,
            totals,
            root_object,
        })
    }

    /// Decodes a whole manifest: the root object, and each page as `page` finds it by digest.
    pub fn decode<E: From<DecodeError>>(
        root_object: &[u8],
        mut page: impl FnMut(Digest) -> Result<Vec<u8>, E>,
    ) -> Result<Self, E> {
        let mut reader = ManifestReader::new(root_object)?;
        let mut entries = Vec::new();
        let mut pages = Vec::with_capacity(reader.root().pages.len());
        while let Some(digest) = reader.wanted() {
            let encoded = page(digest)?;
            let first = entries.len();
            entries.extend(reader.push(&encoded)?);
            pages.push(Page {
                digest,
                encoded,
                first,
                last: entries.len(),
            });
        }
        let totals = reader.finish()?;
        links::check_all(&entries)?;
        Ok(Self {
            entries,
            pages,
            totals,
            root_object: root_object.to_vec(),
            id: Digest::of(root_object),
        })
    }

    /// The snapshot's id: the digest of the root object.
    #[must_use]
    pub fn id(&self) -> Digest {
        self.id
    }

    /// The encoded root object.
    #[must_use]
    pub fn root_object(&self) -> &[u8] {
        &self.root_object
    }

    /// The pages, in order.
    pub fn pages(&self) -> impl ExactSizeIterator<Item = PageView<'_>> {
        self.pages.iter().map(|page| PageView {
            page,
            entries: &self.entries[page.first..page.last],
        })
    }

    /// Every entry, sorted by [`path_order`].
    #[must_use]
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// The entry at this path.
    #[must_use]
    pub fn get(&self, path: &[u8]) -> Option<&Entry> {
        self.entries
            .binary_search_by(|entry| path_order(&entry.path, path))
            .ok()
            .map(|index| &self.entries[index])
    }

    /// How much it lists.
    #[must_use]
    pub fn totals(&self) -> Totals {
        self.totals
    }
}
