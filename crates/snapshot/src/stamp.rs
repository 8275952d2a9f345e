//! What stat says about a file, and when that proves its content unchanged.
//!
//! A change of content, mode or links sets the file's ctime to the kernel's clock, which nobody without root can undo.
//! So a file whose stamp is the same as before is the same as before; except that the clock has a grain. A change
//! within the same grain as the last one leaves the same times behind (git calls such files racily clean). Therefore a
//! stamp proves something only if its times are older, by more than the grain, than the moment at which the content
//! was known. Linux stamps files by a clock that ticks every 1 to 10 ms; file systems that keep whole seconds have at
//! most two of them per grain.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustix::fs::{FileType, Stat};
use serde::{Deserialize, Serialize};

/// More than the grain of the clock that stamps files.
const GRAIN: Duration = Duration::from_millis(20);
/// The grain where times have no part below a second.
const COARSE_GRAIN: Duration = Duration::from_secs(2);

/// A point in time as stat gives it: nanoseconds since 1970.
type Nanos = i128;

/// Identity, size, times and mode of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Stamp {
    pub(crate) dev: u64,
    pub(crate) ino: u64,
    pub(crate) size: u64,
    mtime: (i64, u32),
    ctime: (i64, u32),
    /// With the bits of the kind.
    pub(crate) raw_mode: u32,
}

impl From<&Stat> for Stamp {
    fn from(stat: &Stat) -> Self {
        Self {
            dev: stat.st_dev,
            ino: stat.st_ino,
            size: stat.st_size as u64,
            mtime: (stat.st_mtime, stat.st_mtime_nsec as u32),
            ctime: (stat.st_ctime, stat.st_ctime_nsec as u32),
            raw_mode: stat.st_mode,
        }
    }
}

impl Stamp {
    /// What kind of thing it is.
    pub(crate) fn kind(&self) -> FileType {
        FileType::from_raw_mode(self.raw_mode)
    }

    /// The permission bits.
    pub(crate) fn permissions(&self) -> u16 {
        (self.raw_mode & 0o777) as u16
    }

    /// Whether finding this stamp again later proves that nothing changed since `known`.
    pub(crate) fn proves_since(&self, known: SystemTime) -> bool {
        let grain = if self.mtime.1 == 0 && self.ctime.1 == 0 {
            COARSE_GRAIN
        } else {
            GRAIN
        }
        .as_nanos() as Nanos;
        let known = nanos_of(known);
        let [mtime, ctime] =
            [self.mtime, self.ctime].map(|(s, n)| Nanos::from(s) * 1_000_000_000 + Nanos::from(n));
        // An mtime set far into the future by hand proves as much as any other; a ctime there means a clock set back.
        ctime + grain < known && (mtime - known).abs() > grain
    }
}

fn nanos_of(time: SystemTime) -> Nanos {
    match time.duration_since(UNIX_EPOCH) {
        Ok(after) => after.as_nanos() as Nanos,
        Err(before) => -(before.duration().as_nanos() as Nanos),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Nanoseconds within a second, so that times do not look like whole ones.
    const PART: u32 = 1;

    fn stamp(mtime: (i64, u32), ctime: (i64, u32)) -> Stamp {
        Stamp {
            dev: 1,
            ino: 2,
            size: 3,
            mtime,
            ctime,
            raw_mode: 0o100_644,
        }
    }

    /// Decided here because a kernel with finer times (Linux 6.13) hides what coarse ones would do.
    #[test]
    fn only_times_older_than_the_grain_prove_anything() {
        let known = UNIX_EPOCH + Duration::from_secs(100);
        let proves = |mtime, ctime| stamp(mtime, ctime).proves_since(known);
        assert!(proves((50, PART), (99, 970_000_000)));
        assert!(!proves((50, PART), (99, 990_000_000)));
        assert!(!proves((99, 990_000_000), (50, PART)));
        assert!(!proves((50, PART), (100, 500)), "changed after it was known");
        assert!(proves((5000, PART), (50, PART)), "an mtime set by hand");
        assert!(!proves((98, 0), (98, 0)), "whole seconds have a grain of two");
        assert!(proves((97, 0), (97, 0)));
    }
}
