//! The agent's configuration file, `agent.toml`.

use std::path::PathBuf;

use haul_types::{ByteSize, Labels, NodeName, deserialize_size};
use serde::Deserialize;

/// Its name in the state directory, where it is looked for if no other file is named.
pub const CONFIG_FILE: &str = "agent.toml";

/// What the file may say; flags go over it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct AgentFile {
    /// Where it keeps jobs in progress, and who it is.
    pub state_dir: Option<PathBuf>,
    /// Where it keeps environments.
    pub cache_dir: Option<PathBuf>,
    /// The Unix socket of a controller on this machine, for a node that did not join one elsewhere.
    pub socket: Option<PathBuf>,
    /// The node's name; a node that joined has the one that it joined with.
    pub node: Option<NodeName>,
    /// Processors that tasks may take together.
    pub slots: Option<std::num::NonZero<u32>>,
    /// Memory that tasks may take together, as in `"64GB"`.
    #[serde(deserialize_with = "deserialize_size")]
    pub memory: Option<ByteSize>,
    /// Words for choosing this node.
    pub labels: Labels,
    /// The most that environments may take, as in `"20GB"`.
    #[serde(deserialize_with = "deserialize_size")]
    pub environment_budget: Option<ByteSize>,
    /// The uv to build environments with.
    pub uv: Option<PathBuf>,
    /// The socket of haul-launcher.
    pub launcher: Option<PathBuf>,
}
