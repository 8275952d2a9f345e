//! What a task needs of a machine, and what a machine has.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::ByteSize;

/// Processors, counted in thousandths: `2` is two of them, `0.5` or `500m` half a one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Cpus(u32);

/// Text that is no number of processors.
#[derive(Debug, thiserror::Error)]
#[error("{0:?} is not a number of CPUs: write one as in 4, 0.5 or 500m, from 0.001 to 1000000")]
pub struct NotCpus(String);

impl Cpus {
    /// One processor: what a task gets that asks for nothing.
    pub const ONE: Self = Self(1000);
    /// The most that can be asked for.
    const MAX_MILLIS: u32 = 1_000_000_000;

    /// So many thousandths.
    #[must_use]
    pub const fn from_millis(millis: u32) -> Self {
        Self(millis)
    }

    /// So many whole ones; more than can be counted is the most that can.
    #[must_use]
    pub const fn whole(count: u32) -> Self {
        Self(count.saturating_mul(1000))
    }

    /// In thousandths.
    #[must_use]
    pub const fn millis(self) -> u32 {
        self.0
    }
}

impl FromStr for Cpus {
    type Err = NotCpus;

    fn from_str(text: &str) -> Result<Self, NotCpus> {
        let bad = || NotCpus(text.to_owned());
        let millis = match text.trim().strip_suffix('m') {
            Some(millis) => f64::from(millis.parse::<u32>().map_err(|_| bad())?),
            None => text.trim().parse::<f64>().map_err(|_| bad())? * 1000.0,
        };
        // A NaN is in no range.
        if (1.0..=f64::from(Self::MAX_MILLIS)).contains(&millis) {
            Ok(Self(millis.round() as u32))
        } else {
            Err(bad())
        }
    }
}

impl fmt::Display for Cpus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (whole, rest) = (self.0 / 1000, self.0 % 1000);
        if rest == 0 {
            write!(f, "{whole}")
        } else {
            write!(f, "{}", format!("{whole}.{rest:03}").trim_end_matches('0'))
        }
    }
}

/// What one task asks for, or a machine has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Resources {
    /// Processors.
    pub cpus: Cpus,
    /// Memory; 0 in a request says nothing about it, 0 of a machine that it does not tell.
    #[serde(default)]
    pub memory: ByteSize,
}

impl Default for Resources {
    /// What a task gets that asks for nothing: one processor, and nothing said about memory.
    fn default() -> Self {
        Self {
            cpus: Cpus::ONE,
            memory: ByteSize(0),
        }
    }
}

impl Resources {
    /// Nothing at all.
    pub const NONE: Self = Self {
        cpus: Cpus(0),
        memory: ByteSize(0),
    };

    /// Whether all of `request` is here.
    #[must_use]
    pub const fn covers(self, request: Self) -> bool {
        self.cpus.0 >= request.cpus.0 && self.memory.0 >= request.memory.0
    }

    /// What is left without `part`, never less than nothing.
    #[must_use]
    pub const fn less(self, part: Self) -> Self {
        Self {
            cpus: Cpus(self.cpus.0.saturating_sub(part.cpus.0)),
            memory: ByteSize(self.memory.0.saturating_sub(part.memory.0)),
        }
    }

    /// Both together.
    #[must_use]
    pub const fn plus(self, part: Self) -> Self {
        Self {
            cpus: Cpus(self.cpus.0.saturating_add(part.cpus.0)),
            memory: ByteSize(self.memory.0.saturating_add(part.memory.0)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cpus_are_read_and_printed() {
        for (text, millis, printed) in [
            ("4", 4000, "4"),
            ("0.5", 500, "0.5"),
            ("500m", 500, "0.5"),
            ("1.25", 1250, "1.25"),
        ] {
            let cpus: Cpus = text.parse().unwrap();
            assert_eq!((cpus.millis(), cpus.to_string().as_str()), (millis, printed));
        }
        for bad in ["", "0", "-1", "x", "0.0001", "NaN", "inf", "1e12", "m", "0.5m"] {
            assert!(bad.parse::<Cpus>().is_err(), "{bad:?}");
        }
    }
}
