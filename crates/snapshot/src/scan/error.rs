//! What stands in the way of a scan.

use std::fmt;
use std::path::PathBuf;

use haul_types::ByteSize;

use crate::manifest::{DecodeError, LinkProblem};
use crate::name::Name;

/// Why one thing cannot travel.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Refusal {
    /// A symbolic link that leads out of the directory.
    #[error("{path} -> {target}: {problem}; copy what it points to into the directory, or ignore the link")]
    Link {
        /// The link.
        path: Name,
        /// Its target.
        target: Name,
        /// Why.
        problem: LinkProblem,
    },
    /// A socket, FIFO or device.
    #[error("{path}: is a {what}; only files, directories and symbolic links can be sent")]
    Special {
        /// The path.
        path: Name,
        /// What it is.
        what: &'static str,
    },
    /// It could not be read.
    #[error("{path}: cannot be read: {source}")]
    Unreadable {
        /// The path.
        path: Name,
        /// Why.
        source: std::io::Error,
    },
    /// It changed each time it was read.
    #[error("{path}: keeps changing while it is read; stop what writes to it, or ignore it")]
    Changing {
        /// The path.
        path: Name,
    },
    /// It is larger than a manifest can list.
    #[error("{path}: {size} are more than one file of a snapshot can have")]
    TooLarge {
        /// The path.
        path: Name,
        /// Its size.
        size: ByteSize,
    },
    /// Its path is too long or too deep.
    #[error("{path}: the path is longer than 4096 bytes or deeper than 256 directories")]
    TooDeep {
        /// The path.
        path: Name,
    },
}

/// A pattern in an ignore file that is none; it was not applied.
#[derive(Debug)]
pub struct BadRule {
    /// The file, relative to the root.
    pub file: Name,
    /// The line, from 1.
    pub line: usize,
    /// What is wrong with it.
    pub problem: String,
}

/// Why a scan failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ScanError {
    /// The root cannot be opened.
    #[error("cannot open the directory {}", .root.display())]
    Root {
        /// The directory.
        root: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// Some things cannot travel.
    #[error("{} cannot be sent:{}", .root.display(), Refusals(.refusals, *.more))]
    Refused {
        /// The directory.
        root: PathBuf,
        /// The first of them, by path.
        refusals: Vec<Refusal>,
        /// How many there are besides.
        more: usize,
    },
    /// More bytes than allowed.
    #[error("{} holds {total}, over the limit of {max}; the largest files: {}", .root.display(), Largest(.largest))]
    TooLarge {
        /// The directory.
        root: PathBuf,
        /// What it holds.
        total: ByteSize,
        /// The limit.
        max: ByteSize,
        /// The largest files, largest first.
        largest: Vec<(Name, ByteSize)>,
    },
    /// The tree is more than a manifest can list.
    #[error("{} cannot be listed in a manifest", .root.display())]
    Manifest {
        /// The directory.
        root: PathBuf,
        /// Why.
        #[source]
        source: DecodeError,
    },
    /// The stat cache could not be written.
    #[error("cannot write the cache of file digests {}", .path.display())]
    Cache {
        /// The cache.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
}

struct Refusals<'a>(&'a [Refusal], usize);

impl fmt::Display for Refusals<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for refusal in self.0 {
            write!(f, "\n  {refusal}")?;
        }
        match self.1 {
            0 => Ok(()),
            more => write!(f, "\n  and {more} more"),
        }
    }
}

struct Largest<'a>(&'a [(Name, ByteSize)]);

impl fmt::Display for Largest<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, (path, size)) in self.0.iter().enumerate() {
            let comma = if index == 0 { "" } else { ", " };
            write!(f, "{comma}{path} ({size})")?;
        }
        Ok(())
    }
}

impl Refusal {
    /// What it is about.
    #[must_use]
    pub fn path(&self) -> &Name {
        match self {
            Self::Link { path, .. }
            | Self::Special { path, .. }
            | Self::Unreadable { path, .. }
            | Self::Changing { path }
            | Self::TooLarge { path, .. }
            | Self::TooDeep { path } => path,
        }
    }
}
