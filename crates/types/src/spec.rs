//! What a user asks for.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::{Digest, Scheduling, TaskIndex};

/// A job, as submitted. It does not change afterwards; `haul rerun` submits a copy.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobSpec {
    /// A name for people; not unique.
    pub name: String,
    /// The program and its arguments. `{python}` as the first word stands for the environment's interpreter.
    pub command: Vec<String>,
    /// The directory's snapshot.
    pub snapshot: Digest,
    /// Where in the snapshot the command is started; empty for its root.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub working_dir: String,
    /// Extra environment variables.
    #[serde(default)]
    pub env: BTreeMap<String, String>,
    /// What the script runs in.
    #[serde(default)]
    pub environment: EnvironmentSpec,
    /// More than one task.
    #[serde(default)]
    pub array: Option<ArraySpec>,
    /// The time one attempt's script may run.
    #[serde(default)]
    pub timeout: Option<Duration>,
    /// The time between TERM and KILL when it is stopped.
    pub grace: Duration,
    /// Where it may run, before whom, and what becomes of it when something else fails.
    #[serde(default)]
    pub scheduling: Scheduling,
}

impl JobSpec {
    /// The first word of a command that is run by the environment's Python.
    pub const PYTHON: &'static str = "{python}";
}

/// What a script runs in.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "kind")]
pub enum EnvironmentSpec {
    /// Whatever the node has: its own `PATH`, its own `python3`.
    #[default]
    Node,
    /// An interpreter that is there already, by path on the node.
    Python {
        /// The interpreter, an absolute path or a name on the node's `PATH`.
        interpreter: String,
    },
    /// A virtual environment, made by uv from files of the snapshot, known by their content.
    Venv {
        /// What to install.
        requirements: Requirements,
        /// The Python to build on: a version (`3.11`) or a path; the node's `python3` when absent.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        python: Option<String>,
    },
}

/// Where a virtual environment's packages are named; the paths are relative to the snapshot's root.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "from")]
pub enum Requirements {
    /// A pip requirements file (which may include others by `-r`).
    RequirementsTxt {
        /// The file.
        path: String,
    },
    /// A project: `pyproject.toml`, and `uv.lock` beside it if there is one.
    Project {
        /// The `pyproject.toml`.
        path: String,
    },
}

/// The tasks of a job that has many: `first-last[%parallel]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ArraySpec {
    /// The first index.
    pub first: TaskIndex,
    /// The last index, included.
    pub last: TaskIndex,
    /// At most so many at a time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parallel: Option<u32>,
}

/// Text that is no array.
#[derive(Debug, thiserror::Error)]
#[error("{0:?} is not an array: write FIRST-LAST or FIRST-LAST%PARALLEL, as in 1-1000%50 (at most {max} tasks)", max = ArraySpec::MAX_TASKS)]
pub struct NotAnArray(String);

impl ArraySpec {
    /// The most tasks one job can have.
    pub const MAX_TASKS: u32 = 1_000_000;

    /// How many tasks there are.
    #[must_use]
    pub const fn len(&self) -> u32 {
        self.last - self.first + 1
    }

    /// An array always has a task.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        false
    }
}

impl FromStr for ArraySpec {
    type Err = NotAnArray;

    fn from_str(text: &str) -> Result<Self, NotAnArray> {
        let bad = || NotAnArray(text.to_owned());
        let (range, parallel) = match text.split_once('%') {
            Some((range, parallel)) => (range, Some(parallel.parse().map_err(|_| bad())?)),
            None => (text, None),
        };
        let (first, last) = range.split_once('-').ok_or_else(bad)?;
        let first: TaskIndex = first.parse().map_err(|_| bad())?;
        let last: TaskIndex = last.parse().map_err(|_| bad())?;
        if first > last || last - first >= Self::MAX_TASKS || parallel == Some(0) {
            return Err(bad());
        }
        Ok(Self {
            first,
            last,
            parallel,
        })
    }
}

impl fmt::Display for ArraySpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.first, self.last)?;
        self.parallel.map_or(Ok(()), |parallel| write!(f, "%{parallel}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arrays_are_read_and_printed() {
        for good in ["1-1000%50", "0-0", "5-9"] {
            assert_eq!(good.parse::<ArraySpec>().unwrap().to_string(), good);
        }
        for bad in ["", "5", "9-5", "1-2%0", "1-2%", "-1-2", "0-1000000", "a-b"] {
            assert!(bad.parse::<ArraySpec>().is_err(), "{bad}");
        }
    }
}
