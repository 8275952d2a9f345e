//! The streams a task writes.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::{Attempt, TaskIndex};

/// One of the byte streams of an attempt. The numbers are stored and sent: they never change meaning.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[repr(u8)]
pub enum StreamKind {
    /// What preparing the job said: the build of its environment, warnings.
    Setup = 1,
    /// The script's standard output.
    Stdout = 2,
    /// The script's standard error.
    Stderr = 3,
}

/// Text or a number that names no stream.
#[derive(Debug, thiserror::Error)]
#[error("unknown stream {0:?}: expected setup, stdout or stderr")]
pub struct UnknownStream(String);

impl StreamKind {
    /// Every kind, in order of number.
    pub const ALL: [Self; 3] = [Self::Setup, Self::Stdout, Self::Stderr];

    /// The name, as users type it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Setup => "setup",
            Self::Stdout => "stdout",
            Self::Stderr => "stderr",
        }
    }
}

impl fmt::Display for StreamKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for StreamKind {
    type Err = UnknownStream;

    fn from_str(text: &str) -> Result<Self, UnknownStream> {
        Self::ALL
            .into_iter()
            .find(|kind| kind.as_str() == text)
            .ok_or_else(|| UnknownStream(text.to_owned()))
    }
}

impl TryFrom<u8> for StreamKind {
    type Error = UnknownStream;

    fn try_from(number: u8) -> Result<Self, UnknownStream> {
        Self::ALL
            .into_iter()
            .find(|&kind| kind as u8 == number)
            .ok_or_else(|| UnknownStream(number.to_string()))
    }
}

/// One stream of one attempt at one task, within a job.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StreamKey {
    /// The task.
    pub task: TaskIndex,
    /// The try.
    pub attempt: Attempt,
    /// Which stream.
    pub kind: StreamKind,
}
