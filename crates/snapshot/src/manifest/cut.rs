//! Where pages end.

use super::Entry;

/// The most entries of a page.
const MAX_ENTRIES: usize = 1024;
/// The weight past which a page takes no further entry; an upper bound of its encoded bytes.
const MAX_WEIGHT: usize = 1 << 20;

/// Follows the entries of one page and says where it ends. The encoder and the decoder both use it, so that a list cut
/// elsewhere is refused.
#[derive(Default)]
pub(super) struct Cutter {
    entries: usize,
    weight: usize,
}

impl Cutter {
    /// Whether the page, which has entries already, has no room for `entry`.
    pub(super) fn cuts_before(&self, entry: &Entry) -> bool {
        self.weight + weight(entry) > MAX_WEIGHT
    }

    /// Takes `entry`; whether the page ends with it.
    pub(super) fn cuts_after(&mut self, entry: &Entry) -> bool {
        self.entries += 1;
        self.weight += weight(entry);
        self.entries == MAX_ENTRIES || blake3::hash(&entry.path).as_bytes()[0] & 0x7f == 0
    }
}

/// An upper bound of the bytes `entry` takes: digest and length per chunk, path or target, numbers.
fn weight(entry: &Entry) -> usize {
    let target = match &entry.kind {
        super::EntryKind::Symlink { target } => target.len(),
        _ => 0,
    };
    entry.chunks().len() * 36 + entry.path.len() + target + 24
}
