//! What somebody may do.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// What the holder of a token may do. Of the three for users each may do what the one before it may; `Agent` is for
/// machines, and is none of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[repr(u8)]
pub enum Role {
    /// Enrol one machine as a node.
    Agent = 1,
    /// See jobs, what they wrote and left, and nodes.
    Viewer = 2,
    /// Besides: submit jobs, and cancel and remove one's own.
    Submitter = 3,
    /// Everything: other users' jobs, nodes, targets, tokens.
    Admin = 4,
}

/// Text that is no role.
#[derive(Debug, thiserror::Error)]
#[error("{0:?} is not a role: it is one of agent, viewer, submitter, admin")]
pub struct NotARole(String);

impl Role {
    /// Every role.
    pub const ALL: [Self; 4] = [Self::Agent, Self::Viewer, Self::Submitter, Self::Admin];

    /// The word, as printed and stored.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Agent => "agent",
            Self::Viewer => "viewer",
            Self::Submitter => "submitter",
            Self::Admin => "admin",
        }
    }

    /// Whether a user of this role may do what `needed` may.
    #[must_use]
    pub fn covers(self, needed: Self) -> bool {
        self != Self::Agent && self >= needed
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl FromStr for Role {
    type Err = NotARole;

    fn from_str(text: &str) -> Result<Self, NotARole> {
        Self::ALL
            .into_iter()
            .find(|role| role.as_str() == text)
            .ok_or_else(|| NotARole(text.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn roles_are_read_printed_and_ordered() {
        for role in Role::ALL {
            assert_eq!(role.to_string().parse::<Role>().unwrap(), role);
        }
        assert!("root".parse::<Role>().is_err());
        assert!(Role::Admin.covers(Role::Submitter) && Role::Submitter.covers(Role::Viewer));
        assert!(!Role::Viewer.covers(Role::Submitter) && !Role::Agent.covers(Role::Viewer));
    }
}
