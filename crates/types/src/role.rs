//! What whoever holds a token may do.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// A role, from the least to the most for users; an agent stands beside them. The numbers are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[repr(u8)]
pub enum Role {
    /// May enrol one machine, once.
    Agent = 1,
    /// May look.
    Viewer = 2,
    /// May look, submit jobs, and cancel and remove what they submitted.
    Submitter = 3,
    /// May do everything.
    Admin = 4,
}

/// Text that is no role.
#[derive(Debug, thiserror::Error)]
#[error("{0:?} is not a role: use agent, viewer, submitter or admin")]
pub struct NotARole(String);

impl Role {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Agent, Self::Viewer, Self::Submitter, Self::Admin];

    /// Its word.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Agent => "agent",
            Self::Viewer => "viewer",
            Self::Submitter => "submitter",
            Self::Admin => "admin",
        }
    }

    /// Whether a user of this role may do what `needed` may. Of the three for users each may do what the one before it
    /// may; an agent's is none of them.
    #[must_use]
    pub fn covers(self, needed: Self) -> bool {
        self != Self::Agent && self >= needed
    }

    /// The role of a number.
    #[must_use]
    pub fn from_number(number: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|role| *role as u8 == number)
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
    fn roles_survive_their_word_and_their_number() {
        for role in Role::ALL {
            assert_eq!(role.to_string().parse::<Role>().unwrap(), role);
            assert_eq!(Role::from_number(role as u8), Some(role));
        }
        assert!("root".parse::<Role>().is_err());
        assert_eq!(Role::from_number(0), None);
    }

    #[test]
    fn each_role_for_users_covers_the_one_before() {
        assert!(Role::Admin.covers(Role::Submitter) && Role::Submitter.covers(Role::Viewer));
        assert!(!Role::Viewer.covers(Role::Submitter) && !Role::Agent.covers(Role::Viewer));
    }
}
