//! Nodes and targets: the machines that run jobs, and what they are called together.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::{ByteSize, NodeName, Resources, TargetName};

/// What a node is known to have.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Inventory {
    /// What its tasks may take together.
    pub capacity: Resources,
    /// Words for choosing it: `gpu=a100`.
    #[serde(default)]
    pub labels: Labels,
    /// Its GPUs; for show.
    #[serde(default)]
    pub gpus: Vec<Gpu>,
    /// What it can hold a task to.
    #[serde(default)]
    pub enforces: Enforcement,
}

/// Words for choosing a node.
pub type Labels = BTreeMap<String, String>;

/// Reads `KEY=VALUE`.
pub fn parse_label(text: &str) -> Result<(String, String), NotALabel> {
    match text.split_once('=') {
        Some((key, value)) if is_label(key) && is_label(value) => Ok((key.to_owned(), value.to_owned())),
        _ => Err(NotALabel(text.to_owned())),
    }
}

/// Whether `text` can be a label's key or value.
#[must_use]
pub fn is_label(text: &str) -> bool {
    (1..=63).contains(&text.len())
        && text
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"-_./".contains(&byte))
}

/// Text that is no label.
#[derive(Debug, thiserror::Error)]
#[error("{0:?} is not a label: write KEY=VALUE, each of 1 to 63 letters, digits, `-`, `_`, `.` and `/`")]
pub struct NotALabel(String);

/// A GPU of a node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Gpu {
    /// The model.
    pub name: String,
    /// What tells it from every other.
    pub uuid: String,
    /// Its memory.
    pub memory: ByteSize,
}

/// Which requests a node holds a task to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Enforcement {
    /// Processor time.
    pub cpus: bool,
    /// Memory.
    pub memory: bool,
}

/// Whether a node is given work; it stays so until somebody says otherwise.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[repr(u8)]
pub enum Admission {
    /// It is.
    #[default]
    Open = 1,
    /// It runs what it has and is given nothing new; then it is cordoned.
    Draining = 2,
    /// It is given nothing new.
    Cordoned = 3,
}

impl Admission {
    /// All of them, in order of number.
    pub const ALL: [Self; 3] = [Self::Open, Self::Draining, Self::Cordoned];
}

/// How a node stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[repr(u8)]
pub enum NodeState {
    /// Connected, and takes work.
    Ready = 1,
    /// Connected; runs what it has and takes nothing new.
    Draining = 2,
    /// Connected; takes nothing new.
    Cordoned = 3,
    /// Not connected; what it has may go on there.
    Unreachable = 4,
    /// It may not come back.
    Gone = 5,
}

impl NodeState {
    /// All of them, in order of number.
    pub const ALL: [Self; 5] = [
        Self::Ready,
        Self::Draining,
        Self::Cordoned,
        Self::Unreachable,
        Self::Gone,
    ];

    /// The word, as printed.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Ready => "ready",
            Self::Draining => "draining",
            Self::Cordoned => "cordoned",
            Self::Unreachable => "unreachable",
            Self::Gone => "gone",
        }
    }
}

impl fmt::Display for NodeState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// A node, as the controller keeps it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeRecord {
    /// Its name.
    pub name: NodeName,
    /// What tells its agent's state directory from every other; empty if it does not say.
    #[serde(default)]
    pub instance: String,
    /// What it has.
    pub inventory: Inventory,
    /// Whether it is given work.
    pub admission: Admission,
    /// When it was last connected, by the controller's clock, in milliseconds since 1970.
    pub last_seen_unix_ms: u64,
}

/// How to choose among nodes that could all take a task.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[repr(u8)]
pub enum Placement {
    /// The one with the most room: tasks are in each other's way least.
    #[default]
    Spread = 1,
    /// The one with the least room: the others stay free for large tasks.
    Pack = 2,
}

impl Placement {
    /// All of them, in order of number.
    pub const ALL: [Self; 2] = [Self::Spread, Self::Pack];

    /// The word, as printed and read.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Spread => "spread",
            Self::Pack => "pack",
        }
    }
}

/// A target: nodes that have a name together.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TargetRecord {
    /// Its name.
    pub name: TargetName,
    /// Nodes that belong to it by name.
    #[serde(default)]
    pub nodes: BTreeSet<NodeName>,
    /// Nodes that have all of these labels belong to it too; none do when there are no labels here.
    #[serde(default)]
    pub labels: Labels,
    /// How to choose among its nodes.
    #[serde(default)]
    pub placement: Placement,
}

impl TargetRecord {
    /// Whether a node of this name, with these labels, belongs to it.
    #[must_use]
    pub fn has(&self, node: &NodeName, labels: &Labels) -> bool {
        self.nodes.contains(node)
            || (!self.labels.is_empty()
                && self
                    .labels
                    .iter()
                    .all(|(key, value)| labels.get(key) == Some(value)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_target_has_nodes_by_name_and_by_all_of_its_labels() {
        let name = |text: &str| NodeName::try_from(text.to_owned()).unwrap();
        let labels =
            |pairs: &[&str]| -> Labels { pairs.iter().map(|pair| parse_label(pair).unwrap()).collect() };
        let mut target = TargetRecord {
            name: TargetName::try_from("gpu".to_owned()).unwrap(),
            nodes: [name("a")].into(),
            labels: labels(&["gpu=a100", "zone=x"]),
            placement: Placement::Spread,
        };
        assert!(target.has(&name("a"), &labels(&[])));
        assert!(target.has(&name("b"), &labels(&["zone=x", "gpu=a100", "more=1"])));
        assert!(!target.has(&name("b"), &labels(&["gpu=a100"])));
        target.labels.clear();
        assert!(!target.has(&name("b"), &labels(&["gpu=a100"])));
    }

    #[test]
    fn labels_are_checked() {
        for bad in ["", "a", "=b", "a=", "a b=c", "a=b=c"] {
            assert!(parse_label(bad).is_err(), "{bad:?}");
        }
    }
}
