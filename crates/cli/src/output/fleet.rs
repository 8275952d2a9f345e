//! Nodes and targets.

use haul_client::{Node, Target};
use haul_types::{ByteSize, Labels, NodeState};
use serde_json::{Value, json};

use super::{Drawing, Report, table};
use crate::text::{between, duration, printable, rfc3339};

/// `haul node ls`.
#[derive(Debug)]
pub struct NodesReport<'a>(pub &'a [Node]);

impl Report for NodesReport<'_> {
    fn people(&self, drawing: &Drawing) -> String {
        if self.0.is_empty() {
            return "no nodes\n".to_owned();
        }
        let mut table = table::new(["NODE", "STATE", "TASKS", "CPUS", "MEMORY", "LABELS"]);
        for node in self.0 {
            table.add_row([
                printable(&node.name).into_owned(),
                state(node, drawing),
                node.attempts.to_string(),
                cpus(node),
                memory(node),
                labels(&node.labels),
            ]);
        }
        table::text(&table)
    }

    fn json(&self) -> Value {
        json!({ "nodes": self.0.iter().map(node_json).collect::<Vec<_>>() })
    }

    fn quiet(&self) -> String {
        let names = self.0.iter().map(|node| printable(&node.name));
        names.map(|name| format!("{name}\n")).collect()
    }
}

/// `haul node show`.
#[derive(Debug)]
pub struct NodeReport<'a>(pub &'a Node);

impl Report for NodeReport<'_> {
    fn people(&self, drawing: &Drawing) -> String {
        let node = self.0;
        let mut lines = vec![
            ("node", drawing.bold(&printable(&node.name))),
            ("state", state(node, drawing)),
            ("version", printable(&node.version).into_owned()),
            ("CPUs", cpus(node)),
            ("memory", memory(node)),
            ("labels", labels(&node.labels)),
        ];
        for gpu in &node.gpus {
            lines.push(("GPU", format!("{}, {}", printable(&gpu.name), gpu.memory)));
        }
        let enforced: Vec<&str> = [("CPUs", node.enforces.cpus), ("memory", node.enforces.memory)]
            .into_iter()
            .filter_map(|(what, enforced)| enforced.then_some(what))
            .collect();
        lines.push(("enforces", enforced.join(", ")));
        lines.push(("tasks", printable(&node.tasks.join(", ")).into_owned()));
        lines
            .into_iter()
            .filter(|(_, value)| !value.is_empty())
            .map(|(name, value)| format!("{:<10} {value}\n", format!("{name}:")))
            .collect()
    }

    fn json(&self) -> Value {
        let mut node = node_json(self.0);
        node["tasks"] = json!(self.0.tasks);
        node
    }

    fn quiet(&self) -> String {
        format!("{}\n", self.0.state)
    }
}

/// `haul target ls`.
#[derive(Debug)]
pub struct TargetsReport<'a>(pub &'a [Target]);

impl Report for TargetsReport<'_> {
    fn people(&self, _: &Drawing) -> String {
        if self.0.is_empty() {
            return "no targets\n".to_owned();
        }
        let mut table = table::new(["TARGET", "LABELS", "PLACEMENT", "NODES"]);
        for target in self.0 {
            table.add_row([
                target.record.name.to_string(),
                labels(&target.record.labels),
                target.record.placement.as_str().to_owned(),
                printable(&target.members.join(", ")).into_owned(),
            ]);
        }
        table::text(&table)
    }

    fn json(&self) -> Value {
        json!({ "targets": self.0.iter().map(target_json).collect::<Vec<_>>() })
    }

    fn quiet(&self) -> String {
        self.0
            .iter()
            .map(|target| format!("{}\n", target.record.name))
            .collect()
    }
}

/// `haul target show`.
#[derive(Debug)]
pub struct TargetReport<'a>(pub &'a Target);

impl Report for TargetReport<'_> {
    fn people(&self, drawing: &Drawing) -> String {
        let Target { record, members } = self.0;
        let named: Vec<&str> = record.nodes.iter().map(haul_types::NodeName::as_str).collect();
        let none = "none: no node is named, or has all of the labels".to_owned();
        let lines = [
            ("target", drawing.bold(record.name.as_str())),
            ("placement", record.placement.as_str().to_owned()),
            ("labels", labels(&record.labels)),
            ("named", named.join(", ")),
            (
                "nodes",
                if members.is_empty() {
                    none
                } else {
                    printable(&members.join(", ")).into_owned()
                },
            ),
        ];
        lines
            .into_iter()
            .filter(|(_, value)| !value.is_empty())
            .map(|(name, value)| format!("{:<10} {value}\n", format!("{name}:")))
            .collect()
    }

    fn json(&self) -> Value {
        target_json(self.0)
    }

    fn quiet(&self) -> String {
        self.0
            .members
            .iter()
            .map(|node| format!("{}\n", printable(node)))
            .collect()
    }
}

/// How a node stands; since when, if it is away.
fn state(node: &Node, drawing: &Drawing) -> String {
    match (node.state, node.last_seen_unix_ms) {
        (NodeState::Unreachable, Some(seen)) => {
            let ago = duration(between(seen, drawing.now_unix_ms));
            format!("{}, last seen {ago} ago", node.state)
        }
        (state, _) => state.to_string(),
    }
}

fn cpus(node: &Node) -> String {
    format!("{}/{}", node.used.cpus, node.capacity.cpus)
}

fn memory(node: &Node) -> String {
    match (node.used.memory, node.capacity.memory) {
        (_, ByteSize(0)) => String::new(),
        (ByteSize(0), all) => all.to_string(),
        (used, all) => format!("{used} of {all}"),
    }
}

fn labels(labels: &Labels) -> String {
    let pairs: Vec<String> = labels
        .iter()
        .map(|(key, value)| format!("{key}={value}"))
        .collect();
    printable(&pairs.join(" ")).into_owned()
}

fn node_json(node: &Node) -> Value {
    let gpus: Vec<Value> = node
        .gpus
        .iter()
        .map(|gpu| json!({ "name": gpu.name, "uuid": gpu.uuid, "memory_bytes": gpu.memory.0 }))
        .collect();
    json!({
        "name": node.name,
        "version": node.version,
        "state": node.state,
        "attempts": node.attempts,
        "cpus": f64::from(node.capacity.cpus.millis()) / 1000.0,
        "cpus_used": f64::from(node.used.cpus.millis()) / 1000.0,
        "memory_bytes": node.capacity.memory.0,
        "memory_used_bytes": node.used.memory.0,
        "labels": node.labels,
        "gpus": gpus,
        "enforces": { "cpus": node.enforces.cpus, "memory": node.enforces.memory },
        "last_seen": node.last_seen_unix_ms.map(rfc3339),
    })
}

fn target_json(target: &Target) -> Value {
    json!({
        "name": target.record.name,
        "nodes": target.record.nodes,
        "labels": target.record.labels,
        "placement": target.record.placement,
        "members": target.members,
    })
}
