//! Where a job may run, before whom, and what becomes of it when something else fails than the job itself.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::quantity::{NotAQuantity, parse_duration};
use crate::{Resources, TargetName};

/// What a job asks of the scheduler.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Scheduling {
    /// Where to run: a declared target, or a node of that name; anywhere when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target: Option<TargetName>,
    /// What each of its tasks needs.
    #[serde(default)]
    pub resources: Resources,
    /// Jobs of a higher one go first.
    #[serde(default)]
    pub priority: Priority,
    /// Whether a task is tried again.
    #[serde(default)]
    pub retries: RetryPolicy,
    /// The time a task may wait for a node; it has failed after that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub queue_timeout: Option<Duration>,
    /// What to do when the node of a task cannot be reached.
    #[serde(default)]
    pub on_disconnect: OnDisconnect,
}

/// Who goes first: -100 to 100, higher before lower.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "i32", into = "i32")]
pub struct Priority(i8);

/// A number that is no priority.
#[derive(Debug, thiserror::Error)]
#[error("{0} is not a priority: write a whole number from -100 to 100")]
pub struct NotAPriority(String);

impl Priority {
    /// As a number.
    #[must_use]
    pub const fn get(self) -> i8 {
        self.0
    }
}

impl TryFrom<i32> for Priority {
    type Error = NotAPriority;

    fn try_from(number: i32) -> Result<Self, NotAPriority> {
        match i8::try_from(number) {
            Ok(small @ -100..=100) => Ok(Self(small)),
            _ => Err(NotAPriority(number.to_string())),
        }
    }
}

impl From<Priority> for i32 {
    fn from(priority: Priority) -> Self {
        priority.0.into()
    }
}

impl FromStr for Priority {
    type Err = NotAPriority;

    fn from_str(text: &str) -> Result<Self, NotAPriority> {
        let number: i32 = text.parse().map_err(|_| NotAPriority(text.to_owned()))?;
        number.try_into()
    }
}

impl fmt::Display for Priority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// Whether a task that came to nothing is tried again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RetryPolicy {
    /// How often, for each task. When nothing is said, an attempt that certainly never started is made up for
    /// [`RetryPolicy::UNSTARTED`] times, and one that may have run is not: only its owner knows whether that is safe.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<u32>,
    /// After what.
    #[serde(default)]
    pub on: RetryOn,
}

impl RetryPolicy {
    /// How often an attempt that never started is made up for when nothing is said.
    pub const UNSTARTED: u32 = 2;
    /// The most that can be asked for.
    pub const MAX: u32 = 1000;

    /// How often a task is tried again after an end of this kind.
    #[must_use]
    pub fn allowed(self, after: Loss) -> u32 {
        match (after, self.on) {
            (Loss::Unstarted, _) => self.limit.unwrap_or(Self::UNSTARTED),
            (Loss::Lost, _) | (Loss::Failed, RetryOn::Any) => self.limit.unwrap_or(0),
            (Loss::Failed, RetryOn::Infrastructure) => 0,
        }
    }
}

/// How an attempt came to nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Loss {
    /// The infrastructure failed, and the script had certainly not started.
    Unstarted,
    /// The infrastructure failed, and nobody knows how far the script came.
    Lost,
    /// The job itself failed.
    Failed,
}

/// After what a task is tried again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RetryOn {
    /// Only when something else failed than the job: a machine, an agent, a supervisor.
    #[default]
    Infrastructure,
    /// After any failure.
    Any,
}

impl RetryOn {
    /// The word, as printed and read.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Infrastructure => "infrastructure",
            Self::Any => "any",
        }
    }
}

/// What to do with a task whose node cannot be reached.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "policy")]
pub enum OnDisconnect {
    /// Wait until the node comes back: it may be running all the while.
    #[default]
    Wait,
    /// Start it somewhere else. The attempt that was cut off may still run; nothing that it says is taken any more.
    Replace {
        /// Once the node has been away for so long.
        after: Duration,
    },
}

impl OnDisconnect {
    /// How long a node may be away before its tasks are replaced, when nothing is said.
    pub const REPLACE_AFTER: Duration = Duration::from_secs(600);
}

/// Text that is no policy for lost connections.
#[derive(Debug, thiserror::Error)]
pub enum NotOnDisconnect {
    /// An unknown word.
    #[error(
        "{0:?} says nothing about lost connections: write wait, replace, or replace:DURATION as in replace:10m"
    )]
    Word(String),
    /// A duration that is none.
    #[error(transparent)]
    Duration(#[from] NotAQuantity),
}

impl FromStr for OnDisconnect {
    type Err = NotOnDisconnect;

    fn from_str(text: &str) -> Result<Self, NotOnDisconnect> {
        match text.split_once(':') {
            None if text == "wait" => Ok(Self::Wait),
            None if text == "replace" => Ok(Self::Replace {
                after: Self::REPLACE_AFTER,
            }),
            Some(("replace", after)) => Ok(Self::Replace {
                after: parse_duration(after)?,
            }),
            _ => Err(NotOnDisconnect::Word(text.to_owned())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn policies_are_read() {
        assert_eq!("wait".parse::<OnDisconnect>().unwrap(), OnDisconnect::Wait);
        let after = Duration::from_secs(90);
        assert_eq!(
            "replace:90s".parse::<OnDisconnect>().unwrap(),
            OnDisconnect::Replace { after }
        );
        for bad in ["", "kill", "wait:3s", "replace:", "replace:3"] {
            assert!(bad.parse::<OnDisconnect>().is_err(), "{bad:?}");
        }
        for bad in ["101", "-101", "x", "1.5"] {
            assert!(bad.parse::<Priority>().is_err(), "{bad:?}");
        }
        assert_eq!("-100".parse::<Priority>().unwrap().get(), -100);
    }

    #[test]
    fn a_run_that_may_have_happened_is_repeated_only_if_somebody_said_so() {
        let usual = RetryPolicy::default();
        assert_eq!(usual.allowed(Loss::Unstarted), 2);
        assert_eq!(usual.allowed(Loss::Lost), 0);
        assert_eq!(usual.allowed(Loss::Failed), 0);
        let asked = RetryPolicy {
            limit: Some(5),
            on: RetryOn::Infrastructure,
        };
        assert_eq!((asked.allowed(Loss::Lost), asked.allowed(Loss::Failed)), (5, 0));
        let any = RetryPolicy {
            on: RetryOn::Any,
            ..asked
        };
        assert_eq!(any.allowed(Loss::Failed), 5);
    }
}
