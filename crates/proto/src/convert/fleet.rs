//! Nodes and targets, between the contract and the types.

use std::collections::{BTreeSet, HashMap};

use haul_types as t;

use super::BadMessage;
use crate::v1;

/// The most labels that a node or a target has.
const MAX_LABELS: usize = 64;
/// The most nodes that a target names.
const MAX_NODES: usize = 10_000;

fn labels_from(labels: &HashMap<String, String>) -> Result<t::Labels, BadMessage> {
    if labels.len() > MAX_LABELS {
        return Err(BadMessage::new("labels", format!("are more than {MAX_LABELS}")));
    }
    for (key, value) in labels {
        if !t::node::is_label(key) || !t::node::is_label(value) {
            return Err(BadMessage::new(
                "labels",
                format!("{key:?}={value:?} is not a label"),
            ));
        }
    }
    Ok(labels.clone().into_iter().collect())
}

/// What a hello says that the node has. An agent of the first version says nothing but its slots.
pub fn inventory(slots: u32, message: Option<&v1::Inventory>) -> Result<t::Inventory, BadMessage> {
    if slots == 0 {
        return Err(BadMessage::new("slots", "a node has at least one"));
    }
    let nothing = v1::Inventory::default();
    let message = message.unwrap_or(&nothing);
    Ok(t::Inventory {
        capacity: t::Resources {
            cpus: t::Cpus::whole(slots),
            memory: t::ByteSize(message.memory_bytes),
        },
        labels: labels_from(&message.labels)?,
        gpus: message.gpus.iter().map(Into::into).collect(),
        enforces: t::Enforcement {
            cpus: message.enforces_cpus,
            memory: message.enforces_memory,
        },
    })
}

impl From<&t::Inventory> for v1::Inventory {
    fn from(inventory: &t::Inventory) -> Self {
        Self {
            memory_bytes: inventory.capacity.memory.0,
            labels: inventory.labels.clone().into_iter().collect(),
            gpus: inventory.gpus.iter().map(Into::into).collect(),
            enforces_cpus: inventory.enforces.cpus,
            enforces_memory: inventory.enforces.memory,
        }
    }
}

impl From<&v1::Gpu> for t::Gpu {
    fn from(gpu: &v1::Gpu) -> Self {
        Self {
            name: gpu.name.clone(),
            uuid: gpu.uuid.clone(),
            memory: t::ByteSize(gpu.memory_bytes),
        }
    }
}

impl From<&t::Gpu> for v1::Gpu {
    fn from(gpu: &t::Gpu) -> Self {
        Self {
            name: gpu.name.clone(),
            uuid: gpu.uuid.clone(),
            memory_bytes: gpu.memory.0,
        }
    }
}

impl v1::AdmitNodeRequest {
    /// What is wanted of the node.
    pub fn wanted(&self) -> Result<t::Admission, BadMessage> {
        let number = self.admission;
        let mut all = t::Admission::ALL.into_iter();
        all.find(|&admission| admission as i32 == number)
            .ok_or_else(|| BadMessage::new("admission", format!("unknown admission {number}")))
    }
}

impl v1::Node {
    /// How the node stands.
    pub fn node_state(&self) -> Result<t::NodeState, BadMessage> {
        let number = self.state;
        let mut all = t::NodeState::ALL.into_iter();
        all.find(|&state| state as i32 == number)
            .ok_or_else(|| BadMessage::new("state", format!("unknown state {number}")))
    }
}

impl From<&t::TargetRecord> for v1::Target {
    fn from(target: &t::TargetRecord) -> Self {
        Self {
            name: target.name.to_string(),
            nodes: target.nodes.iter().map(ToString::to_string).collect(),
            labels: target.labels.clone().into_iter().collect(),
            placement: target.placement as i32,
            members: Vec::new(),
        }
    }
}

impl TryFrom<&v1::Target> for t::TargetRecord {
    type Error = BadMessage;

    fn try_from(message: &v1::Target) -> Result<Self, BadMessage> {
        if message.nodes.len() > MAX_NODES {
            return Err(BadMessage::new("nodes", format!("are more than {MAX_NODES}")));
        }
        let node = |name: &String| {
            t::NodeName::try_from(name.clone()).map_err(|error| BadMessage::new("nodes", error.to_string()))
        };
        Ok(Self {
            name: message
                .name
                .parse()
                .map_err(|error| BadMessage::new("name", format!("{error}")))?,
            nodes: message
                .nodes
                .iter()
                .map(node)
                .collect::<Result<BTreeSet<_>, _>>()?,
            labels: labels_from(&message.labels)?,
            placement: match v1::Placement::try_from(message.placement) {
                Ok(v1::Placement::Unspecified | v1::Placement::Spread) => t::Placement::Spread,
                Ok(v1::Placement::Pack) => t::Placement::Pack,
                Err(error) => return Err(BadMessage::new("placement", error.to_string())),
            },
        })
    }
}
