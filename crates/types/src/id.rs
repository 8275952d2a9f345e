//! Identifiers: one type for each kind of thing.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::Digest;

/// The letters of a job id: digits and lowercase letters without `i`, `l`, `o`, `u` (Crockford's base 32).
const ALPHABET: &[u8; 32] = b"0123456789abcdefghjkmnpqrstvwxyz";
/// Letters in a job id; 5 bits each.
const JOB_ID_LETTERS: usize = 12;

/// A job: 60 random bits, chosen by whoever submits (so that a repeated submission is recognised), printed as 12
/// letters of Crockford's base 32. Random from the first letter on, so that a short prefix is enough to name a job.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct JobId(u64);

/// Text or a number that is not a job id.
#[derive(Debug, thiserror::Error)]
#[error("not a job id: expected 12 letters and digits, as `haul jobs` prints them")]
pub struct NotAJobId;

impl JobId {
    /// A new random id.
    #[must_use]
    pub fn random() -> Self {
        let bits = uuid::Uuid::new_v4().as_u64_pair();
        // The top bits of the second half carry the UUID variant; the mask keeps 60 random ones of the mix.
        Self((bits.0.rotate_left(17) ^ bits.1) & ((1 << 60) - 1))
    }

    /// The 60 bits, as stored and sent.
    #[must_use]
    pub const fn to_bits(self) -> u64 {
        self.0
    }

    /// The id of these bits; the upper four must be zero.
    pub const fn from_bits(bits: u64) -> Result<Self, NotAJobId> {
        if bits >> 60 == 0 {
            Ok(Self(bits))
        } else {
            Err(NotAJobId)
        }
    }
}

impl fmt::Display for JobId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut letters = [0u8; JOB_ID_LETTERS];
        for (place, letter) in letters.iter_mut().rev().enumerate() {
            *letter = ALPHABET[(self.0 >> (5 * place)) as usize & 31];
        }
        f.write_str(std::str::from_utf8(&letters).map_err(|_| fmt::Error)?)
    }
}

impl fmt::Debug for JobId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "JobId({self})")
    }
}

impl FromStr for JobId {
    type Err = NotAJobId;

    fn from_str(text: &str) -> Result<Self, NotAJobId> {
        if text.len() != JOB_ID_LETTERS {
            return Err(NotAJobId);
        }
        text.bytes()
            .try_fold(0u64, |bits, letter| {
                let value = ALPHABET
                    .iter()
                    .position(|&a| a == letter.to_ascii_lowercase())
                    .ok_or(NotAJobId)?;
                Ok(bits << 5 | value as u64)
            })
            .map(Self)
    }
}

impl TryFrom<String> for JobId {
    type Error = NotAJobId;

    fn try_from(text: String) -> Result<Self, NotAJobId> {
        text.parse()
    }
}

impl From<JobId> for String {
    fn from(id: JobId) -> Self {
        id.to_string()
    }
}

/// Which task of a job; the number the user gave in `--array`, or 0 for a job without an array.
pub type TaskIndex = u32;

/// Which try at a task, from 1. It is the fence: what comes from an earlier attempt is refused.
pub type Attempt = u32;

/// One task of one job.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct TaskId {
    /// The job.
    pub job: JobId,
    /// The task within it.
    pub index: TaskIndex,
}

impl fmt::Display for TaskId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.job, self.index)
    }
}

/// One try at one task.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct AttemptId {
    /// The task.
    pub task: TaskId,
    /// The try, from 1.
    pub attempt: Attempt,
}

impl AttemptId {
    /// The attempt of these parts.
    #[must_use]
    pub const fn new(job: JobId, index: TaskIndex, attempt: Attempt) -> Self {
        Self {
            task: TaskId { job, index },
            attempt,
        }
    }
}

impl fmt::Display for AttemptId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.task, self.attempt)
    }
}

/// Text that names no attempt.
#[derive(Debug, thiserror::Error)]
#[error("{0:?} is not an attempt: expected JOB.TASK.ATTEMPT, with attempts counted from 1")]
pub struct NotAnAttemptId(String);

impl FromStr for AttemptId {
    type Err = NotAnAttemptId;

    /// Reads what is printed.
    fn from_str(text: &str) -> Result<Self, NotAnAttemptId> {
        let mut parts = text.split('.');
        let id = (|| {
            let job = parts.next()?.parse().ok()?;
            let index = parts.next()?.parse().ok()?;
            let attempt = parts.next()?.parse().ok().filter(|&attempt| attempt > 0)?;
            Some(Self::new(job, index, attempt))
        })();
        id.filter(|_| parts.next().is_none())
            .ok_or_else(|| NotAnAttemptId(text.to_owned()))
    }
}

/// The name of a node: 1 to 63 letters, digits, `-`, `_` and `.`, beginning with a letter or digit.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct NodeName(String);

/// Text that cannot name a node.
#[derive(Debug, thiserror::Error)]
#[error(
    "{0:?} cannot name a node: use 1 to 63 letters, digits, `-`, `_` and `.`, beginning with a letter or digit"
)]
pub struct NotANodeName(String);

impl NodeName {
    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl std::borrow::Borrow<str> for NodeName {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for NodeName {
    type Error = NotANodeName;

    fn try_from(name: String) -> Result<Self, NotANodeName> {
        if is_name(&name) {
            Ok(Self(name))
        } else {
            Err(NotANodeName(name))
        }
    }
}

impl From<NodeName> for String {
    fn from(name: NodeName) -> Self {
        name.0
    }
}

impl fmt::Display for NodeName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A node as it was enrolled once: a random UUID. A name may pass from one machine to another; this does not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct NodeId(uuid::Uuid);

/// Text or bytes that are no node id.
#[derive(Debug, thiserror::Error)]
#[error("not a node id: expected a UUID")]
pub struct NotANodeId;

impl NodeId {
    /// A new random id.
    #[must_use]
    pub fn random() -> Self {
        Self(uuid::Uuid::new_v4())
    }

    /// The 16 bytes, as stored.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 16] {
        self.0.as_bytes()
    }

    /// The id of these bytes.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(uuid::Uuid::from_bytes(bytes))
    }
}

impl fmt::Display for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.hyphenated().fmt(f)
    }
}

impl FromStr for NodeId {
    type Err = NotANodeId;

    fn from_str(text: &str) -> Result<Self, NotANodeId> {
        uuid::Uuid::try_parse(text).map(Self).map_err(|_| NotANodeId)
    }
}

/// A token as lists show it: the first 12 hexadecimal digits of the hash that is stored of it. Who has the token can
/// tell its id; the id tells nothing of the token.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct TokenId(u64);

/// Text that is no token id.
#[derive(Debug, thiserror::Error)]
#[error("not a token id: expected 12 hexadecimal digits, as `haul token ls` prints them")]
pub struct NotATokenId;

impl TokenId {
    /// The id of the token of this hash.
    #[must_use]
    pub fn of_hash(hash: &Digest) -> Self {
        let head = hash
            .as_bytes()
            .first_chunk::<8>()
            .map_or(0, |head| u64::from_be_bytes(*head));
        Self(head >> 16)
    }

    /// The 48 bits, as stored.
    #[must_use]
    pub const fn to_bits(self) -> u64 {
        self.0
    }
}

impl fmt::Display for TokenId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:012x}", self.0)
    }
}

impl fmt::Debug for TokenId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TokenId({self})")
    }
}

impl FromStr for TokenId {
    type Err = NotATokenId;

    fn from_str(text: &str) -> Result<Self, NotATokenId> {
        if text.len() == 12 && text.bytes().all(|digit| digit.is_ascii_hexdigit()) {
            u64::from_str_radix(text, 16).map(Self).map_err(|_| NotATokenId)
        } else {
            Err(NotATokenId)
        }
    }
}

impl TryFrom<String> for TokenId {
    type Error = NotATokenId;

    fn try_from(text: String) -> Result<Self, NotATokenId> {
        text.parse()
    }
}

impl From<TokenId> for String {
    fn from(id: TokenId) -> Self {
        id.to_string()
    }
}

/// Whether `text` can name a node or a target.
fn is_name(text: &str) -> bool {
    (1..=63).contains(&text.len())
        && text.as_bytes()[0].is_ascii_alphanumeric()
        && text
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b))
}

/// The name of a target: as that of a node, because a node's name stands for that node alone.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct TargetName(String);

/// Text that cannot name a target.
#[derive(Debug, thiserror::Error)]
#[error(
    "{0:?} cannot name a target: use 1 to 63 letters, digits, `-`, `_` and `.`, beginning with a letter or digit"
)]
pub struct NotATargetName(String);

impl TargetName {
    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for TargetName {
    type Error = NotATargetName;

    fn try_from(name: String) -> Result<Self, NotATargetName> {
        if is_name(&name) {
            Ok(Self(name))
        } else {
            Err(NotATargetName(name))
        }
    }
}

impl FromStr for TargetName {
    type Err = NotATargetName;

    fn from_str(text: &str) -> Result<Self, NotATargetName> {
        Self::try_from(text.to_owned())
    }
}

impl From<TargetName> for String {
    fn from(name: TargetName) -> Self {
        name.0
    }
}

impl fmt::Display for TargetName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn job_ids_survive_printing(bits in 0u64..1 << 60) {
            let id = JobId::from_bits(bits).unwrap();
            prop_assert_eq!(id.to_string().len(), JOB_ID_LETTERS);
            prop_assert_eq!(id.to_string().parse::<JobId>().unwrap(), id);
        }
    }

    #[test]
    fn attempts_are_read_and_printed() {
        let id = AttemptId::new(JobId::from_bits(77).unwrap(), 3, 2);
        assert_eq!(id.to_string().parse::<AttemptId>().unwrap(), id);
        for bad in [
            "",
            "00000000002d",
            "00000000002d.3",
            "00000000002d.3.0",
            "00000000002d.3.2.1",
            "x.3.2",
        ] {
            assert!(bad.parse::<AttemptId>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn token_ids_are_the_head_of_the_hash() {
        let hash = Digest::of(b"a secret");
        let id = TokenId::of_hash(&hash);
        assert_eq!(id.to_string(), hash.to_string()[..12]);
        assert_eq!(id.to_string().parse::<TokenId>().unwrap(), id);
        for bad in ["", "+12345678901", "0123456789ab0", "g12345678901"] {
            assert!(bad.parse::<TokenId>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn node_names_are_checked() {
        assert!(NodeName::try_from("gpu-box.1".to_owned()).is_ok());
        for bad in ["", "-x", "a b", "a/b", &"x".repeat(64)] {
            assert!(NodeName::try_from(bad.to_owned()).is_err(), "{bad:?}");
        }
    }
}
