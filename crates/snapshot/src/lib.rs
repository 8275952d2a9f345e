//! Directory snapshots by content: ignore rules, manifest, chunks, bundles, unpacking.
//!
//! A snapshot is a [`Manifest`]: the sorted list of what a directory holds, each file as a list of content-addressed
//! chunks. The list itself is cut into pages, which are chunks too, and the pages are named by one root object, whose
//! digest is the snapshot's id; so two trees that differ in one file differ in one page and in the file's chunks.
//!
//! | to … | use |
//! |---|---|
//! | read a directory into a manifest | [`scan`](mod@scan) |
//! | send chunks | [`bundle`]: independent zstd frames of whole tar entries |
//! | write a manifest into a directory, and make a used directory pristine again | [`tree`] |
//!
//! Everything here is synchronous and uses threads of its own; callers with an async runtime wrap it in a blocking
//! task. Nothing here knows of the network, of terminals or of jobs. All that is decoded is taken to be hostile.

mod beneath;
pub mod bundle;
pub mod manifest;
pub mod name;
pub mod scan;
mod stamp;
pub mod tree;
mod workers;

pub use manifest::{Chunk, DecodeError, Entry, EntryKind, Manifest, ManifestReader, Root, Totals};
pub use scan::{Scan, ScanError, ScanOptions, ScanProgress, scan};

/// The largest chunk, in bytes: of a file, of a manifest's page or its root object.
pub const MAX_CHUNK: usize = 4 << 20;
