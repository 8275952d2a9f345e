//! Reads a manifest page by page, in bounded memory.

use haul_types::Digest;

use super::{DecodeError, Entry, Root, Sequence, Totals, cut::Cutter, decode_page};

/// Takes a manifest's pages in order and checks all that can be checked without holding them: digests, order, parents,
/// cuts, sums. Where a link leads through other links is checked by [`Manifest::decode`](super::Manifest::decode) only.
pub struct ManifestReader {
    root: Root,
    next: usize,
    sequence: Sequence,
    /// The page before this one, and whether its last entry ended it.
    cutter: Cutter,
    ended: bool,
    totals: Totals,
}

impl ManifestReader {
    /// Begins with the encoded root object.
    pub fn new(root_object: &[u8]) -> Result<Self, DecodeError> {
        Ok(Self {
            root: Root::decode(root_object)?,
            next: 0,
            sequence: Sequence::default(),
            cutter: Cutter::default(),
            ended: true,
            totals: Totals::default(),
        })
    }

    /// The root object.
    #[must_use]
    pub fn root(&self) -> &Root {
        &self.root
    }

    /// The page to push next; `None` after the last.
    #[must_use]
    pub fn wanted(&self) -> Option<Digest> {
        self.root.pages.get(self.next).copied()
    }

    /// Takes the next page.
    pub fn push(&mut self, encoded: &[u8]) -> Result<Vec<Entry>, DecodeError> {
        let expected = self.wanted().ok_or(DecodeError::ExtraPage)?;
        if Digest::of(encoded) != expected {
            return Err(DecodeError::WrongPage { expected });
        }
        let entries = decode_page(encoded)?;
        let uncanonical = || DecodeError::NotCanonical {
            object: "list of pages",
        };
        for (index, entry) in entries.iter().enumerate() {
            self.sequence.push(entry)?;
            self.totals.add(entry).ok_or(DecodeError::TotalsOverflow)?;
            if (index == 0) != (self.ended || self.cutter.cuts_before(entry)) {
                return Err(uncanonical());
            }
            if index == 0 {
                self.cutter = Cutter::default();
            }
            self.ended = self.cutter.cuts_after(entry);
        }
        self.next += 1;
        Ok(entries)
    }

    /// Checks that every page came and that the sums are those the root object promises.
    pub fn finish(self) -> Result<Totals, DecodeError> {
        if let Some(missing) = self.wanted() {
            return Err(DecodeError::MissingPage { missing });
        }
        if self.totals != self.root.totals {
            return Err(DecodeError::Totals {
                promised: self.root.totals,
                found: self.totals,
            });
        }
        Ok(self.totals)
    }
}
