//! Walking the blocks of a segment from their headers, past damage.

use std::fs::File;
use std::io;
use std::ops::ControlFlow;
use std::os::unix::fs::FileExt;

use crate::block::{HEADER_BYTES, Header, MAGIC};

/// Bytes read from the file at once.
const WINDOW_BYTES: usize = 256 << 10;

/// What lies at a place of a segment.
pub(crate) enum Found {
    /// A block whose header is sound.
    Block {
        header: Header,
        position: u64,
        /// Whether the payload's checksum matches.
        sound: bool,
    },
    /// Bytes that hold no block.
    Unreadable { from: u64, to: u64 },
}

/// Walks the blocks in `from..end` and tells `visit` of each, payloads checked, until it breaks.
pub(crate) fn scan(
    file: &File,
    from: u64,
    end: u64,
    mut visit: impl FnMut(Found) -> io::Result<ControlFlow<()>>,
) -> io::Result<()> {
    let mut window = Window::new(file, end);
    let mut position = from;
    while position < end {
        let found = match window.header(position)? {
            Some(header) => Found::Block {
                header,
                position,
                sound: window.payload_crc(&header, position)? == header.payload_crc,
            },
            None => Found::Unreadable {
                from: position,
                to: window.next_header(position + 1)?,
            },
        };
        position = match &found {
            Found::Block { header, .. } => position + u64::from(header.block_bytes()),
            Found::Unreadable { to, .. } => *to,
        };
        if visit(found)?.is_break() {
            break;
        }
    }
    Ok(())
}

/// The furthest that any block in `from..end` says was durable before it.
pub(crate) fn durable_mark(file: &File, from: u64, end: u64) -> io::Result<u64> {
    let mut mark = 0;
    scan(file, from, end, |found| {
        if let Found::Block { header, .. } = found {
            mark = mark.max(header.durable.into());
        }
        Ok(ControlFlow::Continue(()))
    })?;
    Ok(mark)
}

/// A buffered view of a file at any position.
struct Window<'a> {
    file: &'a File,
    end: u64,
    start: u64,
    bytes: Vec<u8>,
}

impl<'a> Window<'a> {
    fn new(file: &'a File, end: u64) -> Self {
        Self {
            file,
            end,
            start: 0,
            bytes: Vec::new(),
        }
    }

    /// The bytes at `position`, `length` of them (at most the window's) or fewer at the end.
    fn at(&mut self, position: u64, length: usize) -> io::Result<&[u8]> {
        let length = length.min(usize::try_from(self.end.saturating_sub(position)).unwrap_or(usize::MAX));
        let held = self.start..self.start + self.bytes.len() as u64;
        if position < held.start || position + length as u64 > held.end {
            let fill = (self.end - position).min(WINDOW_BYTES as u64) as usize;
            self.bytes.resize(fill, 0);
            self.start = position;
            if let Err(error) = self.file.read_exact_at(&mut self.bytes, position) {
                self.bytes.clear();
                return Err(error);
            }
        }
        let from = (position - self.start) as usize;
        Ok(&self.bytes[from..from + length])
    }

    /// The header at `position`, when it is sound and its block fits before the end.
    fn header(&mut self, position: u64) -> io::Result<Option<Header>> {
        let end = self.end;
        let bytes = self.at(position, HEADER_BYTES)?;
        let header = bytes.first_chunk().and_then(Header::parse);
        Ok(header.filter(|header| position + u64::from(header.block_bytes()) <= end))
    }

    fn payload_crc(&mut self, header: &Header, position: u64) -> io::Result<u32> {
        let mut crc = crc32fast::Hasher::new();
        let mut from = position + HEADER_BYTES as u64;
        let end = position + u64::from(header.block_bytes());
        while from < end {
            // What the window holds already is used up before more is read.
            let held = (self.start + self.bytes.len() as u64).saturating_sub(from);
            let piece = if held > 0 && from >= self.start {
                held
            } else {
                WINDOW_BYTES as u64
            };
            let piece = piece.min(end - from) as usize;
            crc.update(self.at(from, piece)?);
            from += piece as u64;
        }
        Ok(crc.finalize())
    }

    /// Where the next sound header begins, at `from` or later; the end when there is none.
    fn next_header(&mut self, from: u64) -> io::Result<u64> {
        let mut from = from;
        while from < self.end {
            let bytes = self.at(from, WINDOW_BYTES)?;
            let length = bytes.len();
            let candidate = bytes.windows(MAGIC.len()).position(|at| at == MAGIC);
            match candidate {
                Some(at) if self.header(from + at as u64)?.is_some() => return Ok(from + at as u64),
                Some(at) => from += at as u64 + 1,
                // The last bytes may be the beginning of a magic that goes on in the next window.
                None => from += (length + 1).saturating_sub(MAGIC.len()).max(1) as u64,
            }
        }
        Ok(self.end)
    }
}
